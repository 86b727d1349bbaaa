"""A log through the same controller again: the commands have to come out bit for bit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..core.controller import Controller
from ..core.events import Mailbox, Request
from .reader import ControlLog, logged_chunk, logged_state


@dataclass(frozen=True)
class Recomputation:
    """Outcome of recomputing a log.

    Attributes:
        cycles: Cycles that were compared.
        different: Cycles whose command is not the logged one, bit for bit.
        first: Time of the first such cycle [s], None if there is none.
    """

    cycles: int
    different: int
    first: float | None


def recompute(log: ControlLog) -> Recomputation:
    """Feed logged measurements, chunks and requests to a new controller and compare commands.

    Raises:
        ValueError: If records are missing from the log, so that a difference would mean nothing.
    """
    if log.dropped != 0:
        missing = "its end" if log.dropped < 0 else f"{log.dropped} records"
        raise ValueError(f"the log cannot be recomputed: {missing} never reached the file")
    controller = Controller(log.robot.control)
    chunks = {record["received_at"]: record for record in log.chunks}
    different, first, unsent = 0, None, False
    for cycle in log.cycles:
        now = float(cycle["now"])
        chunk = logged_chunk(chunks[now]) if now in chunks else None
        mailbox = Mailbox(chunk, Request(cycle["request"]), unsent)
        command = controller.step(now, logged_state(cycle), mailbox).command
        # A command that was not sent is in the log all the same.
        unsent = command is not None and not cycle["has_command"]
        if command is None:
            same = not cycle["has_command"]
        else:
            logged = np.array(cycle["command"], np.float64)
            same = command.position.tobytes() == logged.tobytes()
        if not same:
            different += 1
            first = now if first is None else first
    return Recomputation(len(log.cycles), different, first)
