"""Accelerators that are not in the menu, on the toy of the menu: what they would be good for.

    python tests/benchmarks/benchmark_menu_trials.py FOLDER results.json [PART ...]

FOLDER holds the runs of ``benchmark_menu_toy.py --seeds 0 1 2 --folder FOLDER``. Parts are
``hybrid``, the teacher's first calls before the student's, and ``coupling``, noise that is paired
with actions in training.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import ExitStack
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
from result_rows import Results
from torch import Tensor

from hotloop.decoding.samplers import spaced_levels
from hotloop.policies.checkpoint import load_checkpoint
from hotloop.policies.diffusion.model import DiffusionModel
from hotloop.train.data.windows import Windows
from hotloop.train.distillation.bank import integrate
from hotloop.train.objectives import denoising, mean_flow
from hotloop.train.objectives.coupling import coupled
from hotloop.train.objectives.flow_map import jump

STUDENTS = ("flow-map", "mean-flow")
MIDDLES = (75, 50, 25)  # of 100 levels: where the student takes over
GROUP = 8


@torch.no_grad()
def teacher_first(
    teacher: DiffusionModel,
    student: DiffusionModel,
    observed: np.ndarray,
    middle: int,
    calls: tuple[int, int],
    seed: int = 0,
) -> np.ndarray:
    """Motions by some calls of the teacher from noise to a level, then some of the student."""
    context = student.flatten({toy_obstacle.KEY: torch.from_numpy(observed[:, None])})
    generator = torch.Generator().manual_seed(seed)
    num_levels = student.config.num_levels
    x = torch.randn(len(observed), *student.window_shape, generator=generator)
    if calls[0]:
        fine = spaced_levels(num_levels, middle, calls[0])
        x = integrate(teacher, context, x, np.array([num_levels, middle]), fine)[:, 1]
    else:
        middle = num_levels
    for begin, end in pairwise(spaced_levels(middle, 0, calls[1]).tolist()):
        x = jump(student, context, x, begin, end)
    return x[:, 0].clamp(-1, 1).numpy()


def run_hybrid(results: Results, folder: Path, exam: toy_obstacle.Examination, seed: int) -> None:
    """Every student with 0, 1, 2 and 4 calls of its teacher before its own."""
    teacher = load_checkpoint(folder / f"teacher-{seed}").model
    for name in STUDENTS:
        student = load_checkpoint(folder / f"{name}-{seed}").model
        for middle in MIDDLES:
            for calls in [(0, 1), (0, 2), (0, 3), (0, 5), (1, 1), (1, 2), (2, 1), (2, 2), (4, 1)]:
                if calls[0] == 0 and middle != MIDDLES[0]:
                    continue
                key = {"part": "hybrid", "student": name, "seed": seed, "calls": sum(calls)}
                key |= {"of_teacher": calls[0], "middle": middle if calls[0] else None}
                if not results.has(key):
                    samples = teacher_first(teacher, student, exam.observed, middle, calls, seed)
                    results.add(key, rounded(exam.score(samples)))


def rounded(score: toy_obstacle.Score) -> dict[str, float]:
    """Numbers of a row."""
    return {name: round(value, 4) for name, value in score._asdict().items()}


def paired_over_batch(size: int) -> Callable[..., Any]:
    """A replacement of `torch.randn` cannot know the batch, so draws are changed afterwards."""

    def change(drawn: Any) -> Any:
        condition = drawn.seen.vectors.flatten(1)
        noise = drawn.noise.reshape(drawn.clean.shape)
        noise = coupled(noise, drawn.clean, condition, size)
        return replace(drawn, noise=noise.reshape(drawn.noise.shape))

    return change


class PairedOverData:
    """Noise that is paired with all demonstrations of an epoch at once, in groups of like ones."""

    def __init__(self, clean: Tensor, condition: Tensor, size: int, seed: int) -> None:
        self._clean, self._condition, self._size = clean, condition, size
        self._generator = torch.Generator().manual_seed(seed)
        self._left = torch.zeros(0, dtype=torch.bool)
        self._noise = clean
        self.rows = torch.zeros(0, dtype=torch.int64)

    def __call__(self, drawn: Any) -> Any:
        if not len(self._left) or not self._left[self.rows].all():
            fresh = torch.randn(self._clean.shape, generator=self._generator)
            self._noise = coupled(fresh, self._clean, self._condition, self._size)
            self._left = torch.ones(len(fresh), dtype=torch.bool)
        self._left[self.rows] = False
        return replace(drawn, noise=self._noise[self.rows].reshape(drawn.noise.shape))


COUPLINGS = {
    "denoising": ("groups in the data", "groups in a batch", "batch", "independent"),
    "mean-flow": ("groups in the data", "independent"),
}


def run_coupling(results: Results, folder: Path, exam: toy_obstacle.Examination, seed: int) -> None:
    """Teachers, and mean flows without one, from noise of every kind of pairing."""
    data = toy_obstacle.demonstrations(NUM_DEMONSTRATIONS)
    clean = torch.from_numpy(data.actions).reshape(-1, 1, data.actions.shape[1])
    condition = torch.from_numpy(data.observations[toy_obstacle.KEY])
    teacher = toy_runs.teacher_config(SHORT.teacher_steps, seed, folder / f"teacher-{seed}")
    for what in ("denoising", "mean-flow"):
        for name in COUPLINGS[what]:
            if name == "batch" and seed:  # one seed of what is off the mark by far
                continue
            output = folder / f"{what}-{name.replace(' ', '-')}-{seed}"
            if what == "denoising":
                other = replace(teacher, output_dir=str(output))
                config, calls = teacher if name == "independent" else other, (1, 2, 4, 20)
                target: Any = denoising.DenoisingObjective
            else:
                options = {"warm": False, "steps": SHORT.teacher_steps}
                checkpoint = Path(teacher.output_dir) / "checkpoints" / "last"
                config = toy_runs.student_config(
                    teacher, checkpoint, "mean-flow", output, **options
                )
                calls, target = (1, 2, 4), mean_flow.MeanFlowObjective
            key = {"part": "coupling", "training": what, "coupling": name, "seed": seed}
            if all(results.has({**key, "calls": num}) for num in calls):
                continue
            change: Any = paired_over_batch({"batch": 256, "groups in a batch": GROUP}.get(name, 1))
            with ExitStack() as stack:
                if name == "groups in the data":
                    change = PairedOverData(clean, condition, GROUP, seed)
                    gather = Windows.gather

                    def watched(self: Windows, rows: Tensor, change: Any = change) -> Any:
                        change.rows = rows
                        return gather(self, rows)

                    stack.enter_context(mock.patch.object(Windows, "gather", watched))
                if name != "independent":
                    draw = target.draw
                    stack.enter_context(
                        mock.patch.object(target, "draw", lambda *a, f=change, d=draw: f(d(*a)))
                    )
                trained = toy_runs.run(config, data, toy_obstacle.SPEC)
            for num in calls:
                sampling = {"calls_per_step": num}
                samples = toy_runs.sample(
                    trained.checkpoint, toy_obstacle.KEY, exam.observed, sampling
                )
                values = rounded(exam.score(samples)) | {"cpu_s": trained.cpu_s}
                results.add({**key, "calls": num}, values)


PARTS = {"hybrid": run_hybrid, "coupling": run_coupling}


def main() -> None:
    """Run the parts that were asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("parts", nargs="*", default=list(PARTS), metavar="PART")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    given = parser.parse_args()
    torch.set_num_threads(1)
    exam, results = toy_obstacle.Examination.draw(*SHORT.examination), Results(given.output)
    for seed in given.seeds:
        for part in given.parts:
            PARTS[part](results, given.folder, exam, seed)


if __name__ == "__main__":
    main()
