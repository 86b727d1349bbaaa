"""Every distillation method on a toy whose distribution is known: the gate of the menu.

    python tests/benchmarks/benchmark_menu_toy.py results.json [--full] [--methods flow-map,sampler]

A Diffusion Policy learns the motions of `toy_obstacle`, and every method makes a student of it,
which is measured at each of its numbers of calls against the data. The short form has one seed and
takes four minutes of one core; `--full` has three seeds and longer trainings, a quarter of an hour
each.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import toy_obstacle
import toy_runs
from result_rows import Results

from hotloop.decoding import Observation
from hotloop.policies.checkpoint import load_checkpoint

NUM_DEMONSTRATIONS = 20_000
FEW = (1, 2, 4)


@dataclass(frozen=True)
class Size:
    """How much is trained and measured.

    Attributes:
        seeds: Seeds of teachers and students.
        teacher_steps: Optimisation steps of a teacher.
        student_steps: Of a student, unless its method says otherwise.
        solver_steps: Calls of the teacher for the trajectories that students learn along, which are
            the same for all of them. It is with so many calls that a teacher is compared.
        examination: Conditions, and samples for each.
    """

    seeds: tuple[int, ...]
    teacher_steps: int
    student_steps: int
    solver_steps: int
    examination: tuple[int, int]


SHORT = Size((0,), 3_000, 2_000, 20, (16, 250))
FULL = Size((0, 1, 2), 10_000, 6_000, 50, (32, 400))


@dataclass(frozen=True)
class Contender:
    """A method and its settings.

    Attributes:
        method: Name in `METHODS`.
        calls: Numbers of calls that are measured.
        options: Settings of `TrainConfig.distill`.
        share: Optimisation steps, in those of other students.
        along: Whether it learns along the teacher's trajectories.
    """

    method: str
    calls: tuple[int, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    share: float = 1.0
    along: bool = True

    def settings(self, size: Size) -> dict[str, Any]:
        """Of `TrainConfig.distill`."""
        along = {
            "num_trajectories": NUM_DEMONSTRATIONS,
            "num_points": 16,
            "solver_steps": size.solver_steps,
            "calls_per_step": FEW,
        }
        return {**(along if self.along else {}), **self.options}


CONTENDERS = {
    "sampler": Contender("sampler", (4, 6), {"calls_per_step": (4, 6)}, 0.1, along=False),
    "flow-map": Contender("flow-map", FEW),
    "flow-map, longer": Contender("flow-map", FEW, share=1.25),
    "flow-map, visited": Contender("flow-map", FEW, {"visited": 0.2}),
    "consistency": Contender("consistency", FEW),
    "consistency, any jump": Contender("consistency", FEW, {"target": "any"}),
    "mean-flow": Contender("mean-flow", FEW, along=False),
    "mean-flow, no teacher": Contender("mean-flow", FEW, {"warm": False}, 2.5, along=False),
}
IN_SHORT: tuple[str, ...] = (
    "sampler",
    "flow-map",
    "consistency",
    "mean-flow",
)


def shortfalls(
    name: str, calls: int, score: Mapping[str, float], teacher: Mapping[str, float]
) -> list[str]:
    """What a student misses of its acceptance, in words; nothing where none is asked for.

    Args:
        name: Contender.
        calls: Network calls.
        score: Of the student.
        teacher: Of its teacher, with as many calls as its trajectories have.
    """
    bounds: dict[str, float] = {}
    if name == "sampler" and calls == 4:
        bounds = {"ed2": 2 * teacher["ed2"], "missed": 1}
    if name.startswith("flow-map") and calls in (1, 2):
        more = 4.0 if calls == 1 else 1.5
        bounds = {
            "ed2": 1.6 * teacher["ed2"],
            "tv": teacher["tv"] + 0.02,
            "collisions": teacher["collisions"] + more,
            "roughness": 1.2,
        }
    found = [
        f"{key} {score[key]:.3g} > {most:.3g}" for key, most in bounds.items() if score[key] > most
    ]
    if "roughness" in bounds and score["roughness"] < 0.7:
        found.append(f"roughness {score['roughness']:.3g} < 0.7")
    return found


def latency_ms(checkpoint: Path, sampling: Mapping[str, Any], num: int = 200) -> dict[str, float]:
    """Time of one plan for one robot by ONNX Runtime [ms]."""
    policy = load_checkpoint(checkpoint).policy(sampling, engine="onnx")
    policy.reset(np.zeros(1, np.int64))
    frames = {toy_obstacle.KEY: np.zeros((1, 1, 3), np.float32)}
    step = np.zeros(1, np.int64)
    times = []
    for _ in range(num):
        began = time.perf_counter()
        policy.plan(Observation(frames, step, step), step)
        times.append(1000 * (time.perf_counter() - began))
    return {f"p{share}_ms": round(float(np.percentile(times, share)), 3) for share in (50, 95)}


def measure(
    results: Results,
    key: dict[str, Any],
    trained: toy_runs.Trained,
    calls: tuple[int, ...],
    exam: toy_obstacle.Examination,
    reference: int,
    latency: bool,
) -> None:
    """Add a row for each number of calls, with the time of a plan where that is wanted."""
    for num in calls:
        if results.has({**key, "calls": num}):
            continue
        sampling = {"calls_per_step": num}
        samples = toy_runs.sample(trained.checkpoint, toy_obstacle.KEY, exam.observed, sampling)
        score = {name: round(value, 4) for name, value in exam.score(samples)._asdict().items()}
        values = {**score, "cpu_s": trained.cpu_s}
        if latency:
            values |= latency_ms(trained.checkpoint, sampling)
        teacher = results.find({"name": "teacher", "seed": key["seed"], "calls": reference})
        if teacher is not None and key["name"] != "teacher":
            values["shortfalls"] = shortfalls(key["name"], num, score, teacher)
        results.add({**key, "calls": num}, values)


def run(results: Results, size: Size, names: Sequence[str], folder: Path, latency: bool) -> None:
    """Train and measure a teacher and its students for each seed."""
    data = toy_obstacle.demonstrations(NUM_DEMONSTRATIONS)
    exam = toy_obstacle.Examination.draw(*size.examination)
    fresh = toy_obstacle.motions(exam.observed, np.random.default_rng(2))
    if not results.has({"name": "data"}):
        score = exam.score(fresh.reshape(len(fresh), -1))
        results.add({"name": "data"}, {k: round(v, 4) for k, v in score._asdict().items()})
    for seed in size.seeds:
        config = toy_runs.teacher_config(size.teacher_steps, seed, folder / f"teacher-{seed}")
        teacher = toy_runs.run(config, data, toy_obstacle.SPEC)
        key = {"name": "teacher", "seed": seed, "steps": config.steps}
        measure(results, key, teacher, (100, 50, 20, 10, 4, 2, 1), exam, size.solver_steps, latency)
        for name in names:
            one = CONTENDERS[name]
            steps = round(one.share * size.student_steps)
            output = folder / f"{name.replace(', ', '-').replace(' ', '-')}-{seed}"
            student = toy_runs.student_config(
                config, teacher.checkpoint, one.method, output, steps=steps, **one.settings(size)
            )
            key = {"name": name, "seed": seed, "steps": steps}
            if all(results.has({**key, "calls": num}) for num in one.calls):
                continue
            trained = toy_runs.run(student, data, toy_obstacle.SPEC)
            measure(results, key, trained, one.calls, exam, size.solver_steps, latency)


def main() -> None:
    """Run the gate."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--methods", help="separated by ';'; default: those of the form")
    parser.add_argument("--seeds", type=int, nargs="+", help="default: those of the form")
    parser.add_argument("--latency", action="store_true", help="time plans, of an idle machine")
    parser.add_argument("--folder", type=Path, help="of the runs; default: a temporary one")
    given = parser.parse_args()
    torch.set_num_threads(1)
    size, names = (FULL, tuple(CONTENDERS)) if given.full else (SHORT, IN_SHORT)
    names = given.methods.split(";") if given.methods else names
    size = replace(size, seeds=tuple(given.seeds or size.seeds))
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        run(Results(given.output), size, names, folder, given.latency)


if __name__ == "__main__":
    main()
