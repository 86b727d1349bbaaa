"""Plans in one or two calls: what the student learns, and what its checkpoint allows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_planner import DECISION, DIFFUSER, SPEC, TRAJECTORY, tiny_planner, walks
from torch import Tensor

from hotloop.policies.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from hotloop.policies.planners.config import PlannerSampling
from hotloop.policies.planners.decision import Decision
from hotloop.policies.planners.model import PlannerModel
from hotloop.policies.planners.planner import Planner
from hotloop.train.config.compose import compose
from hotloop.train.config.distill import GuidanceDistillConfig
from hotloop.train.config.training import TrainConfig
from hotloop.train.data.plan_windows import PlanWindows
from hotloop.train.data.windows import step_generator
from hotloop.train.distillation.guidance import default_calls
from hotloop.train.objectives.guidance import guidance_student
from hotloop.train.objectives.plan_jumps import (
    PlanJumpDraw,
    PlanJumpObjective,
    landing_target,
)
from hotloop.train.training import train_on

STEPS = 5  # of the teacher, from level 10
DRAFTED = replace(TRAJECTORY, calls_per_step=1, draft_level=STEPS, reuse=0)
GOAL = {"goal_key": "observation.goal", "drafter": None}


def objective(
    teacher: PlannerModel,
    sampling: PlannerSampling = DECISION,
    guidance: Any = 2.0,
    calls: tuple[int, ...] = (1, 5),
    **settings: Any,
) -> PlanJumpObjective:
    chosen = replace(sampling, guidance=guidance if isinstance(guidance, float) else 0.0)
    chosen = replace(chosen, guidance=guidance[1]) if isinstance(guidance, tuple) else chosen
    windows = PlanWindows(walks(rewards=not teacher.goal_dim), teacher.state_keys, teacher.config)
    student = guidance_student(teacher, guidance, jump=True)
    config = GuidanceDistillConfig(
        calls_per_step=calls, teacher_steps=STEPS, num_plans=256, refresh_every=50, **settings
    )
    return PlanJumpObjective(student, teacher, windows, chosen, config, seed=0)


def drawn(objective: PlanJumpObjective, step: int, num: int = 64) -> PlanJumpDraw:
    windows = PlanWindows(walks(), objective.model.state_keys, objective.model.config)
    generator = step_generator(0, step, stream="draw")
    batch = windows.gather(torch.randint(len(windows), (num,), generator=generator))
    objective.prepare(step)
    return objective.draw(batch, generator)


def trained(objective: PlanJumpObjective) -> PlannerModel:
    optimizer = torch.optim.Adam(objective.model.denoiser.parameters(), lr=1e-2)
    for step in range(150):
        loss = objective(drawn(objective, step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return objective.model.eval()


def inputs_of(decision: Decision, rows: int = 32) -> Mapping[str, Tensor]:
    known = decision.program.draw(np.random.default_rng(0), rows)
    return {name: torch.from_numpy(value) for name, value in known.items()}


def planned(model: PlannerModel, sampling: PlannerSampling, rows: int = 32) -> Tensor:
    """Encoded plans of a planner's one decision."""
    decision = Decision(model, replace(sampling, update="ddim"))
    with torch.no_grad():
        memory = decision.program.run(inputs_of(decision, rows))
    return memory[f"x_{decision.program.num_calls}"]


@pytest.mark.parametrize("prediction", ["sample", "velocity"])
@pytest.mark.parametrize("guidance", [1.0, (1.0, 3.0)])
def test_before_training_a_student_of_weight_1_is_its_teacher(
    prediction: str, guidance: float | tuple[float, float]
) -> None:
    """A call of any length makes the teacher's prediction, so calls in a row are its sampler."""
    teacher = tiny_planner(prediction=prediction)
    student = guidance_student(teacher, guidance, jump=True)
    for num in (1, 2, STEPS):
        sampling = replace(DECISION, guidance=1.0, calls_per_step=num)
        torch.testing.assert_close(planned(student, sampling), planned(teacher, sampling))


@pytest.mark.parametrize("prediction", ["sample", "velocity", "epsilon"])
@pytest.mark.parametrize("guidance", [2.0, (1.0, 3.0), None])
def test_the_teacher_s_own_steps_are_jumps_that_land(
    prediction: str, guidance: float | tuple[float, float] | None
) -> None:
    """A jump over one of its steps aims at what it predicts there, with its guidance."""
    choices: dict[str, Any] = {} if guidance else GOAL
    teacher = tiny_planner(prediction=prediction, clip=1e6, **choices)
    learned = objective(teacher, guidance=guidance, calls=(STEPS,), denoising=0.0, anywhere=0.0)
    rows = drawn_on_goals(learned) if teacher.goal_dim else drawn(learned, step=0)
    aims, moves = landing_target(learned.model, rows)
    expected = learned.denoised_target(rows)
    assert float(moves.mean()) > 0.6
    torch.testing.assert_close(moves * aims, moves * expected, atol=2e-3, rtol=2e-3)


