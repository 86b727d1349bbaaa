"""PointMaze: a ball is pushed through a maze to a goal (gymnasium-robotics, MuJoCo)."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..decoding import ActionSpec
from .gymnasium_env import make_gymnasium_env
from .task import EndsWhenSolved, Task

GOAL_RADIUS = 0.45  # [m], distance at which gymnasium-robotics counts the goal as reached
BALL_RADIUS = 0.1  # [m]
FORCES = ActionSpec(
    names=("force x [100 N]", "force y [100 N]"), low=(-1.0, -1.0), high=(1.0, 1.0), dt=0.01
)
_PIXELS_PER_CELL = 48  # a multiple of 16, as video codecs like it; a cell is 1 m wide

_WALL, _FLOOR = (84, 84, 96), (244, 244, 240)
_GOAL, _BALL = (144, 220, 150), (52, 92, 220)


class PointMaze(EndsWhenSolved):
    """A maze in which an episode ends when the ball comes within 0.45 m of the goal.

    Args:
        size: ``"UMaze"``, ``"Medium"`` or ``"Large"``.
        max_steps: Control steps after which an unsolved episode ends.
    """

    def __init__(self, size: str, max_steps: int) -> None:
        self._env = make_maze_env(size, max_steps, continuing=False)
        self._success = False
        self._frame: dict[str, np.ndarray] = {}

    @property
    def maze(self) -> Any:
        """Layout of the maze, a `gymnasium_robotics.envs.maze.maze_v4.Maze`."""
        return self._env.unwrapped.maze

    def reset(self, seed: int) -> dict[str, np.ndarray]:
        """Start an episode, at rest, with ball and goal in different cells drawn from the seed."""
        observation, _ = self._env.reset(seed=seed)
        self._success = False
        return self._observe(observation)

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], float, bool]:
        """Push with a force x, y of at most 1 (100 N) each, shape (2,), for 0.01 s."""
        observation, reward, terminated, truncated, info = self._env.step(action)
        self._success = self._success or info["success"]
        return self._observe(observation), float(reward), bool(terminated or truncated)

    def render(self) -> np.ndarray:
        """Map of the maze, see `draw_maze`."""
        state, goal = self._frame["observation.state"], self._frame["observation.goal"]
        return draw_maze(self.maze, state[:2], goal, GOAL_RADIUS)

    def close(self) -> None:
        """Release the simulator."""
        self._env.close()

    def _observe(self, observation: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        self._frame = {
            "observation.state": observation["observation"].astype(np.float32),
            "observation.goal": observation["desired_goal"].astype(np.float32),
        }
        return self._frame


def draw_maze(maze: Any, ball: np.ndarray, goal: np.ndarray, goal_radius: float) -> np.ndarray:
    """Draw a map with goal region and ball, without OpenGL; uint8 RGB, 48 pixels per metre.

    Args:
        maze: Layout, a `gymnasium_robotics.envs.maze.maze_v4.Maze`.
        ball: Position x, y [m].
        goal: Position x, y [m].
        goal_radius: Radius of the region that counts as the goal [m].
    """
    walls = np.array([[cell == 1 for cell in row] for row in maze.maze_map])
    walls = walls.repeat(_PIXELS_PER_CELL, axis=0).repeat(_PIXELS_PER_CELL, axis=1)
    picture = np.where(walls[..., None], _WALL, _FLOOR).astype(np.uint8)
    rows, columns = np.indices(walls.shape)
    x = (columns + 0.5) / _PIXELS_PER_CELL - maze.x_map_center
    y = maze.y_map_center - (rows + 0.5) / _PIXELS_PER_CELL
    for centre, radius, colour in ((goal, goal_radius, _GOAL), (ball, BALL_RADIUS, _BALL)):
        disc = np.hypot(x - centre[0], y - centre[1]) <= radius
        picture[disc & ~walls] = colour
    return picture


def make_maze_env(size: str, max_steps: int, *, continuing: bool) -> Any:
    """Start gymnasium-robotics' maze, which ends an episode at the goal unless it continues."""
    env = make_gymnasium_env(
        f"PointMaze_{size}-v3",
        robotics=True,
        max_episode_steps=max_steps,
        continuing_task=continuing,
    )
    # The simulator has read the model that was written for it; nobody else would remove it.
    Path(env.unwrapped.tmp_xml_file_path).unlink(missing_ok=True)
    return env


def _task(size: str, max_steps: int) -> Task:
    return Task(
        name=f"pointmaze-{size.lower()}",
        action_spec=FORCES,
        observation_shapes={"observation.state": (4,), "observation.goal": (2,)},
        max_steps=max_steps,
        metric="goal reached",
        make=partial(PointMaze, size, max_steps),
        simulator=f"PointMaze_{size}-v3",
    )


POINTMAZE_TASKS = (_task("UMaze", 300), _task("Medium", 600), _task("Large", 800))
