"""Pillars: a puck is driven past two pillars, on either side of each, to a goal (MuJoCo).

The scene is its own mirror image, and the scripted driver passes each pillar on a side chosen at
random: the mean of two good actions is to drive straight ahead, into the pillar.
"""

from __future__ import annotations

from collections.abc import Mapping
from string import Template
from typing import Any

import numpy as np

from ..decoding import ActionSpec
from ..decoding.plumbing.extras import require
from .task import EndsWhenSolved, Environment, Task

DT = 0.05  # [s]
MAX_STEPS = 120
MAX_SPEED = 1.0  # [m/s]
PILLARS = (0.0, 1.0)  # [m], x of their centres; y is 0
PILLAR_RADIUS, PUCK_RADIUS, GOAL_RADIUS = 0.12, 0.04, 0.06  # [m]
START, GOAL = np.array([-0.6, 0.0]), np.array([1.6, 0.0])  # [m]
START_SPREAD = 0.04  # [m], half width in x and y
SPEEDS = ActionSpec(
    names=("wanted velocity x [m/s]", "wanted velocity y [m/s]"),
    low=(-MAX_SPEED, -MAX_SPEED),
    high=(MAX_SPEED, MAX_SPEED),
    dt=DT,
)
_SUBSTEPS = 10
# The servo's gain [N s/m] and largest force [N] on a puck of 1 kg: a turn takes time.
_GAIN, _MAX_FORCE = 8.0, 4.0
_PILLAR = '<geom type="cylinder" size="{radius} 0.1" pos="{x} 0 0"/>'
_MODEL = Template("""\
<mujoco model="pillars">
  <option timestep="$timestep" gravity="0 0 0" integrator="implicitfast"/>
  <worldbody>
    $pillars
    <body name="puck">
      <joint name="x" type="slide" axis="1 0 0"/>
      <joint name="y" type="slide" axis="0 1 0"/>
      <geom name="puck" type="cylinder" size="$puck 0.02" mass="1"/>
    </body>
  </worldbody>
  <actuator>
    <velocity joint="x" kv="$gain" forcelimited="true" forcerange="-$force $force"/>
    <velocity joint="y" kv="$gain" forcelimited="true" forcerange="-$force $force"/>
  </actuator>
</mujoco>
""")
# The picture: 2.5 m x 0.8 m around the course; sides of whole 16 pixels, as video codecs like it.
_SIZE, _PIXELS_PER_METRE, _CENTRE_X = (256, 800), 320, 0.5
_FLOOR, _STONE, _GREEN, _BLUE = (244, 244, 240), (84, 84, 96), (144, 220, 150), (52, 92, 220)
_RED = (214, 60, 50)