def drawn_on_goals(objective: PlanJumpObjective) -> PlanJumpDraw:
    model = objective.model
    windows = PlanWindows(walks(rewards=False), model.state_keys, model.config)
    objective.prepare(0)
    return objective.draw(windows.gather(torch.arange(64)), torch.Generator().manual_seed(0))


@pytest.mark.parametrize("sampling", [DECISION, DRAFTED, replace(DRAFTED, add_noise=False)])
def test_one_call_learns_where_many_guided_ones_lead(sampling: PlannerSampling) -> None:
    teacher = tiny_planner()
    learned = objective(teacher, sampling, calls=(1,))
    kept = {name: value.clone() for name, value in learned.model.state_dict().items()}
    student = trained(learned)
    for name, value in learned.model.state_dict().items():
        assert name.startswith("denoiser") or torch.equal(value, kept[name])
    one, many = (replace(sampling, guidance=2.0, calls_per_step=num) for num in (1, STEPS))
    goal, found, untrained = (
        planned(*pair) for pair in ((teacher, many), (student, one), (teacher, one))
    )
    assert (found - goal).norm() < 0.6 * (untrained - goal).norm()


def test_a_weight_that_is_told_changes_the_plan_as_guidance_does() -> None:
    teacher = tiny_planner()
    student = trained(objective(teacher, guidance=(1.0, 4.0), calls=(1,)))
    wanted, found = {}, {}
    for weight in (1.0, 4.0):
        sampling = replace(DECISION, guidance=weight)
        wanted[weight] = planned(teacher, replace(sampling, calls_per_step=STEPS))
        found[weight] = planned(student, replace(sampling, calls_per_step=1))
    effects = [(plans[4.0] - plans[1.0]).flatten() for plans in (found, wanted)]
    assert torch.cosine_similarity(*effects, dim=0) > 0.8


