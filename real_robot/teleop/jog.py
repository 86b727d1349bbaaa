"""The robot's joints or tool move as fast as a stick or key asks for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..config import RobotConfig, plain_name
from ..core.events import Mode
from ..core.limits import Vector
from ..core.trajectory import Chunk
from ..policies.held_up import farthest_behind
from ..policies.protocol import Console, Snapshot
from .config import TeleopConfig
from .controls import (
    KEY_PAIRS,
    STICKS,
    TOOL,
    TOOL_KEYS,
    TOOL_STICKS,
    GamepadWishes,
    KeyWishes,
    Wishes,
    bindings_of,
)

STEP, NUM_STEPS = 0.05, 6  # between waypoints [s], and how long a motion goes on by itself


class JointJog:
    """Moves joints at the speeds that somebody asks for, within their limits.

    Args:
        robot: The robot.
    """

    def __init__(self, robot: RobotConfig) -> None:
        limits = robot.control.limits.arrays
        self._low, self._high = limits.low, limits.high
        self._lost = farthest_behind(robot)
        self.reset()

    def reset(self) -> None:
        """Begin where the robot is then."""
        self._times: Vector = np.zeros(0)
        self._rows: Vector = np.zeros((0, 0))

    def step(self, snapshot: Snapshot, velocity: Vector) -> Chunk:
        """The way of the next moments, at whose end the joints rest.

        Args:
            snapshot: The robot now.
            velocity: Of each joint, shape (D,).
        """
        start = self._start(snapshot)
        ahead = STEP * np.arange(NUM_STEPS + 1.0)
        self._times = snapshot.time + ahead
        rows = start + ahead[:, None] * velocity
        self._rows = np.minimum(np.maximum(rows, self._low), self._high)
        return snapshot.chunk(self._times, self._rows)

    def _start(self, snapshot: Snapshot) -> Vector:
        """Where each joint is meant to be now, or where it is if that is too far away."""
        times, now = self._times, snapshot.time
        if not len(times) or not times[0] <= now <= times[-1]:
            return snapshot.position
        index = min(int((now - times[0]) / STEP), NUM_STEPS - 1)
        share = (now - times[index]) / STEP
        planned = self._rows[index] + share * (self._rows[index + 1] - self._rows[index])
        near = np.abs(planned - snapshot.position) <= self._lost
        return np.where(near, planned, snapshot.position)


class JogPolicy:
    """Lets a gamepad or keyboard move a robot.

    Args:
        robot: The robot.
        config: What moves what, and how fast.
        period: Time between two plans [s].

    Raises:
        ValueError: If they do not fit each other.
        ConnectionError: If there is no such device.
        ImportError: If the tool is to be moved and mink is missing.
    """

    cameras: tuple[str, ...] = ()

    def __init__(self, robot: RobotConfig, config: TeleopConfig, period: float) -> None:
        self.period = period
        self._console: Console | None = None
        self._problem = ""
        self._in_joints = config.space == "joints"
        self._config = config
        if self._in_joints:
            self._joints = JointJog(robot)
            self._velocity = config.speed * robot.control.limits.arrays.velocity
        else:
            from ..policies.cartesian_jog import CartesianJog

            self._tool = CartesianJog(robot)
        self._bindings = bindings_for(robot, config)
        self._wishes = open_wishes(config, tuple(self._bindings.values()))

    def attach(self, console: Console) -> None:
        """Hear the keys of the terminal, and tell which move what."""
        self._console = console
        bound = [f"{thing} {keys}" for thing, keys in self._bindings.items() if keys]
        console.say(f"the {self._config.by} moves: {', '.join(bound)}")

    def reset(self, seed: int) -> None:
        """Begin where the robot is."""
        del seed
        self._joints.reset() if self._in_joints else self._tool.reset()

    def pressed(self) -> str:
        """Keys that buttons of the device stand for, pressed since the previous call."""
        return self._wishes.pressed()

    def plan(self, snapshot: Snapshot) -> Chunk:
        """The way of the next moments."""
        if snapshot.mode is not Mode.RUN:
            self.reset(0)
        wish = self._wishes.read(self._console.keys() if self._console else "")
        if self._in_joints:
            return self._joints.step(snapshot, wish * self._velocity)
        config = self._config
        way, turn = config.tool_speed * wish[:3], config.turn_speed * wish[3:6]
        step = self._tool.step(snapshot, way, turn, float(wish[6]))
        if self._console is not None and step.problem and step.problem != self._problem:
            self._console.say(f"the tool cannot go on: {step.problem}")
        self._problem = step.problem
        return step.chunk

    def conclude(self, *, stopped: bool) -> None:
        """Let go of the device."""
        del stopped
        self._wishes.close()


def bindings_for(robot: RobotConfig, config: TeleopConfig) -> dict[str, str]:
    """What of a gamepad or keyboard moves each joint, or the tool along each of its axes.

    Raises:
        ValueError: If something is bound that cannot be moved.
    """
    things = list(TOOL)
    gamepad = config.by == "gamepad"
    defaults = dict(TOOL_STICKS if gamepad else TOOL_KEYS)
    if config.space == "joints":
        count = robot.control.limits.num_joints
        things = [plain_name(name) for name in robot.joints] or [str(n) for n in range(count)]
        defaults = dict(zip(things, STICKS if gamepad else KEY_PAIRS, strict=False))
    return dict(zip(things, bindings_of(things, defaults, config.bindings), strict=True))


def open_wishes(config: TeleopConfig, bindings: Sequence[str]) -> Wishes:
    """Open the gamepad or keyboard, bound to what it moves."""
    return (GamepadWishes if config.by == "gamepad" else KeyWishes)(bindings, config.device)
