"""The robot does what another arm is led through by hand."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from ..config import RobotConfig, plain_name
from ..core.events import Mode
from ..core.limits import Vector
from ..core.trajectory import Chunk
from ..drivers import make_driver
from ..drivers.driver import BusError, Driver, Inspectable
from ..drivers.passive import go_limp
from ..policies.protocol import Snapshot
from ..readiness import SIMULATED

# The robot comes to where the leader is at this share of its velocity limits.
APPROACH = 0.3
# It follows so many periods behind, so that its way leads through places that are known already.
DELAY, KEPT = 2, 4
FADING = 0.5


class LeaderPolicy:
    """Follows a leader arm whose torque is off; only read, never moved.

    The robot is where the leader was two periods ago. Wherever it begins, it comes slowly to the
    leader's pose and follows from there on.

    Args:
        robot: The robot that follows.
        leader: The leader arm.
        by_range: Joints whose whole range stands for the whole range of the robot's.
        period: Time between two readings [s].

    Raises:
        ValueError: If the joints do not correspond.
        OSError: If the leader cannot be read.
    """

    cameras: tuple[str, ...] = ()

    def __init__(
        self, robot: RobotConfig, leader: RobotConfig, by_range: tuple[str, ...], period: float
    ) -> None:
        self.period = period
        self._order, self._scale, self._offset = correspondence(robot, leader, by_range)
        limits = robot.control.limits.arrays
        self._low, self._high = limits.low, limits.high
        self._approach = APPROACH * limits.velocity * robot.control.speed * period
        self._budget, self._failures = leader.bus_budget, 0
        self._driver = make_driver(leader)
        let_go(self._driver, leader)
        self.reset(0)

    def reset(self, seed: int) -> None:
        """Begin where the robot is."""
        del seed
        self._away: Vector | None = None
        self._known: deque[tuple[float, Vector]] = deque(maxlen=KEPT)

    def plan(self, snapshot: Snapshot) -> Chunk | None:
        """Where the leader was in the last few periods; None if it could not be read."""
        if snapshot.mode is not Mode.RUN:
            self.reset(0)
        measured = self._read()
        if measured is None:
            return None
        time, goal = measured
        if self._away is None:
            self._away = snapshot.position - goal
        self._away = np.sign(self._away) * np.maximum(np.abs(self._away) - self._approach, 0)
        if self._known and time <= self._known[-1][0]:
            return None
        self._known.append((time, self._inside(goal + self._away)))
        times, rows = map(list, zip(*self._known, strict=True))
        # If the next reading is late, the motion fades instead of breaking off.
        rows.append(self._inside(rows[-1] + FADING * (rows[-1] - rows[max(len(rows) - 2, 0)])))
        times.append(time + self.period)
        return snapshot.chunk(np.array(times) + DELAY * self.period, np.stack(rows))

    def _inside(self, position: Vector) -> Vector:
        return np.minimum(np.maximum(position, self._low), self._high)

    def _read(self) -> tuple[float, Vector] | None:
        """When the leader was measured [s], and where that is on the robot; None if it failed."""
        try:
            state = self._driver.read()
        except BusError as error:
            self._failures += 1
            if self._failures >= self._budget:
                raise ConnectionError(f"the leader arm is lost: {error}") from error
            return None
        self._failures = 0
        return state.time, self._scale * state.position[self._order] + self._offset

    def conclude(self, *, stopped: bool) -> None:
        """Leave the leader limp."""
        del stopped
        self._driver.disconnect(torque_off=True)


def let_go(driver: Driver, arm: RobotConfig) -> None:
    """Connect to an arm for reading only, with its torque off.

    Raises:
        ValueError: If its driver cannot do that.
        OSError: If it does not answer.
    """
    if isinstance(driver, Inspectable):
        go_limp(driver)
    elif arm.driver in SIMULATED:
        driver.connect()
    else:
        raise ValueError(
            f"arm {arm.name} cannot be led by hand: its driver {arm.driver!r} cannot read it with "
            "the torque off"
        )


def correspondence(
    robot: RobotConfig, leader: RobotConfig, by_range: tuple[str, ...]
) -> tuple[NDArray[np.int64], Vector, Vector]:
    """Which joint of the leader each of the robot's is, and scale and offset between them.

    Raises:
        ValueError: If a joint has no counterpart.
    """
    ours, theirs = robot.control.limits.arrays, leader.control.limits.arrays
    names = [[plain_name(name) for name in one.joints] for one in (robot, leader)]
    order: NDArray[np.int64] = np.arange(len(ours.low))
    if all(names):
        if missing := [name for name in names[0] if name not in names[1]]:
            raise ValueError(
                f"leader {leader.name} has no joint {missing[0]!r} as robot {robot.name} has; its "
                f"joints are {leader.joints}"
            )
        order = np.array([names[1].index(name) for name in names[0]], np.int64)
    elif len(theirs.low) != len(ours.low):
        raise ValueError(
            f"robot {robot.name} has {len(ours.low)} joints and leader {leader.name} "
            f"{len(theirs.low)}; name the joints in both robot files"
        )
    scale, offset = np.ones(len(order)), np.zeros(len(order))
    for name in by_range:
        if plain_name(name) not in names[0]:
            raise ValueError(f"by_range names {name!r}, the robot's joints are {robot.joints}")
        joint = names[0].index(plain_name(name))
        other = order[joint]
        scale[joint] = (ours.high - ours.low)[joint] / (theirs.high - theirs.low)[other]
        offset[joint] = ours.low[joint] - scale[joint] * theirs.low[other]
    return order, scale, offset