@pytest.mark.parametrize("num", [1, 2])
def test_a_student_makes_so_many_calls_of_one_pass(
    num: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    student = guidance_student(tiny_planner(), (1.0, 4.0), jump=True)
    decision = Decision(student, replace(DECISION, update="ddim", guidance=3.0, calls_per_step=num))
    seen, denoise = [], student.denoiser.denoise

    def counted(x: Tensor, *others: Any) -> Tensor:
        seen.append(len(x))
        return denoise(x, *others)

    monkeypatch.setattr(student.denoiser, "denoise", counted)
    decision.program.run(inputs_of(decision, rows=3))
    assert seen == [3] * num


@pytest.mark.parametrize(("choices", "ends"), [({}, [0]), (GOAL, [0, -1])])
def test_what_is_known_of_a_plan_stays_bit_for_bit(
    choices: dict[str, Any], ends: list[int]
) -> None:
    teacher = tiny_planner(**choices)
    student = guidance_student(teacher, None if choices else 2.0, jump=True)
    for parameter in student.denoiser.parameters():
        parameter.data += 0.1
    for num in (1, 2, 4):
        sampling = replace(DECISION, guidance=2.0, update="ddim", calls_per_step=num)
        decision = Decision(student, sampling)
        with torch.no_grad():
            memory = decision.program.run(inputs_of(decision))
        assert torch.equal(memory[f"x_{num}"][..., ends, :], memory["x_0"][..., ends, :])
        assert not torch.equal(memory[f"x_{num}"], memory["x_0"])


def test_plans_of_the_teacher_depend_on_the_step_alone() -> None:
    """Not on the steps before, so that a resumed run learns from the same ones."""
    teacher = tiny_planner()
    through, begun = objective(teacher), objective(teacher)
    last, again = [drawn(through, step) for step in range(0, 120, 10)][-1], drawn(begun, 110)
    for name in ("x", "level", "next_level", "landed", "return_to_go"):
        assert torch.equal(getattr(last, name), getattr(again, name))
    assert not torch.equal(drawn(begun, 0).landed, again.landed)


def test_a_diffuser_s_student_plans_as_its_value_guides() -> None:
    teacher = tiny_planner(joint=True, value=True, prediction="sample")
    learned = objective(teacher, replace(DIFFUSER, value_scale=2.0), guidance=None, calls=(1,))
    chosen = replace(DIFFUSER, value_scale=2.0, candidates=1, select="first")
    guided, single = planned(teacher, chosen), replace(chosen, value_steps=0, calls_per_step=1)
    found = planned(trained(learned), single)
    unguided = planned(teacher, replace(chosen, value_steps=0))
    assert (found - guided).norm() < 0.7 * (unguided - guided).norm()


def stored(teacher: PlannerModel, sampling: PlannerSampling, folder: Path, kind: str) -> Path:
    save_checkpoint(folder, Checkpoint(kind, teacher, SPEC, sampling, {"task": "toy"}))
    return folder


def config(teacher: Path, output: Path, *overrides: str) -> TrainConfig:
    chosen = [f"distill.teacher={teacher}", f"output_dir={output}", "task.name=toy", *overrides]
    sizes = ["task=pointmaze-umaze", "steps=4", "save_every=2", "batch_size=8"]
    plans = ["distill.teacher_steps=4", "distill.num_plans=16", "distill.refresh_every=3"]
    base = ["policy=decision_diffuser", "distill.calls_per_step=[1,2]", *sizes, *plans]
    return compose("train", [*base, *chosen], TrainConfig)


def test_a_run_ends_in_a_planner_of_one_call_and_goes_on_bit_for_bit(tmp_path: Path) -> None:
    teacher = stored(tiny_planner(), DECISION, tmp_path / "teacher", "decision_diffuser")
    told = "distill.guidance_range=[1,4]"
    whole = train_on(config(teacher, tmp_path / "whole", told), walks(), SPEC)
    cut = config(teacher, tmp_path / "cut", told)
    train_on(replace(cut, steps=2), walks(), SPEC)
    again = train_on(replace(cut, resume=True), walks(), SPEC)
    student = load_checkpoint(whole)
    for name, value in load_checkpoint(again).model.state_dict().items():
        assert torch.equal(value, student.model.state_dict()[name]), name
    assert (student.sampling.calls_per_step, student.sampling.update) == (1, "ddim")
    assert student.model.config.distilled_guidance == (1.0, 4.0)
    for weight in (1.0, 2.5):
        student.policy({"guidance": weight, "calls_per_step": 2}).reset(np.array([0]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"guidance": 5.0}, r"guidance must be between 1 and 4, the weights .*, got 5;"),
        ({"update": "ddpm"}, r"update must be 'ddim' for this distilled planner"),
        ({"value_steps": 1}, r"value_steps must be 0 for this distilled planner"),
    ],
)
def test_a_student_refuses_what_it_has_not_learned(changes: dict[str, Any], message: str) -> None:
    student = guidance_student(tiny_planner(value=True), (1.0, 4.0), jump=True)
    sampling = replace(DECISION, update="ddim", guidance=2.0, calls_per_step=1)
    Planner(student, SPEC, sampling)
    with pytest.raises(ValueError, match=message):
        Planner(student, SPEC, replace(sampling, **changes))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["distill.calls_per_step=[1,3]"], r"3 calls do not fit the 4 steps of the teacher"),
        (["distill.guidance_range=[1,2]"], r"guidance_range must be two weights .*3 between"),
        (["distill.calls_per_step=[0]"], r"distill.calls_per_step must be at least 1, got 0"),
        (["distill.anywhere=0.97"], r"shares must sum to at most 1"),
        (
            ["policy=trajectory_diffuser", "policy.sampling.calls_per_step=0"],
            r"a planner is distilled where it denoises its drafts",
        ),
    ],
)
def test_runs_that_cannot_be_are_refused(
    overrides: list[str], message: str, tmp_path: Path
) -> None:
    kind = "trajectory_diffuser" if "trajectory" in overrides[0] else "decision_diffuser"
    teacher = stored(tiny_planner(), DECISION, tmp_path / "teacher", kind)
    with pytest.raises(ValueError, match=message):
        train_on(config(teacher, tmp_path / "run", *overrides), walks(), SPEC)


def test_a_teacher_of_one_call_has_only_its_guidance_to_distil() -> None:
    """What `hotloop distill` asks for unless it is told otherwise."""
    for kind, sampling, expected in (
        ("decision_diffuser", DECISION, (1, 2, 4)),
        ("trajectory_diffuser", DRAFTED, ()),
    ):
        assert default_calls(Checkpoint(kind, tiny_planner(), SPEC, sampling, {})) == expected


def test_drafts_enter_where_the_teacher_s_do(tmp_path: Path) -> None:
    """At the level from which it refines them in five calls, and its student in one."""
    sampling = replace(TRAJECTORY, calls_per_step=STEPS, reuse=0)
    teacher = stored(tiny_planner(), sampling, tmp_path / "teacher", "trajectory_diffuser")
    chosen = ["policy=trajectory_diffuser", "distill.calls_per_step=[1]"]
    run = train_on(config(teacher, tmp_path / "run", *chosen), walks(), SPEC)
    student = load_checkpoint(run).sampling
    assert (student.calls_per_step, student.draft_level) == (1, STEPS)
