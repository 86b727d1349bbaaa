"""Toy A: motions around an obstacle whose distribution is known, and measures of what is sampled.

A motion has 16 points [x, y] from left to right, past a disc in the middle, to a goal. It passes
above or below, with a probability that depends on what is observed, and hurries at the beginning
or at the end: four modes of known probability, with a uniform clearance and a tremor in each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from hotloop.decoding import ActionSpec
from hotloop.train.data.episodes import Episodes

NUM_POINTS, NUM_MODES = 16, 4
KEY = "observation.state"
SPEC = ActionSpec(
    tuple(f"{axis}{point}" for point in range(NUM_POINTS) for axis in "xy"),
    (-1.0,) * (2 * NUM_POINTS),
    (1.0,) * (2 * NUM_POINTS),
    dt=0.1,
)
_SLOW, _TREMOR, _WIDTH = 0.3, 0.01, 0.3  # share, standard deviation, width of the evasion in x
_CLEARANCE = (0.01, 0.3)


def conditions(num: int, rng: np.random.Generator) -> np.ndarray:
    """Height of obstacle and goal, and radius of the obstacle, shape (num, 3)."""
    low, high = (-0.3, -0.5, 0.1), (0.3, 0.5, 0.2)
    return rng.uniform(low, high, (num, 3)).astype(np.float32)


def mode_probabilities(condition: np.ndarray) -> np.ndarray:
    """Of above and slow, above and fast, below and slow, below and fast, shape (..., 4)."""
    obstacle, goal = condition[..., 0], condition[..., 1]
    above = 0.5 + 0.4 * np.tanh(3 * (goal - obstacle))
    sides = np.stack([above, 1 - above], axis=-1)  # (..., 2)
    return (sides[..., None] * [_SLOW, 1 - _SLOW]).reshape(*sides.shape[:-1], NUM_MODES)


def motions(condition: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One motion for each condition (n, 3), shape (n, 16, 2)."""
    obstacle, goal, radius = condition.T[..., None]  # each (n, 1)
    below = rng.random(obstacle.shape) > mode_probabilities(condition)[:, :2].sum(1)[:, None]
    slow = rng.random(obstacle.shape) < _SLOW
    time = np.linspace(0, 1, NUM_POINTS)  # (16,)
    x = -0.9 + 1.8 * time ** np.where(slow, 1.7, 0.6)
    clearance = rng.uniform(*_CLEARANCE, obstacle.shape)
    passing = obstacle + np.where(below, -1, 1) * (radius + clearance)
    share = (x + 0.9) / 1.8
    straight = goal * (3 * share**2 - 2 * share**3)
    y = straight + (passing - goal / 2) * np.exp(-0.5 * (x / _WIDTH) ** 2)
    points = np.stack([x, y], axis=-1)
    return (points + _TREMOR * rng.normal(size=points.shape)).astype(np.float32)


def demonstrations(num: int, seed: int = 0) -> Episodes:
    """Episodes of one step, whose action is a whole motion: every window is one of them."""
    rng = np.random.default_rng(seed)
    condition = conditions(num, rng)
    actions = motions(condition, rng).reshape(num, -1).clip(-1, 1)
    return Episodes({KEY: condition}, actions, np.arange(1, num + 1))


