"""The toys of the distillation methods: what they measure, and one method on one of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from benchmarks import toy_obstacle, toy_runs, toy_slalom

EXAM = toy_obstacle.Examination.draw(8, 200)


def test_new_demonstrations_are_told_from_no_others() -> None:
    fresh = toy_obstacle.motions(EXAM.observed, np.random.default_rng(3))
    score = EXAM.score(fresh.reshape(len(fresh), -1))
    assert abs(score.ed2) < 1
    assert score.missed == 0 and score.tv < 0.08
    assert score.collisions < 3
    assert score.roughness == pytest.approx(1, abs=0.05)


def test_each_fault_shows_in_its_own_number() -> None:
    fresh = toy_obstacle.motions(EXAM.observed, np.random.default_rng(3))
    flat = fresh.reshape(len(fresh), -1)
    good = EXAM.score(flat)
    rough = fresh + 0.05 * np.random.default_rng(4).normal(size=fresh.shape)
    assert EXAM.score(rough.reshape(flat.shape)).roughness > 2
    # All of a condition's samples in the mode of the first one.
    modes = toy_obstacle.modes(fresh, EXAM.observed).reshape(8, 200)
    collapsed = fresh.reshape(8, 200, -1).copy()
    for one, mode in zip(collapsed, modes, strict=True):
        one[mode != mode[0]] = one[0]
    score = EXAM.score(collapsed)
    assert score.missed > 8 and score.tv > 0.3 and score.ed2 > 20 + good.ed2
    straight = fresh * [1.0, 0.0]
    assert EXAM.score(straight.reshape(flat.shape)).collisions > 25


def test_energy_distance_of_shifted_gaussians_is_known() -> None:
    one, other = np.random.default_rng(0).normal([[[0.0]], [[2.0]]], 1, (2, 1000, 1))
    # E|x - y| of N(2, 2) minus E|x - x'| of N(0, 2), twice.
    expected = 2 * (2 / np.sqrt(np.pi) * np.exp(-1) + 2 * 0.8427 - 2 / np.sqrt(np.pi))
    assert toy_obstacle.energy_distance(one, other) == pytest.approx(expected, rel=0.15)
    assert toy_obstacle.sliced_wasserstein(one, other) == pytest.approx(2, abs=0.15)


def test_the_slalom_tells_its_own_driver_from_others() -> None:
    class Above:
        def __init__(self, height: float) -> None:
            self.height = height

        def steer(self, observed: np.ndarray, step: int) -> np.ndarray:
            return observed[:, 2] + self.height

    expert = toy_slalom.Expert(np.random.default_rng(1))
    score = toy_slalom.score(toy_slalom.drive(expert, 400, seed=2))
    assert score.crashes < 2 and score.calibration < 0.03 and score.switches > 0.3
    above = toy_slalom.score(toy_slalom.drive(Above(0.4), 400, seed=2))
    assert above.crashes < 2 and above.calibration > 0.3 and above.switches < 0.01
    assert toy_slalom.score(toy_slalom.drive(Above(0.0), 400, seed=2)).crashes > 80


def test_a_student_of_one_call_comes_near_its_teacher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOTLOOP_CACHE", str(tmp_path / "cache"))
    data = toy_obstacle.demonstrations(4000)
    config = replace(toy_runs.teacher_config(400, 0, tmp_path / "teacher"), batch_size=128)
    teacher = toy_runs.run(config, data, toy_obstacle.SPEC)
    student_config = toy_runs.student_config(
        config,
        teacher.checkpoint,
        "flow-map",
        tmp_path / "student",
        steps=300,
        num_trajectories=2000,
        calls_per_step=(1, 2),
        solver_steps=10,
    )
    student = toy_runs.run(student_config, data, toy_obstacle.SPEC)

    def score(checkpoint: Path, calls: int) -> toy_obstacle.Score:
        sampling = {"calls_per_step": calls}
        return EXAM.score(toy_runs.sample(checkpoint, toy_obstacle.KEY, EXAM.observed, sampling))

    fine, coarse = score(teacher.checkpoint, 10), score(teacher.checkpoint, 1)
    one = score(student.checkpoint, 1)
    assert one.ed2 < min(1.2 * fine.ed2, coarse.ed2 / 2)
    assert one.tv < fine.tv + 0.05
    assert one.missed < coarse.missed
