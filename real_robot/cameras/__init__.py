"""Cameras: where a policy's pictures come from."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, closing, contextmanager
from importlib import import_module

from ..config import CameraConfig, RobotConfig
from ..core.events import RobotState
from .camera import Camera, Picture

__all__ = ["CAMERAS", "Camera", "Picture", "make_camera", "open_cameras"]

# What the robot measured last, None before it measured anything.
NewestState = Callable[[], RobotState | None]

CAMERAS = {"mujoco": "rendered:RenderedCamera", "opencv": "opencv:OpenCvCamera"}


def make_camera(config: CameraConfig, state: NewestState) -> Camera:
    """Build a camera without opening it.

    Raises:
        ValueError: If there is no such driver or its options are wrong.
        ImportError: If the package it needs is not installed.
    """
    if config.driver not in CAMERAS:
        raise ValueError(
            f"driver of a camera must be one of {sorted(CAMERAS)}, got {config.driver!r}"
        )
    module, _, name = CAMERAS[config.driver].partition(":")
    make: Callable[[CameraConfig, NewestState], Camera]
    make = getattr(import_module(f".{module}", __name__), name)
    return make(config, state)


@contextmanager
def open_cameras(
    robot: RobotConfig, names: Sequence[str], state: NewestState
) -> Generator[dict[str, Camera], None, None]:
    """Open some of a robot's cameras for a while.

    Raises:
        OSError: If one cannot be opened.
    """
    with ExitStack() as stack:
        cameras: dict[str, Camera] = {}
        for name in names:
            cameras[name] = make_camera(robot.cameras[name], state)
            stack.enter_context(closing(cameras[name]))
            cameras[name].open()
        yield cameras
