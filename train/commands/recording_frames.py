"""What is recorded of a robot: columns and their names, and where it was asked to be."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...real_robot.config import RobotConfig
from ...real_robot.core.events import Mode
from ...real_robot.core.limits import Vector
from ...real_robot.core.stitcher import Stitcher
from ...real_robot.core.trajectory import Chunk, chunk_problem
from ...real_robot.drivers import make_driver
from ...real_robot.policies.protocol import Snapshot
from ..data.formats.lerobot.grow import Header
from ..recording.episode import ACTION, FILLED, INTERVENTION, MEASURED_AT, STATE, Frame
from ..recording.pictures import Encoding, declare_pictures

SENSORS, PICTURES = "observation.environment_state", "observation.images."


class Reference:
    """Where the chunks so far ask the robot to be, as the control loop sees it.

    Args:
        robot: Its rules and limits are those of the loop.
        monotonic: Clock [s].
    """

    def __init__(self, robot: RobotConfig, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._control, self._monotonic = robot.control, monotonic
        self._limits = robot.control.limits.arrays
        self._stitcher = Stitcher(robot.control.stitch)

    def take(self, chunk: Chunk, snapshot: Snapshot) -> None:
        """Take a chunk that was planned from a snapshot, unless the loop will refuse it."""
        now = self._monotonic()
        if snapshot.mode is not Mode.RUN:
            self._stitcher.clear()
        if not chunk_problem(chunk, now, self._limits, self._control.rules):
            self._stitcher.add(chunk, now, snapshot.position)

    def at(self, moment: float, default: Vector) -> Vector:
        """Where the robot should be at some moment [s], within its limits, shape (J,)."""
        position = self._stitcher.at(moment)[0] if self._stitcher.covers(moment) else default
        return np.clip(position, self._limits.low, self._limits.high)


def make_frame(
    snapshot: Snapshot, action: Vector | None, cameras: Sequence[str], intervention: bool
) -> Frame:
    """A frame of an episode.

    Args:
        snapshot: What was measured.
        action: Where the robot is asked to be one frame later; None if that is where it will be.
        cameras: Whose pictures belong to it.
        intervention: Whether a person was in command.
    """
    times = [snapshot.time, *(snapshot.pictures[name].time for name in cameras)]
    numbers = {STATE: snapshot.position, MEASURED_AT: np.array(times)}
    if action is not None:
        numbers[ACTION] = action
    if len(snapshot.sensors):
        numbers[SENSORS] = snapshot.sensors
    pictures = {PICTURES + name: snapshot.pictures[name].image for name in cameras}
    return Frame(snapshot.time, numbers, pictures, intervention)


def recording_header(robot: RobotConfig, period: float, encoding: Encoding) -> Header:
    """What all episodes of a recording have in common.

    Args:
        robot: The robot.
        period: Time between two frames [s].
        encoding: What becomes of the pictures.
    """
    rate = round(1 / period, 3)
    fps = int(rate) if rate.is_integer() else rate

    def numbers(size: int, names: list[str] | None, dtype: str = "float32") -> dict[str, Any]:
        return {"dtype": dtype, "shape": [size], "names": names, "fps": fps}

    joints, cameras = joint_names(robot), list(robot.cameras)
    features = {
        STATE: numbers(len(joints), joints),
        ACTION: numbers(len(joints), joints),
        MEASURED_AT: numbers(1 + len(cameras), ["joints [s]", *(f"{one} [s]" for one in cameras)]),
    }
    for name in (FILLED, INTERVENTION, "next.done", "next.truncated"):
        features[name] = numbers(1, None, "bool")
    if num_sensors := make_driver(robot).num_sensors:
        features[SENSORS] = numbers(num_sensors, None)
    for name, camera in robot.cameras.items():
        features[PICTURES + name] = declare_pictures(camera.size, fps, encoding)
    return Header(fps, robot.name, features, {"source": f"recorded by hotloop on {robot.name}"})


def joint_names(robot: RobotConfig) -> list[str]:
    """Name and unit of each joint."""
    bare = [re.sub(r"\s*\[.*\]$", "", name) for name in robot.joint_names]
    return [f"{name} [{unit}]" for name, unit in zip(bare, robot.units, strict=True)]
