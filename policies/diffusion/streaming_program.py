"""A control step of a rolling buffer as a program: denoise, take the clean chunk out, shift."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from ...decoding.rolling import Ladder, advance
from ..programs.program import Call, Port, Program
from .actions import Physical
from .encoding import feature_ports
from .model import DiffusionModel
from .policy import ActionHead
from .reverse import reverse_program


class Emit(nn.Module):
    """End of a control step: take the clean chunk out, bring the rest back to the ladder's start.

    Args:
        model: Trained model.
        ladder: Levels of the buffer.
        physical: Normalised window to physical actions.
    """

    def __init__(self, model: DiffusionModel, ladder: Ladder, physical: Physical) -> None:
        super().__init__()
        self.ladder, self.physical = ladder, physical
        # Executed actions are noised again: the network was trained on past slots at that level.
        level, schedule = ladder.levels_per_step, model.schedule
        self.signal, self.sigma = float(schedule.signals[level]), float(schedule.sigmas[level])

    @property
    def num_shifted(self) -> int:
        """Positions that leave the window: committed actions and the chunk behind them."""
        return self.ladder.num_committed + self.ladder.num_execute

    @property
    def needs_past(self) -> bool:
        """Whether past slots reach back beyond them."""
        return self.ladder.num_past > self.num_shifted

    def forward(
        self, window: Tensor, fresh: Tensor, past: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the next buffer (R, H, D), committed actions out of it, and physical actions.

        Args:
            window: Normalised buffer at the end of the control step, shape (R, H, D).
            fresh: Standard normal, shape (R, To - 1 + `num_shifted`, D): for the past slots and
                the end of the buffer.
            past: Last executed actions before it, normalised, shape (R, To - 1, D), if needed.
        """
        num_past = self.ladder.num_past
        executed = window[:, num_past : num_past + self.num_shifted]
        if past is not None:
            executed = torch.cat([past, executed], dim=1)
        executed = executed[:, executed.shape[1] - num_past :]  # (r, num_past, d)
        noised = self.signal * executed + self.sigma * fresh[:, :num_past]
        return advance(window, noised, fresh[:, num_past:]), self.physical(window)


def stream_program(
    model: DiffusionModel, head: ActionHead, ladder: Ladder, num_calls: int, update: str
) -> Program:
    """One control step, from the buffer ``x`` to the next ``buffer`` and the ``actions``.

    Args:
        model: Trained model.
        head: Its numpy boundary.
        ladder: Levels, with as many committed actions as the plan begins after its observation.
        num_calls: Network calls.
        update: ``"ddim"`` or ``"ddpm"``.
    """
    program = reverse_program(model, ladder.control_step(num_calls), update)
    emit = Emit(model, ladder, head.physical).eval()
    num_past, size = ladder.num_past, model.window_shape[1]
    inputs = {**program.inputs, "fresh": Port((num_past + emit.num_shifted, size))}
    arguments = {"window": "window", "fresh": "fresh"}
    if emit.needs_past:
        arguments["past"] = "past"
        inputs["past"] = Port((num_past, size))
    outputs = {"buffer": program.outputs["window"], "actions": head.actions}
    call = Call(emit, arguments, tuple(outputs))
    outputs |= feature_ports(model)
    return replace(program, inputs=inputs, outputs=outputs, calls=[*program.calls, call])
