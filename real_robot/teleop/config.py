"""How a person moves a robot."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from ..config import RobotConfig


@dataclass(frozen=True)
class TeleopConfig:
    """How a person moves a robot.

    Attributes:
        by: ``"leader"``, an arm of the same joints that is moved by hand; ``"gamepad"``;
            ``"keyboard"``; or ``"hand"``, the robot itself, whose torque is off.
        leader: The leader arm; its servos are read, and their torque is switched off.
        by_range: Joints whose whole range on the leader stands for the whole range on the robot,
            such as a gripper with a trigger; all others go to the same angle.
        space: What a gamepad or keyboard moves: the joints, or the tool along its axes.
        speed: Share of the joints' velocity limits that a stick or key asks for at most.
        tool_speed: The same of the tool [m/s].
        turn_speed: The same of its rotation [rad/s].
        device: File of the gamepad; of the keyboard, whose keys then count as long as they are
            held: without it they come from the terminal.
        bindings: What a gamepad's axes and buttons or a keyboard's keys move, see `controls`; those
            that are not named keep their default.
    """

    by: Literal["leader", "gamepad", "keyboard", "hand"] = "leader"
    leader: RobotConfig | None = None
    by_range: tuple[str, ...] = ()
    space: Literal["joints", "tool"] = "joints"
    speed: float = 0.25
    tool_speed: float = 0.1
    turn_speed: float = 0.5
    device: str = ""
    bindings: dict[str, str] = field(default_factory=dict[str, str])

    def __post_init__(self) -> None:
        """Reject speeds that are none."""
        if not 0 < self.speed <= 1:
            raise ValueError(f"teleop.speed is a share in (0, 1], got {self.speed}")
        for name in ("tool_speed", "turn_speed"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"teleop.{name} must be positive, got {getattr(self, name)}")

    def led_by(self, leader: RobotConfig | None) -> TeleopConfig:
        """The same with a leader arm, if there is one.

        Raises:
            ValueError: If it is missing, or nobody asks for it.
        """
        if leader is None and self.by == "leader":
            raise ValueError(
                "say how the robot is moved: leader=FILE, teleop.by=gamepad, teleop.by=keyboard or "
                "teleop.by=hand"
            )
        if leader is not None and self.by != "leader":
            raise ValueError(f"teleop.by={self.by} needs no leader arm; leave leader=FILE out")
        return replace(self, leader=leader)
