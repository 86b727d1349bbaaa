"""Rolling action buffers: noise levels that rise along the horizon in chunks.

A window of H positions holds ``num_past`` slots of executed actions, then h chunks of Ta actions;
positions left over at the end stay pure noise. At the start of a control step chunk c stands at
level N (c + 1) / h; N / h levels later chunk 0 is clean, is executed, the buffer shifts by one
chunk and the ladder is what it was (Streaming Diffusion Policy, arXiv 2406.04806).

When inference takes time, the first chunk begins some steps after the newest observation. The
actions in between are committed: they stand clean in front of the chunks, and the network learns to
continue them (compare Black et al., "Training-Time Action Conditioning", arXiv 2512.05964).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import TypeVar

import numpy as np
import torch
from einops import repeat
from torch import Tensor

from .constants import Constants
from .samplers import apply_step, spaced_levels, step_coefficients
from .schedules import NoiseSchedule

Seen = TypeVar("Seen")


@dataclass(frozen=True)
class Ladder:
    """The noise levels of one rolling buffer.

    Attributes:
        horizon: Window length H.
        num_past: Slots before the current action, To - 1.
        num_execute: Chunk size Ta.
        num_chunks: Number of chunks h.
        num_levels: Number of noise levels N.
        num_committed: Clean actions between the past slots and the first chunk.
    """

    horizon: int
    num_past: int
    num_execute: int
    num_chunks: int
    num_levels: int
    num_committed: int = 0

    def __post_init__(self) -> None:
        """Reject chunks that do not fit, and levels that they do not divide."""
        future = self.horizon - self.num_past - self.num_committed
        if (
            min(self.num_execute, self.num_chunks) < 1
            or self.num_execute * self.num_chunks > future
        ):
            committed = f" and {self.num_committed} committed actions" if self.num_committed else ""
            raise ValueError(
                f"{self.num_chunks} chunks of {self.num_execute} actions do not fit the {future} "
                f"steps of the window (horizon {self.horizon} less {self.num_past} past slots"
                f"{committed})"
            )
        if self.num_levels % self.num_chunks:
            raise ValueError(
                f"{self.num_levels} noise levels cannot be shared by {self.num_chunks} chunks; "
                f"choose num_levels as a multiple of {self.num_chunks}, or fewer chunks"
            )

    @property
    def levels_per_step(self) -> int:
        """Levels that each position descends in one control step, N / h."""
        return self.num_levels // self.num_chunks

    def delayed(self, latency: int) -> Ladder:
        """The same chunks, the first of which begins `latency` steps after the observation."""
        return replace(self, num_committed=latency)

    def levels(self, progress: int = 0) -> np.ndarray:
        """Level vector, shape (H,), after `progress` of the levels of a control step."""
        first = self.num_past + self.num_committed
        chunk = np.maximum(np.arange(self.horizon) - first, 0) // self.num_execute  # c, (h,)
        descending = self.levels_per_step * (chunk + 1) - progress  # N (c + 1) / h - progress
        levels = np.where(chunk < self.num_chunks, descending, self.num_levels)
        levels[self.num_past : first] = 0
        return levels

    def control_step(self, num_calls: int) -> list[np.ndarray]:
        """Level vectors visited by a control step of `num_calls` network calls, first to last.

        Each of them but the last, which is never given to the network, is one that training
        visits too.
        """
        return [
            self.levels(self.levels_per_step - int(left))
            for left in spaced_levels(self.levels_per_step, 0, num_calls)
        ]


@dataclass(frozen=True)
class LevelMixture:
    """How training draws a level vector for each sample, independently of the others.

    Attributes:
        horizon: Window length H.
        num_levels: Number of noise levels N.
        ladders: Ladders that chunk-wise samples choose from, uniformly.
        chunkwise: Probability of a ladder at a random progress: what streaming visits.
        independent: Probability of independent levels at all positions (Diffusion Forcing).
            The rest of the probability goes to one constant level, as in Diffusion Policy.
    """

    horizon: int
    num_levels: int
    ladders: tuple[Ladder, ...] = ()
    chunkwise: float = 0.0
    independent: float = 0.0

    def __post_init__(self) -> None:
        """Reject shares that are no probabilities, and chunk-wise draws without a ladder."""
        if min(self.chunkwise, self.independent) < 0 or self.chunkwise + self.independent > 1:
            raise ValueError(
                "shares must be at least 0 and sum to at most 1, got "
                f"chunkwise {self.chunkwise} and independent {self.independent}"
            )
        if self.chunkwise > 0 and not self.ladders:
            raise ValueError("a chunk-wise share needs at least one ladder")

    def draw(self, num_samples: int, generator: torch.Generator) -> Tensor:
        """Draw integer levels in 1..N, shape (B, H), on the generator's device."""
        device = generator.device
        top, shape = self.num_levels + 1, (num_samples, 1)
        constant = torch.randint(1, top, shape, generator=generator, device=device)
        levels = repeat(constant, "b 1 -> b h", h=self.horizon)
        kind = torch.rand(shape, generator=generator, device=device)  # (b, 1)
        if self.chunkwise > 0:
            chunkwise = self._draw_chunkwise(num_samples, generator)  # (b, h)
            levels = torch.where(kind < self.chunkwise, chunkwise, levels)
        if self.independent > 0:
            free = torch.randint(1, top, levels.shape, generator=generator, device=device)
            levels = torch.where(kind >= 1 - self.independent, free, levels)
        return levels

    def _draw_chunkwise(self, num_samples: int, generator: torch.Generator) -> Tensor:
        device, shape = generator.device, (num_samples,)
        levels, sizes, offsets = (
            self._tables.at(name, device) for name in ("levels", "sizes", "offsets")
        )
        which = torch.randint(len(sizes), shape, generator=generator, device=device)  # (b,)
        share = torch.rand(shape, generator=generator, device=device)
        progress = (share * sizes[which]).long()
        return levels[offsets[which] + progress]

    @cached_property
    def _tables(self) -> Constants:
        """Level vectors at every progress of every ladder, and where each ladder's begin."""
        tables = [
            np.stack([ladder.levels(j) for j in range(ladder.levels_per_step)])  # (progress, h)
            for ladder in self.ladders
        ]
        sizes = np.array([len(table) for table in tables])
        offsets = sizes.cumsum() - sizes
        return Constants({"levels": np.concatenate(tables), "sizes": sizes, "offsets": offsets})


