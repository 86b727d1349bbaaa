"""The records that processes exchange, and all channels of one run together."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import numpy as np

from ..core.events import Event, EventKind, Request, RobotState
from ..core.trajectory import Chunk
from .shared import Histogram, Record, Ring, Slot

MAX_WAYPOINTS = 128
LARGEST_SEQUENCE = 2**63
RING_SECONDS = 4.0
TEXT = "S160"

# The newest request, and how often a stop was among all so far: no later key hides a stop.
REQUEST = np.dtype([("request", "i8"), ("stops", "i8")])
# What became of building the policy; an empty failure means that it is ready. Then whether it has
# planned from a measurement, whether it has something to finish at the end, which of its cameras
# give no pictures, and why it wants to end.
POLICY = np.dtype(
    [
        ("failure", "S600"), ("planned", "i8"), ("concludes", "i8"), ("lost", "S200"),
        ("finish", TEXT),
    ]
)  # fmt: skip
# When the supervisor was last heard.
HEARTBEAT = np.dtype([("time", "f8")])
# Between the operator and the policy.
KEY = np.dtype([("key", "S4")])
MESSAGE = np.dtype([("text", "S600")])
# What became of the log; an empty failure means that it is being written.
LOG = np.dtype([("failure", "S600")])
EVENT = np.dtype([("time", "f8"), ("kind", "i8"), ("text", TEXT)])
STATUS = np.dtype(
    [
        ("time", "f8"), ("mode", "i8"), ("resting", "i8"), ("cycles", "i8"), ("late", "i8"),
        ("skipped", "i8"), ("unsent", "i8"), ("wake_max", "f8"), ("wake_p50", "f8"),
        ("wake_p99", "f8"), ("compute_p50", "f8"), ("compute_p99", "f8"), ("rejected", "i8"),
        ("accepted", "i8"), ("limit_hits", "i8"), ("violations", "i8"), ("bus_failures", "i8"),
        ("age", "f8"), ("velocity", "f8"), ("acceleration", "f8"), ("jerk", "f8"),
        ("torch", "i8"), ("log_dropped", "i8"), ("finished", "i8"), ("asked", "i8"),
        ("realtime", "S300"), ("failure", TEXT), ("blocked", TEXT),
    ]
)  # fmt: skip


class Sizes(NamedTuple):
    """What the layout of the channels depends on.

    Attributes:
        num_joints: Joints D.
        num_sensors: Further numbers per measurement.
        dt: Control period [s].
    """

    num_joints: int
    num_sensors: int
    dt: float


def state_dtype(sizes: Sizes) -> np.dtype[Any]:
    """A measurement."""
    return np.dtype(
        [
            ("time", "f8"), ("position", "f8", (sizes.num_joints,)),
            ("velocity", "f8", (sizes.num_joints,)), ("fault", TEXT),
            ("sensors", "f8", (sizes.num_sensors,)),
        ]
    )  # fmt: skip


def chunk_dtype(sizes: Sizes) -> np.dtype[Any]:
    """A chunk on its way to the loop; `received_at` is filled in by the loop."""
    return np.dtype(
        [
            ("sequence", "i8"), ("observed_at", "f8"), ("received_at", "f8"), ("count", "i8"),
            ("times", "f8", (MAX_WAYPOINTS,)),
            ("waypoints", "f8", (MAX_WAYPOINTS, sizes.num_joints)),
        ]
    )  # fmt: skip


def cycle_dtype(sizes: Sizes) -> np.dtype[Any]:
    """One control cycle as the log has it."""
    joints = (sizes.num_joints,)
    return np.dtype(
        [
            ("now", "f8"), ("wake", "f8"), ("sent", "f8"), ("mode", "i8"), ("request", "i8"),
            ("chunk", "i8"), ("age", "f8"), ("state", state_dtype(sizes)), ("has_command", "i8"),
            ("command", "f8", joints), ("command_velocity", "f8", joints),
            ("command_acceleration", "f8", joints), ("reference", "f8", joints),
        ]
    )  # fmt: skip


def read_text(record: Record, name: str) -> str:
    """The text in a field."""
    return record[name].item().decode(errors="replace")


def unpack_state(record: Record) -> RobotState:
    """Read a measurement."""
    return RobotState(
        float(record["time"]),
        np.array(record["position"]),
        np.array(record["velocity"]),
        read_text(record, "fault"),
        np.array(record["sensors"]),
    )


def pack_chunk(chunk: object, dtype: np.dtype[Any]) -> Record:
    """Write a chunk as a record; NaN and disorder pass, the loop judges them.

    Raises:
        ValueError: If it is none, or its numbers or shapes do not fit the record.
    """
    if not isinstance(chunk, Chunk):
        raise ValueError(f"a policy plans a Chunk, or None to wait, got {chunk!r:.100}")
    times, waypoints = np.asarray(chunk.times), np.asarray(chunk.waypoints)
    if {times.dtype.kind, waypoints.dtype.kind} - set("fiu"):
        raise ValueError(
            f"a chunk has real numbers, got times {times.dtype} and waypoints {waypoints.dtype}"
        )
    count, num_joints = times.size, dtype["waypoints"].shape[1]
    if times.ndim != 1 or count > MAX_WAYPOINTS or waypoints.shape != (count, num_joints):
        raise ValueError(
            f"a chunk has at most {MAX_WAYPOINTS} waypoints of {num_joints} joints, got times "
            f"{times.shape} and waypoints {waypoints.shape}"
        )
    if not abs(chunk.sequence) < LARGEST_SEQUENCE:
        raise ValueError(f"sequence of a chunk must be a number of 64 bits, got {chunk.sequence}")
    record = np.zeros((), dtype)
    record["sequence"], record["observed_at"] = chunk.sequence, chunk.observed_at
    record["count"] = count
    record["times"][:count], record["waypoints"][:count] = times, waypoints
    return record


def unpack_chunk(record: Record) -> Chunk:
    """Read a chunk."""
    count = min(max(int(record["count"]), 0), MAX_WAYPOINTS)
    return Chunk(
        int(record["sequence"]),
        float(record["observed_at"]),
        np.array(record["times"][:count]),
        np.array(record["waypoints"][:count]),
    )


def unpack_event(record: Record) -> tuple[float, Event]:
    """Read when an event happened, and the event."""
    event = Event(EventKind(int(record["kind"])), read_text(record, "text"))
    return float(record["time"]), event


class Channels:
    """All channels of one run.

    Args:
        sizes: Layout.
        descriptors: Of existing channels, in the order of `descriptors`; new ones without.

    Whoever makes new ones closes them.
    """

    def __init__(self, sizes: Sizes, descriptors: list[int] | None = None) -> None:
        self.sizes, self._num_stops = sizes, 0
        rows = max(int(RING_SECONDS / sizes.dt), 256)
        given = iter(descriptors or [None] * 15)
        self.state = Slot(state_dtype(sizes), next(given))
        self.chunk = Slot(chunk_dtype(sizes), next(given))
        self.request = Slot(REQUEST, next(given))
        self.policy = Slot(POLICY, next(given))
        self.log = Slot(LOG, next(given))
        self.status = Slot(STATUS, next(given))
        self.log_cycles = Ring(cycle_dtype(sizes), rows, next(given))
        self.log_chunks = Ring(chunk_dtype(sizes), 256, next(given))
        self.log_events = Ring(EVENT, 1024, next(given))
        self.events = Ring(EVENT, 1024, next(given))
        self.keys = Ring(KEY, 256, next(given))
        self.messages = Ring(MESSAGE, 256, next(given))
        self.heartbeat = Slot(HEARTBEAT, next(given))
        # Histograms, written by the loop; whoever wants quantiles computes them.
        self.wake = Histogram(next(given))
        self.compute = Histogram(next(given))

        self._all = (
            self.state, self.chunk, self.request, self.policy, self.log, self.status,
            self.log_cycles, self.log_chunks, self.log_events, self.events,
            self.keys, self.messages, self.heartbeat, self.wake, self.compute,
        )  # fmt: skip

    @property
    def descriptors(self) -> list[int]:
        """What to pass on to another process."""
        return [channel.descriptor for channel in self._all]

    def close(self) -> None:
        """Give memory and descriptors of this process back; other processes keep theirs."""
        for channel in self._all:
            channel.close()

    def ask(self, request: Request) -> None:
        """Send an operator's request to the loop."""
        record = np.zeros((), REQUEST)
        self._num_stops += request is Request.STOP
        record["request"], record["stops"] = request, self._num_stops
        self.request.write(record)

    def beat(self) -> None:
        """Tell the loop that somebody watches the run."""
        record = np.zeros((), HEARTBEAT)
        record["time"] = time.monotonic()
        self.heartbeat.write(record)

    def failure(self, name: str) -> str:
        """What a process reported as its end, empty if nothing."""
        slots = {"log": self.log, "policy": self.policy, "control": self.status}
        record = slots[name].read()
        return "" if record is None else read_text(record, "failure")

    def press(self, key: str) -> None:
        """Pass a key of the operator's on to the policy; lost if it does not listen."""
        record = np.zeros((), KEY)
        record["key"] = key.encode()[:4]
        self.keys.push(record)
