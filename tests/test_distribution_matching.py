"""Distribution matching: where it pushes samples, and that a run of it resumes."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from benchmarks import toy_obstacle, toy_runs
from tiny import constant_network, tiny_model
from torch import Tensor

from hotloop.policies.checkpoint import load_checkpoint
from hotloop.policies.diffusion.model import DiffusionModel
from hotloop.train.config.distill import DistributionMatchingConfig
from hotloop.train.objectives.distribution_matching import (
    DistributionMatchingObjective,
    MatchingDraw,
    StudentAndCritic,
)
from hotloop.train.objectives.flow_map import LandingDraw
from hotloop.train.objectives.observed import Seen


class NoAnchor:
    """An anchor that weighs nothing."""

    def __call__(self, inputs: LandingDraw) -> Tensor:
        return torch.zeros(())


def gradient(teacher: DiffusionModel, critic: DiffusionModel) -> list[Tensor]:
    """Of distribution matching alone, by the student's parameters."""
    student = tiny_model(ladders=(), jump=True).requires_grad_(True)
    both = StudentAndCritic(student, critic)
    config = DistributionMatchingConfig("teacher", matching=1.0, calls_per_step=(1, 2))
    objective = DistributionMatchingObjective(both, teacher, NoAnchor(), config)  # type: ignore
    generator = torch.Generator().manual_seed(0)
    num, shape = 16, student.window_shape
    x = torch.randn(num, *shape, generator=generator)
    level = torch.full((num, shape[0]), 12)
    seen = Seen(torch.randn(num, 2, 5, generator=generator))
    objective(
        MatchingDraw(
            LandingDraw(x, seen, x, level, level, x),
            start=x,
            calls=torch.tensor([1, 2]).repeat(num // 2),
            level=level[:, None].expand(-1, 2, -1),
            noise=torch.randn(num, 2, *shape, generator=generator),
        )
    ).backward()
    head = dict(student.named_parameters(prefix="model"))
    found = [head[f"model.network.head.{name}"].grad for name in ("weight", "bias")]
    return [one for one in found if one is not None]


def test_a_critic_that_agrees_with_the_teacher_pushes_nothing() -> None:
    teacher = tiny_model(ladders=())
    weights, bias = gradient(teacher, copy.deepcopy(teacher))
    assert not weights.any() and not bias.any()


@pytest.mark.parametrize(("teacher", "critic", "sign"), [(0.3, -0.3, -1), (-0.3, 0.3, 1)])
def test_samples_go_from_where_the_critic_sees_them_to_where_the_teacher_does(
    teacher: float, critic: float, sign: int
) -> None:
    models = (
        tiny_model(ladders=(), network=constant_network(24, value)) for value in (teacher, critic)
    )
    _, bias = gradient(*models)
    assert (bias.sign() == sign).all()


def test_a_run_resumes_with_its_critic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOTLOOP_CACHE", str(tmp_path / "cache"))
    data = toy_obstacle.demonstrations(64)
    config = replace(toy_runs.teacher_config(2, 0, tmp_path / "teacher"), batch_size=8)
    teacher = toy_runs.run(config, data, toy_obstacle.SPEC)
    weights = []
    for name, stops in (("whole", (4,)), ("ended", (2, 4))):
        for steps in stops:
            run = toy_runs.student_config(
                config,
                teacher.checkpoint,
                "distribution-matching",
                tmp_path / name,
                steps=4,
                num_trajectories=16,
                solver_steps=4,
                num_points=4,
            )
            run = replace(run, save_every=2, resume=steps != stops[0])
            if steps < 4:
                with pytest.raises(KeyboardInterrupt), monkeypatch.context() as patch:
                    _end_after(patch, steps)
                    toy_runs.train_on(run, data, toy_obstacle.SPEC)
            else:
                toy_runs.train_on(run, data, toy_obstacle.SPEC)
        checkpoint = load_checkpoint(tmp_path / name / "checkpoints" / "last")
        weights.append(checkpoint.model.state_dict())
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def _end_after(patch: pytest.MonkeyPatch, steps: int) -> None:
    draw = DistributionMatchingObjective.draw
    drawn: list[None] = []

    def ended(self: DistributionMatchingObjective, *args: object) -> MatchingDraw:
        if len(drawn) == steps:
            raise KeyboardInterrupt
        drawn.append(None)
        return draw(self, *args)  # type: ignore[arg-type]

    patch.setattr(DistributionMatchingObjective, "draw", ended)
