"""Back-ends: what moves a robot, real or simulated."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from ..config import RobotConfig
from .driver import BusError, Driver

__all__ = ["DRIVERS", "BusError", "Driver", "make_driver"]

DRIVERS = {
    "mujoco": "mujoco_plant:MujocoDriver",
    "dry-run": "dry_run:DryRunDriver",
    "replay": "replay:ReplayDriver",
    "dynamixel": "servo_bus:ServoBusDriver",
    "franka": "franka:FrankaDriver",
    "feetech": "servo_bus:ServoBusDriver",
}


def make_driver(config: RobotConfig) -> Driver:
    """Build a robot's back-end without connecting to it.

    Raises:
        ValueError: If there is no such back-end or its options are wrong.
        ImportError: If the package it needs is not installed.
    """
    if config.driver not in DRIVERS:
        raise ValueError(f"driver must be one of {sorted(DRIVERS)}, got {config.driver!r}")
    module, _, name = DRIVERS[config.driver].partition(":")
    make: Callable[[RobotConfig], Driver] = getattr(import_module(f".{module}", __name__), name)
    return make(config)
