"""The loss since the last log line, which stays on the device until somebody reads it."""

from __future__ import annotations

import torch
from torch import Tensor

# So many numbers at most wait to be read, however seldom a run logs and saves.
_MOST_UNREAD = 1000


class RunningLoss:
    """Losses of successive steps: their mean, and the first that is not finite.

    Reading a number of a GPU makes the host wait for all that the GPU has still to do, so losses
    are read together, before a line is logged and before anything is saved. On the CPU, where
    reading costs nothing, each is read at once.
    """

    def __init__(self) -> None:
        self._unread: list[Tensor] = []
        self._total, self.num_steps = torch.zeros(()), 0

    def add(self, loss: Tensor, step: int) -> None:
        """Note the loss of `step`, shape (); steps follow each other.

        Raises:
            FloatingPointError: If a loss that was read is not finite.
        """
        self._unread.append(loss.detach())
        if loss.device.type == "cpu" or len(self._unread) == _MOST_UNREAD:
            self.read(step)

    def read(self, last_step: int) -> None:
        """Look at all losses up to the one of `last_step`.

        Raises:
            FloatingPointError: If one of them is not finite; it names the first such step.
        """
        if not self._unread:
            return
        losses, self._unread = torch.stack(self._unread).cpu(), []
        wrong = (~torch.isfinite(losses)).nonzero()
        if len(wrong):
            first = int(wrong[0])
            step = last_step - len(losses) + 1 + first
            raise FloatingPointError(
                f"loss is {float(losses[first])} at step {step}; the last checkpoint is kept. "
                "Lower optim.lr or check the data with `hotloop data inspect`"
            )
        for loss in losses:
            self._total = self._total + loss
        self.num_steps += len(losses)

    def take_mean(self) -> Tensor:
        """Mean of what was read since the last call, shape (), on the CPU; and begin anew."""
        mean = self._total / self.num_steps
        self._total, self.num_steps = torch.zeros(()), 0
        return mean
