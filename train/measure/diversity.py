"""How varied a policy's actions are where it has a choice, and how far two policies' differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist, pdist

from ...decoding import Observation, Policy

MIN_RATIO = 0.8  # below it a student has lost ways of doing things that its teacher has


@dataclass(frozen=True)
class Diversity:
    """A student's actions at fixed states, compared with its teacher's there.

    Attributes:
        ratio: Mean distance of two of the student's samples over that of two of the teacher's; 1 is
            as varied, 0 always the same. NaN where the teacher has no choice.
        energy_distance: Squared energy distance of the two distributions, over the mean distance
            of two of the teacher's samples; 0 is the same distribution.
        num_states: Number of states S.
        num_samples: Samples per state n.
    """

    ratio: float
    energy_distance: float
    num_states: int
    num_samples: int

    @property
    def collapsed(self) -> bool:
        """Whether the student has lost too much."""
        return self.ratio < MIN_RATIO


def compare_samples(teacher: np.ndarray, student: np.ndarray) -> Diversity:
    """Compare samples of two policies at the same states.

    Args:
        teacher: Independent samples, shape (S, n, F), n at least 2.
        student: The same of the student, shape (S, m, F), drawn with other seeds.

    Raises:
        ValueError: If states or features differ, or there are not two samples.
    """
    if teacher.ndim != 3 or student.ndim != 3 or min(teacher.shape[1], student.shape[1]) < 2:
        raise ValueError(
            f"samples must have shape (states, samples, features) with at least two samples, got "
            f"{teacher.shape} and {student.shape}"
        )
    if teacher.shape[::2] != student.shape[::2]:
        raise ValueError(
            f"teacher and student need samples of the same states and features, got "
            f"{teacher.shape} and {student.shape}"
        )
    spread = float(np.mean([mean_distance(state) for state in teacher]))
    own = float(np.mean([mean_distance(state) for state in student]))
    pairs = zip(teacher, student, strict=True)
    distance = float(np.mean([energy_distance(one, other) for one, other in pairs]))
    scale = spread or np.nan
    return Diversity(own / scale, distance / scale, len(teacher), teacher.shape[1])


def mean_distance(samples: np.ndarray) -> float:
    """Mean Euclidean distance of two different samples, shape (n, F)."""
    return float(pdist(samples).mean())


def energy_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Squared energy distance 2 E|X-Y| - E|X-X'| - E|Y-Y'| (Szekely and Rizzo 2013), unbiased.

    Its mean is 0 for two sets of samples of one distribution, so a small one may be negative.

    Args:
        first: Independent samples, shape (n, F).
        second: The same of the other distribution, shape (m, F).
    """
    between = float(cdist(first, second).mean())
    return 2 * between - mean_distance(first) - mean_distance(second)


def action_samples(
    policy: Policy, frames: Mapping[str, np.ndarray], num_samples: int, seed: int
) -> np.ndarray:
    """Sample the actions that a policy would begin an episode with, at each of S states.

    Args:
        policy: What to sample; it is reset.
        frames: Newest frames per observation key, shape (S, To, *shape), physical units.
        num_samples: Samples per state n, each with a seed of its own.
        seed: First of the seeds.

    Returns:
        The actions of each plan that would be executed, in halves of their range, shape
        (S, n, Ta * D).
    """
    spec, rows = policy.action_spec, np.arange(num_samples)
    scale = np.subtract(spec.high, spec.low) / 2
    steps = np.zeros(num_samples, np.int64)
    samples = []
    for state in range(len(next(iter(frames.values())))):
        policy.reset(seed + state * num_samples + rows)
        seen = {
            key: np.repeat(frame[state : state + 1], num_samples, axis=0)
            for key, frame in frames.items()
        }
        plan = policy.plan(Observation(seen, steps, rows), steps)
        actions = plan.actions[:, : policy.num_execute] / scale  # (n, ta, d)
        samples.append(actions.reshape(num_samples, -1))
    return np.stack(samples).astype(np.float64)
