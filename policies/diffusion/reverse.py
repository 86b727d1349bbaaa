"""Reverse diffusion as a program: everything that does not depend on data computed in advance."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from ...decoding.samplers import reverse_step, step_coefficients
from ..programs.program import Call, Port, Program
from ..programs.shared import shared
from .encoding import encode_call, feature_ports, observation_ports
from .model import DiffusionModel


class Denoise(nn.Module):
    """One bare network call.

    Args:
        model: Trained model.
    """

    def __init__(self, model: DiffusionModel) -> None:
        super().__init__()
        self.network = model.network

    def forward(self, modulation: Tensor, x: Tensor, level_modulation: Tensor) -> Tensor:
        """Predict from x, shape (R, H, D), with modulations of shapes (R, ...) and (1, ...)."""
        return self.network.denoise(x, level_modulation, modulation)


class NetworkStep(nn.Module):
    """What every kind of sampling step keeps of a model.

    Args:
        model: Trained model.
    """

    def __init__(self, model: DiffusionModel) -> None:
        super().__init__()
        self.network = model.network
        self.predicts_sample = model.config.prediction == "sample"
        self.clip = model.config.clip


class ReverseStep(NetworkStep):
    """One network call and the reverse step that it is for."""

    def forward(
        self,
        modulation: Tensor,
        x: Tensor,
        level_modulation: Tensor,
        coefficients: Tensor,
        noise: Tensor | None = None,
    ) -> Tensor:
        """Return the next x, shape (R, H, D).

        Args:
            modulation: Output of `Encode`, shape (R, ...).
            x: Noisy normalised actions, shape (R, H, D).
            level_modulation: Output of `Denoiser.embed_level`, shape (1, ...).
            coefficients: `StepCoefficients.tensor`, shape (6, H, 1).
            noise: Standard normal, shape (R, H, D), where the step adds any.
        """
        output = self.network.denoise(x, level_modulation, modulation)
        return reverse_step(x, output, coefficients, noise, self.clip, self.predicts_sample)


def part(kind: type[Denoise | NetworkStep], model: DiffusionModel) -> nn.Module:
    """The one module of a kind around the model's network."""
    config = model.config
    return shared(kind, model.network, lambda: kind(model), config.prediction, config.clip)


def reverse_program(model: DiffusionModel, levels: Sequence[np.ndarray], update: str) -> Program:
    """Observation and noisy actions to the normalised window at the last levels.

    Inputs are those of the observation (see `encoding`), ``x`` (H, D) at the first levels and,
    where steps add noise, ``noise.0`` and so on; outputs are ``window`` (H, D) and, of pictures,
    the newest frame's ``features``.

    Args:
        model: Trained model.
        levels: Level vectors of shape (H,), first to last; one network call between two.
        update: ``"ddim"`` or ``"ddpm"``.
    """
    steps = [
        step_coefficients(model.schedule, level, next_level, model.config.prediction, update)
        for level, next_level in pairwise(levels)
    ]
    adds_noise = any(step.c_z.any() for step in steps)
    window = Port(model.window_shape)
    inputs = {**observation_ports(model), "x": window}
    calls = [encode_call(model)]
    x = "x"
    for index, (step, level, next_level) in enumerate(zip(steps, levels, levels[1:], strict=False)):
        arguments = {"modulation": "modulation", "x": x}
        if adds_noise:
            arguments["noise"] = f"noise.{index}"
            inputs[arguments["noise"]] = window
        x = "window" if index == len(steps) - 1 else f"x.{index + 1}"
        constants = {
            "level_modulation": _embed(model, level, _jump(level, next_level)),
            "coefficients": step.tensor().to(model.device),
        }
        calls.append(Call(part(ReverseStep, model), arguments, (x,), constants))
    return Program(inputs, {"window": window, **feature_ports(model)}, calls, len(steps))


def noise_names(program: Program) -> list[str]:
    """Names of the inputs that hold the noise of each call, in order; none for DDIM."""
    return [name for name in program.inputs if name.startswith("noise.")]


def bare_forward(model: DiffusionModel, level: np.ndarray) -> Program:
    """One network call without a reverse step, to time it by itself; the output is ``output``."""
    window = Port(model.window_shape)
    arguments = {"modulation": "modulation", "x": "x"}
    constants = {"level_modulation": _embed(model, level, 0.0)}
    call = Call(part(Denoise, model), arguments, ("output",), constants)
    inputs = {**observation_ports(model), "x": window}
    return Program(inputs, {"output": window}, [encode_call(model), call])


def _jump(level: np.ndarray, next_level: np.ndarray) -> float:
    """How far a call moves the positions that it moves; one level counts as infinitesimal."""
    jump = float((level - next_level).max())
    return jump if jump > 1 else 0.0


@torch.no_grad()
def _embed(model: DiffusionModel, level: np.ndarray, jump: float) -> Tensor:
    """Level modulation of one call, shape (1, ...)."""
    device, num_levels = model.device, model.schedule.num_levels
    scaled = torch.from_numpy(level)[None].to(device).float() / num_levels  # (1, h)
    if not model.config.jump:
        return model.network.embed_level(scaled)
    return model.network.embed_level(scaled, torch.tensor([jump / num_levels], device=device))
