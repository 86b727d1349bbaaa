"""An operator by script: picks up the cube of the model `pick` and puts it on the mark."""

from __future__ import annotations

import numpy as np

from ..config import RobotConfig
from ..core.limits import Vector
from ..core.trajectory import Chunk
from .move import Move
from .protocol import Snapshot

# The model's geometry [m]: height of the shoulder, both links, from the wrist to between the jaws.
SHOULDER, LINK, HAND = 0.1, 0.12, 0.078
TABLE = 0.04
CUBE = 0.0125  # half an edge
MARK = (0.202, -0.5)  # distance from the shoulder [m], and direction [rad]
LIFTED = 0.035  # [m] that the cube is carried above the table
# The jaw that stands still is this far beside the middle of the hand, so that it clears the cube.
ASIDE = 0.005
OPEN, CLOSED = 0.6, -0.08  # of the jaw [rad]
SHORTEST, PAUSE = 0.35, 0.1  # of a movement at full speed, and after each [s]


def reach_down(point: Vector, yaw: float, jaw: float) -> Vector:
    """Joint positions that hold the hand over a point, pointing down, shape (6,).

    Args:
        point: Where the middle between the jaws is, x, y, z [m].
        yaw: Direction of the line across the jaws about the vertical, 0 along y [rad].
        jaw: Position of the moving jaw [rad].

    Raises:
        ValueError: If the arm does not reach that far.
    """
    x, y, z = point
    pan, radius, height = np.arctan2(y, x), np.hypot(x, y), z + HAND - SHOULDER
    distance = np.hypot(radius, height)
    if not distance < 2 * LINK:
        raise ValueError(f"the arm does not reach {point}: {distance:.3f} m of {2 * LINK} m")
    elbow = 2 * np.arccos(distance / (2 * LINK))
    lift = np.arctan2(radius, height) - elbow / 2
    return np.array([pan, lift, elbow, np.pi - lift - elbow, pan - yaw, jaw])


class PickOperator:
    """Picks up the cube where it was seen first, and puts it on the mark; no two times alike.

    Args:
        robot: Its speed limits bound the operator's.
    """

    period = 0.1
    cameras: tuple[str, ...] = ()

    def __init__(self, robot: RobotConfig) -> None:
        self._velocity = 0.85 * robot.control.limits.arrays.velocity * robot.control.speed
        self.reset(0)

    def reset(self, seed: int) -> None:
        """Vary speed, height and grasp by `seed`."""
        self._generator = np.random.default_rng(seed)
        self._legs: list[Move] = []

    def plan(self, snapshot: Snapshot) -> Chunk:
        """The next half second of the script.

        Args:
            snapshot: Its ``sensors`` are the cube's x, y, z [m] and angle [rad].

        Raises:
            ValueError: If there is no cube, or it is out of reach.
        """
        if len(snapshot.sensors) != 4:
            raise ValueError(
                "the pick policy needs the cube's x, y, z and angle from the robot's sensors, got "
                f"{len(snapshot.sensors)} numbers; run it with robot=mujoco-arm"
            )
        if not self._legs:
            self._legs = self._script(snapshot)
        times = snapshot.time + 0.05 * np.arange(1.0, 13.0)
        return snapshot.chunk(times, np.concatenate([self._at(time) for time in times]))

    def _at(self, time: float) -> Vector:
        started = [leg for leg in self._legs if leg.begin <= time]
        return (started or self._legs[:1])[-1].at(np.array([time]))

    def _script(self, snapshot: Snapshot) -> list[Move]:
        draw = self._generator
        cube, yaw = snapshot.sensors[:3], float(snapshot.sensors[3])
        # A quarter of a turn is none for a cube.
        yaw = (yaw + np.pi / 4) % (np.pi / 2) - np.pi / 4
        aside = -ASIDE * np.array([-np.sin(yaw), np.cos(yaw), 0.0])
        grasp = cube + aside + np.array([0.0, 0.0, draw.uniform(-0.002, 0.002)])
        above = grasp + np.array([0.0, 0.0, LIFTED + draw.uniform(-0.005, 0.005)])
        distance, direction = MARK[0], MARK[1]
        mark = np.array([distance * np.cos(direction), distance * np.sin(direction), 0.0])
        mark[:2] += draw.uniform(-0.006, 0.006, 2)
        place = np.array([*mark[:2], TABLE + CUBE + 0.002])
        over = np.array([*mark[:2], above[2]])
        poses = [
            reach_down(above, yaw, OPEN), reach_down(grasp, yaw, OPEN),
            reach_down(grasp, yaw, CLOSED), reach_down(above, yaw, CLOSED),
            reach_down(over, direction, CLOSED), reach_down(place, direction, CLOSED),
            reach_down(place, direction, OPEN), reach_down(over, direction, OPEN),
        ]  # fmt: skip
        return self._legs_through(snapshot, poses, float(draw.uniform(0.75, 1.0)))

    def _legs_through(self, snapshot: Snapshot, poses: list[Vector], speed: float) -> list[Move]:
        legs: list[Move] = []
        start, begin = np.array(snapshot.position), snapshot.time
        for pose in poses:
            legs.append(Move(start, pose, begin, speed * self._velocity, SHORTEST / speed))
            start, begin = pose, legs[-1].end + PAUSE
        return legs