def advance(buffer: Tensor, executed: Tensor, fresh: Tensor) -> Tensor:
    """Shift a buffer by one chunk.

    Args:
        buffer: Normalised buffer at the end of a control step, shape (R, H, D).
        executed: The last ``num_past`` executed actions, already noised to the level of the past
            slots, shape (R, num_past, D).
        fresh: Pure noise, which becomes the last chunk, shape (R, Ta, D).

    Returns:
        Buffer at the start of the next control step, shape (R, H, D).
    """
    left = buffer[:, executed.shape[1] + fresh.shape[1] :]  # (r, h - num_past - ta, d)
    return torch.cat([executed, left, fresh], dim=1)  # (r, h, d)


def stream(
    denoise: Callable[[Tensor, Tensor, Seen], Tensor],
    observations: Iterable[Seen],
    buffer: Tensor,
    levels: list[np.ndarray],
    ladder: Ladder,
    schedule: NoiseSchedule,
    draw: Callable[[tuple[int, ...]], Tensor],
    update: str = "ddim",
) -> Iterator[Tensor]:
    """Stream chunks of actions: the whole policy, to be read beside the paper (arXiv 2406.04806).

    This is the reference; `policies.diffusion.streaming` computes the same, prepared.

    Args:
        denoise: The network: clean actions for noisy ones (R, H, D), levels (R, H) and an
            observation.
        observations: One per control step.
        buffer: Normalised buffer at the start of the ladder, shape (R, H, D).
        levels: What a control step descends through, `Ladder.control_step`.
        ladder: Its ladder; its chunks are no shorter than the past slots.
        schedule: Noise schedule.
        draw: Standard normal noise of a shape.
        update: ``"ddim"`` or ``"ddpm"``.

    Yields:
        Normalised actions to execute, shape (R, Ta, D).
    """
    rows, _, size = buffer.shape
    past, executed = ladder.num_past, ladder.num_execute
    for observation in observations:
        for level, next_level in pairwise(levels):  # from N (c + 1) / h to N c / h in chunk c
            clean = denoise(buffer, torch.as_tensor(level).expand(rows, -1), observation)  # x0
            step = step_coefficients(schedule, level, next_level, "sample", update)
            noise = draw(tuple(buffer.shape)) if update == "ddpm" else None
            buffer = apply_step(buffer, clean, step, noise)  # (r, h, d)
        yield buffer[:, past : past + executed]  # chunk 0 is clean, (r, ta, d)
        fresh = draw((rows, past + executed, size))
        newest = buffer[:, executed : executed + past]  # the last executed actions, (r, past, d)
        level = torch.as_tensor(levels[0][:past]).expand(rows, -1)
        noised = schedule.add_noise(newest, fresh[:, :past], level)
        buffer = advance(buffer, noised, fresh[:, past:])
