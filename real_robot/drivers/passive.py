"""A robot that is led by hand: measured by its own driver, torque off, and sent nothing."""

from __future__ import annotations

from dataclasses import replace

from ..config import RobotConfig
from ..core.events import RobotState
from ..core.limits import Motion
from .driver import Clock, Driver, Inspectable, check_options


def go_limp(driver: Driver) -> None:
    """Switch the torque of a robot off that may be looked at, and go on reading it.

    Raises:
        OSError: If it does not answer, or a servo stays stiff.
    """
    assert isinstance(driver, Inspectable), "checked where the driver was made"
    driver.inspect()
    driver.disconnect(torque_off=True)
    driver.inspect()


class PassiveDriver:
    """Reads a robot through another driver and never moves it.

    Args:
        config: Options: ``driver``, the name of the robot's own, and ``options``, of that one.

    Raises:
        ValueError: If the own driver cannot look at a robot without moving it.
    """

    def __init__(self, config: RobotConfig) -> None:
        from . import make_driver

        check_options(config.options, {"driver": str, "options": object})
        name = config.options.get("driver", "")
        own = replace(config, driver=name, options=dict(config.options.get("options", {})))
        driver: Driver = make_driver(own)
        if not isinstance(driver, Inspectable):
            raise ValueError(
                f"robot {config.name} cannot be led by hand: its driver {name!r} cannot read it "
                "with the torque off"
            )
        self._driver = driver
        self.clock: Clock = self._driver.clock
        self.num_sensors = self._driver.num_sensors

    def inspect(self) -> None:
        """Find the robot; nothing is switched."""
        self._driver.inspect()

    def connect(self) -> None:
        """Switch the torque off; an arm that was held falls."""
        go_limp(self._driver)

    def read(self) -> RobotState:
        """Measure."""
        return self._driver.read()

    def write(self, motion: Motion) -> None:
        """Nothing goes to the robot."""

    def disconnect(self, torque_off: bool) -> None:
        """It stays limp."""
        del torque_off
        self._driver.disconnect(torque_off=True)
