"""The scripted expert that solves PointMaze and provides its demonstrations."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .pointmaze import PointMaze
from .task import Environment

Cell = tuple[int, int]


def shortest_path(maze_map: Sequence[Sequence[int | str]], start: Cell, goal: Cell) -> list[Cell]:
    """Return the cells (row, column) from `start` to `goal`, both included; walls are 1.

    Breadth-first search; among paths of equal length the first in a fixed order of directions.

    Raises:
        ValueError: If no free path exists.
    """
    came_from: dict[Cell, Cell] = {start: start}
    frontier = deque([start])
    while frontier and goal not in came_from:
        row, column = frontier.popleft()
        for cell in ((row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)):
            inside = 0 <= cell[0] < len(maze_map) and 0 <= cell[1] < len(maze_map[0])
            if inside and maze_map[cell[0]][cell[1]] != 1 and cell not in came_from:
                came_from[cell] = (row, column)
                frontier.append(cell)
    if goal not in came_from:
        raise ValueError(f"no path leads from cell {start} to cell {goal} of the maze")
    path = [goal]
    while path[-1] != start:
        path.append(came_from[path[-1]])
    return path[::-1]


class WaypointController:
    """Follows the shortest path through the centres of a maze's cells with a PD law.

    The demonstrations of D4RL's maze2d (Fu et al., 2020) were made by such a controller. This one
    asks for a velocity towards the next waypoint, proportional to its distance up to `max_speed`,
    and for a force proportional to the velocity error.

    Args:
        maze: Layout as `PointMaze.maze` gives it.
        max_speed: Speed on the way [m/s].
        position_gain: Wanted speed per distance to the waypoint [1/s].
        velocity_gain: Force per velocity error [100 N s/m].
        reach: Distance at which the next waypoint is aimed at [m].
    """

    def __init__(
        self,
        maze: Any,
        *,
        max_speed: float = 4.0,
        position_gain: float = 8.0,
        velocity_gain: float = 0.8,
        reach: float = 0.3,
    ) -> None:
        self.maze = maze
        self.max_speed = max_speed
        self.position_gain = position_gain
        self.velocity_gain = velocity_gain
        self.reach = reach
        self._waypoints: list[np.ndarray] = []

    def reset(self, state: np.ndarray, goal: np.ndarray) -> None:
        """Plan the way from the ball's `state` x, y, vx, vy to `goal` x, y."""
        start_cell, goal_cell = (self._cell(position) for position in (state[:2], goal))
        cells = shortest_path(self.maze.maze_map, start_cell, goal_cell)
        centres = [self.maze.cell_rowcol_to_xy(cell) for cell in cells[1:-1]]
        self._waypoints = [*centres, np.asarray(goal, np.float64)]

    def act(self, state: np.ndarray) -> np.ndarray:
        """Return the force for a state x, y, vx, vy, shape (2,), within [-1, 1]."""
        position, velocity = np.asarray(state, np.float64).reshape(2, 2)
        while len(self._waypoints) > 1 and (
            np.linalg.norm(self._waypoints[0] - position) <= self.reach
        ):
            self._waypoints.pop(0)
        wanted = self.position_gain * (self._waypoints[0] - position)
        wanted *= min(1.0, self.max_speed / max(float(np.linalg.norm(wanted)), 1e-9))
        return np.clip(self.velocity_gain * (wanted - velocity), -1.0, 1.0)

    def _cell(self, position: np.ndarray) -> Cell:
        row, column = self.maze.cell_xy_to_rowcol(position)
        return int(row), int(column)


class WaypointExpert:
    """The controller as an expert: reads state and goal from the frames of a PointMaze.

    Args:
        maze: Layout as `PointMaze.maze` gives it.
    """

    def __init__(self, maze: Any) -> None:
        self._controller = WaypointController(maze)

    def reset(self, frame: Mapping[str, np.ndarray], seed: int) -> None:
        """Plan the way from the ball to the goal."""
        self._controller.reset(frame["observation.state"], frame["observation.goal"])

    def act(self, frame: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the force for a frame, shape (2,), within [-1, 1]."""
        return self._controller.act(frame["observation.state"])


def make_waypoint_expert(env: Environment) -> WaypointExpert:
    """Return the expert for a PointMaze environment."""
    assert isinstance(env, PointMaze)
    return WaypointExpert(env.maze)
