"""Streaming Diffusion Policy: its invariants, its start buffers, and its naive reference."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import (
    SPEC,
    FakeNetwork,
    constant_network,
    normalised,
    observe,
    plan_at,
    stream,
    support,
    tiny_model,
)
from torch import Tensor

from hotloop.decoding import Executor, rolling
from hotloop.decoding.conformance import PolicyConformance
from hotloop.decoding.samplers import PREDICTIONS, UPDATES
from hotloop.policies.diffusion.config import START_BUFFERS, DiffusionSampling, StreamingSampling
from hotloop.policies.diffusion.policy import DiffusionPolicy
from hotloop.policies.diffusion.streaming import StreamingDiffusionPolicy
from hotloop.policies.programs.rows import RowNoise

POSITION = "observation.position"
ZERO = StreamingSampling(num_execute=4, start="zero")
CONSTANT = replace(ZERO, start="constant", start_key=POSITION)
DENOISE = replace(ZERO, start="denoise")


def key_of(start: str) -> str:
    """The start key, of the one start that reads it."""
    return POSITION if start == "constant" else ""


every_chunk = pytest.mark.parametrize("num_execute", [1, 2, 4, 8])  # h = 8, 4, 2, 1
every_start = pytest.mark.parametrize("start", START_BUFFERS)


class TestStreamingPolicyContract(PolicyConformance):
    @pytest.fixture(params=[(s, u) for s in START_BUFFERS for u in UPDATES], ids="-".join)
    def policy(self, request: pytest.FixtureRequest) -> StreamingDiffusionPolicy:
        start, update = request.param
        sampling = StreamingSampling(4, 3, update, start, start_key=key_of(start))
        return StreamingDiffusionPolicy(tiny_model(), SPEC, sampling)


@pytest.mark.parametrize("update", UPDATES)
def test_one_chunk_is_diffusion_policy(update: str) -> None:
    """Invariant (i): with h = 1 and the same draws, SDP and DP are the same algorithm."""
    model = tiny_model(horizon=8, num_obs_steps=1, ladders=("8x1",))
    policies = (
        StreamingDiffusionPolicy(model, SPEC, StreamingSampling(8, 6, update, start="zero")),
        DiffusionPolicy(model, SPEC, DiffusionSampling(8, 6, update)),
    )
    plans = [stream(policy, [3, 4], 4, num_obs_steps=1) for policy in policies]
    for sdp, dp in zip(*plans, strict=True):
        np.testing.assert_allclose(sdp.actions, dp.actions, atol=1e-5)
        np.testing.assert_array_equal(sdp.first_step, dp.first_step)


def test_one_chunk_with_past_slots_differs_by_what_is_left_of_the_signal() -> None:
    """Past slots at level N hold executed actions times sqrt(alpha_bar_N), 2e-3 here, not 0."""
    model = tiny_model(ladders=("8x1",))
    policies = (
        StreamingDiffusionPolicy(model, SPEC, StreamingSampling(8, 6, start="zero")),
        DiffusionPolicy(model, SPEC, DiffusionSampling(8, 6)),
    )
    plans = [stream(policy, [3, 4], 4) for policy in policies]
    for sdp, dp in zip(*plans, strict=True):
        np.testing.assert_allclose(sdp.actions, dp.actions, atol=2e-2)


@every_chunk
@pytest.mark.parametrize("calls", [None, 1, 2, 3])
def test_every_control_step_makes_exactly_its_calls_on_trained_levels(
    num_execute: int, calls: int | None
) -> None:
    """Invariants (iii) and (iv), seen from inside the network over many control steps."""
    network = constant_network(24)
    model = tiny_model(network=network)
    sampling = replace(ZERO, num_execute=num_execute, calls_per_step=calls)
    policy = StreamingDiffusionPolicy(model, SPEC, sampling)
    policy.reset(np.arange(2))
    trained = support([policy.ladder])
    for step in range(0, 6 * num_execute, num_execute):
        network.calls.clear()
        plan_at(policy, step, np.arange(2))
        assert len(network.calls) == (calls or policy.ladder.levels_per_step)
        np.testing.assert_array_equal(network.calls[0].level[0], policy.ladder.levels())
        for call in network.calls:
            assert {tuple(level) for level in call.level.tolist()} <= trained
            assert call.level.min() >= 1


@every_start
@pytest.mark.parametrize("update", UPDATES)
def test_every_slot_stands_at_the_level_that_the_network_is_told(start: str, update: str) -> None:
    """Invariant (v): around sqrt(alpha_bar_k) A_0 the variance is 1 - alpha_bar_k, in every slot.

    The network knows the clean action, 0.3, so that the reverse process itself is exact. The start
    buffers zero and constant guess wrong and are looked at from the second chunk on.
    """
    network = constant_network(24)
    model = tiny_model(horizon=11, num_obs_steps=4, network=network, ladders=("2x3",))
    sampling = StreamingSampling(2, 4, update, start, start_key=key_of(start))
    policy = StreamingDiffusionPolicy(model, SPEC, sampling)
    stream(policy, list(range(2000)), num_plans=7, num_obs_steps=4)
    first = 0 if start == "denoise" else 20
    assert len(network.calls) == (12 if start == "denoise" else 4) + 6 * 4
    for call in network.calls[first:]:
        variance = 1 - model.schedule.alpha_bar[call.level[0]]
        error = call.x - 0.3 * np.sqrt(1 - variance)[:, None]
        scale = np.maximum(variance, 1e-9)[:, None]
        np.testing.assert_allclose(error.var(axis=0) / scale, 1, atol=0.2)
        np.testing.assert_allclose(error.mean(axis=0) / np.sqrt(scale), 0, atol=0.12)


@pytest.mark.parametrize(("start", "guess"), [("zero", 0.0), ("constant", 0.6)])
def test_a_start_buffer_is_a_noised_guess(start: str, guess: float) -> None:
    """Zero starts from the middle of the action range, constant from where the robot is."""
    network = constant_network(24)
    model = tiny_model(network=network)
    model.action_normalizer.scale.fill_(1.0)
    model.action_normalizer.offset.fill_(0.0)
    policy = StreamingDiffusionPolicy(
        model, SPEC, replace(ZERO, start=start, start_key=key_of(start))
    )
    rows = np.arange(3000)
    policy.reset(rows)
    observation = observe(np.zeros(3000), rows)
    observation.frames[POSITION][:, -1] = 0.6
    policy.plan(observation, observation.step)
    seen = network.calls[0]
    alpha_bar = model.schedule.alpha_bar[seen.level[0]][:, None]
    spread = 4.5 * np.sqrt((1 - alpha_bar) / 3000)
    assert (np.abs(seen.x.mean(axis=0) - np.sqrt(alpha_bar) * guess) < spread).all()
    np.testing.assert_allclose(seen.x.var(axis=0) / (1 - alpha_bar), 1, atol=0.15)


def test_denoising_the_start_takes_h_times_the_calls_and_no_more() -> None:
    """The first chunk is executed as it was sampled; the next control step is an ordinary one."""
    network = constant_network(24)
    model = tiny_model(network=network)
    for calls, start_calls, expected in ((None, None, 24), (3, None, 6), (1, None, 2), (1, 5, 5)):
        sampling = replace(DENOISE, calls_per_step=calls, start_calls=start_calls)
        policy = StreamingDiffusionPolicy(model, SPEC, sampling)
        policy.reset(np.array([0]))
        network.calls.clear()
        plan_at(policy, 0, np.array([0]))
        assert len(network.calls) == expected
        assert all(len(set(call.level[0])) == 1 for call in network.calls)
        plan_at(policy, 4, np.array([0]))
        assert len(network.calls) == expected + (calls or 12)


def test_the_denoised_start_begins_with_the_plan_of_diffusion_policy() -> None:
    model = tiny_model()
    dp = DiffusionPolicy(model, SPEC, DiffusionSampling(4, calls_per_step=6))
    sdp = StreamingDiffusionPolicy(model, SPEC, replace(DENOISE, calls_per_step=3))
    window, start = (stream(policy, [3, 4], 1)[0] for policy in (dp, sdp))
    np.testing.assert_allclose(start.actions[:, :4], window.actions[:, :4], atol=1e-5)
    np.testing.assert_array_equal(start.num_ready, [4, 4])


def test_the_constant_start_needs_to_know_where_the_position_is() -> None:
    with pytest.raises(ValueError, match=r"start_key.*\['observation.goal', .*\], got 'position'"):
        StreamingDiffusionPolicy(tiny_model(), SPEC, replace(CONSTANT, start_key="position"))


@pytest.mark.parametrize("num_calls", [1, 3])
@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("update", UPDATES)
def test_streaming_is_what_the_reference_streams(
    prediction: str, update: str, num_calls: int
) -> None:
    """`decoding.rolling.stream`, which one reads beside the paper, on the same noise."""
    model = tiny_model(prediction=prediction)
    sampling = StreamingSampling(4, num_calls, update, "zero")
    policy = StreamingDiffusionPolicy(model, SPEC, sampling)
    rows, noise, levels = np.arange(2), RowNoise(), policy.ladder.control_step(num_calls)
    noise.reset(np.array([7, 8]), None)

    def draw(shape: tuple[int, ...]) -> Tensor:
        return torch.from_numpy(noise.draw(rows, shape[1:]))

    def clean_estimate(x: Tensor, level: Tensor, condition: Tensor) -> Tensor:
        output = model.predict(x, level, condition)
        signal, sigma = model.schedule.signal(level), model.schedule.sigma(level)
        a, s = signal[..., None], sigma[..., None]
        return {"sample": output, "epsilon": (x - s * output) / a, "velocity": a * x - s * output}[
            prediction
        ]

    frames = [observe([step, step], rows).frames for step in range(0, 20, 4)]
    conditions = [
        model.flatten({key: torch.from_numpy(value) for key, value in one.items()})
        for one in frames
    ]
    level = torch.from_numpy(levels[0]).expand(2, -1)
    buffer = model.schedule.add_noise(torch.zeros(2, 9, 2), draw((2, 9, 2)), level)
    chunks = rolling.stream(
        clean_estimate, conditions, buffer, levels, policy.ladder, model.schedule, draw, update
    )
    for plan, chunk in zip(stream(policy, [7, 8], 5), chunks, strict=True):
        actual = normalised(model, plan.actions[:, :4])
        np.testing.assert_allclose(actual, chunk.clip(-1, 1), atol=2e-5)


@every_start
def test_resetting_a_row_changes_only_that_row(start: str) -> None:
    """Invariant (vi), down to the buffers, with rows at different steps of their episodes."""
    sampling = StreamingSampling(4, 3, "ddpm", start, start_key=key_of(start))
    policy, twin = (StreamingDiffusionPolicy(tiny_model(), SPEC, sampling) for _ in range(2))
    rows, others, step = np.arange(3), np.array([0, 2]), np.full(3, 8)
    for each in (policy, twin):
        stream(each, [1, 2, 3], 2)
    policy.reset(np.array([9]), np.array([1]))
    np.testing.assert_array_equal(policy._buffers.windows, twin._buffers.windows)
    plan = policy.plan(observe([8, 0, 8], rows), np.array([8, 0, 8]))
    expected = twin.plan(observe(step, rows), step)
    np.testing.assert_allclose(plan.actions[others], expected.actions[others], atol=1e-5)
    np.testing.assert_array_equal(plan.first_step, [8, 0, 8])
    np.testing.assert_allclose(
        policy._buffers.windows[others], twin._buffers.windows[others], atol=1e-5
    )
    assert not np.isclose(plan.actions[1], expected.actions[1]).all()


def test_a_stride_of_one_is_the_unstrided_sampler() -> None:
    """Invariant (vii): as many calls as levels, or "all of them", are one thing."""
    for update in UPDATES:
        sampling = StreamingSampling(4, None, update, "denoise")
        plans = [
            stream(StreamingDiffusionPolicy(tiny_model(), SPEC, choice), [1, 2], 3)
            for choice in (sampling, replace(sampling, calls_per_step=12, start_calls=24))
        ]
        for one, other in zip(*plans, strict=True):
            np.testing.assert_array_equal(one.actions, other.actions)


@every_start
@every_chunk
def test_executed_actions_are_those_demonstrated_for_the_observed_step(
    start: str, num_execute: int
) -> None:
    """Invariant (viii): slot To - 1 belongs to the newest observation; a replayed demo stays so."""
    num_past, steps = 2, np.arange(60)
    demo = np.stack([np.sin(0.3 * steps), np.cos(0.5 * steps)], axis=-1).astype(np.float32)

    def recall(x: Tensor, level: Tensor, observation: Tensor) -> Tensor:
        now = (observation.unflatten(1, (num_past + 1, -1))[:, -1, 0] * 100).round().long()
        window = now[:, None] + torch.arange(10) - num_past
        return torch.from_numpy(demo)[window.clamp(0)]

    network = FakeNetwork(24, recall)
    ladders = ("1x8", "2x4", "4x2", "8x1")
    model = tiny_model(horizon=10, num_obs_steps=3, ladders=ladders, network=network)
    model.observation_normalizer.scale.fill_(0.01)
    sampling = StreamingSampling(num_execute, 1, start=start, start_key=key_of(start))
    executor = Executor(StreamingDiffusionPolicy(model, SPEC, sampling))
    executor.reset([0, 1])
    for step in range(20):
        shapes = model.observation_shapes.items()
        frame = {key: np.full((2, *shape), step, np.float32) for key, shape in shapes}
        actions = normalised(model, executor.act(frame).astype(np.float32))
        np.testing.assert_allclose(actions, np.tile(demo[step], (2, 1)), atol=1e-5)


def test_a_plan_publishes_the_noise_of_its_buffer() -> None:
    policy = StreamingDiffusionPolicy(tiny_model(), SPEC, replace(ZERO, num_execute=2))
    for plan in stream(policy, [0, 1], 3):
        levels = np.array([0, 0, 6, 6, 12, 12, 18, 18]) / 24
        np.testing.assert_allclose(plan.noise_level, np.tile(levels, (2, 1)))
        np.testing.assert_array_equal(plan.num_ready, [2, 2])


def test_a_row_that_does_not_continue_its_buffer_starts_anew() -> None:
    network = constant_network(24)
    policy = StreamingDiffusionPolicy(tiny_model(network=network), SPEC, DENOISE)
    stream(policy, [0, 1], 2)
    network.calls.clear()
    plan_at(policy, 10, np.arange(2))  # step 8 was due
    assert [len(set(call.level[0])) for call in network.calls] == [1] * 24


def test_a_policy_streams_only_in_chunks_that_it_is_trained_for() -> None:
    with pytest.raises(ValueError, match=r"streams in chunks of \[1, 2, 4, 8\].*num_execute 3"):
        StreamingDiffusionPolicy(tiny_model(), SPEC, replace(ZERO, num_execute=3))
    with pytest.raises(ValueError, match=r"a ladder is written 'Ta x h', e\.g\. '8x2', got '8-2'"):
        tiny_model(ladders=("8-2",))
    with pytest.raises(ValueError, match="number of calls must be between 1 and 12"):
        StreamingDiffusionPolicy(tiny_model(), SPEC, replace(ZERO, calls_per_step=13))
