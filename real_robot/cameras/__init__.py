"""Cameras: where a policy's pictures come from."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, closing, contextmanager

from ...decoding.plumbing.plugins import Registry
from ..config import CameraConfig, RobotConfig
from ..core.events import RobotState
from .camera import Camera, Picture

__all__ = ["CAMERAS", "Camera", "Picture", "make_camera", "open_cameras"]

# What the robot measured last, None before it measured anything.
NewestState = Callable[[], RobotState | None]

CAMERAS: Registry[Callable[[CameraConfig, NewestState], Camera]] = Registry(
    "hotloop.cameras",
    "camera",
    {"mujoco": "rendered:RenderedCamera", "opencv": "opencv:OpenCvCamera"},
    __name__,
)


def make_camera(config: CameraConfig, state: NewestState) -> Camera:
    """Build a camera without opening it; its options are checked.

    Raises:
        ValueError: If there is no such driver or its options are wrong.
        ImportError: If the package it needs is not installed.
    """
    return CAMERAS.get(config.driver)(config, state)


@contextmanager
def open_cameras(
    robot: RobotConfig, names: Sequence[str], state: NewestState
) -> Generator[dict[str, Camera], None, None]:
    """Open some of a robot's cameras for a while.

    Raises:
        ValueError: If the robot has no camera of that name.
        OSError: If one cannot be opened.
    """
    with ExitStack() as stack:
        cameras: dict[str, Camera] = {}
        for name in names:
            if name not in robot.cameras:
                raise ValueError(
                    f"the policy reads camera {name!r}, robot {robot.name} has "
                    f"{sorted(robot.cameras)}"
                )
            cameras[name] = make_camera(robot.cameras[name], state)
            stack.enter_context(closing(cameras[name]))
            cameras[name].open()
        yield cameras
