"""A robot policy around a robot policy that records what it sees and what it makes the robot do."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...decoding.plumbing.schema import build
from ...real_robot.config import PolicyOptions, RobotConfig
from ...real_robot.core.events import Mode
from ...real_robot.core.limits import Vector
from ...real_robot.core.stitcher import Stitcher
from ...real_robot.core.trajectory import Chunk, chunk_problem
from ...real_robot.drivers import make_driver
from ...real_robot.policies.protocol import Console, RobotPolicy, Snapshot
from ...real_robot.runtime.policy_process import checked, find_factory
from ..data.formats.lerobot.grow import Header
from ..recording.episode import ACTION, FILLED, INTERVENTION, MEASURED_AT, STATE, Frame
from ..recording.pictures import Encoding, declare_pictures
from ..recording.recorder import Recorder

SENSORS, PICTURES = "observation.environment_state", "observation.images."


@dataclass(frozen=True)
class RecordOptions:
    """What is recorded, and where to.

    Attributes:
        dataset: Folder of the dataset.
        policy: What builds the policy that is recorded, ``module:Name``.
        task: What the robot is asked to do.
        pictures: What becomes of the pictures.
    """

    dataset: str
    policy: str
    task: str
    pictures: Encoding = "video"


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

    def take(self, chunk: Chunk, position: Vector) -> None:
        """Take a chunk unless the loop will refuse it."""
        now = self._monotonic()
        if not chunk_problem(chunk, now, self._limits, self._control.rules):
            self._stitcher.add(chunk, now, position)

    def at(self, moment: float, default: Vector) -> Vector:
        """Where the robot should be at some moment [s], within its limits, shape (J,)."""
        position = self._stitcher.at(moment)[0] if self._stitcher.covers(moment) else default
        return np.clip(position, self._limits.low, self._limits.high)

    def clear(self) -> None:
        """Forget all chunks."""
        self._stitcher.clear()


class RecordingPolicy:
    """Runs a policy and records its rollouts: an episode while the robot follows it.

    Args:
        policy: The policy.
        robot: The robot; all its cameras are recorded.
        options: What to record where.

    Raises:
        ValueError: If the dataset is of another kind.
        OSError: If it cannot be written.
    """

    def __init__(self, policy: RobotPolicy, robot: RobotConfig, options: RecordOptions) -> None:
        self.period = policy.period
        self.cameras = tuple(dict.fromkeys((*policy.cameras, *robot.cameras)))
        self._policy, self._task = policy, options.task
        self._reference = Reference(robot)
        header = recording_header(robot, policy.period, options)
        self._recorder = Recorder(Path(options.dataset), header, options.pictures)

    def attach(self, console: Console) -> None:
        """Talk to the operator."""
        self._console = console
        if (attach := getattr(self._policy, "attach", None)) is not None:
            attach(console)

    def reset(self, seed: int) -> None:
        """Start the policy's episode."""
        self._policy.reset(seed)
        self._reference.clear()

    def plan(self, snapshot: Snapshot) -> Chunk | None:
        """What the policy plans, and a frame of the episode if the robot follows it."""
        read = {name: snapshot.pictures[name] for name in self._policy.cameras}
        chunk = self._policy.plan(snapshot._replace(pictures=read))
        if chunk is not None:
            self._reference.take(chunk, snapshot.position)
        if snapshot.mode in (Mode.RUN, Mode.HOLD):
            self._recorder.add(self._frame(snapshot))
        self._tell(self._recorder.messages())
        return chunk

    def close(self, *, stopped: bool) -> None:
        """Keep what was recorded until the end, unless the robot was stopped before it.

        Args:
            stopped: Whether the robot stopped for another reason than the end of the run.
        """
        if stopped:
            self._recorder.drop("the robot was stopped")
        else:
            self._recorder.keep(self._task, truncated=True)
        self._tell(self._recorder.close())

    def _tell(self, texts: list[str]) -> None:
        for text in texts:
            self._console.say(text)

    def _frame(self, snapshot: Snapshot) -> Frame:
        action = self._reference.at(snapshot.time + self.period, snapshot.position)
        times = [snapshot.time, *(snapshot.pictures[name].time for name in self.cameras)]
        numbers = {STATE: snapshot.position, ACTION: action, MEASURED_AT: np.array(times)}
        if len(snapshot.sensors):
            numbers[SENSORS] = snapshot.sensors
        pictures = {PICTURES + name: snapshot.pictures[name].image for name in self.cameras}
        return Frame(snapshot.time, numbers, pictures)


def recording_header(robot: RobotConfig, period: float, options: RecordOptions) -> Header:
    """What all episodes of a recording have in common.

    Args:
        robot: The robot.
        period: Time between two frames [s].
        options: What becomes of the pictures.
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
        features[PICTURES + name] = declare_pictures(camera.size, fps, options.pictures)
    return Header(fps, robot.name, features, {"source": f"recorded by hotloop on {robot.name}"})


def joint_names(robot: RobotConfig) -> list[str]:
    """Name and unit of each joint."""
    given = robot.joints or [f"joint {n}" for n in range(robot.control.limits.num_joints)]
    return [name if re.search(r"\[.*\]$", name) else f"{name} [rad]" for name in given]


def make_recording_policy(robot: RobotConfig, options: PolicyOptions) -> RobotPolicy:
    """Build the policy that is to be recorded, and the recording around it.

    Raises:
        ValueError: If the policy does not fit the robot, or the recording the dataset.
        OSError: If the dataset cannot be written.
    """
    record = build(RecordOptions, options.wrapping)
    policy = checked(find_factory(record.policy)(robot, options), record.policy)
    return RecordingPolicy(policy, robot, record)
