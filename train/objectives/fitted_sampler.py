"""Fitting the steps of a frozen network's sampler to the windows that it finds in many steps.

A few scalars per network call are all that is trained, see `decoding.fitted`; the network only
passes the gradient on (compare S4S, arXiv 2502.17423).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ...decoding.fitted import ddim_scalars
from ...decoding.samplers import sampling_levels
from ...policies.diffusion.fitted import fitted_sample
from ...policies.diffusion.model import DiffusionModel, seeded_model
from .objective import Drawn

# Per dimension of a window: below it the loss is quadratic, above it the distance itself (Lee et
# al. 2024, arXiv 2405.20320), so that the windows that come close count for as much as the others.
_HUBER = 0.00054
# How fast the first level learns compared with the others. Two calls of a network that predicts
# noise gain from a lower one; four or six are worse off if it falls before the others have settled.
_FIRST = 0.2


@dataclass(frozen=True)
class Pairs(Drawn):
    """Where many steps of a teacher lead from noise, P rows.

    Attributes:
        context: What the network is told of the observation, shape (P, To * O).
        noise: Standard normal, shape (P, H, D).
        landed: Normalised windows, shape (P, H, D).
    """

    context: Tensor
    noise: Tensor
    landed: Tensor

    def __len__(self) -> int:
        """Number of rows P."""
        return len(self.context)

    def gather(self, current: Tensor) -> Pairs:
        """Some rows, by indices of shape (B,)."""
        return self.select(current)

    def to(self, device: torch.device, non_blocking: bool = False) -> Pairs:
        """The same on `device`; `non_blocking` as in `torch.Tensor.to`."""
        parts = (self.context, self.noise, self.landed)
        return Pairs(*(one.to(device, non_blocking=non_blocking) for one in parts))


class StepTable(nn.Module):
    """Level, gain and memory of each call, for several numbers of calls; at first those of DDIM.

    Args:
        num_levels: Noise levels N.
        calls: Numbers of network calls.
        spacing: Levels that DDIM visits, see `sampling_levels`.
    """

    def __init__(self, num_levels: int, calls: Sequence[int], spacing: str = "even") -> None:
        super().__init__()
        self.calls, self.num_levels = tuple(calls), num_levels
        self.start = nn.Module()
        self.change = nn.ParameterDict()
        for num in calls:
            start = ddim_scalars(sampling_levels(num_levels, num, spacing))  # (3, n)
            self.start.register_buffer(str(num), start)
            self.change[str(num)] = nn.Parameter(torch.zeros(start.shape))

    def scalars(self, num_calls: int) -> Tensor:
        """Level, gain and memory of each call, shape (3, n), float64."""
        start, change = self.start.get_buffer(str(num_calls)), self.change[str(num_calls)].double()
        begun, moved = (
            levels_of(start[0], by, self.num_levels)
            for by in (torch.zeros_like(change[0]), change[0])
        )
        # Written as a difference, so that no change is none to the last bit.
        level = start[0] + (moved - begun)
        rounding = (level - self.num_levels).clamp(min=0).detach()
        return torch.stack([level - rounding, start[1] + change[1], start[2] + change[2]])


def levels_of(start: Tensor, change: Tensor, num_levels: int) -> Tensor:
    """Falling levels whose steps are other shares of the way, which may begin elsewhere.

    Args:
        start: Levels, falling, shape (n,); after the last comes 0.
        change: Of the logarithm of each share, shape (n,). Their mean, of which shares do not
            depend, moves the first level. Where that would be above N it has no effect, but a
            gradient, so that it finds back.
        num_levels: N.
    """
    steps = -torch.cat([start, start.new_zeros(1)]).diff()  # (n,)
    gone = torch.softmax(steps.log() + change, dim=0).cumsum(0)
    first = start[0].log() + _FIRST * change.mean()
    first = first - (first - math.log(num_levels)).clamp(min=0).detach()
    return first.exp() * (1 - torch.cat([gone.new_zeros(1), gone[:-1]]))


class SamplerObjective(nn.Module):
    """Distance of sampling in few fitted steps from sampling in many.

    Args:
        teacher: Trained model, which stays as it is.
        calls: Numbers of network calls to fit steps for.
        spacing: Levels of DDIM's steps, which they begin as.
    """

    def __init__(
        self, teacher: DiffusionModel, calls: Sequence[int], spacing: str = "even"
    ) -> None:
        super().__init__()
        self.model = StepTable(teacher.config.num_levels, calls, spacing)
        # In a list, so that neither the optimiser nor a device wrapper sees the teacher.
        self._teacher = [teacher.eval().requires_grad_(False)]

    def prepare(self, step: int) -> None:
        """Nothing to prepare."""

    def draw(self, batch: Pairs, generator: torch.Generator) -> Pairs:
        """All randomness is in the pairs."""
        del generator
        return batch

    def forward(self, inputs: Pairs) -> Tensor:
        """Pseudo-Huber distance of windows, mean over rows and numbers of calls, shape ()."""
        teacher = self._teacher[0].to(inputs.noise.device)
        modulation = teacher.network.encode(inputs.context)
        small = _HUBER * inputs.noise[0].numel()
        losses = []
        for num in self.model.calls:
            window = fitted_sample(teacher, self.model.scalars(num), inputs.noise, modulation)
            squared = (window - inputs.landed).square().sum(dim=(1, 2))  # (b,)
            losses.append(((squared + small**2).sqrt() - small).mean())
        return torch.stack(losses).mean()


def with_fitted_steps(teacher: DiffusionModel, table: StepTable) -> DiffusionModel:
    """A copy of the teacher that has a table's steps too, beside those that it had."""
    calls = {*teacher.config.fitted_calls, *table.calls}
    config = replace(teacher.config, fitted_calls=tuple(sorted(calls)))
    model = seeded_model(config, teacher.observation_shapes, teacher.action_dim, seed=0)
    fitted = {f"solver.{num}": table.scalars(num).detach().float().cpu() for num in table.calls}
    model.load_state_dict({**teacher.state_dict(), **fitted})
    return model.eval().requires_grad_(False)
