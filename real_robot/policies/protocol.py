"""The policy side of the control loop: a snapshot of the robot in, a chunk of waypoints out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ..cameras.camera import Picture
from ..config import PolicyOptions, RobotConfig
from ..core.events import Mode
from ..core.limits import Vector
from ..core.trajectory import Chunk

if TYPE_CHECKING:
    from ..logs.reader import ControlLog


class Snapshot(NamedTuple):
    """The robot at one instant, and the newest pictures.

    Attributes:
        time: When it was measured [s], on the control loop's clock.
        position: Joint positions, shape (D,).
        velocity: Joint velocities, shape (D,).
        sensors: Further numbers of the robot's back-end, shape (S,).
        pictures: Newest picture of each camera that the policy reads, by name.
        sequence: Number of the chunk that is to be planned from it, rising.
        mode: What the control loop was doing, as known a tenth of a second later at most.
    """

    time: float
    position: Vector
    velocity: Vector
    sensors: Vector
    pictures: Mapping[str, Picture] = MappingProxyType({})
    sequence: int = 0
    mode: Mode = Mode.RUN

    @property
    def observed_at(self) -> float:
        """When the oldest thing in it was measured [s].

        A chunk is as old as that: the loop refuses a chunk from a stale picture as it refuses one
        from a stale measurement.
        """
        return min([self.time, *(picture.time for picture in self.pictures.values())])

    def chunk(self, times: NDArray[np.floating], waypoints: NDArray[np.floating]) -> Chunk:
        """The chunk of these waypoints, planned from this snapshot.

        Args:
            times: When to be at each waypoint [s], on the control loop's clock, rising, shape (H,).
            waypoints: Joint positions, shape (H, D).
        """
        rows = np.asarray(waypoints, np.float64)
        return Chunk(self.sequence, self.observed_at, np.asarray(times, np.float64), rows)


class Console(Protocol):
    """A policy's line to the operator of its run; nothing of it ever waits."""

    def keys(self) -> str:
        """Keys pressed since the previous call, one character each, arrows as ``"←↑→↓"``.

        Those that the run itself uses are not among them: space, a, q, r and L.
        """
        ...

    def say(self, text: str) -> None:
        """Show the operator a line."""
        ...

    def finish(self, reason: str) -> None:
        """Ask for the end of the run: a braked stop that counts as a success.

        Args:
            reason: What the run was ended by, as its summary has it.
        """
        ...


class RobotPolicy(Protocol):
    """Plans joint waypoints, in a process of its own.

    One that talks to the operator has a method ``attach(console: Console)`` too, which is called
    once, before `reset`. One that has something to finish has a method ``conclude(*, stopped)``,
    which is called at the end and told whether the robot was stopped before it.
    """

    @property
    def cameras(self) -> tuple[str, ...]:
        """Cameras whose pictures it reads, mostly none."""
        ...

    @property
    def period(self) -> float:
        """Time between two plans [s]."""
        ...

    def reset(self, seed: int) -> None:
        """Start an episode."""
        ...

    def plan(self, snapshot: Snapshot) -> Chunk | None:
        """Plan from what the robot measured; None if there is nothing to send."""
        ...


RobotPolicyFactory = Callable[[RobotConfig, PolicyOptions], RobotPolicy]


@dataclass(frozen=True)
class PolicyKind:
    """What the name of a robot policy stands for; a mere factory stands for `PolicyKind(factory)`.

    Attributes:
        make: Builds the policy, in the policy's own process; raises ValueError if it does not fit
            the robot, and then nothing moves.
        settings: Fields of `PolicyOptions` that it reads; others may then not be given, and one
            that reads ``checkpoint`` needs one. None if it says nothing about them.
        prepare: Takes the robot and the run's seed before anything starts: it may check what the
            run will need, and set the scene of a simulated robot.
        score: How good a run was, from its log.
    """

    make: RobotPolicyFactory
    settings: tuple[str, ...] | None = None
    prepare: Callable[[RobotConfig, int], RobotConfig] | None = None
    score: Callable[[ControlLog], float] | None = None

    @property
    def path(self) -> str:
        """Where the policy process finds `make`: ``module:Name``."""
        return f"{self.make.__module__}:{self.make.__name__}"
