"""A robot behind ROS 2's topics, spoken to over DDS, so that ROS 2 itself need not be installed.

The robot publishes `sensor_msgs/JointState`, and a controller of ros2_control follows what is sent.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ...decoding.plumbing.extras import require
from ..config import RobotConfig
from ..core.events import RobotState
from ..core.limits import Motion, Vector
from .driver import BusError, Clock, PortError, check_options

if TYPE_CHECKING:
    from .ros_messages import JointState
    from .ros_topics import JointTopics

# Topic that each kind of controller listens to unless it is told otherwise.
CONTROLLERS = {
    "trajectory": "/joint_trajectory_controller/joint_trajectory",
    "positions": "/forward_position_controller/commands",
}
LARGEST_DOMAIN = 232
_PAUSE = 2e-4  # [s] between two looks for a message


class Ros2Driver:
    """Joints whose states come, and whose positions are sent, by topics of ROS 2.

    Joint states have to come at least once per ``control.dt``; a cycle without a new one counts as
    a bus error. No topic tells whether a controller moves the joints, and none has a watchdog:
    when this process ends, the controller holds the last position.

    Args:
        config: Options: ``controller``, ``"trajectory"`` (the default; joints go by name) or
            ``"positions"`` (they go in the order of the robot file, which has to be the
            controller's); ``states`` and ``commands``, the topics; ``domain``, by default that of
            ``ROS_DOMAIN_ID``; ``patience``, how long the robot may take to be found [s]. The
            robot file's joints have the names that the robot gives to them.
        monotonic: Clock [s].
    """

    clock: Clock = "host"
    num_sensors = 0

    def __init__(
        self, config: RobotConfig, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        options = config.options
        known = {"controller": str, "states": str, "commands": str, "domain": int}
        check_options(options, {**known, "patience": float})
        self._controller: str = options.get("controller", "trajectory")
        if self._controller not in CONTROLLERS:
            raise ValueError(
                f"driver option controller must be one of {', '.join(CONTROLLERS)}, got "
                f"{self._controller!r}"
            )
        if not config.joints:
            raise ValueError("driver ros2 needs the robot's names of its joints: robot.joints=[…]")
        if config.torque_off:
            raise ValueError("driver ros2 cannot let joints go limp: robot.torque_off=false")
        self._states = _topic(options, "states", "/joint_states")
        self._commands = _topic(options, "commands", CONTROLLERS[self._controller])
        self._domain = _domain(options)
        self._patience = float(options.get("patience", 5.0))
        if not 0 <= self._patience < np.inf:
            raise ValueError(f"driver option patience must be a time in s, got {self._patience}")
        self._names, self._dt = config.joints, config.control.dt
        self._monotonic = monotonic
        require("cyclonedds", "ros2")
        self._topics: JointTopics | None = None
        self._newest: RobotState | None = None
        self._connected, self._in_loop = False, False

    def inspect(self) -> None:
        """Listen to the robot, and wait for its first joint states."""
        from .ros_topics import JointTopics

        if self._topics is None:
            self._topics = JointTopics(
                self._domain, self._states, self._controller, self._names, self._dt
            )
        if self._newest is None:
            self._newest = self._receive(self._patience)
        if self._newest is None:
            self._refuse(
                f"no joint states on {self._states} in DDS domain {self._domain} within "
                f"{self._patience:g} s: is the robot's joint_state_broadcaster active, and "
                "ROS_DOMAIN_ID the same there?"
            )

    def connect(self) -> None:
        """Find the controller; it is sent nothing before the first command."""
        self.inspect()
        assert self._topics is not None
        self._topics.announce(self._commands)
        deadline = self._monotonic() + self._patience
        while not self._topics.has_listener():
            if self._monotonic() >= deadline:
                self._refuse(
                    f"nobody takes commands on {self._commands} in DDS domain {self._domain}: is "
                    "the controller active, and of the kind that the option controller says?"
                )
            time.sleep(_PAUSE)
        self._connected, self._in_loop = True, False

    def read(self) -> RobotState:
        """The newest joint states; those that are on their way are waited for, half a period."""
        # Before the loop runs there is no period to be kept.
        state = self._receive(0.5 * self._dt if self._in_loop else self._patience)
        if state is None:
            raise BusError(f"no new joint states on {self._states}")
        self._newest, self._in_loop = state, True
        return state

    def write(self, motion: Motion) -> None:
        """Send positions, to be reached within a period."""
        if self._topics is None:
            raise BusError("the robot is not connected")
        self._topics.send(motion)

    def disconnect(self, torque_off: bool) -> None:
        """Leave; the controller holds the last position."""
        was_connected, self._connected = self._connected, False
        self._topics, self._newest, self._in_loop = None, None, False
        if torque_off and was_connected:
            raise BusError("a controller of ROS 2 cannot be told to let joints go limp; they hold")

    def _refuse(self, text: str) -> None:
        self.disconnect(torque_off=False)
        raise PortError(text)

    def _receive(self, patience: float) -> RobotState | None:
        """The newest message that was not yet received; None if none comes in time [s].

        Messages without the robot file's joints are others', e.g. a gripper's, and passed over.

        Raises:
            BusError: If there are no others, or a position is missing.
        """
        if self._topics is None:
            raise BusError("the robot is not connected")
        deadline, other = self._monotonic() + patience, None
        while True:
            for message in reversed(self._topics.take()):
                if set(self._names) <= set(message.name):
                    return self._state(message)
                other = message
            if self._monotonic() >= deadline:
                break
            time.sleep(_PAUSE)
        if other is not None:
            missing = next(name for name in self._names if name not in other.name)
            raise BusError(f"{self._states} has no joint {missing!r}, only {other.name}")
        return None

    def _state(self, message: JointState) -> RobotState:
        """The robot file's joints in its order, whatever others there are."""
        found = {name: index for index, name in enumerate(message.name)}
        chosen = [found[name] for name in self._names]
        position, velocity = np.array(message.position), np.array(message.velocity)
        if len(position) != len(found) or not np.isfinite(position[chosen]).all():
            raise BusError(f"{self._states} has no position of every joint: {message.position}")
        now, position = self._monotonic(), position[chosen]
        if len(velocity) == len(found) and np.isfinite(velocity[chosen]).all():
            return RobotState(now, position, velocity[chosen], "", np.zeros(0))
        # Robots that do not measure velocities send none, or NaN.
        return RobotState(now, position, self._moved(position, now), "", np.zeros(0))

    def _moved(self, position: Vector, now: float) -> Vector:
        """Velocity since the message before, shape (D,)."""
        before = self._newest
        if before is None or now <= before.time:
            return np.zeros_like(position)
        return (position - before.position) / (now - before.time)


def _topic(options: Mapping[str, Any], option: str, default: str) -> str:
    """A topic with its namespace, as ROS 2 shows it."""
    name: str = options.get(option, default)
    if not name.startswith("/") or name.endswith("/"):
        raise ValueError(f"driver option {option} must be a topic such as {default}, got {name!r}")
    return name


def _domain(options: Mapping[str, Any]) -> int:
    """The DDS domain: the option, else what ROS 2's own variable says."""
    found = options.get("domain", os.environ.get("ROS_DOMAIN_ID") or "0")
    if not (str(found).isdecimal() and int(found) <= LARGEST_DOMAIN):
        raise ValueError(
            f"the DDS domain (driver option domain, or ROS_DOMAIN_ID) must be 0 to "
            f"{LARGEST_DOMAIN}, got {found}"
        )
    return int(found)
