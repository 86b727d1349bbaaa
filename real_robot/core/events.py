"""What goes into a control step and what comes out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from .limits import Motion, Vector
from .trajectory import Chunk


class Mode(IntEnum):
    """State of the control loop.

    IDLE sends nothing. ARMED holds the pose it was armed in. RUN follows chunks. HOLD has braked,
    or is braking, because the policy is late, and resumes with the next good chunk. STOP has
    braked, or is braking, and stays so until it is reset; after a fault of the robot its command
    then moves once to where the robot is, so that nothing is pushed for good.
    """

    IDLE = 0
    ARMED = 1
    RUN = 2
    HOLD = 3
    STOP = 4


class Request(IntEnum):
    """What an operator can ask for.

    RELEASE ends the run with limp joints: it is the loop's, the controller knows nothing of it.
    """

    NONE = 0
    ARM = 1
    STOP = 2
    RESET = 3
    RELEASE = 4


class EventKind(IntEnum):
    """What an event is about."""

    MODE = 0
    CHUNK_REJECTED = 1
    CLIPPED = 2
    GUARDED = 3
    WORKSPACE = 4
    STARVED = 5
    STOPPED = 6
    REFUSED = 7
    LIMIT_VIOLATION = 8
    GAP = 9
    YIELDED = 10


class Event(NamedTuple):
    """Something worth telling an operator."""

    kind: EventKind
    text: str


@dataclass(frozen=True, eq=False)
class RobotState:
    """What the robot measured.

    Attributes:
        time: When it was measured [s], on the loop's clock.
        position: Joint positions, shape (D,).
        velocity: Joint velocities, shape (D,).
        fault: What is wrong with the robot or its bus, empty if nothing.
        sensors: Further numbers for the policy, such as the pose of an object; may be empty.
    """

    time: float
    position: Vector
    velocity: Vector
    fault: str
    sensors: Vector


class Mailbox(NamedTuple):
    """What arrived since the previous step.

    Attributes:
        chunk: The newest chunk.
        request: What the operator asked for.
        unsent: Whether the previous step's command never left for the robot.
        reason: Why a stop is requested, in words.
    """

    chunk: Chunk | None = None
    request: Request = Request.NONE
    unsent: bool = False
    reason: str = "requested"


class Output(NamedTuple):
    """Result of a control step.

    Attributes:
        command: Motion to send, None if nothing is to be sent.
        events: What happened, mostly nothing.
        mode: State after the step.
        reference: What the chunks asked for, shape (D,); the command without a chunk.
        chunk: Sequence of the chunk that was accepted last, -1 before the first.
        age: Time since that chunk's observation [s], infinite before the first.
    """

    command: Motion | None
    events: tuple[Event, ...]
    mode: Mode
    reference: Vector
    chunk: int
    age: float
