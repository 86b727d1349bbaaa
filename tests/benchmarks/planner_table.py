"""Scores of `benchmark_planners.py` over training seeds, with intervals that hold their spread.

python tests/benchmarks/planner_table.py OUTPUT.json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

Row = dict[str, Any]
NUM_DRAWS = 10_000
# Each planner's settings; of several, the one that is better on other episodes is reported.
PLANNERS: dict[str, tuple[str, tuple[dict[str, Any], ...]]] = {
    "Diffuser": ("diffuser", ({},)),
    "Decision Diffuser": ("decision_diffuser", ({"guidance": 1.2}, {"guidance": 3.0})),
    "Trajectory Diffuser, warm, N = 1": (
        "trajectory_diffuser",
        ({"reuse": 1000, "calls_per_step": 1},),
    ),
    "rollout, N = 2": ("trajectory_diffuser", ({"reuse": 0, "calls_per_step": 2},)),
}


def reported(choices: Sequence[np.ndarray]) -> np.ndarray:
    """Scores of the better choice, each half of the episodes by what was chosen on the other.

    Args:
        choices: Scores by training seed and episode, shape (S, E) each.
    """
    half = choices[0].shape[1] // 2
    first, second = slice(0, half), slice(half, None)
    parts = [
        max(choices, key=lambda scores: scores[:, other].mean())[:, own]
        for own, other in ((first, second), (second, first))
    ]
    return np.concatenate(parts, axis=1)


def interval(scores: np.ndarray) -> tuple[float, float]:
    """95 % interval of a training's mean score, which another training seed would move as well.

    A bootstrap of training seeds and, in each, of episodes.

    Args:
        scores: By training seed and episode, shape (S, E).
    """
    rng = np.random.default_rng(0)
    num_seeds, num_episodes = scores.shape
    seeds = rng.integers(0, num_seeds, (NUM_DRAWS, num_seeds, 1))
    episodes = rng.integers(0, num_episodes, (NUM_DRAWS, num_seeds, num_episodes))
    low, high = np.quantile(scores[seeds, episodes].mean((1, 2)), [0.025, 0.975])
    return float(low), float(high)


def summaries(rows: Sequence[Row]) -> list[Row]:
    """One row per dataset and planner, over all training seeds that there are."""
    scores = [row for row in rows if row["part"] == "scores"]
    found: list[Row] = []
    for dataset in dict.fromkeys(row["dataset"] for row in scores):
        for label, (kind, settings) in PLANNERS.items():
            choices = [_by_seed(scores, dataset, kind, setting) for setting in settings]
            choices = [choice for choice in choices if choice]  # mazes need no guidance
            if not choices:
                continue
            seeds = sorted(set.intersection(*map(set, choices)))
            chosen = reported([np.array([one[seed] for seed in seeds]) for one in choices])
            means = dict(zip(seeds, chosen.mean(axis=1).tolist(), strict=True))
            found.append(
                {
                    "dataset": dataset,
                    "planner": label,
                    "score": float(chosen.mean()),
                    "ci95": interval(chosen),
                    "per_training_seed": means,
                }
            )
    return found


def _by_seed(
    scores: Sequence[Row], dataset: str, kind: str, setting: dict[str, Any]
) -> dict[int, list[float]]:
    wanted = {"dataset": dataset, "kind": kind, "setting": setting}
    return {row["seed"]: row["scores"] for row in scores if wanted.items() <= row.items()}


def format_table(rows: Sequence[Row]) -> str:
    """Markdown for the results page: mean, interval, and the mean of each training seed."""
    found = summaries(rows)
    lines = [f"| data | {' | '.join(PLANNERS)} |", "|---" * (1 + len(PLANNERS)) + "|"]
    for dataset in dict.fromkeys(row["dataset"] for row in found):
        cells = [
            next((_cell(r) for r in found if (r["dataset"], r["planner"]) == (dataset, name)), "")
            for name in PLANNERS
        ]
        lines.append(f"| {dataset} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(row: Row) -> str:
    low, high = row["ci95"]
    seeds = " ".join(f"{score:.0f}" for score in row["per_training_seed"].values())
    return f"{row['score']:.1f} ({low:.0f} to {high:.0f}; {seeds})"


if __name__ == "__main__":
    print(format_table(json.loads(Path(sys.argv[1]).read_text())["rows"]))
