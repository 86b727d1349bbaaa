"""Guidance in one pass: what the student learns, and what its checkpoint allows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_planner import SPEC, TRAJECTORY, tiny_planner, walks
from torch import Tensor

from hotloop.policies.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from hotloop.policies.planners.decision import Decision
from hotloop.policies.planners.model import PlannerModel
from hotloop.policies.planners.planner import Planner
from hotloop.train.config.compose import compose
from hotloop.train.config.training import TrainConfig
from hotloop.train.data.plan_windows import PlanWindows
from hotloop.train.objectives.guidance import GuidanceDraw, GuidanceObjective, guidance_student
from hotloop.train.training import train_on


def drawn(objective: GuidanceObjective, seed: int, num: int = 64) -> GuidanceDraw:
    model = objective.model
    windows = PlanWindows(walks(), model.state_keys, model.config)
    generator = torch.Generator().manual_seed(seed)
    batch = windows.gather(torch.randint(len(windows), (num,), generator=generator))
    return objective.draw(batch, generator)


@pytest.fixture(scope="module")
def teacher() -> PlannerModel:
    return tiny_planner()


@pytest.fixture
def stored(teacher: PlannerModel, tmp_path: Path) -> Path:
    folder = tmp_path / "teacher"
    provenance = {"task": "toy"}
    save_checkpoint(
        folder, Checkpoint("trajectory_diffuser", teacher, SPEC, TRAJECTORY, provenance)
    )
    return folder


def config(teacher: Path, output: Path, *overrides: str) -> TrainConfig:
    chosen = [f"distill.teacher={teacher}", f"output_dir={output}", "task.name=toy", *overrides]
    sizes = ["task=pointmaze-umaze", "steps=4", "save_every=2", "batch_size=8"]
    return compose("train", ["policy=trajectory_diffuser", *sizes, *chosen], TrainConfig)


def test_without_training_only_weight_1_is_matched(teacher: PlannerModel) -> None:
    for weight, matches in ((1.0, True), (3.0, False)):
        objective = GuidanceObjective(guidance_student(teacher, weight), teacher)
        loss = float(objective(drawn(objective, seed=0)).detach())
        assert (loss < 1e-10) == matches


def test_half_of_the_samples_are_asked_for_another_return(teacher: PlannerModel) -> None:
    objective = GuidanceObjective(guidance_student(teacher, 2.0), teacher)
    windows = PlanWindows(walks(), teacher.state_keys, teacher.config)
    batch = windows.gather(torch.arange(len(windows)))
    asked = objective.draw(batch, torch.Generator().manual_seed(0)).return_to_go
    own = float((asked == batch.returns[:, 0]).float().mean())
    assert 0.4 < own < 0.65
    assert set(asked.tolist()) <= set(batch.returns[:, 0].tolist())


def test_a_trained_student_plans_in_one_pass_what_guidance_plans(teacher: PlannerModel) -> None:
    weight = 2.0
    student = guidance_student(teacher, weight)
    objective = GuidanceObjective(student, teacher)
    kept = {name: value.clone() for name, value in student.state_dict().items()}
    optimizer = torch.optim.Adam(student.denoiser.parameters(), lr=3e-3)
    for step in range(300):
        loss = objective(drawn(objective, seed=step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for name, value in student.state_dict().items():
        assert name.startswith("denoiser") or torch.equal(value, kept[name])
    sampling = replace(TRAJECTORY, calls_per_step=3, draft_level=8, guidance=weight)
    guided, single = Decision(teacher, sampling), Decision(student.eval(), sampling)
    unguided = Decision(teacher, replace(sampling, guidance=1.0))
    drawn_inputs = guided.program.draw(np.random.default_rng(0), 64)
    known = {name: torch.from_numpy(value) for name, value in drawn_inputs.items()}
    with torch.no_grad():
        plans = [one.program.run(known)["plan"] for one in (guided, single, unguided)]
    assert (plans[1] - plans[0]).norm() < 0.5 * (plans[2] - plans[0]).norm()


def test_a_student_makes_one_pass(teacher: PlannerModel, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {}
    for name, model in (("teacher", teacher), ("student", guidance_student(teacher, 1.2))):
        decision, seen = Decision(model, TRAJECTORY), []
        denoise = model.denoiser.denoise

        def recorded(x: Tensor, *others: Any, seen: Any = seen, denoise: Any = denoise) -> Tensor:
            seen.append(len(x))
            return denoise(x, *others)

        monkeypatch.setattr(model.denoiser, "denoise", recorded)
        drawn_inputs = decision.program.draw(np.random.default_rng(0), 3)
        decision.program.run({key: torch.from_numpy(one) for key, one in drawn_inputs.items()})
        rows[name] = seen
    assert rows == {"teacher": [6, 6], "student": [3, 3]}


def test_another_weight_than_the_distilled_one_is_refused(teacher: PlannerModel) -> None:
    student = guidance_student(teacher, 1.5)
    Planner(student, SPEC, replace(TRAJECTORY, guidance=1.5))
    with pytest.raises(ValueError, match=r"guidance must be 1\.5, .* distilled .*, got 1\.2"):
        Planner(student, SPEC, TRAJECTORY)


def test_a_run_ends_in_a_student_that_knows_its_weight(stored: Path, tmp_path: Path) -> None:
    run = train_on(config(stored, tmp_path / "run", "policy.sampling.guidance=1.5"), walks(), SPEC)
    student = load_checkpoint(run)
    assert student.model.config.distilled_guidance == student.sampling.guidance == 1.5
    assert student.provenance["distill"]["teacher"] == "teacher"
    student.policy({}).reset(np.array([0]))


@pytest.mark.parametrize(
    ("choices", "overrides", "message"),
    [
        ({}, ["policy=diffuser"], "is a trajectory_diffuser, so its student is none of"),
        ({"distilled_guidance": 1.2}, [], "is a student itself; distil its teacher"),
        ({"goal_key": "observation.goal", "drafter": None}, [], "it has no guidance to distil"),
    ],
)
def test_teachers_that_cannot_be_distilled_are_refused(
    choices: dict[str, Any], overrides: list[str], message: str, tmp_path: Path
) -> None:
    model = tiny_planner(**choices)
    checkpoint = Checkpoint("trajectory_diffuser", model, SPEC, TRAJECTORY, {"task": "toy"})
    save_checkpoint(tmp_path / "teacher", checkpoint)
    with pytest.raises(ValueError, match=message):
        train_on(config(tmp_path / "teacher", tmp_path / "run", *overrides), walks(), SPEC)


def test_the_data_must_have_what_the_teacher_observes(stored: Path, tmp_path: Path) -> None:
    episodes = walks()
    states = episodes.observations["observation.state"][:, :3]
    episodes = replace(episodes, observations={"observation.state": states})
    with pytest.raises(ValueError, match=r"observes 'observation.state' .*\(4,\), .* has \(3,\)"):
        train_on(config(stored, tmp_path / "run"), episodes, SPEC)


def test_returns_are_learned_from_data_that_has_some(stored: Path, tmp_path: Path) -> None:
    """Without, every plan was labelled with a return of 0, and none with the one asked for."""
    episodes = replace(walks(), rewards=None)
    with pytest.raises(ValueError, match=r"conditioned on returns, but the dataset has no rewards"):
        train_on(config(stored, tmp_path / "run"), episodes, SPEC)


def test_a_distilled_weight_is_no_setting_of_ordinary_training(tmp_path: Path) -> None:
    chosen = config(Path(), tmp_path, "distill.teacher=", "policy.model.distilled_guidance=1.2")
    with pytest.raises(ValueError, match=r"distilled_guidance is set by distillation; name"):
        train_on(chosen, walks(), SPEC)
