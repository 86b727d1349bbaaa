"""A camera in a MuJoCo model that is posed as the robot is: pictures without a camera."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from ...decoding.plumbing.extras import require
from ..config import CameraConfig
from ..core.events import RobotState
from ..drivers.driver import check_options
from ..emulator.plant import Plant
from .camera import Picture


class RenderedCamera:
    """Draws the robot and the scene as they were measured last.

    It works beside a simulated robot, an emulated one, or a real one whose pictures do not matter.

    Args:
        config: Options: ``model``, name or path of the MuJoCo model; ``view``, one of its cameras
            by name, by default a view of the whole.
        state: What the robot measured last.
    """

    def __init__(self, config: CameraConfig, state: Callable[[], RobotState | None]) -> None:
        check_options(config.options, {"model": str, "view": str}, "camera")
        if "model" not in config.options:
            raise ValueError("camera mujoco needs the option model, e.g. options.model=arm6")
        self._config, self._state = config, state
        self._plant = Plant(config.options["model"])
        self._view: str | int = config.options.get("view", -1)
        self._renderer: Any = None

    def open(self) -> None:
        """Start OpenGL."""
        mujoco: Any = require("mujoco", "mujoco")
        model = self._plant.model
        views = [model.camera(index).name for index in range(model.ncam)]
        if self._view != -1 and self._view not in views:
            raise ValueError(f"the model has no camera {self._view!r} but {views}")
        # Without a graphics card shadows and smooth edges take most of the time.
        model.vis.quality.shadowsize = 0
        model.vis.quality.offsamples = 0
        height, width = self._config.size
        model.vis.global_.offheight = max(height, model.vis.global_.offheight)
        model.vis.global_.offwidth = max(width, model.vis.global_.offwidth)
        self._renderer = mujoco.Renderer(model, height, width)

    def read(self) -> Picture | None:
        """Draw."""
        state = self._state()
        if state is None:
            return None
        self._check(state)
        self._plant.pose(state.position, state.sensors)
        self._renderer.update_scene(self._plant.data, camera=self._view)
        return Picture(state.time - self._config.latency, self._renderer.render())

    def _check(self, state: RobotState) -> None:
        """Raise ValueError unless the model has what the robot measures."""
        drawn = len(self._plant.position), len(self._plant.sensors)
        measured = len(state.position), len(state.sensors)
        if measured not in (drawn, (drawn[0], 0)):
            raise ValueError(
                f"camera mujoco draws the model {self._config.options['model']!r} of {drawn[0]} "
                f"joints and {drawn[1]} numbers of the scene, the robot measures {measured[0]} and "
                f"{measured[1]}; set the camera's options.model to the robot's"
            )

    def close(self) -> None:
        """Give OpenGL back."""
        # At the interpreter's end the library that would do it is gone already.
        if self._renderer is not None and not sys.is_finalizing():
            self._renderer.close()
        self._renderer = None
