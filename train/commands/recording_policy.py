"""A robot policy around a robot policy: cuts what happens into episodes, and records them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import numpy as np

from ...decoding.plumbing.schema import build
from ...real_robot.config import PolicyOptions, RobotConfig
from ...real_robot.core.events import Mode
from ...real_robot.core.limits import Vector
from ...real_robot.core.trajectory import Chunk
from ...real_robot.policies.move import Move
from ...real_robot.policies.protocol import Console, RobotPolicy, Snapshot
from ...real_robot.runtime.policy_process import checked, find_factory
from ...real_robot.teleop.config import TeleopConfig
from ...real_robot.teleop.make import make_teleoperator
from ..recording.pictures import Encoding
from ..recording.recorder import Recorder
from .episode_keys import HELP, TAKE_OVER, EpisodeKeys
from .recording_frames import Reference, make_frame, recording_header

# Between episodes the robot moves at this share of its velocity limits.
RESET_SPEED = 0.3


@dataclass(frozen=True)
class RecordOptions:
    """What is recorded, and where to.

    Attributes:
        dataset: Folder of the dataset.
        task: What the robot is asked to do.
        policy: What builds the policy that is recorded, ``module:Name``; empty for a person alone.
        teleop: How a person moves the robot, alone or in place of the policy.
        pictures: What becomes of the pictures.
        episodes: After how many that were kept the run is over, 0 for no end.
        episode_time: After which an episode is kept by itself [s], 0 for never.
        reset: Where the joints go between two episodes; empty for nowhere.
        fps: Frames per second [Hz] where a person moves the robot alone; a policy has its own.
        seed: Seed of the policy's first episode.
    """

    dataset: str
    task: str
    policy: str = ""
    teleop: TeleopConfig | None = None
    pictures: Encoding = "video"
    episodes: int = 0
    episode_time: float = 0.0
    reset: tuple[float, ...] = ()
    fps: float = 30.0
    seed: int = 0


class Phase(Enum):
    """What happens at present."""

    WAITING = "an episode may begin"
    RECORDING = "an episode is being recorded"
    RESETTING = "the robot is on its way to where episodes begin"


class RecordingPolicy:
    """Lets a policy or a person move the robot, and records episodes of it.

    A policy's rollouts begin by themselves; a person begins episodes by a key. What was recorded
    when the robot was stopped, other than by the end of the run, is dropped.

    Args:
        robot: The robot; all its cameras are recorded.
        options: What to record where.
        policy: The policy; None if a person moves the robot alone.
        teleoperator: What moves the robot for a person, None for nothing.

    Raises:
        ValueError: If the dataset is of another kind.
        OSError: If it cannot be written.
    """

    def __init__(
        self,
        robot: RobotConfig,
        options: RecordOptions,
        policy: RobotPolicy | None,
        teleoperator: RobotPolicy | None,
    ) -> None:
        self._policy, self._teleoperator, self._options = policy, teleoperator, options
        mover = policy or teleoperator
        assert mover is not None
        self.period = mover.period
        self.cameras = tuple(dict.fromkeys((*mover.cameras, *robot.cameras)))
        self._taken_over = policy is None
        self._by_hand = bool(getattr(teleoperator, "by_hand", False))
        limits = robot.control.limits.arrays
        self._speed = RESET_SPEED * limits.velocity * robot.control.speed
        self._reference = Reference(robot)
        self._recorded = tuple(robot.cameras)
        header = recording_header(robot, self.period, options.pictures)
        self._recorder = Recorder(Path(options.dataset), header, options.pictures)
        self._phase, self._next = Phase.WAITING, policy is not None
        self._move: Move | None = None
        self._began = 0.0
        self._num_begun = self._num_kept = 0
        self._halted = False

    def attach(self, console: Console) -> None:
        """Talk to the operator."""
        self._console = console
        self._rest = EpisodeKeys(console)
        for one in (self._policy, self._teleoperator):
            if (attach := getattr(one, "attach", None)) is not None:
                attach(self._rest)
        both = self._policy is not None and self._teleoperator is not None
        console.say(f"recording into {self._options.dataset}: {TAKE_OVER if both else ''}{HELP}")

    def reset(self, seed: int) -> None:
        """Start the policy's first episode."""
        for one in (self._policy, self._teleoperator):
            if one is not None:
                one.reset(seed)

    def plan(self, snapshot: Snapshot) -> Chunk | None:
        """What moves the robot plans, and a frame of the episode if the robot follows it."""
        self._watch(snapshot)
        for key in self._rest.take() + self._pressed():
            self._obey(key, snapshot)
        chunk = self._plan(snapshot)
        if chunk is not None:
            self._reference.take(chunk, snapshot)
        if self._phase is Phase.RECORDING and snapshot.mode in (Mode.RUN, Mode.HOLD):
            self._record(snapshot)
        self._tell(self._recorder.messages())
        return chunk

    def conclude(self, *, stopped: bool) -> None:
        """Keep a rollout that was recorded until the end, unless the robot was stopped before it.

        Args:
            stopped: Whether the robot stopped for another reason than the end of the run.
        """
        if stopped:
            self._recorder.drop("the robot was stopped")
        elif self._policy is None:
            self._recorder.drop("it was not kept before the end")
        else:
            self._recorder.keep(self._options.task, truncated=True)
        try:
            for one in (self._policy, self._teleoperator):
                if (conclude := getattr(one, "conclude", None)) is not None:
                    conclude(stopped=stopped)
        finally:
            # Whatever fails beside it, what was kept gets written.
            self._tell(self._recorder.close())

    def _tell(self, texts: list[str]) -> None:
        for text in texts:
            self._console.say(text)

    def _pressed(self) -> str:
        """Keys that a gamepad's buttons stand for."""
        pressed = getattr(self._teleoperator, "pressed", None)
        return "" if pressed is None else pressed()

    def _watch(self, snapshot: Snapshot) -> None:
        """Follow what becomes of the robot."""
        if snapshot.mode in (Mode.RUN, Mode.HOLD):
            if self._phase is Phase.WAITING and self._next:
                self._start(snapshot)
            return
        # Whoever arms it again finds it where it is then.
        self._hold(snapshot.position, snapshot)
        if snapshot.mode is Mode.STOP:
            # Perhaps the end of the run: `conclude` will know.
            self._halted = self._halted or (
                self._phase is Phase.RECORDING and self._recorder.recording
            )
        elif self._halted:
            self._recorder.drop("the robot was stopped")
            self._phase, self._halted = Phase.WAITING, False
            self._next = self._policy is not None

    def _obey(self, key: str, snapshot: Snapshot) -> None:
        recording = self._phase is Phase.RECORDING
        if key == "s" and self._phase is Phase.WAITING:
            self._start(snapshot)
        elif key == "k" and recording:
            self._keep(snapshot)
        elif key in "db" and recording:
            self._recorder.drop("recorded again" if key == "b" else "as you wished")
            self._end(snapshot, again=key == "b")
        elif key == "i" and self._policy is not None and self._teleoperator is not None:
            self._taken_over = not self._taken_over
            one = self._teleoperator if self._taken_over else self._policy
            one.reset(self._options.seed + self._num_begun)
            self._console.say("you are in command" if self._taken_over else "the policy goes on")
        elif key == "s":
            self._console.say(f"s: not now, {self._phase.value}")
        elif key in "kdb":
            self._console.say(f"{key}: nothing to keep or drop, no episode is being recorded")

    def _start(self, snapshot: Snapshot) -> None:
        if self._policy is not None and self._num_begun:
            self._policy.reset(self._options.seed + self._num_begun)
            self._taken_over = False
        self._num_begun += 1
        self._phase, self._next, self._began = Phase.RECORDING, False, snapshot.time
        self._console.say(f"recording: {self._options.task}")

    def _keep(self, snapshot: Snapshot) -> None:
        self._recorder.keep(self._options.task, truncated=False)
        self._num_kept += 1
        self._end(snapshot, again=self._policy is not None and bool(self._options.reset))
        if 0 < self._options.episodes <= self._num_kept:
            self._next = False
            self._console.finish(f"{self._num_kept} episodes")

    def _end(self, snapshot: Snapshot, *, again: bool) -> None:
        """Stop recording; go to where the next episode begins.

        Args:
            snapshot: The robot now.
            again: Whether to begin one there.
        """
        here = self._reference.at(snapshot.time, snapshot.position)
        self._hold(here, snapshot)
        self._next, self._phase = again, Phase.WAITING
        if self._options.reset:
            self._move_to_reset(here, snapshot)
            self._phase = Phase.RESETTING

    def _hold(self, place: Vector, snapshot: Snapshot) -> None:
        self._move = Move(place, place, snapshot.time, self._speed)
        self._phase = Phase.WAITING if self._phase is Phase.RESETTING else self._phase

    def _move_to_reset(self, here: Vector, snapshot: Snapshot) -> None:
        goal = np.asarray(self._options.reset, np.float64)
        self._move = Move(here, goal, snapshot.time, self._speed)

    def _plan(self, snapshot: Snapshot) -> Chunk | None:
        """The plan of whoever moves the robot now."""
        if self._phase is Phase.RESETTING and self._move is not None:
            if snapshot.mode is Mode.HOLD:
                # It has braked on the way.
                self._move_to_reset(snapshot.position, snapshot)
            if snapshot.time <= self._move.end:
                return self._move.chunk(snapshot)
            self._phase = Phase.WAITING
            if self._taken_over and self._teleoperator is not None:
                self._teleoperator.reset(0)
        if self._taken_over and self._teleoperator is not None:
            return self._teleoperator.plan(snapshot)
        if self._phase is Phase.WAITING and self._num_begun and self._move is not None:
            return self._move.chunk(snapshot)
        assert self._policy is not None
        read = {name: snapshot.pictures[name] for name in self._policy.cameras}
        return self._policy.plan(snapshot._replace(pictures=read))

    def _record(self, snapshot: Snapshot) -> None:
        action = self._reference.at(snapshot.time + self.period, snapshot.position)
        frame = make_frame(
            snapshot, None if self._by_hand else action, self._recorded, self._taken_over
        )
        self._recorder.add(frame)
        if not self._recorder.recording:
            # It was dropped, as the message says.
            self._end(snapshot, again=False)
            return
        recorded = snapshot.time - self._began + self.period
        if 0 < self._options.episode_time < recorded + self.period / 2:
            self._keep(snapshot)


def make_recording_policy(robot: RobotConfig, options: PolicyOptions) -> RobotPolicy:
    """Build what moves the robot, and the recording around it.

    Raises:
        ValueError: If the policy does not fit the robot, or the recording the dataset.
        OSError: If the dataset cannot be written, or what a person moves cannot be opened.
    """
    record = build(RecordOptions, options.wrapping)
    policy = None
    if record.policy:
        policy = checked(find_factory(record.policy)(robot, options), record.policy)
    period = 1 / record.fps if policy is None else policy.period
    teleoperator = None
    if record.teleop is not None:
        teleoperator = make_teleoperator(robot, record.teleop, period)
    return RecordingPolicy(robot, record, policy, teleoperator)
