"""Cameras: where a policy's pictures come from."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from ...decoding.plumbing.plugins import Registry, refuse_no_class
from ..config import CameraConfig, RobotConfig
from ..core.events import RobotState
from .camera import Camera, Picture

__all__ = ["CAMERAS", "Camera", "Picture", "check_cameras", "make_camera", "open_cameras"]

# What the robot measured last, None before it measured anything.
NewestState = Callable[[], RobotState | None]

CAMERAS: Registry[type[Any]] = Registry(
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
    found = CAMERAS.get(config.driver)
    refuse_no_class(found, CAMERAS.noun, config.driver, ("open", "read", "close"))
    return found(config, state)


def check_cameras(robot: RobotConfig) -> None:
    """Check all cameras of a robot as far as that is possible without opening one.

    Those whose package is not installed are left to the policy, which may not read them.

    Raises:
        ValueError: If there is no such driver, its options are wrong, or two cameras share a
            device, which gives its pictures to one only.
    """
    devices: dict[str, str] = {}
    for name, config in robot.cameras.items():
        try:
            with suppress(ImportError):
                make_camera(config, lambda: None)
        except (ValueError, FileNotFoundError) as error:
            raise ValueError(f"robot.cameras.{name}: {error}") from error
        device = _device(config)
        if device and device in devices:
            raise ValueError(
                f"cameras {devices[device]!r} and {name!r} of robot {robot.name} have the same "
                f"source {device}, which gives its pictures to one only; correct a source"
            )
        devices[device] = name


def _device(config: CameraConfig) -> str:
    """The device that a camera has to itself; empty for a video file or no device."""
    source = config.options.get("source", "")
    if config.driver != "opencv":
        return ""
    path = Path(f"/dev/video{source}" if isinstance(source, int) else str(source))
    return "" if path.is_file() else str(path.resolve())


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
