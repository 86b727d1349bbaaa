"""Segment distillation on a slalom in closed loop, beside its teacher's fewer steps.

    python tests/benchmarks/benchmark_slalom_toy.py results.json [--full] [--folder RUNS]

Every policy drives the same cars past the same pillars under the same pushes.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import toy_runs
import toy_slalom
from result_rows import Results

from hotloop.decoding import Observation
from hotloop.policies.checkpoint import load_checkpoint

NUM_DEMONSTRATIONS = 300
# Seeds, optimisation steps of teachers and students, cars that are driven.
SHORT = ((0,), 2_000, 1_000, 400)
FULL = ((0, 1, 2), 8_000, 8_000, 2_000)
# As many steps as the teacher takes: five are the default, with which it crashes more often.
STUDENTS = {
    "segment, demonstrated states": {"visited": 0.0, "teacher_steps": 10},
    "segment, half visited": {"visited": 0.5, "teacher_steps": 10},
}


@dataclass
class Streaming:
    """A policy that plans every few steps.

    Attributes:
        policy: A Streaming Diffusion Policy.
    """

    policy: Any
    _planned: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))

    def steer(self, observed: np.ndarray, step: int) -> np.ndarray:
        """The planned position of this step."""
        rows, phase = np.arange(len(observed)), step % toy_runs.NUM_EXECUTE
        if step == 0:
            self.policy.reset(rows)
        if phase == 0:
            steps = np.full(len(rows), step)
            frames = {toy_slalom.KEY: observed[:, None]}
            self._planned = self.policy.plan(Observation(frames, steps, rows), steps).actions
        return self._planned[:, phase, 0]


def measure(
    results: Results, key: dict[str, Any], run: toy_runs.Trained, calls: tuple[int, ...], cars: int
) -> None:
    """Add a row for each number of calls per control step."""
    for num in calls:
        if results.has({**key, "calls": num}):
            continue
        policy = load_checkpoint(run.checkpoint).policy({"calls_per_step": num})
        drives = toy_slalom.drive(Streaming(policy), cars, seed=100)
        results.add({**key, "calls": num}, {**_rounded(drives), "cpu_s": run.cpu_s})


def _rounded(drives: toy_slalom.Drive) -> Mapping[str, float]:
    return {key: round(value, 4) for key, value in toy_slalom.score(drives)._asdict().items()}


def main() -> None:
    """Run the toy."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--full", action="store_true", help="three seeds, longer trainings")
    parser.add_argument("--folder", type=Path, help="of the runs; default: a temporary one")
    parser.add_argument("--students", nargs="+", default=list(STUDENTS), choices=STUDENTS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    # Students learn for half as long as their teachers in the short form, for as long in the full.
    seeds, steps, student_steps, cars = FULL if given.full else SHORT
    data, results = toy_slalom.demonstrations(NUM_DEMONSTRATIONS), Results(given.output)
    if not results.has({"name": "expert"}):
        expert = toy_slalom.Expert(np.random.default_rng(1))
        results.add({"name": "expert"}, dict(_rounded(toy_slalom.drive(expert, cars, seed=100))))
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        for seed in seeds:
            config = toy_runs.streaming_config(steps, seed, folder / f"slalom-{seed}")
            teacher = toy_runs.run(config, data, toy_slalom.SPEC)
            key = {"seed": seed, "steps": steps}
            measure(results, {"name": "teacher", **key}, teacher, (10, 5, 2, 1), cars)
            for name in given.students:
                output = folder / f"{name.replace(', ', '-').replace(' ', '-')}-{seed}"
                student = toy_runs.student_config(
                    config,
                    teacher.checkpoint,
                    "segment",
                    output,
                    steps=student_steps,
                    **STUDENTS[name],
                )
                trained = toy_runs.run(student, data, toy_slalom.SPEC)
                of_student = {"name": name, "seed": seed, "steps": student_steps}
                measure(results, of_student, trained, (1,), cars)


if __name__ == "__main__":
    main()
