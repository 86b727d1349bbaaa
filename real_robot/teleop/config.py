"""How a person moves a robot."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ..config import RobotConfig

HIGHEST_RATE = 200.0  # [Hz]


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
        rate: How often it is asked [Hz].
    """

    by: Literal["leader", "gamepad", "keyboard", "hand"]
    leader: RobotConfig | None = None
    by_range: tuple[str, ...] = ()
    space: Literal["joints", "tool"] = "joints"
    speed: float = 0.25
    tool_speed: float = 0.1
    turn_speed: float = 0.5
    device: str = ""
    bindings: dict[str, str] = field(default_factory=dict[str, str])
    rate: float = 30.0

    def __post_init__(self) -> None:
        """Reject what does not go together."""
        if (self.leader is None) == (self.by == "leader"):
            raise ValueError(
                "a leader arm is moved as leader=FILE, its robot file, and only then; got "
                f"by={self.by!r} with{'out' if self.leader is None else ''} a leader"
            )
        if not 0 < self.speed <= 1:
            raise ValueError(f"teleop.speed is a share in (0, 1], got {self.speed}")
        for name in ("tool_speed", "turn_speed"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"teleop.{name} must be positive, got {getattr(self, name)}")
        if not 1 <= self.rate <= HIGHEST_RATE:
            raise ValueError(f"the rate must be 1 to {HIGHEST_RATE:g} Hz, got {self.rate}")
