"""Inference takes time: a buffer behind the actions that are carried out meanwhile."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import SHAPES, SPEC, FakeNetwork, demonstrations, normalised, observe, support, tiny_model
from torch import Tensor

from hotloop.decoding import ActionTrajectory, Executor
from hotloop.decoding.conformance import PolicyConformance
from hotloop.decoding.rolling import Ladder, LevelMixture
from hotloop.decoding.samplers import reverse
from hotloop.policies.diffusion.config import StreamingSampling
from hotloop.policies.diffusion.model import DiffusionModel, denoising_loss
from hotloop.policies.diffusion.streaming import StreamingDiffusionPolicy
from hotloop.policies.programs.rows import RowNoise
from hotloop.train.config.policies import PolicyConfig
from hotloop.train.data.windows import Windows
from hotloop.train.families.diffusion import level_mixture
from hotloop.train.objectives.denoising import DenoisingObjective

MAX_LATENCY = 3
ZERO = StreamingSampling(num_execute=4, calls_per_step=2, start="zero")
# Chunks longer and shorter than the latency, and past slots that reach behind both.
every_shape = pytest.mark.parametrize(
    ("num_execute", "latency", "num_obs_steps"), [(4, 3, 2), (2, 3, 2), (1, 1, 6), (2, 0, 6)]
)


def late_model(num_obs_steps: int = 2, network: FakeNetwork | None = None) -> DiffusionModel:
    """A model with room for three committed actions beside its chunks."""
    return tiny_model(
        horizon=num_obs_steps - 1 + 8 + MAX_LATENCY,
        num_obs_steps=num_obs_steps,
        max_latency=MAX_LATENCY,
        network=network,
    )


class TestLatePolicyContract(PolicyConformance):
    @pytest.fixture(params=["zero", "denoise"])
    def policy(self, request: pytest.FixtureRequest) -> StreamingDiffusionPolicy:
        return StreamingDiffusionPolicy(late_model(), SPEC, replace(ZERO, start=request.param))


def plan_late(
    policy: StreamingDiffusionPolicy, first: list[int], latency: list[int], num_obs_steps: int = 2
) -> ActionTrajectory:
    """Plan for steps `first` of rows 0, 1, ... from observations that many steps older."""
    observed = np.subtract(first, latency)
    observation = observe(observed, np.arange(len(first)), num_obs_steps)
    return policy.plan(observation, np.array(first))


def newest(step: int) -> dict[str, np.ndarray]:
    """The frame of one row at one step."""
    return {key: frames[:, -1] for key, frames in observe([step], np.array([0])).frames.items()}


@pytest.mark.parametrize("latency", range(MAX_LATENCY + 1))
def test_committed_actions_push_the_chunks_back_and_change_nothing_else(latency: int) -> None:
    plain = Ladder(9, 1, 4, 2, 24)
    late = Ladder(9 + latency, 1, 4, 2, 24).delayed(latency)
    for progress in (0, 5, 12):
        past, chunks = np.split(plain.levels(progress), [1])
        expected = np.concatenate([past, np.zeros(latency), chunks])
        np.testing.assert_array_equal(late.levels(progress), expected)


def test_committed_actions_must_fit_the_window_beside_the_chunks() -> None:
    with pytest.raises(ValueError, match=r"do not fit the 7 .* and 1 committed actions"):
        tiny_model(horizon=9, max_latency=1)
    with pytest.raises(ValueError, match=r"max_latency must be .* 0 without ladders .* got 1"):
        tiny_model(ladders=(), max_latency=1)
    with pytest.raises(ValueError, match=r"max_latency must be at least 0.* got -1"):
        tiny_model(max_latency=-1)


def test_training_without_latency_is_what_it_was() -> None:
    """The same draws, and the plain mean of squared errors."""
    model = tiny_model()
    mixture = level_mixture(PolicyConfig(model=model.config, chunkwise=0.8), model)
    assert mixture == LevelMixture(9, 24, model.ladders, chunkwise=0.8)
    generator = torch.Generator().manual_seed(0)
    observation, clean = torch.randn(2, 64, 10, generator=generator), torch.randn(64, 9, 2)
    level, noise = mixture.draw(64, generator), torch.randn(64, 9, 2, generator=generator)
    output = model.predict(model.schedule.add_noise(clean, noise, level), level, observation[0])
    loss = denoising_loss(model, observation[0], clean, level, noise)
    torch.testing.assert_close(loss, torch.nn.functional.mse_loss(output, clean), rtol=0, atol=0)


def test_training_with_latency_visits_every_ladder_at_every_latency() -> None:
    model = late_model()
    mixture = level_mixture(PolicyConfig(model=model.config, chunkwise=1.0), model)
    levels = mixture.draw(20_000, torch.Generator().manual_seed(0)).numpy()
    assert {tuple(level) for level in levels.tolist()} == support(model.delayed_ladders)
    committed = (levels == 0).sum(axis=1)
    shares = np.bincount(committed) / len(levels)
    np.testing.assert_allclose(shares, np.full(MAX_LATENCY + 1, 0.25), atol=0.015)


def test_training_shows_committed_actions_as_they_are_and_does_not_ask_for_them() -> None:
    wrong = torch.zeros((64, 12, 2), requires_grad=True)
    network = FakeNetwork(24, lambda x, level, observation: wrong)
    model = late_model(network=network)
    mixture = level_mixture(PolicyConfig(model=model.config, chunkwise=1.0), model)
    windows = Windows(demonstrations(), tuple(SHAPES), 2, 12)
    objective = DenoisingObjective(model, mixture)
    inputs = objective.draw(windows.gather(torch.arange(64)), torch.Generator().manual_seed(0))
    objective(inputs).backward()
    committed = inputs.level[:, 0].numpy() == 0  # one draw of each window
    assert committed.sum() > 64
    seen, clean = network.calls[0].x, inputs.clean.numpy()
    np.testing.assert_array_equal(seen[committed], clean[committed])
    assert wrong.grad is not None
    assert (wrong.grad.numpy()[committed] == 0).all()
    assert (wrong.grad.numpy()[~committed] != 0).mean() > 0.99


def naive_chunks(
    model: DiffusionModel, plans: list[tuple[int, int]], num_execute: int, seed: int
) -> list[np.ndarray]:
    """Chunks of one row, for plans (first step, latency), with plain calls on whole windows."""
    noise, size = RowNoise(), SPEC.size
    noise.reset(np.array([seed]), None)
    num_past, horizon = model.num_past, model.config.horizon

    def draw(*shape: int) -> Tensor:
        return torch.from_numpy(noise.draw(np.array([0]), shape))

    def noised(clean: Tensor, level: np.ndarray, fresh: Tensor) -> Tensor:
        return model.schedule.add_noise(clean, fresh, torch.from_numpy(level)[None])

    plain, chunks = model.ladder(num_execute), []
    past_level = np.full(num_past, plain.levels_per_step)
    executed = torch.zeros(1, num_past, size)  # of the start buffer
    x = noised(torch.zeros(1, horizon, size), plain.levels(), draw(horizon, size))
    for first, latency in plans:
        ladder = plain.delayed(latency)
        if latency:
            known = executed[:, executed.shape[1] - num_past - latency :]
            past = noised(known[:, :num_past], past_level, draw(num_past, size))
            left = x[:, num_past : horizon - latency]
            x = torch.cat([past, known[:, num_past:], left], dim=1)
        frames = observe([first - latency], np.array([0]), num_past + 1).frames
        condition = model.flatten({key: torch.from_numpy(value) for key, value in frames.items()})
        x = reverse(
            lambda x, k, o=condition: model.predict(x, k, o),
            x,
            ladder.control_step(2),
            model.schedule,
            "sample",
        )
        begin, end = num_past + latency, num_past + latency + num_execute
        chunks.append(x[:, begin:end].clamp(-1, 1))
        executed = torch.cat([executed, chunks[-1]], dim=1)
        fresh = draw(num_past + latency + num_execute, size)
        past = noised(executed[:, -num_past:], past_level, fresh[:, :num_past])
        x = torch.cat([past, x[:, end:], fresh[:, num_past:]], dim=1)
    return [chunk[0].numpy() for chunk in chunks]


@every_shape
def test_a_late_plan_is_what_naive_network_calls_give(
    num_execute: int, latency: int, num_obs_steps: int
) -> None:
    model = late_model(num_obs_steps)
    policy = StreamingDiffusionPolicy(model, SPEC, replace(ZERO, num_execute=num_execute))
    policy.reset(np.array([7]))
    plans = [(num_execute * i, min(latency, num_execute * i)) for i in range(7)]
    expected = naive_chunks(model, plans, num_execute, seed=7)
    for (first, late), chunk in zip(plans, expected, strict=True):
        plan = plan_late(policy, [first], [late], num_obs_steps)
        actual = normalised(model, plan.actions[0, late : late + num_execute])
        np.testing.assert_allclose(actual, chunk, atol=3e-5)
        np.testing.assert_array_equal(plan.first_step, [first - late])
        np.testing.assert_array_equal(plan.num_ready, [late + num_execute])


@every_shape
@pytest.mark.parametrize("start", ["zero", "denoise"])
def test_every_action_is_the_one_demonstrated_for_its_step(
    start: str, num_execute: int, latency: int, num_obs_steps: int
) -> None:
    """The network recalls a demonstration from the observed step on.

    Were the chunks where they are without latency, the robot would lag behind it.
    """
    steps, num_past = np.arange(60), num_obs_steps - 1
    demo = np.stack([np.sin(0.3 * steps), np.cos(0.5 * steps)], axis=-1).astype(np.float32)

    def recall(x: Tensor, level: Tensor, observation: Tensor) -> Tensor:
        now = (observation.unflatten(1, (num_obs_steps, -1))[:, -1, 0] * 100).round().long()
        window = now[:, None] + torch.arange(x.shape[1]) - num_past
        return torch.from_numpy(demo)[window.clamp(0)]

    network = FakeNetwork(24, recall)
    model = late_model(num_obs_steps, network)
    model.observation_normalizer.scale.fill_(0.01)
    sampling = replace(ZERO, num_execute=num_execute, start=start)
    executor = Executor(StreamingDiffusionPolicy(model, SPEC, sampling), latency=latency)
    executor.reset([0, 1])
    for step in range(20):
        frame = {key: np.full((2, *shape), step, np.float32) for key, shape in SHAPES.items()}
        actions = normalised(model, executor.act(frame).astype(np.float32))
        np.testing.assert_allclose(actions, np.tile(demo[step], (2, 1)), atol=1e-5)
    assert (network.calls[-1].level == 0).sum() == 2 * latency


@pytest.mark.parametrize("num_execute", [1, 2, 4])
def test_what_the_executor_hands_out_meanwhile_is_what_the_policy_is_shown(
    num_execute: int,
) -> None:
    """To the bit in the plan, and up to the rounding of a change of units in the network."""
    model = late_model()
    policy = StreamingDiffusionPolicy(model, SPEC, replace(ZERO, num_execute=num_execute))
    planned, plan = [], policy.plan

    def watch(*arguments: object) -> ActionTrajectory:
        planned.append(plan(*arguments))  # type: ignore[arg-type]
        return planned[-1]

    policy.plan = watch  # type: ignore[method-assign]
    executor, executed = Executor(policy, latency=MAX_LATENCY), []
    executor.reset([5])
    for step in range(24):
        executed.append(executor.act(newest(step))[0])
    late = [one for one in planned if one.observed_step[0] + MAX_LATENCY < 24]
    assert len(late) > 4
    for one in late:
        first, num_ready = int(one.first_step[0]), int(one.num_ready[0])
        assert first == one.observed_step[0]
        known = np.array(executed[first : first + num_ready])
        np.testing.assert_array_equal(one.actions[0, : len(known)], known.astype(np.float32))


def test_rows_of_different_latency_plan_as_they_would_alone() -> None:
    latencies = [0, 2, 3]
    together = StreamingDiffusionPolicy(late_model(), SPEC, ZERO)
    together.reset(np.array([1, 2, 3]))
    plans = [plan_late(together, [0] * 3, [0] * 3), plan_late(together, [4] * 3, latencies)]
    np.testing.assert_array_equal(plans[1].first_step, [4, 2, 1])
    np.testing.assert_array_equal(plans[1].num_ready, [4, 6, 7])
    for row, latency in enumerate(latencies):
        alone = StreamingDiffusionPolicy(late_model(), SPEC, ZERO)
        alone.reset(np.array([1, 2, 3]))
        for first, plan in zip((0, 4), plans, strict=True):
            late = [latency if first else 0] * 3
            expected = plan_late(alone, [first] * 3, late).select(np.array([row]))
            actual = plan.select(np.array([row]))
            np.testing.assert_allclose(actual.actions, expected.actions, atol=1e-5)
            np.testing.assert_array_equal(actual.noise_level, expected.noise_level)


def test_latency_beyond_what_was_trained_is_met_as_far_as_it_was() -> None:
    """The network sees three committed actions; the observation is older than it believes."""
    policy = StreamingDiffusionPolicy(late_model(), SPEC, ZERO)
    policy.reset(np.array([1]))
    for first in (0, 4):
        plan_late(policy, [first], [0])
    plan = plan_late(policy, [8], [5])
    np.testing.assert_array_equal(plan.first_step, [8 - MAX_LATENCY])
    np.testing.assert_array_equal(plan.num_ready, [MAX_LATENCY + 4])


def test_a_runtime_plans_late_as_eager_pytorch_does() -> None:
    pytest.importorskip("onnxruntime")
    plans = []
    for engine in ("eager", "onnx"):
        sampling = replace(ZERO, calls_per_step=1)
        policy = StreamingDiffusionPolicy(late_model(), SPEC, sampling, engine)
        policy.reset(np.array([1, 2]))
        late = [(0, 0), (4, 3), (8, 3)]
        plans.append([plan_late(policy, [first] * 2, [by] * 2).actions for first, by in late])
    for eager, other in zip(*plans, strict=True):
        np.testing.assert_allclose(other, eager, atol=1e-4)
