"""Letting an arm go limp on purpose, e.g. one that may not start where it stands."""

from __future__ import annotations

import time
from collections.abc import Callable

from ..config import RobotConfig
from ..drivers import make_driver
from ..drivers.driver import BusError, Inspectable, PortError

GRACE = 3  # [s] to take hold of the arm


def release(
    robot: RobotConfig, say: Callable[[str], None], sleep: Callable[[float], None] = time.sleep
) -> None:
    """Warn, wait, and switch the torque of all joints off. Nothing is moved.

    Args:
        robot: The robot.
        say: Takes the warning.
        sleep: Waits [s]; whatever it raises, such as a KeyboardInterrupt, leaves the torque on.

    Raises:
        ValueError: If the driver takes hold of the robot whenever it is connected.
        OSError: If the robot does not answer; at once if its port cannot be opened.
    """
    driver = make_driver(robot)
    if not isinstance(driver, Inspectable):
        raise ValueError(
            f"robot {robot.name} cannot be let go: its driver {robot.driver!r} cannot reach it "
            "without moving it or taking hold of it"
        )
    problem, limp = "", False
    try:
        try:
            driver.inspect()
        except PortError:
            raise
        except OSError as error:
            # A servo that is ill must not keep the others stiff.
            problem = str(error)
        say(
            f"{robot.name}: all joints go limp in {GRACE} s and the arm may fall: hold it. Ctrl-C "
            "leaves it as it is."
        )
        sleep(GRACE)
        limp = True
    finally:
        try:
            driver.disconnect(torque_off=limp)
        except BusError as error:
            problem = problem or str(error)
    if problem:
        raise ConnectionError(
            f"{robot.name}: {problem}; the torque was switched off wherever a servo listens, so "
            "try by hand which joints are limp"
        )
    say(f"{robot.name}: all joints are limp")
