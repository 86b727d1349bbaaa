"""Preference tuning on Push-T: a student of one call, told by which of two episodes scored more.

    python tests/benchmarks/pusht_preference.py RUNS OUT.json [--seeds 42 43 44] [--tunings ...]

RUNS holds students of `hotloop distill method=flow-map`, ``flow-map-42`` and so on. Two episodes
begin alike, and every plan of either is tried near the student's own (see `pair_tuning`); the one
that scores more is good, plan by plan, the other one bad. They are of other seeds than those that
the student is measured on before and after, 50 episodes from 100000.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pair_tuning import Tried, Tuning, near, plans, tune
from result_rows import Results
from robomimic_table import difference

from hotloop.decoding import ActionTrajectory, Observation
from hotloop.envs.registry import make_task
from hotloop.envs.rollout import evaluate
from hotloop.envs.statistics import summary
from hotloop.envs.task import Task
from hotloop.policies.checkpoint import Checkpoint, load_checkpoint
from hotloop.policies.diffusion.config import DiffusionSampling
from hotloop.policies.diffusion.model import DiffusionModel
from hotloop.policies.diffusion.policy import DiffusionPolicy
from hotloop.policies.programs.rows import RowNoise

FIRST_SEED, NUM_EPISODES = 100_000, 50
FIRST_PAIR, NUM_PAIRS = 3_000_000, 200  # per round
MARGIN = 0.02  # a smaller difference of scores says nothing
TUNINGS = {
    "pairs": Tuning(),
    "pairs, freer": Tuning(held=2.0, lr=3e-4),
}


class _NearNoise(RowNoise):
    """Noise near a row's usual noise.

    Args:
        share: See `near`.
        seed: Of what is added.
    """

    def __init__(self, share: float, seed: int) -> None:
        super().__init__()
        self._share, self._generator = share, torch.Generator().manual_seed(seed)
        self.usual, self.tried = torch.zeros(0), torch.zeros(0)

    def fill(self, rows: np.ndarray, out: np.ndarray) -> None:
        """Write it to `out`, and keep it with the usual noise."""
        super().fill(rows, out)
        self.usual = torch.from_numpy(out.copy())
        self.tried = near(self.usual, self._share, self._generator)
        out[...] = self.tried.numpy()


class _Trying(DiffusionPolicy):
    """A student of one call that keeps what it tries, by the seed of the episode."""

    def __init__(self, checkpoint: Checkpoint, share: float, seed: int) -> None:
        sampling = checkpoint.sampling
        assert isinstance(checkpoint.model, DiffusionModel)
        assert isinstance(sampling, DiffusionSampling)
        self._near = _NearNoise(share, seed)
        one_call = replace(sampling, calls_per_step=1)
        super().__init__(checkpoint.model, checkpoint.action_spec, one_call, noise=self._near)
        self._seeds: dict[int, int] = {}
        self.kept: dict[int, list[tuple[torch.Tensor, ...]]] = {}

    def reset(self, seeds: np.ndarray, rows: np.ndarray | None = None) -> None:
        """Start an episode in each of `rows`; see `Policy.reset`."""
        super().reset(seeds, rows)
        restarted = range(len(seeds)) if rows is None else rows.tolist()
        self._seeds |= dict(zip(restarted, seeds.tolist(), strict=True))
        self.kept |= {seed: [] for seed in seeds.tolist()}

    @torch.no_grad()
    def plan(self, observation: Observation, step: np.ndarray) -> ActionTrajectory:
        """Plan near the student's own plan; see `Policy.plan`."""
        frames = {key: torch.from_numpy(array) for key, array in observation.frames.items()}
        context = self.model.flatten(frames)
        plan = super().plan(observation, step)
        for index, row in enumerate(observation.rows.tolist()):
            one = (context[index], self._near.usual[index], self._near.tried[index])
            self.kept[self._seeds[row]].append(one)
        return plan


def tuned(checkpoint: Checkpoint, task: Task, tuning: Tuning, seed: int) -> dict[str, Any]:
    """Tune a student in place; how many pairs there were, and the tried episodes' scores."""
    generator, model = torch.Generator().manual_seed(seed), checkpoint.model.requires_grad_(True)
    told, means = [], []
    for one in range(tuning.rounds):
        first = FIRST_PAIR + one * NUM_PAIRS
        scores, kept = [], []
        for arm in (0, 1):
            policy = _Trying(checkpoint, tuning.nearness, seed=2 * (seed + 1000 * one) + arm)
            result = evaluate(policy, task, range(first, first + NUM_PAIRS), task.side_by_side)
            scores.append(np.array([episode.score for episode in result.episodes]))
            kept.append([policy.kept[episode.seed] for episode in result.episodes])
        better = np.where(np.abs(scores[0] - scores[1]) > MARGIN, scores[1] > scores[0], -1)
        pairs = [
            (good, bad)
            for number in np.flatnonzero(better >= 0)
            for good, bad in zip(
                kept[better[number]][number], kept[1 - better[number]][number], strict=False
            )
        ]
        good, bad = (_tried(model, [pair[side] for pair in pairs]) for side in (0, 1))
        everything = _tried(model, [plan for arm in kept for episode in arm for plan in episode])
        tune(model, good, bad, everything, tuning, generator)
        told.append(int((better >= 0).sum()))
        means.append(round(float(np.mean(scores)), 4))
    model.requires_grad_(False)
    return {"pairs_told": told, "tried_scores": means}


@torch.no_grad()
def _tried(model: DiffusionModel, kept: Sequence[tuple[torch.Tensor, ...]]) -> Tried:
    context, usual, tried = (torch.stack(list(one)) for one in zip(*kept, strict=True))
    return Tried(context, usual, plans(model, context, usual), plans(model, context, tried))


def main() -> None:
    """Tune and measure what the file lacks."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("runs_dir", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 43, 44])
    parser.add_argument("--tunings", nargs="+", default=list(TUNINGS), choices=TUNINGS)
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED)
    parser.add_argument("--num-episodes", type=int, default=NUM_EPISODES)
    options = parser.parse_args()
    torch.set_num_threads(1)
    task, results = make_task("pusht"), Results(options.output, silent=("scores",))
    seeds = range(options.first_seed, options.first_seed + options.num_episodes)
    for seed in options.seeds:
        before: dict[str, Any] | None = None
        for name in ("none", *options.tunings):
            key = {"tuning": name, "seed": seed, "first_seed": options.first_seed}
            if not results.has(key):
                checkpoint = load_checkpoint(options.runs_dir / f"flow-map-{seed}")
                checkpoint = replace(checkpoint, model=copy.deepcopy(checkpoint.model))
                facts = {} if name == "none" else tuned(checkpoint, task, TUNINGS[name], seed)
                policy = checkpoint.policy({"calls_per_step": 1})
                result = evaluate(policy, task, seeds, task.side_by_side)
                scores = [round(episode.score, 4) for episode in result.episodes]
                facts |= {"score": summary(result)["mean_score"], "scores": scores}
                results.add(key, facts)
            row = results.find(key)
            assert row is not None
            before = before or row
            results.update(key, {"minus_untuned": difference([before], [row])})


if __name__ == "__main__":
    main()
