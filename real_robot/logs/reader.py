"""Reading a run back from its MCAP file."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ...decoding.plumbing.schema import build
from ..config import RobotConfig
from ..core.events import RobotState
from ..core.limits import Vector
from ..core.trajectory import Chunk
from ..runtime.channels import EVENT, Sizes, cycle_dtype
from .container import Contents, DamagedError, read_container
from .writer import TOPICS


@dataclass(frozen=True)
class ControlLog:
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


def read_log(path: Path) -> ControlLog:
    """Read a log, complete or cut off in the middle.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a log of the control loop, or is damaged; the message names it.
    """
    try:
        found = read_container(Path(path).read_bytes())
    except DamagedError as error:
        raise ValueError(
            f"{path} is not a log of the control loop, or is damaged: {error}"
        ) from error
    if "hotloop" not in found.metadata:
        raise ValueError(f"{path} is not a log of the control loop: nothing says of which robot")
    try:
        return _restore(found)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} does not hold what a log of the control loop does: {error}"
        ) from error


def _restore(found: Contents) -> ControlLog:
    """Build the log from texts and messages; ValueError, KeyError or TypeError if it cannot be."""
    metadata = found.metadata["hotloop"]
    if metadata.get("checksum", "") not in ("", str(zlib.crc32(metadata["robot"].encode()))):
        raise ValueError("the checksum of the robot's configuration is wrong")
    robot = build(RobotConfig, json.loads(metadata["robot"]))
    sizes = Sizes(*json.loads(metadata["sizes"]))
    rows: dict[str, list[dict[str, Any]]] = {topic: [] for topic in TOPICS}
    for topic, data in found.messages:
        if topic not in rows:
            raise ValueError(f"there is no topic {topic!r} in one, but {list(TOPICS)}")
        rows[topic].append(json.loads(data))
    for topic, dtype in (("/cycle", cycle_dtype(sizes)), ("/event", EVENT)):
        for index, row in enumerate(rows[topic]):
            _check_row(row, dtype, f"{topic} {index}")
    for index, row in enumerate(rows["/chunk"]):
        if len(row["times"]) != row["count"] or len(row["waypoints"]) != row["count"]:
            raise ValueError(f"/chunk {index} does not have the {row['count']} waypoints it names")
    dropped = rows["/end"][0]["dropped"] if rows["/end"] else -1
    return ControlLog(robot, rows["/cycle"], rows["/chunk"], rows["/event"], dropped)


def _check_row(row: dict[str, Any], dtype: np.dtype[Any], what: str) -> None:
    """Raise ValueError unless a message has the fields and lengths of a record."""
    for name in dtype.names or ():
        if name not in row:
            raise ValueError(f"{what} has no {name!r}")
        kind, value = dtype[name], row[name]
        if kind.names:
            _check_row(value, kind, what)
        elif kind.shape and len(value) != kind.shape[0]:
            raise ValueError(f"{what} has {len(value)} values of {name!r}, not {kind.shape[0]}")


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
