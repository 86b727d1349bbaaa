"""Reading a run back from its MCAP file."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np

from ...decoding.plumbing.files import refuse_lfs_pointer
from ...decoding.plumbing.schema import build
from ..config import RobotConfig
from ..core.events import EventKind, Mode, Request, RobotState
from ..core.limits import Vector
from ..core.trajectory import Chunk
from ..runtime.channels import EVENT, MAX_WAYPOINTS, Sizes, cycle_dtype
from .container import Contents, DamagedError, read_container
from .writer import TOPICS

CHUNK = np.dtype(
    [("sequence", "i8"), ("observed_at", "f8"), ("received_at", "f8"), ("count", "i8")]
)
END = np.dtype([("dropped", "i8")])
# By kind of dtype, what JSON has for it; a float that is not finite is a text.
TYPES: dict[str, tuple[type, ...]] = {"f": (float, int), "i": (int,), "S": (str,)}
NOUNS = {"f": "a number", "i": "a whole number", "S": "a text"}
NOT_FINITE = ("nan", "inf", "-inf")


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
        found = read_container(refuse_lfs_pointer(Path(path)).read_bytes())
    except DamagedError as error:
        raise ValueError(
            f"{path} is not a log of the control loop, or is damaged: {error}"
        ) from error
    if "hotloop" not in found.metadata:
        raise ValueError(f"{path} is not a log of the control loop: nothing says of which robot")
    try:
        return _restore(found)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        reason = f"there is no {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(
            f"{path} does not hold what a log of the control loop does: {reason}"
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
        _check_chunk(row, sizes, f"/chunk {index}")
    for topic, name, known in (("/cycle", "mode", Mode), ("/cycle", "request", Request),
                               ("/event", "kind", EventKind)):  # fmt: skip
        for row in rows[topic]:
            known(row[name])
    return ControlLog(robot, rows["/cycle"], rows["/chunk"], rows["/event"], _lost(rows["/end"]))


def _lost(rows: list[dict[str, Any]]) -> int:
    """How many records never reached the log; -1 if its end does not say so."""
    if not rows:
        return -1
    _check_row(rows[0], END, "/end")
    if rows[0]["dropped"] < 0:
        raise ValueError(f"/end says that {rows[0]['dropped']} records were lost")
    return rows[0]["dropped"]


def _check_chunk(row: Any, sizes: Sizes, what: str) -> None:
    """Raise ValueError unless a message is a chunk with as many waypoints as it names."""
    _check_row(row, CHUNK, what)
    if not 0 <= row["count"] <= MAX_WAYPOINTS:
        raise ValueError(f"{what} has {row['count']} waypoints, expected 0 to {MAX_WAYPOINTS}")
    waypoints = np.dtype(
        [
            ("times", "f8", (row["count"],)),
            ("waypoints", "f8", (row["count"], sizes.num_joints)),
        ]
    )
    _check_row(row, waypoints, what)


def _check_row(row: Any, dtype: np.dtype[Any], what: str) -> None:
    """Raise ValueError unless a message has the fields, types and lengths of a record."""
    if not isinstance(row, dict):
        raise ValueError(f"{what} is no record but {row!r:.60}")
    found = cast("dict[str, Any]", row)
    for name in dtype.names or ():
        if name not in found:
            raise ValueError(f"{what} has no {name!r}")
        kind = dtype[name]
        if kind.names:
            _check_row(found[name], kind, f"{what} {name}")
        else:
            _check_value(found[name], kind.base.kind, kind.shape, f"{what} {name}")


def _check_value(value: Any, kind: str, shape: tuple[int, ...], what: str) -> None:
    """Raise ValueError unless a value is a text, number or nested list as in a record."""
    if not shape:
        if not (type(value) in TYPES[kind] or (kind == "f" and value in NOT_FINITE)):
            raise ValueError(f"{what} must be {NOUNS[kind]}, got {value!r:.60}")
        return
    items = cast("list[Any]", value) if isinstance(value, list) else None
    if items is None or len(items) != shape[0]:
        raise ValueError(f"{what} must be a list of {shape[0]} values, got {value!r:.60}")
    for item in items:
        _check_value(item, kind, shape[1:], what)


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
