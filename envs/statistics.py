"""How sure an evaluation is: intervals, a paired comparison, and the summary that is stored."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .rollout import Episode, Evaluation


class Interval(NamedTuple):
    """A confidence interval."""

    low: float
    high: float


def wilson_interval(num_success: int, num_trials: int, confidence: float = 0.95) -> Interval:
    """Wilson's score interval for a success probability (Wilson 1927).

    Raises:
        ValueError: Unless ``0 <= num_success <= num_trials`` and there was a trial.
    """
    from scipy.stats import binomtest

    if not (num_trials >= 1 and 0 <= num_success <= num_trials):
        raise ValueError(
            f"a success rate needs 0 to num_trials successes in at least 1 trial, got "
            f"{num_success} in {num_trials}"
        )
    interval = binomtest(num_success, num_trials).proportion_ci(confidence, method="wilson")
    return Interval(float(interval.low), float(interval.high))


def bootstrap_interval(
    values: Sequence[float] | np.ndarray,
    confidence: float = 0.95,
    num_resamples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """Bias-corrected and accelerated bootstrap interval for a mean (Efron 1987).

    Values that are all equal, a single one included, give an interval of no width: resampling
    cannot know better.

    Args:
        values: Independent observations, shape (n,).
        confidence: Coverage of the interval.
        num_resamples: Bootstrap samples.
        seed: Seed of the resampling; the same values and seed give the same interval.

    Raises:
        ValueError: If there is no value or one is not finite.
    """
    from scipy.stats import bootstrap

    values = np.asarray(values, np.float64)
    if values.ndim != 1 or not values.size or not np.isfinite(values).all():
        raise ValueError(f"a bootstrap needs a list of at least one finite value, got {values}")
    if values.min() == values.max():
        return Interval(float(values[0]), float(values[0]))
    interval = bootstrap(
        (values,),
        np.mean,
        n_resamples=num_resamples,
        confidence_level=confidence,
        method="BCa",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(float(interval.low), float(interval.high))


@dataclass(frozen=True)
class Comparison:
    """How a second evaluation differs from a first one over the same seeds.

    Attributes:
        num_episodes: Number of pairs.
        mean_difference: Mean of score of the second minus score of the first.
        ci95: Paired bootstrap interval of that mean.
        num_better: Pairs in which the second scores higher.
        num_worse: Pairs in which the first scores higher.
        sign_p: Two-sided p-value of the exact sign test of the scores, ties left out.
        mcnemar_p: Two-sided p-value of McNemar's exact test of the successes.
    """

    num_episodes: int
    mean_difference: float
    ci95: Interval
    num_better: int
    num_worse: int
    sign_p: float
    mcnemar_p: float


def compare(first: Evaluation, second: Evaluation) -> Comparison:
    """Compare two evaluations pair by pair; pairs share a seed, so its difficulty cancels.

    Raises:
        ValueError: If task or seeds differ.
    """
    if first.task != second.task:
        raise ValueError(f"cannot compare task {first.task!r} with task {second.task!r}")
    if first.seeds != second.seeds:
        raise ValueError(
            f"a paired comparison needs the same seeds in the same order, got "
            f"{_abridged(first.seeds)} and {_abridged(second.seeds)}"
        )
    difference = _scores(second) - _scores(first)
    better, worse = int((difference > 0).sum()), int((difference < 0).sum())
    pairs = list(zip(first.episodes, second.episodes, strict=True))
    gained = sum(after.success and not before.success for before, after in pairs)
    lost = sum(before.success and not after.success for before, after in pairs)
    return Comparison(
        num_episodes=len(pairs),
        mean_difference=float(difference.mean()),
        ci95=bootstrap_interval(difference),
        num_better=better,
        num_worse=worse,
        sign_p=_sign_test(better, worse),
        mcnemar_p=_sign_test(gained, lost),
    )


def summary(evaluation: Evaluation) -> dict[str, Any]:
    """Return the aggregate of an evaluation, under LeRobot's names where it has one.

    `pc_success` is in percent; `ci95` is the bootstrap interval of `mean_score`, `standard_error`
    its standard error (None for one episode), `pc_success_ci95` the Wilson interval of
    `pc_success`; times are in seconds; `run` is there if anybody told it.
    """
    episodes, n = evaluation.episodes, len(evaluation.episodes)
    num_success = sum(episode.success for episode in episodes)
    scores = _scores(evaluation)
    return {
        "task": evaluation.task,
        "metric": evaluation.metric,
        "n": n,
        "mean_score": float(scores.mean()),
        "standard_error": float(scores.std(ddof=1) / n**0.5) if n > 1 else None,
        "ci95": list(bootstrap_interval(scores)),
        "pc_success": 100 * num_success / n,
        "pc_success_ci95": [100 * bound for bound in wilson_interval(num_success, n)],
        "avg_sum_reward": float(np.mean([episode.sum_reward for episode in episodes])),
        "avg_max_reward": float(np.mean([episode.max_reward for episode in episodes])),
        "eval_s": evaluation.wall_s,
        "eval_ep_s": evaluation.wall_s / n,
        "policy_ms": evaluation.policy_ms,
        "seeds": list(evaluation.seeds),
        **({"run": dict(evaluation.run)} if evaluation.run else {}),
    }


def write_json(evaluation: Evaluation, path: str | Path) -> None:
    """Write summary and episodes as JSON, atomically: `path` is never half written."""
    path = Path(path)
    content = {
        "aggregated": summary(evaluation),
        "per_episode": [asdict(episode) for episode in evaluation.episodes],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")
    partial.replace(path)


def read_json(path: str | Path) -> Evaluation:
    """Read an evaluation that `write_json` wrote.

    Raises:
        ValueError: If the file holds something else.
    """
    try:
        content = json.loads(Path(path).read_text())
        aggregated = content["aggregated"]
        return Evaluation(
            task=aggregated["task"],
            metric=aggregated["metric"],
            episodes=tuple(Episode(**episode) for episode in content["per_episode"]),
            wall_s=aggregated["eval_s"],
            policy_ms=aggregated["policy_ms"],
            run=aggregated.get("run", {}),
        )
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not an evaluation written by hotloop: {error!r}") from error


def _scores(evaluation: Evaluation) -> np.ndarray:
    return np.array([episode.score for episode in evaluation.episodes])


def _sign_test(num_positive: int, num_negative: int) -> float:
    """Two-sided p-value of so many signs under a fair coin; 1 without any."""
    from scipy.stats import binomtest

    num = num_positive + num_negative
    return float(binomtest(num_positive, num).pvalue) if num else 1.0


def _abridged(seeds: Sequence[int]) -> str:
    return f"{len(seeds)} seeds {list(seeds[:4])}{'...' if len(seeds) > 4 else ''}"
