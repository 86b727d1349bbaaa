"""A tabletop of Meta-World: six instructions, of which pictures alone do not tell which to follow.

Objects of Yu et al., "Meta-World" (2019), version 3, in three scenes with two instructions each.
Drawer and window start half open, and a faucet can be turned both ways, so what to do is known
from the instruction only; Meta-World itself gives each of its tasks another start.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ..decoding import ActionSpec
from ..decoding.instruction import INSTRUCTION_BYTES, INSTRUCTION_KEY, encode_instruction
from .task import EndsWhenSolved, Task

DT = 0.0125  # [s], five steps of the simulator
MAX_STEPS = 150  # the scripted experts need 20 to 85
IMAGE_SIZE = 64  # [px]
RENDER_SIZE = 320  # [px], for videos
FRONT, WRIST = "observation.images.front", "observation.images.wrist"
_WRIST_CAMERA = "gripperPOV"


@dataclass(frozen=True)
class Subtask:
    """One instruction.

    Attributes:
        name: Meta-World's name without version.
        instruction: What the policy is told.
        joint: Joint of the object, moved at the start; empty leaves it.
        start: Interval that its position is drawn from [m].
    """

    name: str
    instruction: str
    joint: str = ""
    start: tuple[float, float] = (0.0, 0.0)


SUBTASKS = (
    Subtask("drawer-open", "open the drawer", "goal_slidey", (-0.11, -0.05)),
    Subtask("drawer-close", "close the drawer", "goal_slidey", (-0.11, -0.05)),
    Subtask("window-open", "slide the window open", "window_slide", (0.06, 0.14)),
    Subtask("window-close", "slide the window shut", "window_slide", (0.06, 0.14)),
    Subtask("faucet-open", "turn the faucet to the left"),
    Subtask("faucet-close", "turn the faucet to the right"),
)


class Tabletop(EndsWhenSolved):
    """Meta-World's Sawyer arm before a drawer, a window or a faucet.

    It draws on demand: a step of the simulator takes 0.2 ms of a core, a picture 9.

    Args:
        subtasks: What an episode may be about; seed s chooses number s modulo their number.
        wrist: Whether a second camera, at the gripper, is rendered.
        shuffled: Tell the policy another subtask's instruction, drawn from the seed: the control
            that shows whether a policy listens. Success is still that of the true subtask.
        image_size: Side of the camera images [px].
    """

    def __init__(
        self,
        subtasks: tuple[Subtask, ...] = SUBTASKS,
        *,
        wrist: bool = False,
        shuffled: bool = False,
        image_size: int = IMAGE_SIZE,
    ) -> None:
        if shuffled and len(subtasks) < 2:
            raise ValueError("shuffled instructions need at least two subtasks, got one")
        self._subtasks, self._wrist, self._shuffled = subtasks, wrist, shuffled
        self._image_size = image_size
        self._scenes: dict[str, _Scene] = {}
        self._subtask, self._instruction = subtasks[0], subtasks[0].instruction
        self._num_steps, self._success = 0, False
        self.drawn, self._pictures = True, dict[str, np.ndarray]()

    @property
    def subtask(self) -> Subtask:
        """What the episode is about."""
        return self._subtask

    @property
    def state(self) -> np.ndarray:
        """Meta-World's own observation of 39 numbers, which its scripted experts read."""
        return self._scene.state

    def reset(self, seed: int) -> dict[str, np.ndarray]:
        """Start the episode that `seed` determines and return its first frame."""
        rng = np.random.default_rng(seed)
        number = seed % len(self._subtasks)
        self._subtask = self._subtasks[number]
        told = number
        if self._shuffled:
            told = (number + int(rng.integers(1, len(self._subtasks)))) % len(self._subtasks)
        self._instruction = self._subtasks[told].instruction
        self._num_steps, self._success = 0, False
        self._scene.reset(seed, self._subtask, rng)
        return self._frame(drawn=True)

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], float, bool]:
        """Move the hand by x, y, z [cm] and press the fingers together, shape (4,)."""
        reward, success = self._scene.step(action)
        self._num_steps += 1
        self._success = self._success or success
        return self._frame(self.drawn), reward, self._success or self._num_steps >= MAX_STEPS

    def render(self) -> np.ndarray:
        """Picture of the scene from the front, shape (320, 320, 3)."""
        return self._scene.render(RENDER_SIZE, wrist=False)

    def close(self) -> None:
        """Release the simulators."""
        for scene in self._scenes.values():
            scene.close()
        self._scenes.clear()

    @property
    def _scene(self) -> _Scene:
        name = self._subtask.name
        if name not in self._scenes:
            self._scenes[name] = _Scene(name)
        return self._scenes[name]

    def _frame(self, drawn: bool) -> dict[str, np.ndarray]:
        if drawn:
            cameras = (FRONT, WRIST) if self._wrist else (FRONT,)
            self._pictures = {
                camera: self._scene.render(self._image_size, wrist=camera == WRIST)
                for camera in cameras
            }
        return {
            **self._pictures,
            "observation.state": self.state[:4].astype(np.float32),
            INSTRUCTION_KEY: encode_instruction(self._instruction),
        }


