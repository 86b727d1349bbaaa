"""Back-ends: what moves a robot, real or simulated."""

from __future__ import annotations

from typing import Any

from ...decoding.plumbing.plugins import Registry, refuse_no_class
from ..config import RobotConfig
from .driver import BusError, Driver

__all__ = ["DRIVERS", "BusError", "Driver", "make_driver"]

DRIVERS: Registry[type[Any]] = Registry(
    "hotloop.drivers",
    "driver",
    {
        "mujoco": "mujoco_plant:MujocoDriver",
        "dry-run": "dry_run:DryRunDriver",
        "passive": "passive:PassiveDriver",
        "playback": "playback:PlaybackDriver",
        "dynamixel": "servo_bus:ServoBusDriver",
        "franka": "franka:FrankaDriver",
        "feetech": "servo_bus:ServoBusDriver",
        "ros2": "ros2:Ros2Driver",
    },
    __name__,
)


def make_driver(config: RobotConfig) -> Driver:
    """Build a robot's back-end without connecting to it; its options are checked.

    Raises:
        ValueError: If there is no such back-end, it is none, or its options are wrong.
        ImportError: If the package it needs is not installed.
    """
    found = DRIVERS.get(config.driver)
    refuse_no_class(found, DRIVERS.noun, config.driver, ("connect", "read", "write", "disconnect"))
    return found(config)
