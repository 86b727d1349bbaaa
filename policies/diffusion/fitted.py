"""Sampling by steps whose scalars were fitted to this network; see `decoding.fitted`."""

from __future__ import annotations

import torch
from torch import Tensor

from ...decoding.fitted import check_falling, fitted_coefficients, fitted_step
from ..programs.program import Call, Port, Program
from .encoding import encode_call, feature_ports, observation_ports
from .model import DiffusionModel
from .reverse import NetworkStep, part


class FittedStep(NetworkStep):
    """One network call and the fitted step that it is for."""

    def forward(
        self,
        modulation: Tensor,
        x: Tensor,
        last: Tensor,
        level_modulation: Tensor,
        coefficients: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Return the next x and the clean estimate, both of shape (R, H, D).

        Args:
            modulation: Output of `Encode`, shape (R, ...).
            x: Noisy normalised actions, shape (R, H, D).
            last: Clean estimate of the call before, shape (R, H, D).
            level_modulation: Output of `embed_steps`, shape (1, ...).
            coefficients: Of this step, see `fitted_coefficients`, shape (6,).
        """
        output = self.network.denoise(x, level_modulation, modulation)
        return fitted_step(x, output, last, coefficients, self.clip, self.predicts_sample)


def embed_steps(model: DiffusionModel, level: Tensor) -> list[Tensor]:
    """What the network is told of each call's level, shape (1, ...) each.

    Networks that know integer levels alone round them, and none is asked below its first level.

    Args:
        model: Trained model.
        level: Level of each call, falling, shape (n,); the gradient reaches them.
    """
    num_levels, horizon = model.config.num_levels, model.config.horizon
    levels = (level.clamp(min=1) / num_levels).float()[:, None, None].expand(-1, 1, horizon)
    if not model.config.jump:
        return [model.network.embed_level(one) for one in levels]
    jumps = -torch.cat([level, level.new_zeros(1)]).diff()  # (n,)
    scaled = (torch.where(jumps > 1, jumps, 0) / num_levels).float()
    return [model.network.embed_level(*pair) for pair in zip(levels, scaled[:, None], strict=True)]


def fitted_sample(model: DiffusionModel, scalars: Tensor, x: Tensor, modulation: Tensor) -> Tensor:
    """Sample windows, shape (B, H, D), with any scalars, which the gradient reaches.

    Args:
        model: Trained model.
        scalars: Level, gain and memory of each call, shape (3, n).
        x: Standard normal, shape (B, H, D).
        modulation: Encoded observations, shape (B, ...).
    """
    step = FittedStep(model)
    coefficients = fitted_coefficients(model.schedule, scalars, model.config.prediction).to(x.dtype)
    last = x
    for one, level in zip(coefficients, embed_steps(model, scalars[0]), strict=True):
        x, last = step(modulation, x, last, level, one)
    return x


@torch.no_grad()
def fitted_program(model: DiffusionModel, num_calls: int | None) -> Program:
    """Observation and noise to the normalised window in fitted steps; see `reverse_program`.

    Raises:
        ValueError: If this model's scalars were not fitted for so many calls, or levels do not
            fall.
    """
    scalars = model.fitted_scalars(num_calls)
    check_falling(model.schedule, scalars[0])
    coefficients = fitted_coefficients(model.schedule, scalars, model.config.prediction).float()
    module = part(FittedStep, model)
    window = Port(model.window_shape)
    calls = [encode_call(model)]
    # The first step's memory is 0, so whatever it is given as the last estimate has no effect.
    x = last = "x"
    for index, level in enumerate(embed_steps(model, scalars[0])):
        arguments = {"modulation": "modulation", "x": x, "last": last}
        is_final = index == len(coefficients) - 1
        x, last = "window" if is_final else f"x.{index + 1}", f"clean.{index + 1}"
        constants = {"level_modulation": level, "coefficients": coefficients[index]}
        calls.append(Call(module, arguments, (x, last), constants))
    inputs = {**observation_ports(model), "x": window}
    return Program(inputs, {"window": window, **feature_ports(model)}, calls, len(coefficients))
