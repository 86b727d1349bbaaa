"""A reverse process with everything that does not depend on data computed in advance."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from ..decoding.samplers import step_coefficients
from .model import DiffusionModel


class ReverseProgram:
    """The constants of a sequence of level vectors: modulations and coefficients per call.

    Args:
        model: Trained model.
        levels: Level vectors of shape (H,), first to last; one network call between two.
        update: ``"ddim"`` or ``"ddpm"``.

    Attributes:
        level_modulations: Per call the output of `Denoiser.embed_level`, shape (1, ...).
        coefficients: Per call (p_x, p_f, c_0, c_x, c_f), shape (5, 1, H, 1), float32; None where
            the network's output is wanted as it is.
        noise_scale: c_z of all calls, shape (calls, 1, H, 1), float32; None if no call adds noise.
    """

    def __init__(self, model: DiffusionModel, levels: Sequence[np.ndarray], update: str) -> None:
        self.model = model
        self.levels = tuple(levels)
        prediction, schedule = model.config.prediction, model.schedule
        steps = [
            step_coefficients(schedule, level, next_level, prediction, update)
            for level, next_level in pairwise(levels)
        ]
        device = next(model.parameters()).device
        self.coefficients: list[Tensor | None] = [
            torch.from_numpy(np.stack(step[:5]).astype(np.float32))[:, None, :, None].to(device)
            for step in steps
        ]
        scale = np.stack([step.c_z for step in steps]).astype(np.float32)[:, None, :, None]
        self.noise_scale = torch.from_numpy(scale).to(device) if scale.any() else None
        self.level_modulations = [
            _embed(model, level, _jump(level, next_level)) for level, next_level in pairwise(levels)
        ]

    @property
    def num_calls(self) -> int:
        """Network calls of one run."""
        return len(self.coefficients)

    def run(
        self,
        encode: Callable[[Tensor], Tensor],
        step: Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor],
        observation: Tensor,
        x: Tensor,
        noise: Tensor | None,
    ) -> Tensor:
        """Carry `x` through every call; the definition that all engines follow.

        Args:
            encode: An `Encode`.
            step: A `ReverseStep`.
            observation: Frames in physical units, shape (R, To, O).
            x: Noisy normalised actions, shape (R, H, D).
            noise: Standard normal noise per call, shape (calls, R, H, D).
        """
        modulation = encode(observation)
        for call in range(self.num_calls):
            x = step(modulation, x, self.level_modulations[call], self.coefficients[call])
            if noise is not None and self.noise_scale is not None:
                x = x + self.noise_scale[call] * noise[call]
        return x

    def bare_forward(self) -> ReverseProgram:
        """Return the program of one network call without a reverse step, to time it by itself."""
        program = copy.copy(self)
        program.coefficients = [None]
        program.level_modulations = self.level_modulations[:1]
        program.noise_scale = None
        return program

    def to(self, device: torch.device) -> ReverseProgram:
        """Return a copy of the program, its model included, on another device."""
        program = copy.copy(self)
        program.model = copy.deepcopy(self.model).to(device)
        program.level_modulations = [value.to(device) for value in self.level_modulations]
        program.coefficients = [c if c is None else c.to(device) for c in self.coefficients]
        program.noise_scale = None if self.noise_scale is None else self.noise_scale.to(device)
        return program


def _jump(level: np.ndarray, next_level: np.ndarray) -> float:
    """How far a call moves the positions that it moves; one level counts as infinitesimal."""
    jump = float((level - next_level).max())
    return jump if jump > 1 else 0.0


@torch.no_grad()
def _embed(model: DiffusionModel, level: np.ndarray, jump: float) -> Tensor:
    """Level modulation of one call, shape (1, ...)."""
    device, num_levels = next(model.parameters()).device, model.schedule.num_levels
    scaled = torch.from_numpy(level)[None].to(device).float() / num_levels
    if not model.config.jump:
        return model.network.embed_level(scaled)
    return model.network.embed_level(scaled, torch.tensor([jump / num_levels], device=device))


class Encode(nn.Module):
    """Observation to modulation: once per run.

    Args:
        model: Trained model.
    """

    def __init__(self, model: DiffusionModel) -> None:
        super().__init__()
        self.normalizer = model.observation_normalizer
        self.network = model.network

    def forward(self, observation: Tensor) -> Tensor:
        """Return the modulation (R, ...) of frames in physical units, shape (R, To, O)."""
        return self.network.encode(self.normalizer(observation).flatten(1))


class ReverseStep(nn.Module):
    """One network call and the reverse step that it is for, without noise.

    Args:
        model: Trained model.
    """

    def __init__(self, model: DiffusionModel) -> None:
        super().__init__()
        self.network = model.network

    def forward(
        self,
        observation_modulation: Tensor,
        x: Tensor,
        level_modulation: Tensor,
        coefficients: Tensor | None,
    ) -> Tensor:
        """Return the next x, shape (R, H, D).

        Args:
            observation_modulation: Output of `Encode`, shape (R, ...).
            x: Noisy normalised actions, shape (R, H, D).
            level_modulation: Shape (1, ...).
            coefficients: Shape (5, 1, H, 1); None returns the network's output.
        """
        output = self.network.denoise(x, level_modulation, observation_modulation)
        return output if coefficients is None else reverse_step(x, output, coefficients)


def reverse_step(x: Tensor, output: Tensor, coefficients: Tensor) -> Tensor:
    """`decoding.samplers.apply_step` without noise, on coefficients of shape (5, 1, H, 1)."""
    p_x, p_f, c_0, c_x, c_f = coefficients.unbind(0)
    return c_0 * (p_x * x + p_f * output).clamp(-1, 1) + c_x * x + c_f * output
