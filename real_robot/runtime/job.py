"""What a run is, and whether it may begin."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from ..cameras import check_cameras
from ..config import PolicyOptions, RobotConfig
from ..core.controller import Controller
from ..drivers import make_driver
from ..inject import check_fault
from ..inputs import StopInputs
from ..readiness import check_calibrated, check_effect, check_units
from .channels import Sizes


@dataclass(frozen=True)
class RunConfig:
    """What to run on a robot.

    Attributes:
        policy: What builds the policy, ``module:Name``; see `policies.protocol`.
        options: What it is built from.
        duration: How long to run after the first motion [s].
        seed: Seed of the policy.
        inject: Fault to inject into the policy's chunks, empty for none.
        log: File to log to, which must not exist yet; None for no log.
    """

    policy: str
    options: PolicyOptions = field(default_factory=PolicyOptions)
    duration: float = 10.0
    seed: int = 0
    inject: str = ""
    log: Path | None = None

    def __post_init__(self) -> None:
        """Reject an unknown fault and a run without end."""
        check_fault(self.inject)
        if not 0 < self.duration < float("inf"):
            raise ValueError(f"duration must be a positive time in s, got {self.duration}")
        if self.seed < 0:
            raise ValueError(f"seed must be 0 or more, got {self.seed}")


def check_run(robot: RobotConfig, job: RunConfig) -> Sizes:
    """Check what can be checked before anything starts; return the layout of the channels.

    Raises:
        ValueError: For a robot that was not calibrated, for limits in degrees, for options that
            cannot be true of the hardware, and for an earlier run's log.
        ImportError: If a package is not installed.
    """
    check_units(robot)
    check_effect(robot)
    driver = make_driver(robot)
    check_calibrated(robot)
    Controller(robot.control)
    check_cameras(robot)
    StopInputs(robot)
    if job.log is not None and os.path.lexists(job.log):
        raise ValueError(
            f"{job.log} is the log of an earlier run, which is never overwritten; choose another "
            "folder, e.g. output_dir=outputs/control-2"
        )
    return Sizes(robot.control.limits.num_joints, driver.num_sensors, robot.control.dt)