class Pillars(EndsWhenSolved):
    """A course whose episodes end at the goal or, as a failure, when the puck touches a pillar."""

    def __init__(self) -> None:
        self._mujoco = require("mujoco", "mujoco")
        pillars = "".join(_PILLAR.format(radius=PILLAR_RADIUS, x=x) for x in PILLARS)
        sizes = {"timestep": DT / _SUBSTEPS, "puck": PUCK_RADIUS, "gain": _GAIN}
        text = _MODEL.substitute(pillars=pillars, force=_MAX_FORCE, **sizes)
        self._model: Any = self._mujoco.MjModel.from_xml_string(text)
        self._data: Any = self._mujoco.MjData(self._model)
        self._touched = False
        self._num_steps = 0

    @property
    def terminated(self) -> bool:
        """Whether the puck reached the goal or touched a pillar."""
        return self._success or self._touched

    def reset(self, seed: int) -> dict[str, np.ndarray]:
        """Start an episode, at rest, at a place drawn from the seed."""
        self._mujoco.mj_resetData(self._model, self._data)
        rng = np.random.default_rng(seed)
        self._data.qpos[:] = START + rng.uniform(-START_SPREAD, START_SPREAD, 2)
        self._touched = self._success = False
        self._num_steps = 0
        return self._frame()

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], float, bool]:
        """Ask for a velocity x, y [m/s], shape (2,), for 0.05 s."""
        self._data.ctrl[:] = action
        for _ in range(_SUBSTEPS):
            self._mujoco.mj_step(self._model, self._data)
            self._touched = self._touched or self._data.ncon > 0
        self._num_steps += 1
        distance = float(np.linalg.norm(self._data.qpos - GOAL))
        self._success = not self._touched and distance <= GOAL_RADIUS
        return self._frame(), self.score, self.terminated or self._num_steps == MAX_STEPS

    def render(self) -> np.ndarray:
        """Draw the course from above, without OpenGL; uint8 RGB, 320 pixels per metre."""
        rows, columns = np.indices(_SIZE)
        x = (columns + 0.5 - _SIZE[1] / 2) / _PIXELS_PER_METRE + _CENTRE_X
        y = (_SIZE[0] / 2 - rows - 0.5) / _PIXELS_PER_METRE
        picture = np.full((*_SIZE, 3), _FLOOR, np.uint8)
        for centre, radius, colour in (
            (GOAL, GOAL_RADIUS, _GREEN),
            *(((pillar, 0.0), PILLAR_RADIUS, _STONE) for pillar in PILLARS),
            (self._data.qpos, PUCK_RADIUS, _RED if self._touched else _BLUE),
        ):
            picture[np.hypot(x - centre[0], y - centre[1]) <= radius] = colour
        return picture

    def close(self) -> None:
        """Do nothing: MuJoCo's objects free themselves."""

    def _frame(self) -> dict[str, np.ndarray]:
        state = np.concatenate([self._data.qpos, self._data.qvel])
        return {"observation.state": state.astype(np.float32)}


class PillarsExpert:
    """Drives bows round the pillars, with sides, distances and a speed of its own choice.

    It aims at the height y(x) = sum_i a_i exp(-((x - x_i) / w)^2) with x_i the pillars' places and
    a_i, whose sign is the side, how far it stays away.

    Args:
        width: How long a bow is, w [m].
        lead: How far ahead it looks, as the puck follows late [s].
        gain: Correction of the height [1/m].
    """

    def __init__(self, width: float = 0.27, lead: float = 0.2, gain: float = 4.0) -> None:
        self.width, self.lead, self.gain = width, lead, gain
        self._heights, self._speed = np.zeros(len(PILLARS)), 0.0

    def reset(self, frame: Mapping[str, np.ndarray], seed: int) -> None:
        """Choose a side of each pillar, how far to stay away from it, and a speed."""
        rng = np.random.default_rng([seed, 1])  # not the numbers that chose the start
        sides = rng.choice([-1.0, 1.0], len(PILLARS))
        gaps = rng.uniform(0.07, 0.12, len(PILLARS))
        self._heights = sides * (PILLAR_RADIUS + PUCK_RADIUS + gaps)
        self._speed = rng.uniform(0.75, 0.9)

    def act(self, frame: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the wanted velocity for a frame, shape (2,), within [-1, 1]."""
        x, y, speed_x, _ = frame["observation.state"].astype(np.float64)
        ahead = x + self.lead * max(speed_x, 0.2)
        past = (ahead - np.array(PILLARS)) / self.width
        bows = self._heights * np.exp(-(past**2))
        slope = float((-2 * past / self.width * bows).sum())  # dy/dx of the bows
        error = float(bows.sum()) - slope * (ahead - x) - y
        wanted = np.array([1.0, slope + self.gain * error])
        return self._speed * wanted / np.linalg.norm(wanted)


def make_pillars_expert(env: Environment) -> PillarsExpert:
    """Return the expert for a Pillars environment."""
    assert isinstance(env, Pillars)
    return PillarsExpert()


PILLARS_TASK = Task(
    name="pillars",
    action_spec=SPEEDS,
    observation_shapes={"observation.state": (4,)},
    max_steps=MAX_STEPS,
    metric="goal reached",
    make=Pillars,
    simulator="hotloop pillars (MuJoCo)",
)
