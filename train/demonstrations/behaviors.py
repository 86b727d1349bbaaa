"""Which trained agents, with how much noise, make up a D4RL-style dataset of some level."""

from __future__ import annotations

import difflib
from dataclasses import dataclass


@dataclass(frozen=True)
class Behavior:
    """What collects a part of a dataset.

    Attributes:
        agent: Name of the agent's file.
        action_noise: Standard deviation of Gaussian noise on each action, which is then clipped to
            the action's bounds.
    """

    agent: str
    action_noise: float


def _locomotion(
    robot: str, medium: Behavior, expert: Behavior, replay: dict[str, float]
) -> dict[str, tuple[Behavior, ...]]:
    weak = tuple(Behavior(f"{robot}_{kind}.npz", noise) for kind, noise in replay.items())
    return {
        "medium": (medium,),
        "expert": (expert,),
        "medium-expert": (medium, expert),
        "medium-replay": weak,
    }


# Locomotion: chosen by the scores that Stable-Baselines3's agents reach with their noise in version
# 4 of the environments; medium ones have 40 to 50 % of an expert's return, as in D4RL. Noise takes
# the place of the agents' own sampling, which some of them do not have.
# Adroit: the DAPG experts; the noise is about the smallest that they were trained with.
BEHAVIORS: dict[str, dict[str, tuple[Behavior, ...]]] = {
    "hopper": _locomotion(
        "Hopper",
        Behavior("Hopper_sac.npz", 0.1),
        Behavior("Hopper_trpo.npz", 0.05),
        {"a2c": 0.3, "sac": 0.3, "ars": 0.3, "ppo": 0.3},
    ),
    "walker2d": _locomotion(
        "Walker2d",
        Behavior("Walker2d_sac.npz", 0.35),
        Behavior("Walker2d_trpo.npz", 0.02),
        {"a2c": 0.3, "ars": 0.3, "tqc": 0.3, "sac": 0.4},
    ),
    "halfcheetah": _locomotion(
        "HalfCheetah",
        Behavior("HalfCheetah_tqc.npz", 0.4),
        Behavior("HalfCheetah_tqc.npz", 0.1),
        {"trpo": 0.3, "a2c": 0.3, "ars": 0.3, "ppo": 0.1},
    ),
    **{
        name: {"expert": (Behavior(f"{name}-v0.npz", 0.05),)}
        for name in ("pen", "door", "hammer", "relocate")
    },
}


def behaviors(task_name: str, level: str) -> tuple[Behavior, ...]:
    """Return what collects equal parts of a dataset, one after the other.

    Raises:
        ValueError: If the task has no trained agents, or none of that level.
    """
    if task_name not in BEHAVIORS:
        raise ValueError(
            f"nobody demonstrates task {task_name!r}; there are trained agents for "
            f"{', '.join(BEHAVIORS)}"
        )
    levels = BEHAVIORS[task_name]
    if level not in levels:
        nearest = difflib.get_close_matches(level, levels, n=1)
        hint = f"did you mean {nearest[0]!r}? " if nearest else ""
        raise ValueError(
            f"task {task_name!r} has no level {level!r}; {hint}Levels: {', '.join(levels)}"
        )
    return levels[level]
