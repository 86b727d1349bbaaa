"""Push-T: a round agent pushes a T-shaped block onto its mark (gym-pusht).

The task of Florence et al., "Implicit Behavioral Cloning" (2021), in the version of Chi et al.,
"Diffusion Policy" (2023), whose observations and score are reproduced here: the block's keypoints,
or the picture that their demonstrations hold.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from ..decoding import ActionSpec
from .task import Task

MAX_STEPS = 300
IMAGE_SIZE = 96  # [px], of the pictures in frames
RENDER_SIZE = 320  # [px], a multiple of 16 as video codecs like it

# The nine points of the block that Push-T observations consist of, in the block's own frame [px]:
# origin at `block.position`, the middle of the bar's outer edge, x along the bar, y down the stem.
# The data's authors picked nine whole pixels of the block's picture, far from each other, and
# shifted each coordinate by a uniform number from [0, 1) of numpy's generator with seed 0.
BLOCK_KEYPOINTS = np.array(
    [
        [9.26978671, 90.04097352],
        [-60.98347236, -1.18672976],
        [60.91275558, -1.39336422],
        [-0.27050344, 25.54362499],
        [-14.06492758, 122.81585355],
        [39.0027385, 32.85740428],
        [-39.96641442, 32.72965545],
        [-16.82434438, 62.86317892],
        [23.54146122, -1.70028811],
    ]
)
CENTRE_OF_GRAVITY = np.array([0.0, 45.0])  # in the same frame [px]


def block_keypoints(pose: np.ndarray) -> np.ndarray:
    """Return the block's keypoints [px], shape (..., 9, 2).

    Args:
        pose: Position x, y [px] and angle [rad] of the block, shape (..., 3).
    """
    turned = np.einsum("...ij,kj->...ki", _rotation(pose[..., 2]), BLOCK_KEYPOINTS)
    return pose[..., None, :2] + turned


def _rotation(angle: np.ndarray) -> np.ndarray:
    """Matrices, shape (..., 2, 2), that take the block's frame to the world's."""
    cos, sin = np.cos(angle), np.sin(angle)
    return np.stack([np.stack([cos, -sin], axis=-1), np.stack([sin, cos], axis=-1)], axis=-2)


class PushT:
    """Push-T with the agent's position and the block's keypoints, or a picture, as observation.

    `reset` draws the start as gym-pusht does from its own generator: agent x, y from 50 to 449,
    block x, y from 100 to 399 in whole pixels, angle uniform. As in diffusion_policy's evaluation
    the block is then placed before it is turned, about its centre of gravity, which moves it by up
    to 90 px; the frames tell where it really is. `set_state` makes up for that, so a recorded
    state comes out as it was recorded.

    Args:
        images: Whether frames hold the scene's picture ``observation.image``, shape (96, 96, 3),
            instead of the keypoints. It is drawn as the demonstrations' are, without the action.
    """

    def __init__(self, images: bool = False) -> None:
        self._env = _make_gym_env(images)
        self._images, self._score = images, 0.0

    @property
    def score(self) -> float:
        """Largest share of the mark covered so far, over 0.95 and at most 1."""
        return self._score

    @property
    def success(self) -> bool:
        """Whether 95 % of the mark were covered at some step."""
        return self._score >= 1

    @property
    def terminated(self) -> bool:
        """Whether 95 % of the mark were covered, which ends the episode."""
        return self.success

    @property
    def state(self) -> np.ndarray:
        """Agent x, y [px], block x, y [px], block angle [rad], as demonstrations record it."""
        simulator = self._env.unwrapped
        block = simulator.block
        return np.array([*simulator.agent.position, *block.position, block.angle % (2 * np.pi)])

    def reset(self, seed: int) -> dict[str, np.ndarray]:
        """Start an episode from gym-pusht's initial state of this seed."""
        self._score = 0.0
        return self._frame(self._env.reset(seed=seed)[0])

    def set_state(self, state: Sequence[float] | np.ndarray) -> dict[str, np.ndarray]:
        """Start an episode, at rest, from a given state and return its first frame.

        Args:
            state: Agent x, y [px], block x, y [px], block angle [rad], as the demonstrations
                record it.

        Raises:
            ValueError: If the state is not five finite numbers.
        """
        state = np.array(state, np.float64)
        if state.shape != (5,) or not np.isfinite(state).all():
            raise ValueError(
                f"a Push-T state is five finite numbers: agent x, y, block x, y, angle; got {state}"
            )
        # gym-pusht will place the block upright and then turn it about its centre of gravity:
        # ask for the place from which that turn leads to the wanted one.
        state[2:4] += _rotation(state[4]) @ CENTRE_OF_GRAVITY - CENTRE_OF_GRAVITY
        self._score = 0.0
        return self._frame(self._env.reset(options={"reset_to_state": state})[0])

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], float, bool]:
        """Steer the agent towards a position x, y [px], shape (2,), for 0.1 s."""
        observed, reward, terminated, truncated, _ = self._env.step(action)
        self._score = max(self._score, float(reward))
        return self._frame(observed), float(reward), bool(terminated or truncated)

    def render(self) -> np.ndarray:
        """Picture of the scene with the last action as a red cross, shape (320, 320, 3)."""
        return self._env.render()

    def close(self) -> None:
        """Release the simulator."""
        self._env.close()

    def _frame(self, observed: Any) -> dict[str, np.ndarray]:
        """What the task calls what gym-pusht observed: its state, or picture and agent."""
        if self._images:
            agent = observed["agent_pos"].astype(np.float32)
            return {"observation.image": observed["pixels"], "observation.state": agent}
        return {
            "observation.state": observed[:2].astype(np.float32),
            "observation.environment_state": block_keypoints(observed[2:])
            .ravel()
            .astype(np.float32),
        }


def _make_gym_env(images: bool) -> Any:
    # gym-pusht's dependency pygame prints a banner on import unless told not to.
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    try:
        import gym_pusht  # noqa: F401 - registers the environment
        import gymnasium
    except ImportError as error:
        raise ImportError(
            "the task 'pusht' needs gym-pusht: pip install 'hotloop[pusht]'"
        ) from error
    return gymnasium.make(
        "gym_pusht/PushT-v0",
        max_episode_steps=MAX_STEPS,
        disable_env_checker=True,
        obs_type="pixels_agent_pos" if images else "state",
        observation_width=IMAGE_SIZE,
        observation_height=IMAGE_SIZE,
        visualization_width=RENDER_SIZE,
        visualization_height=RENDER_SIZE,
    )


def _task(name: str, images: bool, shapes: dict[str, tuple[int, ...]]) -> Task:
    return Task(
        name=name,
        action_spec=ActionSpec(
            names=("agent target x [px]", "agent target y [px]"),
            low=(0.0, 0.0),
            high=(512.0, 512.0),
            dt=0.1,
        ),
        observation_shapes=shapes,
        max_steps=MAX_STEPS,
        metric="max of coverage / 0.95 over the episode",
        make=partial(PushT, images),
        simulator="gym_pusht/PushT-v0",
    )


_AGENT: dict[str, tuple[int, ...]] = {"observation.state": (2,)}

PUSHT = _task("pusht", False, _AGENT | {"observation.environment_state": (18,)})
PUSHT_IMAGE = _task(
    "pusht-image", True, {"observation.image": (IMAGE_SIZE, IMAGE_SIZE, 3)} | _AGENT
)
PUSHT_TASKS = (PUSHT, PUSHT_IMAGE)
