"""Streaming segment distillation: an exact start, the right targets, the right samples."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tiny import SHAPES, SPEC, FakeNetwork, demonstrations, stream, tiny_model
from torch import Tensor

from hotloop.decoding.rolling import LevelMixture
from hotloop.decoding.samplers import apply_step, reverse, spaced_levels, step_coefficients
from hotloop.policies.diffusion.config import StreamingSampling
from hotloop.policies.diffusion.model import DiffusionModel
from hotloop.policies.diffusion.streaming import StreamingDiffusionPolicy
from hotloop.train.config.distill import JumpDistillConfig
from hotloop.train.data.episodes import Episodes
from hotloop.train.data.windows import Windows
from hotloop.train.distillation.student import student_of
from hotloop.train.objectives.denoising import DenoisingObjective
from hotloop.train.objectives.jumps import JumpDraw, landing_target
from hotloop.train.objectives.observed import Seen, see
from hotloop.train.objectives.segment import (
    JumpObjective,
    ladder_jumps,
    start_jumps,
    visit,
)

CONFIG = JumpDistillConfig(calls_per_step=(1, 2), teacher_steps=6, num_visits=64, refresh_every=2)


def objective_of(student: DiffusionModel, teacher: DiffusionModel, **choices: Any) -> JumpObjective:
    chunkwise = 0.8 if student.ladders else 0.0
    mixture = LevelMixture(student.config.horizon, 24, student.delayed_ladders, chunkwise)
    sizes = student.config.num_obs_steps, student.config.horizon
    windows = Windows(demonstrations(), tuple(SHAPES), *sizes)
    config = replace(CONFIG, **choices)
    return JumpObjective(
        student, teacher, DenoisingObjective(student, mixture), windows, config, seed=0
    )


def draw(objective: JumpObjective, num_samples: int = 64) -> JumpDraw:
    generator = torch.Generator().manual_seed(0)
    objective.prepare(0)
    current = torch.randint(len(objective._windows), (num_samples,), generator=generator)
    return objective.draw(objective._windows.gather(current), generator)


def moderate(model: DiffusionModel) -> DiffusionModel:
    """Keep the clean actions of a random network inside [-1, 1], so that nothing is clipped."""
    model.network.head.weight.data *= 0.1  # type: ignore[union-attr]
    model.network.head.bias.data *= 0.1  # type: ignore[union-attr]
    return model


def test_a_student_starts_as_an_exact_copy_of_its_teacher() -> None:
    teacher = tiny_model()
    student = student_of(teacher, seed=5)
    x, level, observation = torch.randn(8, 9, 2), torch.randint(1, 25, (8, 9)), torch.randn(8, 10)
    expected = teacher.predict(x, level, observation)
    for jump in (None, torch.zeros(8), torch.arange(8), torch.full((8,), 24)):
        assert torch.equal(student.predict(x, level, observation, jump), expected)
    plans = [
        stream(StreamingDiffusionPolicy(model, SPEC, StreamingSampling(4, 3)), [1, 2], 3)
        for model in (teacher, student)
    ]
    for one, other in zip(*plans, strict=True):
        np.testing.assert_array_equal(one.actions, other.actions)


def test_a_student_can_learn_to_listen_to_the_jump() -> None:
    student = student_of(tiny_model(), seed=5)
    x, level, observation = torch.randn(8, 9, 2), torch.randint(1, 25, (8, 9)), torch.randn(8, 10)
    student.predict(x, level, observation, torch.full((8,), 12)).square().mean().backward()
    gradient = student.network.jump_input.weight.grad  # type: ignore[union-attr]
    assert gradient.abs().max() > 0


def test_a_jump_of_one_level_is_ordinary_denoising_in_training_as_in_sampling() -> None:
    """It used to be trained as 1 / N and sampled as 0, which the network was never trained for."""
    student = tiny_model(jump=True)
    x, level, observation = torch.randn(4, 9, 2), torch.full((4, 9), 7), torch.randn(4, 10)
    trained = [student.predict(x, level, observation, torch.full((4,), n)) for n in (0, 1, 2)]
    assert torch.equal(trained[1], trained[0])
    assert not torch.allclose(trained[2], trained[0], atol=1e-4)
    told, embed_level = [], student.network.embed_level

    def listen(level: torch.Tensor, jump: torch.Tensor | None = None) -> torch.Tensor:
        told.append(float(jump))  # type: ignore[arg-type]
        return embed_level(level, jump)

    student.network.embed_level = listen  # type: ignore[method-assign]
    for calls, jump in ((12, 0), (6, 2)):
        told.clear()
        StreamingDiffusionPolicy(student, SPEC, StreamingSampling(4, calls, start="zero"))
        assert told == pytest.approx([jump / 24] * calls)


def test_one_step_of_the_teacher_itself_is_already_learnt() -> None:
    """With one integration step the target is the teacher's own prediction: the loss is zero."""
    teacher = moderate(tiny_model())
    objective = objective_of(student_of(teacher, 0), teacher, teacher_steps=1, denoising=0.0)
    with torch.no_grad():
        assert objective(draw(objective)) < 1e-9
    finer = objective_of(student_of(teacher, 0), teacher, teacher_steps=6, denoising=0.0)
    assert finer(draw(finer)) > 1e-5


