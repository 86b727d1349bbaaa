"""Settings of recordings: of `hotloop record`, and of `hotloop control … record=DATASET`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from ...real_robot.config import ControlConfig, PolicyOptions, RobotConfig
from ...real_robot.readiness import check_calibrated, check_stated
from ...real_robot.runtime.job import RunConfig
from ...real_robot.teleop.config import TeleopConfig
from ..config.compose import compose

if TYPE_CHECKING:
    from .recording_policy import RecordOptions

HIGHEST_RATE = 200.0  # [Hz]


@dataclass(frozen=True)
class RecordedControlConfig(ControlConfig):
    """One `hotloop control` run that may be recorded.

    Attributes:
        record: Folder of a LeRobotDataset that the run's episodes come into: a new one, or one that
            grows. All cameras of the robot are recorded.
        task: What the robot is asked to do, in words; by default the instruction.
        pictures: ``"video"`` (H.264) or ``"png"``, which loses nothing and takes more room.
        teleop: How a person takes over from the policy.
        episodes: After how many that were kept the run is over, 0 for no such end.
        episode_time: After which an episode is kept by itself [s], 0 for at the end of the run.
        reset: Where the joints go between two episodes [rad or m]; empty for nowhere.
    """

    record: str = ""
    task: str = ""
    pictures: Literal["video", "png"] = "video"
    teleop: TeleopConfig | None = None
    episodes: int = 0
    episode_time: float = 0.0
    reset: tuple[float, ...] = ()


@dataclass(frozen=True)
class RecordConfig:
    """One `hotloop record` run.

    Attributes:
        robot: The robot; all its cameras are recorded.
        dataset: Folder of a LeRobotDataset: a new one, or one that grows.
        task: What the robot is asked to do, in words.
        teleop: How a person moves the robot; ``leader=FILE`` stands for one with a leader arm.
        fps: Frames per second [Hz].
        pictures: ``"video"`` (H.264) or ``"png"``, which loses nothing and takes more room.
        episodes: After how many that were kept the run is over, 0 for no such end.
        episode_time: After which an episode is kept by itself [s], 0 for never.
        reset: Where the joints go between two episodes [rad or m]; empty for nowhere.
        duration: After which the run is over [s].
        output_dir: Folder of ``summary.json`` and ``log.mcap``; printed only when empty.
    """

    robot: RobotConfig
    dataset: str
    task: str
    teleop: TeleopConfig = field(default_factory=TeleopConfig)
    fps: float = 30.0
    pictures: Literal["video", "png"] = "video"
    episodes: int = 0
    episode_time: float = 0.0
    reset: tuple[float, ...] = ()
    duration: float = 86400.0
    output_dir: str = ""

    def __post_init__(self) -> None:
        """Reject a rate that is none."""
        if not 1 <= self.fps <= HIGHEST_RATE:
            raise ValueError(f"fps must be 1 to {HIGHEST_RATE:g} Hz, got {self.fps}")


def with_leader(overrides: Sequence[str]) -> tuple[list[str], RobotConfig | None]:
    """Overrides without those of ``leader``, and the leader arm that they describe.

    ``leader=FILE leader.options.port=…`` is to the leader what ``robot=`` is to the robot.

    Raises:
        ValueError: If they describe none.
    """
    rest = [one for one in overrides if not one.startswith(("leader=", "leader."))]
    leading = [one for one in overrides if one not in rest]
    if not leading:
        return rest, None
    if not any(one.startswith("leader=") for one in leading):
        raise ValueError(f"{leading[0]}: give the leader arm's robot file too, leader=FILE")
    about = ["robot" + one.removeprefix("leader") for one in leading]
    try:
        leader = compose("control", about, ControlConfig).robot
        check_calibrated(leader)
        check_stated(leader)
    except ValueError as error:
        raise ValueError(f"leader: {error}") from None
    return rest, leader


def recorded(
    config: RecordedControlConfig, job: RunConfig, leader: RobotConfig | None = None
) -> RunConfig:
    """The same run, recorded if the configuration says so.

    Args:
        config: What to record.
        job: The run of the policy.
        leader: Leader arm by which a person takes over.

    Raises:
        ValueError: If it says how to record and not where to, or not what.
    """
    given = (config.task, config.teleop, config.episodes, config.episode_time, config.reset, leader)
    if not config.record:
        if any(given) or config.pictures != "video":
            raise ValueError(
                "task, pictures, teleop, leader, episodes, episode_time and reset are for a "
                "recording; give record=DATASET as well"
            )
        return job
    from .recording_policy import RecordOptions

    teleop = None
    if config.teleop is not None or leader is not None:
        teleop = (config.teleop or TeleopConfig()).led_by(leader)
        if teleop.by == "hand":
            raise ValueError("teleop.by=hand: a robot that a policy moves has its torque on")
    options = RecordOptions(
        dataset=config.record,
        task=config.task or config.instruction,
        policy=job.policy,
        teleop=teleop,
        pictures=config.pictures,
        episodes=config.episodes,
        episode_time=config.episode_time,
        reset=config.reset,
        seed=job.seed,
    )
    return recorded_job(config.robot, options, job)


def recorded_job(robot: RobotConfig, options: RecordOptions, job: RunConfig) -> RunConfig:
    """A run whose policy is the recording.

    Raises:
        ValueError: If the options do not fit the robot, or say not what it is asked to do.
    """
    from .recording_policy import make_recording_policy

    if not options.task:
        raise ValueError(
            "a recording says what the robot is asked to do, e.g. task='push the T onto its mark'"
        )
    if min(options.episodes, options.episode_time) < 0:
        raise ValueError(
            f"episodes and episode_time must be 0 or more, got {options.episodes} and "
            f"{options.episode_time}"
        )
    _check_ports(robot, options.teleop)
    limits = robot.control.limits
    if options.reset and options.teleop is not None and options.teleop.by == "hand":
        raise ValueError("reset: a robot that is led by hand has its torque off and goes nowhere")
    if options.reset and len(options.reset) != limits.num_joints:
        raise ValueError(f"reset needs {limits.num_joints} positions, got {options.reset}")
    for index, place in enumerate(options.reset):
        if not limits.low[index] <= place <= limits.high[index]:
            raise ValueError(
                f"reset puts joint {robot.joint_name(index)} to {place}, outside of its limits "
                f"{limits.low[index]} to {limits.high[index]}"
            )
    policy = f"{make_recording_policy.__module__}:{make_recording_policy.__name__}"
    inner = job.options or PolicyOptions()
    return replace(job, policy=policy, options=replace(inner, wrapping=asdict(options)))


def _check_ports(robot: RobotConfig, teleop: TeleopConfig | None) -> None:
    """Reject a leader arm that is the robot itself."""
    leader = None if teleop is None else teleop.leader
    port = robot.options.get("port")
    if leader is None or port is None or "port" not in leader.options:
        return
    if os.path.realpath(str(port)) == os.path.realpath(str(leader.options["port"])):
        raise ValueError(
            f"robot and leader are both at {port}; each arm has a bus of its own, e.g. "
            "leader.options.port=/dev/ttyACM1"
        )