def modes(motion: np.ndarray, condition: np.ndarray) -> np.ndarray:
    """Which mode each motion (..., 16, 2) is, shape (...), integer."""
    middle = np.abs(motion[..., 0]).argmin(axis=-1)[..., None]
    height = np.take_along_axis(motion[..., 1], middle, axis=-1)[..., 0]
    below = height < condition[..., 0]
    fast = motion[..., NUM_POINTS // 2, 0] > 0
    return 2 * below + fast


def collides(motion: np.ndarray, condition: np.ndarray) -> np.ndarray:
    """Whether a point, or the middle between two, lies within the obstacle, shape (...), bool."""
    between = (motion[..., 1:, :] + motion[..., :-1, :]) / 2
    points = np.concatenate([motion, between], axis=-2)
    height, radius = condition[..., 0, None], condition[..., 2, None]
    return np.any(np.hypot(points[..., 0], points[..., 1] - height) < radius, axis=-1)


def energy_distance(one: np.ndarray, other: np.ndarray) -> float:
    """Squared energy distance of two samples (n, d), unbiased: 2 E|x-y| - E|x-x'| - E|y-y'|."""

    def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        squares = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T
        return np.sqrt(squares.clip(0))

    one, other = one.astype(np.float64), other.astype(np.float64)
    within = [distances(a, a).sum() / (len(a) * (len(a) - 1)) for a in (one, other)]
    return float(2 * distances(one, other).mean() - sum(within))


def sliced_wasserstein(one: np.ndarray, other: np.ndarray, num_slices: int = 64) -> float:
    """Root mean square W2 of two samples (n, d) of one size along random directions."""
    directions = np.random.default_rng(0).normal(size=(num_slices, one.shape[1]))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    sides = [np.sort(sample @ directions.T, axis=0) for sample in (one, other)]
    return float(np.sqrt(((sides[0] - sides[1]) ** 2).mean()))


class Score(NamedTuple):
    """How samples differ from the demonstrations' distribution; means over conditions.

    Attributes:
        ed2: Squared energy distance to data, over the root of the 32 dimensions, times 1000.
        sw2: Sliced Wasserstein distance to data, times 1000.
        tv: Total variation of the modes' probabilities.
        missed: Modes of probability 0.05 or more that get less than half of it.
        collisions: Share that touches the obstacle [%].
        roughness: Root mean square of second differences, of data's.
    """

    ed2: float
    sw2: float
    tv: float
    missed: int
    collisions: float
    roughness: float


@dataclass(frozen=True)
class Examination:
    """Conditions, and motions that demonstrate them.

    Attributes:
        condition: Shape (C, 3).
        data: Motions, shape (C, n, 16, 2).
    """

    condition: np.ndarray
    data: np.ndarray

    @classmethod
    def draw(cls, num_conditions: int, num_samples: int, seed: int = 1) -> Examination:
        """Conditions that no demonstration has, and `num_samples` motions for each."""
        rng = np.random.default_rng(seed)
        condition = conditions(num_conditions, rng)
        data = motions(np.repeat(condition, num_samples, axis=0), rng)
        return cls(condition, data.reshape(num_conditions, num_samples, NUM_POINTS, 2))

    @property
    def observed(self) -> np.ndarray:
        """The condition of every sample, shape (C * n, 3)."""
        return np.repeat(self.condition, self.data.shape[1], axis=0)

    def score(self, samples: np.ndarray) -> Score:
        """Measure samples for `observed`, shape (C * n, 32)."""
        motion = samples.reshape(self.data.shape)
        condition = self.condition[:, None]
        found = np.stack([(modes(motion, condition) == m).mean(1) for m in range(NUM_MODES)], 1)
        truth = mode_probabilities(self.condition)  # (c, 4)
        flat, data = (points.reshape(*self.data.shape[:2], -1) for points in (motion, self.data))
        root = np.sqrt(2 * NUM_POINTS)
        pairs = list(zip(flat, data, strict=True))
        return Score(
            ed2=float(1000 * np.mean([energy_distance(*pair) for pair in pairs]) / root),
            sw2=1000 * float(np.mean([sliced_wasserstein(*pair) for pair in pairs])),
            tv=float(np.abs(found - truth).sum(1).mean() / 2),
            missed=int(((truth >= 0.05) & (found < truth / 2)).sum()),
            collisions=100 * float(collides(motion, condition).mean()),
            roughness=_roughness(motion) / _roughness(self.data),
        )


def _roughness(motion: np.ndarray) -> float:
    return float(np.sqrt((np.diff(motion, n=2, axis=-2) ** 2).mean()))