@pytest.mark.parametrize("num_calls", [1, 2])
def test_the_target_lands_where_the_teacher_lands(num_calls: int) -> None:
    teacher = moderate(tiny_model(ladders=("4x2",)))
    objective = objective_of(student_of(teacher, 0), teacher, denoising=0.0)
    ladder = teacher.ladders[0]
    for jump in (*ladder_jumps(ladder, num_calls), *start_jumps(ladder, num_calls)):
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(5, 9, 2, generator=generator)
        observation = torch.randn(5, 10, generator=generator)
        fine = [jump.level - i * (jump.level - jump.next_level) // 6 for i in range(7)]
        landed = reverse(
            lambda x, k, o=observation: teacher.predict(x, k, o),
            x,
            fine,
            teacher.schedule,
            "sample",
        )
        ends = [torch.from_numpy(one).expand(5, -1) for one in (jump.level, jump.next_level)]
        seen = Seen(observation.unflatten(1, (2, 5)))
        rows = JumpDraw(x, seen, torch.zeros_like(x), *ends)
        target, weight = landing_target(
            teacher.schedule, x, objective._landed(rows), rows.level, rows.next_level
        )
        assert weight.min() == 1
        step = step_coefficients(teacher.schedule, *jump, "sample", "ddim")
        torch.testing.assert_close(apply_step(x, target, step), landed, rtol=0, atol=2e-5)


def test_jumps_of_an_untrained_student_are_ddim_steps_of_its_teacher() -> None:
    """K jumps of 1 / K with the teacher as student are K-step DDIM, from pure noise to clean."""
    teacher = tiny_model(ladders=("4x2",))
    student, x = student_of(teacher, 0), torch.randn(3, 9, 2)
    observation = torch.randn(3, 10)
    for num_calls in (1, 3):
        state = x
        for jump in start_jumps(teacher.ladders[0], num_calls):
            size = torch.full((3,), int((jump.level - jump.next_level).max()))
            step = step_coefficients(student.schedule, *jump, "sample", "ddim")
            level = torch.from_numpy(jump.level).expand(3, -1)
            state = apply_step(state, student.predict(state, level, observation, size), step)
        levels = [np.full(9, k) for k in spaced_levels(24, 0, 2 * num_calls)]
        expected = reverse(
            lambda x, k: teacher.predict(x, k, observation), x, levels, teacher.schedule, "sample"
        )
        torch.testing.assert_close(state, expected)


def test_samples_are_shared_out_between_denoising_start_ladders_and_visited_buffers() -> None:
    teacher = tiny_model(ladders=("4x2", "2x4"))
    shares = {"denoising": 0.1, "start": 0.2, "visited": 0.3}
    objective = objective_of(student_of(teacher, 0), teacher, **shares)
    inputs = draw(objective, 4000)
    level, next_level = inputs.level.numpy(), inputs.next_level.numpy()
    jumps = {
        name: {(tuple(jump.level), tuple(jump.next_level)) for jump in pool}
        for name, pool in (("start", objective._start_jumps), ("ladder", objective._ladder_jumps))
    }
    pairs = [(tuple(a), tuple(b)) for a, b in zip(level.tolist(), next_level.tolist(), strict=True)]
    denoising = [start == end for start, end in pairs]
    assert np.mean(denoising) == pytest.approx(0.1, abs=0.02)
    assert np.mean([pair in jumps["start"] for pair in pairs]) == pytest.approx(0.2, abs=0.02)
    assert np.mean([pair in jumps["ladder"] for pair in pairs]) == pytest.approx(0.7, abs=0.02)
    visited = set(map(bytes, objective._visited.x.numpy()))  # type: ignore[union-attr]
    share = np.mean([bytes(x) in visited for x in inputs.x.numpy()])
    assert share == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize("denoising", [0.0, 1.0])
def test_committed_actions_have_no_weight(denoising: float) -> None:
    """They are given, in jumps as in ordinary denoising."""
    output = torch.full((64, 11, 2), 0.5, requires_grad=True)
    network = FakeNetwork(24, lambda x, level, observation: output[: len(x)])
    choices: dict[str, Any] = {"horizon": 11, "ladders": ("4x2",), "max_latency": 2}
    teacher, student = tiny_model(**choices), tiny_model(**choices, network=network)
    shares = {"denoising": denoising, "start": 0.0, "visited": 0.4 * (1 - denoising)}
    objective = objective_of(student, teacher, **shares)
    inputs = draw(objective)
    objective(inputs).backward()
    committed = (inputs.level == 0)[..., None].expand_as(output)
    assert committed.any()
    assert output.grad is not None
    assert (output.grad[committed] == 0).all()
    assert (output.grad[:, :1] != 0).all()
    where = committed[..., 0]
    assert torch.equal(inputs.x[where], inputs.clean[where]) == (denoising == 1.0)


def test_positions_that_stay_pure_noise_have_no_weight() -> None:
    """Positions beyond the last chunk do not move in a jump, so they must not be regressed on."""
    output = torch.full((12, 2), 0.5, requires_grad=True)
    network = FakeNetwork(24, lambda x, level, observation: output.expand_as(x))
    teacher = tiny_model(horizon=12, ladders=("4x2",))
    student = tiny_model(horizon=12, ladders=("4x2",), network=network)
    objective = objective_of(student, teacher, denoising=0.0, start=0.0)
    objective(draw(objective)).backward()
    assert output.grad is not None
    assert (output.grad[9:] == 0).all()
    assert (output.grad[:9] != 0).all()


@pytest.mark.parametrize("latency", [0, 2])
def test_visited_buffers_belong_to_the_observation_they_are_kept_with(latency: int) -> None:
    """A student that recalls the demonstration leaves buffers of exactly the ladder's noise.

    Each stands around the window of its own observation, past slots included, so streaming along
    the demonstrations advances both by one chunk.
    """
    steps = np.arange(400)
    waves = np.stack([np.sin(0.5 * steps), np.cos(0.6 * steps)], axis=1)
    actions = (waves * [2, 3] + [-1, 2]).astype(np.float32)
    observations = {key: np.tile(steps[:, None], (1, *s)) for key, s in SHAPES.items()}
    windows = Windows(Episodes(observations, actions, np.array([400])), tuple(SHAPES), 3, 12)

    def recall(x: Tensor, level: Tensor, observation: Tensor) -> Tensor:
        now = (observation.unflatten(1, (3, -1))[:, -1, 0] * 100).round().long()
        return model.action_normalizer(windows.gather(now).actions)

    model = tiny_model(
        horizon=12, num_obs_steps=3, ladders=("4x2",), network=FakeNetwork(24, recall)
    )
    model.observation_normalizer.scale.fill_(0.01)
    ladder = model.ladders[0].delayed(latency)
    visits = visit(model, windows, [ladder], 1500, torch.Generator().manual_seed(0))
    assert torch.equal(visits.level[0], torch.from_numpy(ladder.levels()))
    assert torch.equal(visits.next_level[0], torch.from_numpy(ladder.levels(12)))
    observation = see(model, windows.gather(visits.current), None).context(model)
    clean = recall(visits.x, visits.level, observation)
    signal, sigma = model.schedule.signal(visits.level), model.schedule.sigma(visits.level)
    now = observation.unflatten(1, (3, -1))[:, -1, 0] * 100
    inside = (now > 10) & (now < 390)  # episodes end: repeated steps differ from executed ones
    error, committed = (visits.x - signal[..., None] * clean)[inside], ladder.levels() == 0
    np.testing.assert_allclose(error[:, committed], 0, atol=1e-6)
    noise = error[:, ~committed] / sigma[inside][:, ~committed, None]
    np.testing.assert_allclose(noise.mean(0), 0, atol=0.12)
    np.testing.assert_allclose(noise.var(0), 1, atol=0.15)


@pytest.mark.parametrize("prediction", ["epsilon", "velocity"])
def test_a_teacher_may_predict_noise_or_velocity(prediction: str) -> None:
    """Its student aims at clean actions that take it to where the teacher lands."""
    teacher = tiny_model(prediction=prediction)
    objective = objective_of(student_of(teacher, 0), teacher, denoising=0.0)
    inputs = draw(objective)
    target, moves = landing_target(
        teacher.schedule, inputs.x, objective._landed(inputs), inputs.level, inputs.next_level
    )
    before = float(objective(inputs).detach())
    assert before > 0 and torch.isfinite(target).all() and moves.any()
    optimizer = torch.optim.Adam(objective.model.parameters(), 3e-3)
    for _ in range(30):
        optimizer.zero_grad()
        objective(inputs).backward()
        optimizer.step()
    assert float(objective(inputs).detach()) < 0.8 * before


def test_a_model_without_ladders_cannot_be_distilled() -> None:
    teacher = tiny_model(ladders=())
    with pytest.raises(ValueError, match=r"distillation needs .* ladder"):
        objective_of(student_of(teacher, 0), teacher)


def test_shares_must_leave_no_sample_with_two_purposes() -> None:
    teacher = tiny_model()
    with pytest.raises(ValueError, match=r"denoising 0\.5, start 0\.3 and visited 0\.4"):
        objective_of(student_of(teacher, 0), teacher, denoising=0.5, start=0.3, visited=0.4)
