"""Flow-map and consistency distillation: exact where the teacher is exact, and it learns."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_distill import moderate
from tiny import SHAPES, FakeNetwork, demonstrations, tiny_model

from hotloop.decoding.samplers import apply_step, reverse, spaced_levels, step_coefficients
from hotloop.policies.diffusion.model import DiffusionModel
from hotloop.train.config.distill import (
    ConsistencyConfig,
    FlowMapConfig,
    TrajectoryDistillConfig,
)
from hotloop.train.data.windows import Windows
from hotloop.train.distillation import bank as banks
from hotloop.train.distillation.bank import kept_levels, make_bank
from hotloop.train.distillation.student import student_of
from hotloop.train.distillation.trajectories import TrajectoryWindows
from hotloop.train.objectives.consistency import ConsistencyObjective
from hotloop.train.objectives.flow_map import FlowMapObjective, LandingDraw, jump
from hotloop.train.objectives.jumps import landing_target

CONFIG = FlowMapConfig(num_trajectories=300, num_points=4, solver_steps=4, denoising=0.0)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOTLOOP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "trajectories"


def windows_of(model: DiffusionModel) -> Windows:
    return Windows(
        demonstrations(), tuple(SHAPES), model.config.num_obs_steps, model.config.horizon
    )


def trajectories_of(
    teacher: DiffusionModel, config: TrajectoryDistillConfig, noise: float = 0.0
) -> TrajectoryWindows:
    windows = windows_of(teacher)
    return TrajectoryWindows(make_bank(teacher, windows, config, noise, seed=0), windows)


def objective_of(teacher: DiffusionModel, **choices: Any) -> FlowMapObjective:
    config = replace(CONFIG, **choices)
    windows = trajectories_of(teacher, config)
    return FlowMapObjective(student_of(teacher, 0), teacher, windows, config, seed=0)


def draw(objective: FlowMapObjective, num: int = 300) -> LandingDraw:
    generator = torch.Generator().manual_seed(0)
    objective.prepare(0)
    batch = objective._windows.gather(torch.randint(300, (num,), generator=generator))
    return objective.draw(batch, generator)


def test_a_landing_and_its_target_are_inverse() -> None:
    schedule, generator = tiny_model().schedule, torch.Generator().manual_seed(0)
    x, clean = (torch.randn(50, 9, 2, generator=generator) for _ in range(2))
    level = torch.randint(2, 25, (50, 9), generator=generator)
    later = level - 1 - (torch.rand(50, 9, generator=generator) * (level - 1)).long()
    step = step_coefficients(schedule, level.numpy(), later.numpy(), "sample", "ddim")
    landed = apply_step(x, clean, step, clip=None)
    target, moves = landing_target(schedule, x, landed, level, later)
    torch.testing.assert_close(target, clean, atol=2e-4, rtol=0)
    assert moves.min() == 1
    there = later == 0
    torch.testing.assert_close(landed[there], clean[there])


def test_jumps_from_point_to_point_are_ddim_with_the_teacher_as_student() -> None:
    """So an untrained student has nothing to learn, and each kept point is its own call's end."""
    teacher = moderate(tiny_model(ladders=()))
    objective = objective_of(teacher, calls_per_step=(4,), any_jump=0.0)
    inputs = draw(objective)
    assert float(objective(inputs).detach()) < 1e-10
    bank = objective._windows.bank
    states = torch.from_numpy(bank.states)
    context = torch.from_numpy(bank.vectors).flatten(1)
    x = states[:, 0]
    for index, (begin, end) in enumerate(pairwise(bank.levels.tolist())):
        x = jump(objective.model, context, x, begin, end)
        torch.testing.assert_close(x, states[:, index + 1])


def test_a_teacher_whose_paths_are_known_leaves_nothing_to_learn() -> None:
    """It says the same clean actions everywhere: then every jump of the student is exact."""
    network = FakeNetwork(24, lambda x, level, observation: torch.full_like(x, 0.3))
    teacher = tiny_model(ladders=(), network=network)
    windows = trajectories_of(teacher, CONFIG)
    torch.testing.assert_close(
        torch.from_numpy(windows.bank.states[:, -1]), torch.full((300, 9, 2), 0.3)
    )
    student = tiny_model(ladders=(), jump=True, network=network)
    flow_map = FlowMapObjective(student, teacher, windows, replace(CONFIG, visited=0.5), seed=0)
    generator = torch.Generator().manual_seed(0)
    flow_map.prepare(0)
    batch = windows.gather(torch.arange(300))
    assert float(flow_map(flow_map.draw(batch, generator)).detach()) < 1e-9
    for target in ("segment", "any"):
        config = ConsistencyConfig(num_trajectories=300, num_points=4, solver_steps=4, denoising=0)
        config = replace(config, target=target)
        consistency = ConsistencyObjective(student, windows, config)
        assert float(consistency(consistency.draw(batch, generator)).detach()) < 1e-9


