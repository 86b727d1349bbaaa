"""Robots and jobs for tests that run the real processes."""

from __future__ import annotations

import subprocess

from hotloop.real_robot.config import RobotConfig
from hotloop.real_robot.core.controller import ControllerConfig
from hotloop.real_robot.core.limits import Limits
from hotloop.real_robot.runtime import supervisor
from hotloop.real_robot.runtime.supervisor import RunConfig, supervise

LIMITS = Limits((-1.0,) * 6, (1.0,) * 6, (2.0,) * 6, (10.0,) * 6, (400.0,) * 6)
CONTROL = ControllerConfig(LIMITS, 0.005, stale_timeout=0.3)
ARM = RobotConfig("arm", "mujoco", CONTROL, {"model": "arm6"})
DRY = RobotConfig("dry", "dry-run", CONTROL)
REACH = "hotloop.real_robot.policies.reach:make_reach_policy"
JOB = RunConfig(REACH, duration=0.8)


def run(robot: RobotConfig, job: RunConfig) -> tuple[dict, list[str]]:
    lines: list[str] = []
    return supervise(robot, job, lines.append), lines


def spy_on(monkeypatch) -> dict[str, subprocess.Popen]:
    """Processes of the run to come, by module."""
    started: dict[str, subprocess.Popen] = {}
    start = supervisor.start

    def spy(module, *args):
        started[module] = start(module, *args)
        return started[module]

    monkeypatch.setattr(supervisor, "start", spy)
    return started
