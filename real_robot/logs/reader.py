"""Reading a run back from its MCAP file."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ...decoding.plumbing.extras import require
from ..config import RobotConfig, from_plain
from ..core.events import RobotState
from ..core.limits import Vector
from ..core.trajectory import Chunk
from .writer import TOPICS


@dataclass(frozen=True)
class RunLog:
    """Everything that was logged of a run, in the order of time.

    Attributes:
        robot: The robot's configuration.
        cycles: One entry per control cycle.
        chunks: Chunks as the loop received them.
        events: What happened.
        dropped: Records that never reached the log; -1 if the log was cut off.
    """

    robot: RobotConfig
    cycles: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    chunks: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    events: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    dropped: int = -1

    def column(self, name: str) -> Vector:
        """One quantity over all cycles, shape (n,) or (n, D); ``"state.position"`` is nested.

        Raises:
            ValueError: If cycles have no such quantity.
        """
        values: list[Any] = list(self.cycles)
        for part in name.split("."):
            if values and part not in values[0]:
                raise ValueError(f"cycles have no {name!r}; they have {sorted(self.cycles[0])}")
            values = [value[part] for value in values]
        return np.asarray(values, np.float64)


def read_log(path: Path) -> RunLog:
    """Read a log, complete or cut off in the middle.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a log of the control loop.
    """
    reader_module = require("mcap.stream_reader", "control")
    records = require("mcap.records", "control")
    exceptions = require("mcap.exceptions", "control")
    metadata: dict[str, dict[str, str]] = {}
    topics: dict[int, str] = {}
    rows: dict[str, list[dict[str, Any]]] = {topic: [] for topic in TOPICS}
    with Path(path).open("rb") as file:
        try:
            for record in reader_module.StreamReader(file).records:
                if isinstance(record, records.Metadata):
                    metadata[record.name] = dict(record.metadata)
                elif isinstance(record, records.Channel):
                    topics[record.id] = record.topic
                elif isinstance(record, records.Message):
                    rows[topics[record.channel_id]].append(json.loads(record.data))
        except (exceptions.McapError, EOFError, struct.error) as error:
            if "hotloop" not in metadata:
                raise ValueError(f"{path} is not a log of the control loop: {error}") from error
    if "hotloop" not in metadata:
        raise ValueError(f"{path} is not a log of the control loop")
    return RunLog(
        from_plain(RobotConfig, json.loads(metadata["hotloop"]["robot"])),
        rows["/cycle"],
        rows["/chunk"],
        rows["/event"],
        rows["/end"][0]["dropped"] if rows["/end"] else -1,
    )


def logged_state(cycle: dict[str, Any]) -> RobotState:
    """The measurement of a logged cycle."""
    state = cycle["state"]
    return RobotState(
        float(state["time"]),
        np.array(state["position"], np.float64),
        np.array(state["velocity"], np.float64),
        state["fault"],
        np.array(state["sensors"], np.float64),
    )


def logged_chunk(record: dict[str, Any]) -> Chunk:
    """A logged chunk."""
    return Chunk(
        record["sequence"],
        float(record["observed_at"]),
        np.array(record["times"], np.float64),
        np.array(record["waypoints"], np.float64),
    )
