"""D4RL's reference returns, and scores normalised by them (Fu et al. 2020)."""

from __future__ import annotations

import difflib
import re
from typing import NamedTuple


class ReferenceScores(NamedTuple):
    """Undiscounted returns of one episode that count as score 0 and 1.

    Attributes:
        minimum: Return of a random policy, or what D4RL took for it.
        maximum: Return of an expert, or what D4RL took for it.
    """

    minimum: float
    maximum: float

    def normalized(self, episode_return: float) -> float:
        """Return ``(return - minimum) / (maximum - minimum)``; papers print it times 100."""
        return (episode_return - self.minimum) / (self.maximum - self.minimum)


_LOCOMOTION = {
    "halfcheetah": ReferenceScores(-280.178953, 12135.0),
    "hopper": ReferenceScores(-20.272305, 3234.3),
    "walker2d": ReferenceScores(1.629008, 4592.3),
    "ant": ReferenceScores(-325.6, 3879.7),
}
_MAZE2D = {
    "maze2d-open": ReferenceScores(0.01, 20.66),
    "maze2d-umaze": ReferenceScores(23.85, 161.86),
    "maze2d-medium": ReferenceScores(13.13, 277.39),
    "maze2d-large": ReferenceScores(6.7, 273.99),
    "maze2d-open-dense": ReferenceScores(11.17817, 27.166538620695782),
    "maze2d-umaze-dense": ReferenceScores(68.537689, 193.66285642381482),
    "maze2d-medium-dense": ReferenceScores(44.264742, 297.4552547777125),
    "maze2d-large-dense": ReferenceScores(30.569041, 303.4857382709002),
}
_MANIPULATION = {
    "pen": ReferenceScores(96.262799, 3076.8331017826877),
    "hammer": ReferenceScores(-274.856578, 12794.134825156867),
    "door": ReferenceScores(-56.512833, 2880.5693087298737),
    "relocate": ReferenceScores(-6.425911, 4233.877797728884),
    "kitchen": ReferenceScores(0.0, 4.0),
}
_ANTMAZE = {f"antmaze-{size}": ReferenceScores(0.0, 1.0) for size in ("umaze", "medium", "large")}
# Environments of which hotloop has no task.
_OTHERS = {
    "bullet-halfcheetah": ReferenceScores(-1275.766996, 2381.6725),
    "bullet-hopper": ReferenceScores(20.058972, 1441.8059623430963),
    "bullet-walker2d": ReferenceScores(16.523877, 1623.6476303317536),
    "bullet-ant": ReferenceScores(373.705955, 2650.495),
    "bullet-maze2d-open": ReferenceScores(8.75, 64.15),
    "bullet-maze2d-umaze": ReferenceScores(32.46, 153.99),
    "bullet-maze2d-medium": ReferenceScores(14.87, 238.05),
    "bullet-maze2d-large": ReferenceScores(1.82, 285.92),
    "minigrid-fourrooms": ReferenceScores(0.01442, 2.89685),
    "flow-ring": ReferenceScores(-165.22, 24.42),
    "flow-merge": ReferenceScores(118.67993, 330.03179),
    "carla-lane": ReferenceScores(-0.8503839912088142, 1023.5784385429523),
    "carla-town": ReferenceScores(-114.81579500772153, 2440.1772022247314),
}
# By environment; all datasets of an environment, of whatever level and version, share them.
REFERENCE_SCORES = {
    **_LOCOMOTION,
    **_MAZE2D,
    **_ANTMAZE,
    **_MANIPULATION,
    "kitchen-mixed": _MANIPULATION["kitchen"],
    **_OTHERS,
}
_LEVELS = {
    *("random", "medium", "expert", "replay", "full"),
    *("human", "cloned", "complete", "partial", "play", "diverse", "controller"),
}


def reference_scores(name: str) -> ReferenceScores:
    """Reference returns of a D4RL dataset id, e.g. ``hopper-medium-v2``, or an environment.

    Raises:
        ValueError: If D4RL has none for it; names the nearest.
    """
    match = re.fullmatch(r"(.+?)(?:-v(\d))?", name)
    environment, version = match.groups() if match else (name, None)
    while environment not in REFERENCE_SCORES and environment.rpartition("-")[2] in _LEVELS:
        environment = environment.rpartition("-")[0]
    # Version 0 of these mazes had other time limits, and scores that D4RL no longer lists.
    withdrawn = environment in _MAZE2D and "open" not in environment and version == "0"
    if environment not in REFERENCE_SCORES or withdrawn:
        nearest = difflib.get_close_matches(environment, REFERENCE_SCORES, n=3, cutoff=0.4)
        raise ValueError(
            f"D4RL has no reference scores for {name!r}; nearest environments: "
            f"{', '.join(nearest or REFERENCE_SCORES)}"
        )
    return REFERENCE_SCORES[environment]


def normalized_score(name: str, episode_return: float) -> float:
    """Return D4RL's score, times 100, of an episode's return; errors as in `reference_scores`.

    D4RL's own `get_normalized_score` leaves out the factor 100.
    """
    return 100 * reference_scores(name).normalized(episode_return)
