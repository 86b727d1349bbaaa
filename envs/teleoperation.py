"""A hand that is moved as people move one: in their own pace, smoothly, never quite steadily."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_POSITION_SCALE = 0.05  # [m], what an action of 1 asks for
_TURN_SCALE = 0.5  # [rad]
OPEN, CLOSED = -1.0, 1.0
# The hand that looks straight down and spreads its fingers along the world's y.
_DOWN = np.diag([1.0, -1.0, -1.0])


@dataclass(frozen=True)
class Aim:
    """Where the hand shall go.

    Attributes:
        position: Of the point between the fingertips [m], shape (3,), in the world.
        yaw: Angle of the fingers' axis from the world's y, about the world's z [rad].
        fingers: `OPEN` or `CLOSED`.
        haste: Factor on the person's pace.
    """

    position: np.ndarray
    yaw: float
    fingers: float
    haste: float = 1.0


@dataclass(frozen=True)
class Manner:
    """How somebody moves; drawn anew for every episode.

    Attributes:
        pace: Largest translation of an action, as a share of what the controller takes.
        stiffness: Share of the way to the goal that an action asks for.
        swiftness: Largest change of each number of an action from one step to the next.
        tremor: Standard deviation of the slowly varying error of the person's hand.
        tilt: Rotation of the hand away from straight down [rad], shape (2,), about x and y.
    """

    pace: float
    stiffness: float
    swiftness: float
    tremor: float
    tilt: np.ndarray

    @classmethod
    def draw(cls, rng: np.random.Generator, paces: tuple[float, float]) -> Manner:
        """Draw somebody whose pace lies between two."""
        return cls(
            pace=rng.uniform(*paces),
            stiffness=rng.uniform(0.5, 0.9),
            swiftness=rng.uniform(0.12, 0.3),
            tremor=rng.uniform(0.01, 0.05),
            tilt=rng.uniform(-0.08, 0.08, 2),
        )


class Teleoperator:
    """Turns aims into OSC_POSE actions: shares of 0.05 m and of 0.5 rad, and the fingers."""

    def __init__(self, manner: Manner, rng: np.random.Generator) -> None:
        self._manner, self._rng = manner, rng
        self._motion, self._tremor = np.zeros(6), np.zeros(6)

    def act(self, position: np.ndarray, quaternion: np.ndarray, aim: Aim) -> np.ndarray:
        """Return the action towards `aim`, shape (7,), for a hand pose (quaternion x, y, z, w)."""
        manner = self._manner
        way = (aim.position - position) / _POSITION_SCALE
        turn = self.turn(quaternion, aim.yaw) / _TURN_SCALE
        wanted = np.concatenate(
            [
                _shortened(manner.stiffness * way, manner.pace * aim.haste),
                _shortened(0.5 * manner.stiffness * turn, 0.5 * manner.pace * aim.haste),
            ]
        )
        change = np.clip(wanted - self._motion, -manner.swiftness, manner.swiftness)
        self._motion = self._motion + change
        shock = self._rng.standard_normal(6) * [1, 1, 1, 0.5, 0.5, 0.5]
        self._tremor = 0.8 * self._tremor + 0.6 * manner.tremor * shock
        action = np.append(self._motion + self._tremor, aim.fingers)
        return np.clip(action, -1.0, 1.0)

    def turn(self, quaternion: np.ndarray, yaw: float) -> np.ndarray:
        """Return the rotation vector from a hand's orientation to that at `yaw` [rad]."""
        from scipy.spatial.transform import Rotation

        tilt = Rotation.from_rotvec([*self._manner.tilt, 0.0])
        goal = tilt * Rotation.from_rotvec([0.0, 0.0, yaw]) * Rotation.from_matrix(_DOWN)
        return (goal * Rotation.from_quat(quaternion).inv()).as_rotvec()


def _shortened(vector: np.ndarray, longest: float) -> np.ndarray:
    return vector * min(1.0, longest / max(float(np.linalg.norm(vector)), 1e-9))