class _Scene:
    """Simulator and renderers of one Meta-World task.

    Args:
        name: Meta-World's name without version.
    """

    def __init__(self, name: str) -> None:
        self._mujoco, environments = import_metaworld()
        self._env: Any = environments[f"{name}-v3"]()
        self._env._partially_observable = False
        # As Meta-World's own benchmarks do it: places of objects follow the seed.
        self._env._freeze_rand_vec = False
        self._env.seeded_rand_vec = True
        self._env._set_task_called = True
        quality = self._env.model.vis.quality
        # On a processor, shadows and multi-sampling take most of a picture's time.
        quality.shadowsize, quality.offsamples = 0, 0
        self._renderers: dict[int, Any] = {}
        self._options = self._mujoco.MjvOption()
        # Sites mark the goal, which would give the instruction away.
        self._options.sitegroup[:] = 0
        self._front = self._mujoco.MjvCamera()
        self._front.lookat[:] = (-0.02, 0.68, 0.15)
        self._front.distance, self._front.azimuth, self._front.elevation = 0.95, 142.0, -30.0
        self.state = np.zeros(39)

    def reset(self, seed: int, subtask: Subtask, rng: np.random.Generator) -> None:
        """Place the objects."""
        self._env.seed(seed)
        self.state, _ = self._env.reset()
        if subtask.joint:
            self._env.data.joint(subtask.joint).qpos[:] = rng.uniform(*subtask.start)
            self._mujoco.mj_forward(self._env.model, self._env.data)
            # The state holds this and the previous step's 18 numbers, then the goal.
            current = self._env._get_curr_obs_combined_no_goal()
            self._env._prev_obs = current
            self.state = np.concatenate([current, current, self.state[36:]])

    def step(self, action: np.ndarray) -> tuple[float, bool]:
        """Return reward and success."""
        self.state, reward, _, _, info = self._env.step(np.asarray(action, np.float64))
        return float(reward), bool(info["success"])

    def render(self, size: int, *, wrist: bool) -> np.ndarray:
        """Picture of one camera, uint8 RGB, shape (size, size, 3)."""
        if size not in self._renderers:
            self._renderers[size] = self._mujoco.Renderer(self._env.model, size, size)
        camera = _WRIST_CAMERA if wrist else self._front
        self._renderers[size].update_scene(self._env.data, camera, self._options)
        return self._renderers[size].render()

    def close(self) -> None:
        """Release renderers and simulator."""
        for renderer in self._renderers.values():
            renderer.close()
        self._env.close()


def import_metaworld() -> tuple[Any, Mapping[str, Any]]:
    """MuJoCo and Meta-World's environment classes by name, set up to draw off-screen."""
    # Without a display MuJoCo must be told to draw off-screen, before it is imported.
    if "DISPLAY" not in os.environ:
        os.environ.setdefault("MUJOCO_GL", "egl")
    try:
        import mujoco
        from metaworld.env_dict import ALL_V3_ENVIRONMENTS
    except ImportError as error:
        raise ImportError(
            "the Meta-World tasks need metaworld: pip install 'hotloop[metaworld]'"
        ) from error
    return mujoco, ALL_V3_ENVIRONMENTS


def _task(name: str, *, wrist: bool = False, shuffled: bool = False) -> Task:
    cameras = (FRONT, WRIST) if wrist else (FRONT,)
    shapes: dict[str, tuple[int, ...]] = {key: (IMAGE_SIZE, IMAGE_SIZE, 3) for key in cameras}
    return Task(
        name=name,
        action_spec=ActionSpec(
            names=(
                "hand x [cm]",
                "hand y [cm]",
                "hand z [cm]",
                "gripper effort [-1 open, 1 closed]",
            ),
            low=(-1.0,) * 4,
            high=(1.0,) * 4,
            dt=DT,
        ),
        observation_shapes={
            **shapes,
            "observation.state": (4,),
            INSTRUCTION_KEY: (INSTRUCTION_BYTES,),
        },
        max_steps=MAX_STEPS,
        metric="instruction followed",
        make=partial(Tabletop, wrist=wrist, shuffled=shuffled),
        simulator="Meta-World v3",
        side_by_side=10,  # 0.46 GB each, once it has drawn all its scenes
    )


METAWORLD_TASKS = (
    _task("metaworld-tabletop"),
    _task("metaworld-tabletop-wrist", wrist=True),
    _task("metaworld-tabletop-shuffled", shuffled=True),
)
