"""What a streaming policy does between its network calls, as modules: its state is tensors here."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import torch
from torch import Tensor, nn

from ...decoding.rolling import Ladder
from .actions import ActionNormalizer
from .model import DiffusionModel
from .streaming_program import Emit


class Noised(nn.Module):
    """Clean windows at the noise levels of a buffer: A_k = a_k A_0 + s_k z.

    Args:
        model: Trained model.
        levels: Levels of the buffer, shape (H,).
    """

    signal: Tensor
    sigma: Tensor

    def __init__(self, model: DiffusionModel, levels: np.ndarray) -> None:
        super().__init__()
        for name, values in (("signal", model.schedule.signals), ("sigma", model.schedule.sigmas)):
            chosen = torch.from_numpy(values[levels].astype(np.float32))
            self.register_buffer(name, chosen[:, None], persistent=False)

    def forward(self, clean: Tensor, noise: Tensor) -> Tensor:
        """Return windows of shape (R, H, D) of clean ones and standard normal noise."""
        return self.signal * clean + self.sigma * noise


class FirstChunk(nn.Module):
    """The first chunk of a sampled window, and the buffer that is left.

    Args:
        model: Trained model.
        ladder: Levels of the buffer.
        emit: End of a control step.
    """

    def __init__(self, model: DiffusionModel, ladder: Ladder, emit: Emit) -> None:
        super().__init__()
        # Its later chunks are noised to where they must stand one control step on.
        self.noised = Noised(model, ladder.levels(ladder.levels_per_step))
        self.num_past, self.emit = ladder.num_past, emit

    def forward(self, clean: Tensor, noise: Tensor, fresh: Tensor) -> tuple[Tensor, Tensor]:
        """Return the buffer (R, H, D) and physical actions of a clean window (R, H, D)."""
        past = clean[:, : self.num_past] if self.emit.needs_past else None
        return self.emit(self.noised(clean, noise), fresh, past)


class Stay(nn.Module):
    """A guessed window: zeros, or the position that is observed all along.

    Args:
        model: Trained model.
        place: Where the position stands among the vectors of a frame; none for zeros.
    """

    def __init__(self, model: DiffusionModel, place: slice | None) -> None:
        super().__init__()
        self.normalizer, self.place = deepcopy(model.action_normalizer), place
        self.horizon = model.window_shape[0]

    def forward(self, noise: Tensor, observation: Tensor | None = None) -> Tensor:
        """Return windows (R, H, D); `noise` of that shape says how many."""
        if self.place is None or observation is None:
            return torch.zeros_like(noise)
        position = self.normalizer(observation[:, -1, self.place])  # (r, d)
        return position[:, None].expand(-1, self.horizon, -1)


class Begin(nn.Module):
    """Executed actions of a row that starts: those in the past slots of its window.

    Args:
        normalizer: That of the actions.
        length: How many are remembered.
        num_past: Slots before the current action.
    """

    def __init__(self, normalizer: ActionNormalizer, length: int, num_past: int) -> None:
        super().__init__()
        self.normalizer, self.length = deepcopy(normalizer), length
        self.num_before = max(num_past, 1)

    def forward(self, clean: Tensor) -> Tensor:
        """Return physical actions (R, length, D), the first of which was always there."""
        before = self.normalizer.inverse(clean[:, : self.num_before])
        missing = self.length - before.shape[1]
        if missing <= 0:
            return before[:, -self.length :]
        return torch.cat([before[:, :1].expand(-1, missing, -1), before], dim=1)


class Remember(nn.Module):
    """What of a plan is executed becomes what was executed.

    Args:
        late: Control steps between observation and plan.
        num_execute: Actions executed per plan.
    """

    def __init__(self, late: int, num_execute: int) -> None:
        super().__init__()
        self.late, self.num_execute = late, num_execute

    def forward(self, executed: Tensor, planned: Tensor) -> tuple[Tensor, Tensor]:
        """Return executed actions (R, length, D) and the plan (R, F, D), both physical."""
        length = executed.shape[1]
        actions = planned
        if self.late:
            # Not as they come back from the network's units, which would round them.
            actions = torch.cat([executed[:, -self.late :], planned[:, self.late :]], dim=1)
        now = actions[:, self.late : self.late + self.num_execute]
        return torch.cat([executed, now], dim=1)[:, -length:], actions


class Past(nn.Module):
    """The last executed actions before a window, in the network's units.

    Args:
        normalizer: That of the actions.
        num_past: Slots before the current action.
        late: Control steps between observation and plan.
    """

    def __init__(self, normalizer: ActionNormalizer, num_past: int, late: int) -> None:
        super().__init__()
        self.normalizer = deepcopy(normalizer)
        self.num_past, self.num_newest = num_past, num_past + late

    def forward(self, executed: Tensor) -> Tensor:
        """Return actions (R, To - 1, N) of physical ones (R, length, D)."""
        newest = executed[:, executed.shape[1] - self.num_newest :]
        return self.normalizer(newest)[:, : self.num_past]


class Resume(nn.Module):
    """A buffer whose plan begins later than its observation: what is executed stands before it.

    Args:
        model: Trained model.
        ladder: Levels of the buffer, with as many committed actions.
    """

    def __init__(self, model: DiffusionModel, ladder: Ladder) -> None:
        super().__init__()
        self.normalizer = deepcopy(model.action_normalizer)
        self.num_past, self.late = ladder.num_past, ladder.num_committed
        self.noised = Noised(model, np.full(self.num_past, ladder.levels_per_step))

    def forward(self, executed: Tensor, buffer: Tensor, noise: Tensor) -> Tensor:
        """Return windows (R, H, D): noised executed actions, clean ones, chunks."""
        newest = executed[:, executed.shape[1] - self.num_past - self.late :]
        newest = self.normalizer(newest)  # (r, num_past + late, n)
        past = self.noised(newest[:, : self.num_past], noise)
        chunks = buffer[:, self.num_past : buffer.shape[1] - self.late]
        return torch.cat([past, newest[:, self.num_past :], chunks], dim=1)
