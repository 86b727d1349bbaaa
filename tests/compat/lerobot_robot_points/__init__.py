"""A LeRobot robot of two joints that goes where it is sent, for `lerobot-rollout`."""

from dataclasses import dataclass
from pathlib import Path

from lerobot.robots import Robot, RobotConfig

JOINTS = ("x.pos", "y.pos")


@RobotConfig.register_subclass("points")
@dataclass
class PointsConfig(RobotConfig):
    sent_to: str = ""


class Points(Robot):
    config_class = PointsConfig
    name = "points"
    observation_features = action_features = dict.fromkeys(JOINTS, float)
    is_calibrated, is_connected = True, False

    def __init__(self, config: PointsConfig) -> None:
        super().__init__(config)
        self.config, self.position = config, dict.fromkeys(JOINTS, 0.0)

    def connect(self, calibrate: bool = True) -> None:
        self.is_connected = True

    def disconnect(self) -> None:
        self.is_connected = False

    def calibrate(self) -> None: ...

    def configure(self) -> None: ...

    def get_observation(self) -> dict[str, float]:
        return dict(self.position)

    def send_action(self, action: dict[str, float]) -> dict[str, float]:
        self.position = {name: float(value) for name, value in action.items()}
        with Path(self.config.sent_to).open("a") as file:
            file.write(f"{list(self.position.values())}\n")
        return action