def test_a_jump_that_ends_at_the_next_point_must_land_there() -> None:
    """Other jumps must land where the student lands from that point by itself."""
    teacher = tiny_model(ladders=())
    config = ConsistencyConfig(
        num_trajectories=300, num_points=8, solver_steps=8, denoising=0.0, calls_per_step=(2,)
    )
    windows = trajectories_of(teacher, config)
    objective = ConsistencyObjective(student_of(teacher, 0), windows, config)
    rows = torch.arange(300)
    inputs = objective.draw(windows.gather(rows), torch.Generator().manual_seed(0))
    assert set(inputs.next_level[:, 0].tolist()) == {12, 0}
    assert ((inputs.level - inputs.later_level) == 3).all()
    landed = objective._landed(inputs)
    ends = (inputs.later_level == inputs.next_level)[:, 0]
    assert ends.any() and not ends.all()
    states = torch.from_numpy(windows.bank.states)
    at = torch.where(inputs.next_level[:, 0] == 12, 4, 8)
    torch.testing.assert_close(landed[ends], states[rows, at][ends])
    for row in (~ends).nonzero()[:5, 0]:
        context = inputs.seen.context(teacher)[row : row + 1]
        levels = int(inputs.later_level[row, 0]), int(inputs.next_level[row, 0])
        alone = jump(objective.model, context, inputs.later[row : row + 1], *levels)
        torch.testing.assert_close(landed[row : row + 1], alone)


def test_samples_are_shared_out_between_calls_any_jumps_visits_and_denoising() -> None:
    teacher = tiny_model(ladders=())
    shares = {"denoising": 0.2, "any_jump": 0.2, "visited": 0.2, "num_visits": 40}
    objective = objective_of(teacher, calls_per_step=(1, 2), num_points=8, **shares)
    inputs = draw(objective, 6000)
    begin, end = inputs.level[:, 0].numpy(), inputs.next_level[:, 0].numpy()
    assert np.mean(begin == end) == pytest.approx(0.2, abs=0.02)
    known = {bytes(x) for x in objective._windows.bank.states.reshape(-1, 9, 2)}
    jumps = begin > end
    visited = jumps & np.array([bytes(x) not in known for x in inputs.x.numpy()])
    assert visited.mean() == pytest.approx(0.2, abs=0.02)
    assert set(zip(begin[visited], end[visited], strict=True)) == {(12, 0)}
    # Of 1 and 2 calls 2/3 and 1/3, the latter in two jumps; of any jump 1 in 36.
    shares_of = {(24, 0): 2 / 3, (24, 12): 1 / 6, (12, 0): 1 / 6, (24, 3): 0}
    teachers = jumps & ~visited
    for (first, last), share in shares_of.items():
        found = np.mean((begin == first) & (end == last) & teachers)
        assert found == pytest.approx(0.4 * share + 0.2 / 36, abs=0.02), (first, last)


def test_visited_points_are_the_students_and_labelled_by_the_teacher() -> None:
    teacher = tiny_model(ladders=())
    objective = objective_of(teacher, calls_per_step=(1, 2), visited=1.0, any_jump=0.0)
    with torch.no_grad():
        for parameter in objective.model.network.parameters():
            parameter.mul_(0.5)
    objective.prepare(0)
    visited = objective._visited
    assert visited is not None and len(visited.x) == CONFIG.num_visits
    context = visited.seen.context(teacher)
    landed = reverse(
        lambda x, k: teacher.predict(x, k, context),
        visited.x,
        [np.full(9, 12), np.full(9, 6), np.full(9, 0)],
        teacher.schedule,
        "sample",
    )
    torch.testing.assert_close(visited.landed, landed)


@pytest.mark.parametrize(("prediction", "gain"), [("epsilon", 0.0), ("velocity", -1.0)])
def test_a_student_predicts_clean_actions_with_its_teachers_weights(
    prediction: str, gain: float
) -> None:
    """All but the last layer's, which would say noise: near pure noise, -v are the actions."""
    teacher = tiny_model(ladders=(), prediction=prediction)
    student = student_of(teacher, 0)
    assert student.config.prediction == "sample"
    stored = student.state_dict()
    for key, value in teacher.state_dict().items():
        last = key.startswith("network.head")
        assert torch.equal(stored[key], gain * value if last else value), key
    bank = make_bank(teacher, windows_of(teacher), CONFIG, 0.0, seed=0)
    context = torch.from_numpy(bank.vectors).flatten(1)
    landed = reverse(
        lambda x, k: teacher.predict(x, k, context),
        torch.from_numpy(bank.states[:, 0]),
        [np.full(9, level) for level in spaced_levels(24, 0, 4)],
        teacher.schedule,
        prediction,
    )
    torch.testing.assert_close(torch.from_numpy(bank.states[:, -1]), landed)


def test_a_bank_is_made_once_and_belongs_to_what_it_was_made_from(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = tiny_model(ladders=())
    bank = make_bank(teacher, windows_of(teacher), CONFIG, 0.1, seed=0)
    assert sorted(np.bincount(bank.current).tolist())[:1] == [1], "all windows begin alike"
    others = [
        make_bank(
            tiny_model(ladders=(), prediction="epsilon"), windows_of(teacher), CONFIG, 0.1, 0
        ),
        make_bank(teacher, windows_of(teacher), CONFIG, 0.0, seed=0),
        make_bank(teacher, windows_of(teacher), CONFIG, 0.1, seed=1),
    ]
    for other in others:
        assert not np.array_equal(other.states, bank.states)
    assert sum(path.is_dir() for path in cache.iterdir()) == 4
    monkeypatch.setattr(banks, "integrate", None)
    again = make_bank(teacher, windows_of(teacher), CONFIG, 0.1, seed=0)
    assert np.array_equal(again.states, bank.states)
    jitter = bank.vectors - others[1].vectors
    assert jitter.std() == pytest.approx(0.1, rel=0.05)


def test_kept_points_hold_the_ends_of_all_calls() -> None:
    assert kept_levels(24, 3, (1, 2)).tolist() == [24, 16, 12, 8, 0]
    assert kept_levels(100, 8, (3,)).tolist() == [100, 88, 75, 67, 62, 50, 38, 33, 25, 12, 0]
