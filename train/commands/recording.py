"""What `hotloop control … record=DATASET` records, and where to."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Literal

from ...real_robot.config import ControlConfig
from ...real_robot.runtime.job import RunConfig


@dataclass(frozen=True)
class RecordedControlConfig(ControlConfig):
    """One `hotloop control` run that may be recorded.

    Attributes:
        record: Folder of a LeRobotDataset that the run becomes an episode of: a new one, or one
            that grows. All cameras of the robot are recorded.
        task: What the robot is asked to do, in words; by default the instruction.
        pictures: ``"video"`` (H.264) or ``"png"``, which loses nothing and takes more room.
    """

    record: str = ""
    task: str = ""
    pictures: Literal["video", "png"] = "video"


def recorded(config: RecordedControlConfig, job: RunConfig) -> RunConfig:
    """The same run, recorded if the configuration says so.

    Raises:
        ValueError: If it says how to record and not where to.
    """
    if not config.record:
        if config.task or config.pictures != "video":
            raise ValueError("task and pictures are for a recording; give record=DATASET as well")
        return job
    from .recording_policy import RecordOptions, make_recording_policy

    task = config.task or config.instruction
    if not task:
        raise ValueError(
            "a recording says what the robot is asked to do, e.g. task='push the T onto its mark'"
        )
    options = RecordOptions(config.record, job.policy, task, config.pictures)
    policy = f"{make_recording_policy.__module__}:{make_recording_policy.__name__}"
    return replace(job, policy=policy, options=replace(job.options, wrapping=asdict(options)))
