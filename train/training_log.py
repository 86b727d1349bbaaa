"""The log of a training run: `log.csv` and TensorBoard."""

from __future__ import annotations

import csv
from pathlib import Path

from ..decoding.plumbing.extras import require
from ..decoding.plumbing.files import write_text
from .resume import LOG_FILE

LOG_FIELDS = ("step", "loss", "lr", "samples_per_second")


class TrainingLog:
    """Writes every log line to `log.csv` and to TensorBoard.

    Args:
        run_dir: Run folder.
        step: Steps already done; later lines of an interrupted run are dropped.
        enabled: False on all processes but the main one.
    """

    def __init__(self, run_dir: Path, step: int, enabled: bool) -> None:
        self.path, self.enabled = run_dir / LOG_FILE, enabled
        if not enabled:
            return
        run_dir.mkdir(parents=True, exist_ok=True)
        kept: list[list[str]] = []
        if self.path.exists():
            with self.path.open(newline="") as file:
                kept = [row for row in csv.reader(file) if _is_until(step, row)]
        write_text(self.path, "".join(f"{','.join(row)}\r\n" for row in [LOG_FIELDS, *kept]))
        tensorboard = require("torch.utils.tensorboard.writer", "log")
        self._board = tensorboard.SummaryWriter(str(run_dir), purge_step=step + 1)

    def write(self, step: int, loss: float, lr: float, samples_per_second: float) -> None:
        """Append one line."""
        if not self.enabled:
            return
        values = (step, loss, lr, round(samples_per_second, 1))
        with self.path.open("a", newline="") as file:
            csv.writer(file).writerow(values)
        for name, value in zip(LOG_FIELDS[1:], values[1:], strict=True):
            self._board.add_scalar(name, value, step)

    def __enter__(self) -> TrainingLog:
        """Enter the context that closes the log."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close TensorBoard's file."""
        if self.enabled:
            self._board.close()


def _is_until(step: int, row: list[str]) -> bool:
    """Whether a line of the log is whole and not later than `step`."""
    return len(row) == len(LOG_FIELDS) and row[0].isdigit() and int(row[0]) <= step
