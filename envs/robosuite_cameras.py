"""robosuite's cameras: drawn on demand, each simulator's in an OpenGL context of its own."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

IMAGE_SIZE = 84  # [px]
CAMERAS = ("agentview", "robot0_eye_in_hand")
_QUALITY = '<visual><quality shadowsize="0" offsamples="0"/></visual>'


class Cameras:
    """What draws the pictures of one simulator's present episode.

    robosuite draws in whichever OpenGL context is current, and leaves an episode's cameras to
    Python's collector, which frees them at any later moment, in whichever context is current then:
    there the same names are those of another episode, whose pictures become noise.

    Attributes:
        drawn: Whether the simulator draws when it observes; else it gets the newest pictures.
    """

    def __init__(self) -> None:
        self.drawn = True
        self._context: Any = None
        self._draw: Any = None
        self._newest: dict[str, np.ndarray] = {}

    def belong_to(self, sim: Any) -> None:
        """Draw the pictures of an episode's simulator, an ``MjSim``, from now on."""
        self._context, self._draw = sim._render_context_offscreen, sim.render
        # Its observables ask for pictures at times of their own, which thus stay as they are.
        sim.render = self._render

    def free(self) -> None:
        """Free the cameras, 0.2 GB."""
        if self._context is not None:
            self._context.gl_ctx.make_current()
            self._context.con.free()
            self._context.gl_ctx.free()
        self._context = self._draw = None

    def _render(self, *, camera_name: str, **view: Any) -> np.ndarray:
        if self.drawn:
            self._context.gl_ctx.make_current()
            self._newest[camera_name] = self._draw(camera_name=camera_name, **view)
        return self._newest[camera_name]


def drawn_fast(xml: str) -> str:
    """A model without shadows, multisampling and mirrors, in which all would be drawn again."""
    plain = re.sub(r'reflectance="[^"]*"', 'reflectance="0"', xml)
    return plain.replace("</mujoco>", f"{_QUALITY}</mujoco>")
