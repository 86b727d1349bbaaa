"""D4RL's maze2d: the point maze as a continuing task (Fu et al. 2020; gymnasium-robotics, MuJoCo).

The goal stays where it is, every step within 0.5 m of it earns 1, and episodes have a fixed length:
the score measures how soon the ball gets there and whether it stays. Layouts, goals, starts, reward
and time limits are those of D4RL's version 1; the dynamics are gymnasium-robotics' port of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from .d4rl_scores import REFERENCE_SCORES
from .gymnasium_env import Frame, GymnasiumEnvironment
from .pointmaze import FORCES, draw_maze, make_maze_env
from .task import Environment, Task
from .waypoint_controller import WaypointController

GOAL_RADIUS = 0.5  # [m]
_START_SPREAD = 0.1  # [m] to each side, and standard deviation of the velocity [m/s]


def _make(size: str, max_steps: int, goal_cell: tuple[int, int]) -> GymnasiumEnvironment:
    rules = _Rules(make_maze_env(size, max_steps, continuing=True), goal_cell)
    return GymnasiumEnvironment(
        rules,
        REFERENCE_SCORES[f"maze2d-{size.lower()}"],
        observe=_observe,
        solved=lambda info, score: info["success"],
    )


class _Rules:
    """D4RL's starts, goal, reward and picture in place of gymnasium-robotics' own."""

    def __init__(self, env: Any, goal_cell: tuple[int, int]) -> None:
        self._env, self.unwrapped = env, env.unwrapped
        self.maze = self.unwrapped.maze
        self._goal_cell = np.array(goal_cell)
        self._position = np.zeros(2)
        # The goal is the middle of its cell.
        self.unwrapped.position_noise_range = 0.0

    def reset(self, seed: int, options: Mapping[str, Any] | None) -> tuple[Any, Mapping[str, Any]]:
        rng = np.random.default_rng(seed)
        cells = free_cells(self.maze)
        start = self.maze.cell_rowcol_to_xy(cells[rng.integers(len(cells))])
        del options
        _, info = self._env.reset(seed=seed, options={"goal_cell": self._goal_cell})
        position = start + rng.uniform(-_START_SPREAD, _START_SPREAD, 2)
        velocity = _START_SPREAD * rng.standard_normal(2)
        self.unwrapped.point_env.set_state(position, velocity)
        self._position = position
        state = np.concatenate([position, velocity])
        return {"observation": state, "desired_goal": self.unwrapped.goal}, info

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, Mapping[str, Any]]:
        observation, _, _, truncated, _ = self._env.step(action)
        self._position = observation["observation"][:2]
        distance = np.linalg.norm(self._position - observation["desired_goal"])
        near = bool(distance <= GOAL_RADIUS)
        return observation, float(near), False, truncated, {"success": near}

    def render(self) -> np.ndarray:
        return draw_maze(self.maze, self._position, self.unwrapped.goal, GOAL_RADIUS)

    def close(self) -> None:
        self._env.close()


class WanderingExpert:
    """Goes from one random place to the next, as the controller behind D4RL's maze2d data did.

    Its data shows how to get anywhere; only the environment knows which place is the goal. The
    place that it is heading for is recorded as ``goal``.

    Args:
        maze: Layout, a `gymnasium_robotics.envs.maze.maze_v4.Maze`.
    """

    def __init__(self, maze: Any) -> None:
        self._maze, self._cells = maze, free_cells(maze)
        self._controller = WaypointController(maze)
        self._rng = np.random.default_rng(0)
        self._goal = np.zeros(2)

    @property
    def infos(self) -> dict[str, np.ndarray]:
        """Where it is heading for, x, y [m]."""
        return {"goal": self._goal.astype(np.float32)}

    def reset(self, frame: Mapping[str, np.ndarray], seed: int) -> None:
        """Choose a first place."""
        self._rng = np.random.default_rng([seed, 1])
        self._choose(frame["observation.state"])

    def act(self, frame: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the force for a frame, shape (2,), within [-1, 1]."""
        state = frame["observation.state"]
        if np.linalg.norm(state[:2] - self._goal) <= GOAL_RADIUS:
            self._choose(state)
        return self._controller.act(state)

    def _choose(self, state: np.ndarray) -> None:
        cell = self._cells[self._rng.integers(len(self._cells))]
        noise = self._rng.uniform(-_START_SPREAD, _START_SPREAD, 2)
        self._goal = self._maze.cell_rowcol_to_xy(cell) + noise
        self._controller.reset(state, self._goal)


def make_wandering_expert(env: Environment) -> WanderingExpert:
    """Return the expert for a maze2d environment."""
    assert isinstance(env, GymnasiumEnvironment)
    return WanderingExpert(env.simulator.maze)


def free_cells(maze: Any) -> np.ndarray:
    """Rows and columns of the cells without a wall, shape (N, 2)."""
    return np.argwhere(np.array([[cell != 1 for cell in row] for row in maze.maze_map]))


def _observe(observation: Mapping[str, np.ndarray]) -> Frame:
    return {
        "observation.state": observation["observation"].astype(np.float32),
        "observation.goal": observation["desired_goal"].astype(np.float32),
    }


def _task(size: str, max_steps: int, goal_cell: tuple[int, int]) -> Task:
    name = f"maze2d-{size.lower()}"
    return Task(
        name=name,
        action_spec=FORCES,
        observation_shapes={
            "observation.state": (4,),
            "observation.goal": (2,),
            "reward": (1,),
        },
        max_steps=max_steps,
        metric="D4RL score",
        make=partial(_make, size, max_steps, goal_cell),
        reference=REFERENCE_SCORES[name],
        simulator=f"PointMaze_{size}-v3 with the rules of maze2d-{size.lower()}-v1",
    )


MAZE2D_TASKS = (
    _task("UMaze", 300, (1, 1)),
    _task("Medium", 600, (6, 6)),
    _task("Large", 800, (7, 9)),
)
