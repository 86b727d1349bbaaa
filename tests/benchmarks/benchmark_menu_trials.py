"""Accelerators that are not in the menu, on the toy of the menu: what they would be good for.

    python tests/benchmarks/benchmark_menu_trials.py FOLDER results.json [PART ...]

FOLDER holds the runs of ``benchmark_menu_toy.py --methods "flow-map;mean-flow" --folder FOLDER``.
Parts are ``hybrid``, the teacher's first calls before the student's; ``preference``, tuning of a
student by pairs of its plans; and ``coupling``, noise that is paired with actions in training.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
import toy_obstacle
import toy_runs
from benchmark_menu_toy import NUM_DEMONSTRATIONS, SHORT
from pair_tuning import Tuning
from result_rows import Results
from toy_coupling import coupled
from toy_preference import tuned

from hotloop.decoding.samplers import spaced_levels
from hotloop.policies.checkpoint import load_checkpoint
from hotloop.policies.diffusion.model import DiffusionModel
from hotloop.train.distillation.bank import integrate
from hotloop.train.objectives.denoising import DenoisingDraw, DenoisingObjective
from hotloop.train.objectives.flow_map import jump

MIDDLES = (75, 50, 25)  # of 100 levels: where the student takes over
# Calls of the teacher, then of the student.
CALLS = ((0, 1), (0, 2), (0, 3), (0, 5), (1, 1), (1, 2), (2, 1), (2, 2), (4, 1))
TUNINGS = {
    "pairs": Tuning(),
    "pairs, nothing held": Tuning(held=0.0, rounds=1),
    "good plans alone": Tuning(only_good=True),
}
GROUPS = (8, 256)  # like observations, or the whole batch


def summary(score: toy_obstacle.Score) -> dict[str, float]:
    """Numbers of a row."""
    return {name: round(value, 4) for name, value in score._asdict().items()}


@torch.no_grad()
def sampled(
    teacher: DiffusionModel,
    student: DiffusionModel,
    observed: np.ndarray,
    middle: int,
    calls: tuple[int, int],
    seed: int,
) -> np.ndarray:
    """Motions by some calls of the teacher from noise to a level, then some of the student."""
    context = student.flatten({toy_obstacle.KEY: torch.from_numpy(observed[:, None])})
    generator = torch.Generator().manual_seed(seed)
    begin = student.config.num_levels
    x = torch.randn(len(observed), *student.window_shape, generator=generator)
    if calls[0]:
        fine = spaced_levels(begin, middle, calls[0])
        x = integrate(teacher, context, x, np.array([begin, middle]), fine)[:, 1]
        begin = middle
    for level, next_level in pairwise(spaced_levels(begin, 0, calls[1]).tolist()):
        x = jump(student, context, x, level, next_level)
    return x[:, 0].clamp(-1, 1).numpy()


def run_hybrid(results: Results, folder: Path, exam: toy_obstacle.Examination, seed: int) -> None:
    """Students with no, 1, 2 and 4 calls of their teacher before their own."""
    teacher = load_checkpoint(folder / f"teacher-{seed}").model
    for name in ("flow-map", "mean-flow"):
        if not (folder / f"{name}-{seed}").exists():
            continue
        student = load_checkpoint(folder / f"{name}-{seed}").model
        for calls in CALLS:
            for middle in MIDDLES if calls[0] else (0,):
                key = {"part": "hybrid", "student": name, "seed": seed, "calls": sum(calls)}
                key |= {"of_teacher": calls[0], "middle": middle}
                if not results.has(key):
                    samples = sampled(teacher, student, exam.observed, middle, calls, seed)
                    results.add(key, summary(exam.score(samples)))


def run_preference(
    results: Results, folder: Path, exam: toy_obstacle.Examination, seed: int
) -> None:
    """A flow map of one call before and after tuning."""
    student = load_checkpoint(folder / f"flow-map-{seed}").model
    for name, tuning in {"none": None, **TUNINGS}.items():
        key = {"part": "preference", "tuning": name, "seed": seed}
        if results.has(key):
            continue
        model = student if tuning is None else tuned(student, tuning, seed)
        samples = sampled(model, model, exam.observed, 0, (0, 1), seed)
        results.add(key, summary(exam.score(samples)))


def run_coupling(results: Results, folder: Path, exam: toy_obstacle.Examination, seed: int) -> None:
    """Teachers that learn from noise as it is drawn, and from noise that is paired with actions."""
    data = toy_obstacle.demonstrations(NUM_DEMONSTRATIONS)
    config = toy_runs.teacher_config(SHORT.teacher_steps, seed, folder / f"teacher-{seed}")
    draw = DenoisingObjective.draw
    for size in (1, *GROUPS):
        if size == max(GROUPS) and seed:  # one seed of what is off the mark by far
            continue

        def paired(*arguments: Any, size: int = size) -> DenoisingDraw:
            drawn = draw(*arguments)
            condition = drawn.seen.vectors.flatten(1)
            return replace(
                drawn, noise=coupled(drawn.noise[:, 0], drawn.clean, condition, size)[:, None]
            )

        key = {"part": "coupling", "group": size, "seed": seed}
        calls = (1, 2, 4, 20)
        if all(results.has({**key, "calls": num}) for num in calls):
            continue
        one = replace(config, output_dir=str(folder / f"groups-of-{size}-{seed}"))
        with mock.patch.object(DenoisingObjective, "draw", paired):
            trained = toy_runs.run(config if size == 1 else one, data, toy_obstacle.SPEC)
        for num in calls:
            sampling = {"calls_per_step": num}
            samples = toy_runs.sample(trained.checkpoint, toy_obstacle.KEY, exam.observed, sampling)
            values = summary(exam.score(samples)) | {"cpu_s": trained.cpu_s}
            results.add({**key, "calls": num}, values)


PARTS = {"hybrid": run_hybrid, "preference": run_preference, "coupling": run_coupling}


def main() -> None:
    """Run the parts that were asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("parts", nargs="*", default=list(PARTS), metavar="PART")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    given = parser.parse_args()
    torch.set_num_threads(1)
    exam, results = toy_obstacle.Examination.draw(*SHORT.examination), Results(given.output)
    for seed in given.seeds:
        for part in given.parts:
            PARTS[part](results, given.folder, exam, seed)


if __name__ == "__main__":
    main()
