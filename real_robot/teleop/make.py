"""From settings to what moves the robot for a person."""

from __future__ import annotations

from ..config import RobotConfig
from ..policies.protocol import RobotPolicy
from .config import TeleopConfig


def make_teleoperator(robot: RobotConfig, config: TeleopConfig, period: float) -> RobotPolicy:
    """Open the device or arm that a person moves the robot with.

    Args:
        robot: The robot.
        config: What moves it.
        period: How often it will be asked [s].

    Raises:
        ValueError: If it does not fit the robot.
        OSError: If it cannot be opened.
    """
    if config.by == "hand":
        from .hand import HandPolicy

        return HandPolicy(period)
    if config.by == "leader":
        from .leader import LeaderPolicy

        assert config.leader is not None
        return LeaderPolicy(robot, config.leader, config.by_range, period)
    from .jog import JogPolicy

    return JogPolicy(robot, config, period)
