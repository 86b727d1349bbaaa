"""Limits and times of a control loop, and which of them no robot should be run with."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .limits import Limits, Workspace
from .stitcher import StitchConfig
from .trajectory import ChunkRules

SHORTEST_PERIOD = 1e-4  # [s]
LONGEST_LATENCY = 1.0  # [s]
# Longest value of each time [s], and what a longer one would mean.
LONGEST_TIMES = {
    "dt": (0.5, "the robot would be watched less than twice a second"),
    "stale_timeout": (10.0, "the robot would move on for that long after its policy died"),
    "state_timeout": (1.0, "the robot would move on for that long without being measured"),
    "tracking_time": (2.0, "a blocked joint would be pushed for that long"),
}


@dataclass(frozen=True)
class ControllerConfig:
    """Limits and times of a control loop; limits have no default.

    Attributes:
        limits: Joint limits.
        dt: Control period [s].
        workspace: Box for the tool, None for none.
        stitch: How chunks follow each other.
        rules: What a chunk has to satisfy.
        action_latency: Time from sending a command to the joint's reaction [s], per joint; the
            waypoint for time t is sent that much earlier. Empty means none.
        stale_timeout: Age of the newest chunk's observation at which the robot brakes [s].
        state_timeout: Age of a measurement at which the robot stops for good [s].
        tracking_error: Largest distance of a joint from its command, per joint; empty means no
            check.
        tracking_time: How long the distance may be exceeded [s].
        slow_start: Time over which the speed rises to its full value after arming [s].
        speed: Share of the velocity limits that is used at most, in (0, 1].
    """

    limits: Limits
    dt: float
    workspace: Workspace | None = None
    stitch: StitchConfig = field(default_factory=StitchConfig)
    rules: ChunkRules = field(default_factory=ChunkRules)
    action_latency: tuple[float, ...] = ()
    stale_timeout: float = 0.5
    state_timeout: float = 0.1
    tracking_error: tuple[float, ...] = ()
    tracking_time: float = 0.1
    slow_start: float = 0.0
    speed: float = 1.0

    def __post_init__(self) -> None:
        """Reject what could not run, or could not stop."""
        self._check_times()
        self._check_joints()
        if not 0 < self.speed <= 1 or not 0 <= self.slow_start < np.inf:
            raise ValueError(
                f"speed must be in (0, 1] and slow_start 0 s or more, got {self.speed} and "
                f"{self.slow_start}"
            )

    def _check_times(self) -> None:
        if 0 < self.dt < SHORTEST_PERIOD:
            raise ValueError(
                f"dt {self.dt} s is shorter than any loop keeps, at least {SHORTEST_PERIOD} s"
            )
        for name, (longest, reason) in LONGEST_TIMES.items():
            value = getattr(self, name)
            if not 0 < value < np.inf:
                raise ValueError(f"{name} must be a positive time in s, got {value}")
            if value > longest:
                raise ValueError(f"{name} must be at most {longest} s, got {value}: {reason}")
        for name in ("stale_timeout", "state_timeout"):
            if not self.dt < getattr(self, name):
                raise ValueError(
                    f"{name} must be longer than the control period dt of {self.dt} s, got "
                    f"{getattr(self, name)}"
                )

    def _check_joints(self) -> None:
        joints = self.limits.num_joints
        for name in ("action_latency", "tracking_error"):
            values = getattr(self, name)
            found = np.asarray(values)
            if len(values) not in (0, joints) or not ((found >= 0) & np.isfinite(found)).all():
                raise ValueError(f"{name} needs {joints} values of 0 or more, got {values}")
        if max(self.action_latency, default=0.0) > LONGEST_LATENCY:
            raise ValueError(
                f"action_latency must be at most {LONGEST_LATENCY} s, got {self.action_latency}"
            )
        if self.workspace and len(self.workspace.chain.axes) != joints:
            raise ValueError(
                f"the workspace's chain has {len(self.workspace.chain.axes)} joints, the robot "
                f"{joints}"
            )
