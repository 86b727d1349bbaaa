"""Gymnasium environments as tasks: what all adapters share."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from .d4rl_scores import ReferenceScores
from .rendering import choose_backend, draw_fast, require_backend

Frame = dict[str, np.ndarray]


class GymnasiumEnvironment:
    """An environment whose score is the episode's return, normalised as D4RL does.

    Frames carry the reward that was received on the way to them, 0 after a reset, so that a
    policy can condition on returns by reading ``reward`` like an observation.

    Args:
        env: A Gymnasium environment with a time limit.
        reference: Returns that count as score 0 and 1.
        observe: Turns the environment's observation into a frame.
        solved: Whether the last step's info, or the score so far, says that the task is solved;
            once solved, an episode stays a success.
        infos: Reads the simulator's state, by default positions and velocities of all joints.
        reset_options: Passed to every reset of the environment.
    """

    def __init__(
        self,
        env: Any,
        reference: ReferenceScores,
        observe: Callable[[Any], Frame],
        solved: Callable[[Mapping[str, Any], float], bool],
        infos: Callable[[Any], Mapping[str, np.ndarray]] | None = None,
        reset_options: Mapping[str, Any] | None = None,
    ) -> None:
        self._env, self._reference = env, reference
        self._infos = infos or joint_state
        self._reset_options = dict(reset_options or {})
        self._observe, self._solved = observe, solved
        self._return, self._success, self._terminated = 0.0, False, False

    @property
    def score(self) -> float:
        """Sum of the rewards so far, normalised; beyond 0 and 1 outside of the reference."""
        return self._reference.normalized(self._return)

    @property
    def success(self) -> bool:
        """Whether the task was solved at some step."""
        return self._success

    @property
    def terminated(self) -> bool:
        """Whether the last step led to a terminal state."""
        return self._terminated

    @property
    def simulator(self) -> Any:
        """The environment without Gymnasium's wrappers."""
        return self._env.unwrapped

    @property
    def infos(self) -> Mapping[str, np.ndarray]:
        """The simulator's state, float64."""
        return self._infos(self.simulator)

    def set_joint_state(self, positions: np.ndarray, velocities: np.ndarray) -> None:
        """Move the scene to a state that `infos` told; call it after a reset.

        Raises:
            ValueError: If the simulator has another number of joints.
        """
        simulator, data = self.simulator, self.simulator.data
        if (positions.shape, velocities.shape) != (data.qpos.shape, data.qvel.shape):
            raise ValueError(
                f"the simulator has {data.qpos.size} positions and {data.qvel.size} velocities, "
                f"the recorded state {positions.size} and {velocities.size}: another task?"
            )
        for name in ("point_env", "ant_env"):  # mazes are built around the robot's environment
            simulator = getattr(simulator, name, simulator)
        simulator.set_state(np.float64(positions), np.float64(velocities))

    def reset(self, seed: int) -> Frame:
        """Start the episode that `seed` determines."""
        observation, _ = self._env.reset(seed=seed, options=self._reset_options or None)
        self._return, self._success, self._terminated = 0.0, False, False
        return self._frame(observation, 0.0)

    def step(self, action: np.ndarray) -> tuple[Frame, float, bool]:
        """Apply an action, shape (D,), for one control period."""
        observation, reward, terminated, truncated, info = self._env.step(action)
        self._return += float(reward)
        self._terminated = bool(terminated)
        self._success = self._success or bool(self._solved(info, self.score))
        return self._frame(observation, float(reward)), float(reward), bool(terminated or truncated)

    def render(self) -> np.ndarray:
        """Picture of the scene by MuJoCo's renderer."""
        require_backend()
        draw_fast(self.simulator.model)
        return self._env.render()

    def close(self) -> None:
        """Release the simulator."""
        self._env.close()

    def _frame(self, observation: Any, reward: float) -> Frame:
        return {**self._observe(observation), "reward": np.array([reward], np.float32)}


def joint_state(simulator: Any) -> dict[str, np.ndarray]:
    """Positions and velocities of a MuJoCo environment's joints, under D4RL's names."""
    return {"qpos": simulator.data.qpos.copy(), "qvel": simulator.data.qvel.copy()}


def make_gymnasium_env(env_id: str, *, robotics: bool = False, **options: Any) -> Any:
    """Start a Gymnasium environment without its notices.

    Args:
        env_id: Its id, e.g. ``Hopper-v4``.
        robotics: Whether gymnasium-robotics provides it.
        options: Forwarded to `gymnasium.make`.

    Raises:
        ImportError: If a package is missing; says what to install.
    """
    choose_backend()
    try:
        import gymnasium
        import mujoco  # noqa: F401 - without it Gymnasium's own message is misleading

        if robotics:
            # On import the package prints a notice about other environments of its own.
            with contextlib.redirect_stderr(io.StringIO()):
                import gymnasium_robotics  # noqa: F401 - registers the environments
    except ImportError as error:
        needed = "MuJoCo and gymnasium-robotics" if robotics else "MuJoCo"
        raise ImportError(
            f"the environment {env_id} needs {needed}: pip install 'hotloop[mujoco]'"
        ) from error
    with warnings.catch_warnings():
        # Older versions are chosen on purpose; the notice names a successor with other physics.
        warnings.filterwarnings("ignore", message=".*out of date", category=DeprecationWarning)
        return gymnasium.make(env_id, render_mode="rgb_array", disable_env_checker=True, **options)
