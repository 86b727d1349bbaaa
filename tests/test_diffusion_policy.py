"""Diffusion Policy: the fast path against its naive reference, alignment and the boundary."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

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
    tiny_model,
)
from torch import Tensor

from hotloop.decoding import ActionSpec, Executor, Observation
from hotloop.decoding.conformance import PolicyConformance
from hotloop.decoding.samplers import PREDICTIONS, UPDATES, apply_step, step_coefficients
from hotloop.policies.diffusion.config import DiffusionSampling
from hotloop.policies.diffusion.model import DiffusionModel
from hotloop.policies.diffusion.policy import DiffusionPolicy
from hotloop.policies.programs.rows import RowNoise

DDIM = DiffusionSampling(num_execute=4, calls_per_step=3)


class TestDiffusionPolicyContract(PolicyConformance):
    @pytest.fixture(params=["ddim", "ddpm"])
    def policy(self, request: pytest.FixtureRequest) -> DiffusionPolicy:
        return DiffusionPolicy(tiny_model(), SPEC, replace(DDIM, update=request.param))


def naive_window(
    model: DiffusionModel, observation: Observation, x: np.ndarray, noise: np.ndarray, *choice: Any
) -> np.ndarray:
    """Sample one window with plain calls of the network at `levels`; see Ho et al., algorithm 2."""
    levels, update = choice
    frames = {key: torch.from_numpy(value) for key, value in observation.frames.items()}
    state = torch.from_numpy(x)
    with torch.no_grad():
        for index in range(len(levels) - 1):
            vectors = [np.full(x.shape[1], level) for level in levels[index : index + 2]]
            level = torch.from_numpy(vectors[0]).expand(len(x), -1)
            output = model.predict(state, level, model.flatten(frames))
            c = step_coefficients(model.schedule, *vectors, model.config.prediction, update)
            state = apply_step(state, output, c, torch.from_numpy(noise[index]))
    return state.numpy()


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("update", UPDATES)
def test_a_plan_is_what_the_naive_sampler_gives_from_the_same_noise(
    prediction: str, update: str
) -> None:
    model = tiny_model(prediction=prediction)
    policy = DiffusionPolicy(model, SPEC, DiffusionSampling(4, calls_per_step=4, update=update))
    rows, twin = np.arange(3), RowNoise()
    policy.reset(rows)
    twin.reset(rows, None)
    for step in (0, 4):
        x, *noise = (twin.draw(rows, (9, 2)) for _ in range(5 if update == "ddpm" else 1))
        observation, steps = observe([step] * 3, rows), np.full(3, step)
        noise = np.stack(noise or [np.zeros_like(x)] * 4)
        window = naive_window(model, observation, x, noise, (24, 18, 12, 6, 0), update)
        assert (np.abs(window) == 1).any(), "clipping should take part in this test"
        actual = normalised(model, policy.plan(observation, steps).actions)
        np.testing.assert_allclose(actual, window[:, 1:].clip(-1, 1), atol=2e-5)


def test_all_calls_visit_every_level_and_fewer_calls_stride_through_them() -> None:
    network = constant_network(24)
    for calls, stride in ((None, 1), (24, 1), (8, 3), (1, 24)):
        network.calls.clear()
        policy = DiffusionPolicy(tiny_model(network=network), SPEC, DiffusionSampling(4, calls))
        stream(policy, seeds=[0], num_plans=1)
        levels = [int(call.level[0, 0]) for call in network.calls]
        assert levels == list(range(24, 0, -stride))
        assert all((call.level == call.level[0, 0]).all() for call in network.calls)


def test_a_stride_of_one_is_the_unstrided_sampler() -> None:
    plans = [
        stream(DiffusionPolicy(tiny_model(), SPEC, DiffusionSampling(4, calls)), [1, 2], 2)
        for calls in (None, 24)
    ]
    for one, other in zip(*plans, strict=True):
        np.testing.assert_array_equal(one.actions, other.actions)


def demonstration(step: np.ndarray) -> np.ndarray:
    """Normalised action of each control step, shape (..., 2)."""
    return np.stack([np.sin(0.3 * step), np.cos(0.5 * step)], axis=-1).astype(np.float32)


def test_the_first_action_of_a_plan_belongs_to_the_newest_observation() -> None:
    """The network answers with the demonstrated window around the step that it observes."""
    num_past = 2

    def recall(x: Tensor, level: Tensor, observation: Tensor) -> Tensor:
        now = observation.unflatten(1, (num_past + 1, -1))[:, -1, 0] * 100
        window = now[:, None].round().numpy() + np.arange(10) - num_past
        return torch.from_numpy(demonstration(window))

    model = tiny_model(horizon=10, num_obs_steps=3, network=FakeNetwork(24, recall), ladders=())
    model.observation_normalizer.scale.fill_(0.01)
    policy = DiffusionPolicy(model, SPEC, DDIM)
    executor = Executor(policy)
    executor.reset([0, 1])
    for step in range(9):
        frame = {key: np.full((2, *s), step) for key, s in model.observation_shapes.items()}
        actions = executor.act({key: value.astype(np.float32) for key, value in frame.items()})
        expected = np.tile(demonstration(np.array(step)), (2, 1))
        np.testing.assert_allclose(
            normalised(model, actions.astype(np.float32)), expected, atol=1e-5
        )


def test_a_plan_covers_the_steps_from_the_observation_on() -> None:
    policy = DiffusionPolicy(tiny_model(), SPEC, DDIM)
    policy.reset(np.arange(2))
    plan = policy.plan(observe([7, 3], np.arange(2)), np.array([9, 5]))
    assert plan.actions.shape == (2, 8, 2)
    np.testing.assert_array_equal(plan.first_step, [7, 3])
    np.testing.assert_array_equal(plan.observed_step, [7, 3])
    assert plan.ready.all()


def test_actions_never_leave_their_bounds() -> None:
    """Bounds that float32 cannot hold exactly must not be exceeded by its rounding either."""
    spec = ActionSpec(SPEC.names, (-0.7, -0.1), (0.3, 0.3), dt=0.1)
    model = tiny_model(ladders=(), network=FakeNetwork(24, lambda x, level, o: 100 * x))
    executor = Executor(DiffusionPolicy(model, spec, DDIM))
    executor.reset([0, 1])
    frame = {key: value[:, 0] for key, value in observe([0, 0], np.arange(2)).frames.items()}
    for _ in range(5):
        spec.check(executor.act(frame))


def test_nan_from_the_network_is_never_executed() -> None:
    model = tiny_model(network=constant_network(24, float("nan")))
    plan = stream(DiffusionPolicy(model, SPEC, DDIM), seeds=[0], num_plans=1)[0]
    assert np.isnan(plan.actions).all()
    assert not plan.ready.any()


def test_observations_in_double_precision_are_welcome() -> None:
    plans = []
    for dtype in (np.float32, np.float64):
        policy = DiffusionPolicy(tiny_model(), SPEC, DDIM)
        policy.reset(np.array([5]))
        observation = observe([0], np.arange(1))
        frames = {key: value.astype(dtype) for key, value in observation.frames.items()}
        plans.append(policy.plan(replace(observation, frames=frames), np.array([0])).actions)
    np.testing.assert_array_equal(*plans)


def test_the_order_of_observation_keys_does_not_matter() -> None:
    policy = DiffusionPolicy(tiny_model(), SPEC, DDIM)
    plan = stream(policy, seeds=[5], num_plans=1)[0]
    observation = observe([0], np.arange(1))
    frames = dict(reversed(observation.frames.items()))
    policy.reset(np.array([5]))
    swapped = policy.plan(replace(observation, frames=frames), np.array([0]))
    np.testing.assert_array_equal(swapped.actions, plan.actions)


def test_plans_of_one_episode_differ_by_noise_and_by_observation() -> None:
    policy = DiffusionPolicy(tiny_model(), SPEC, DDIM)
    policy.reset(np.arange(2))
    first, second = (plan_at(policy, 0, np.arange(2)).actions for _ in range(2))
    assert not np.isclose(first, second).all()
    policy.reset(np.arange(2))
    assert not np.isclose(plan_at(policy, 1, np.arange(2)).actions, first).all()


def test_at_most_the_future_of_the_window_is_executed() -> None:
    with pytest.raises(ValueError, match="num_execute must be between 1 and 8, got 9"):
        DiffusionPolicy(tiny_model(), SPEC, DiffusionSampling(9))
    with pytest.raises(ValueError, match="num_execute must be at least 1, got 0"):
        DiffusionSampling(0)


def test_there_are_no_more_calls_than_levels() -> None:
    with pytest.raises(ValueError, match="number of calls must be between 1 and 24"):
        DiffusionPolicy(tiny_model(), SPEC, DiffusionSampling(4, calls_per_step=25))


def test_unknown_choices_are_answered_by_the_known_ones() -> None:
    with pytest.raises(
        ValueError, match=r"update must be one of \('ddpm', 'ddim', 'fitted'\), got 'heun'"
    ):
        DiffusionPolicy(tiny_model(), SPEC, DiffusionSampling(4, update="heun"))
    with pytest.raises(ValueError, match=r"calls_per_step must be at least 1, or null"):
        DiffusionSampling(calls_per_step=-1)


@pytest.mark.parametrize("num_obs_steps", [0, 10])
def test_observations_must_fit_the_window(num_obs_steps: int) -> None:
    with pytest.raises(ValueError, match=f"between 1 and horizon 9, got {num_obs_steps}"):
        tiny_model(num_obs_steps=num_obs_steps, ladders=())
