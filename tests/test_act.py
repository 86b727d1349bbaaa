"""ACT: chunks and their average against plain definitions, rows, engines, the boundary."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import LOW, SPEC, observe, plan_at
from tiny_act import CHUNK, tiny_act

from hotloop.decoding import Executor
from hotloop.decoding.conformance import PolicyConformance
from hotloop.policies.act.config import ActConfig, ActSampling
from hotloop.policies.act.model import ActModel
from hotloop.policies.act.policy import ActPolicy
from hotloop.policies.act.transformer import picture_positions
from hotloop.policies.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from hotloop.train.config.evaluation import BenchConfig
from hotloop.train.measure.bench import timed_rows

AVERAGED = ActSampling(num_execute=1, temporal_ensemble=0.3)


class TestActContract(PolicyConformance):
    @pytest.fixture(params=[ActSampling(4), AVERAGED], ids=["chunks", "averaged"])
    def policy(self, request: pytest.FixtureRequest) -> ActPolicy:
        return ActPolicy(tiny_act(), SPEC, request.param)


class TestSeeingActContract(PolicyConformance):
    num_plans = 2

    @pytest.fixture
    def policy(self) -> ActPolicy:
        return ActPolicy(tiny_act(pictures=True), SPEC, AVERAGED)


def chunks(model: ActModel, steps: list[int]) -> list[np.ndarray]:
    """What the network alone makes of the observation at each step, normalised, row 0."""
    results = []
    for step in steps:
        frames = observe([step], np.array([0]), 1).frames
        joined = np.concatenate([frames[key] for key in model.observation_shapes], axis=-1)
        results.append(model(torch.from_numpy(joined)).numpy()[0])
    return results


def physical(actions: np.ndarray) -> np.ndarray:
    """Normalised actions in physical units, inside their bounds."""
    low, high = np.array(SPEC.low), np.array(SPEC.high)
    return np.clip((actions + 1) / 2 * (high - low) + low, low, high)


def average(model: ActModel, made: list[int], step: int, decay: float) -> np.ndarray:
    """The definition: every chunk that holds an action for `step`, the oldest first."""
    holding = [
        chunk[step - begin]
        for begin, chunk in zip(made, chunks(model, made), strict=True)
        if 0 <= step - begin < CHUNK
    ]
    weights = np.exp(-decay * np.arange(len(holding)))
    return physical(np.average(holding, axis=0, weights=weights))


def test_a_plan_is_one_chunk_from_the_observed_step_on() -> None:
    model = tiny_act()
    policy = ActPolicy(model, SPEC, ActSampling(4))
    policy.reset(np.zeros(1, np.int64))
    plan = plan_at(policy, 3, np.array([0]), num_obs_steps=1)
    assert plan.first_step.tolist() == [3]
    (chunk,) = chunks(model, [3])
    np.testing.assert_allclose(plan.actions[0], physical(chunk), atol=1e-5)
    low = np.asarray(LOW, np.float32)
    assert (plan.actions == low).any(), "clipping is not tried out"


@pytest.mark.parametrize("decay", [0.01, 0.0, 2.0, -1.5])
def test_an_averaged_action_is_that_of_the_definition(decay: float) -> None:
    """Zhao et al. 2023: weights exp(-m i) over all chunks of a step, i = 0 the oldest."""
    model = tiny_act()
    policy = ActPolicy(model, SPEC, ActSampling(1, decay))
    executor = Executor(policy)
    executor.reset([0])
    for step in range(2 * CHUNK):
        frames = observe([step], np.array([0]), 1).frames
        (found,) = executor.act({key: value[:, -1] for key, value in frames.items()})
        expected = average(model, list(range(step + 1)), step, decay)
        np.testing.assert_allclose(found, expected, atol=2e-5)


def test_steps_without_a_plan_have_no_chunk_in_the_average() -> None:
    """A loop that was held up goes on with the chunks that there are, each at its time."""
    model = tiny_act()
    policy = ActPolicy(model, SPEC, AVERAGED)
    policy.reset(np.zeros(1, np.int64))
    made = [0, 1, 4, 5, 5 + CHUNK, 40]
    for index, step in enumerate(made):
        plan = plan_at(policy, step, np.array([0]), num_obs_steps=1)
        expected = [average(model, made[: index + 1], step + ahead, 0.3) for ahead in range(CHUNK)]
        np.testing.assert_allclose(plan.actions[0], expected, atol=2e-5)


def test_the_same_observation_counts_once() -> None:
    """An executor that looks ahead asks for two plans from the first observation."""
    policy = ActPolicy(tiny_act(), SPEC, AVERAGED)
    policy.reset(np.zeros(1, np.int64))
    plans = [plan_at(policy, step, np.array([0]), num_obs_steps=1) for step in (0, 1, 1, 2)]
    np.testing.assert_array_equal(plans[1].actions, plans[2].actions)
    policy.reset(np.zeros(1, np.int64))
    once = [plan_at(policy, step, np.array([0]), num_obs_steps=1) for step in (0, 1, 2)]
    np.testing.assert_array_equal(plans[3].actions, once[2].actions)


def test_a_step_back_without_reset_starts_anew() -> None:
    policy = ActPolicy(tiny_act(), SPEC, AVERAGED)
    policy.reset(np.zeros(1, np.int64))
    first = plan_at(policy, 2, np.array([0]), num_obs_steps=1)
    plan_at(policy, 3, np.array([0]), num_obs_steps=1)
    again = plan_at(policy, 2, np.array([0]), num_obs_steps=1)
    np.testing.assert_array_equal(again.actions, first.actions)


@cache
def seeing() -> ActModel:
    """Kept, because exporting takes seconds: programs share their exports as long as it lives."""
    return tiny_act(pictures=True, pre_norm=True, activation="gelu", num_encoder_layers=1)


@pytest.mark.parametrize("engine", ["onnx", "openvino"])
def test_engines_average_the_same_actions(engine: str) -> None:
    plans = []
    for name in ("eager", engine):
        policy = ActPolicy(seeing(), SPEC, AVERAGED, name)
        policy.reset(np.zeros(2, np.int64))
        conformance, rows = PolicyConformance(), np.arange(2)
        plans.append([conformance.plan(policy, np.full(2, step), rows) for step in range(3)])
        assert policy.parity < 1e-4
    for expected, found in zip(*plans, strict=True):
        np.testing.assert_allclose(found.actions, expected.actions, atol=1e-4)


def test_positions_in_a_picture_turn_once_over_each_side() -> None:
    """DETR's codes: the last row and column have made a whole turn, the first a part of it."""
    codes = picture_positions(3, 4, 8).reshape(3, 4, 8).numpy()
    np.testing.assert_allclose(codes[-1, -1, :2], [0, 1], atol=1e-5)
    np.testing.assert_allclose(codes[0, 0, 0], np.sin(2 * np.pi / 3), atol=1e-5)  # by row first
    np.testing.assert_allclose(codes[0, 0, 4], np.sin(2 * np.pi / 4), atol=1e-5)
    np.testing.assert_allclose(codes[0, 0, 6], np.sin(2 * np.pi / 4 / 100), atol=1e-5)
    np.testing.assert_array_equal(codes[0, 2, :4], codes[0, 0, :4])
    np.testing.assert_array_equal(codes[2, 1, 4:], codes[0, 1, 4:])


def test_a_checkpoint_is_stored_and_comes_back(tmp_path: Path) -> None:
    model = tiny_act(pictures=True)
    save_checkpoint(tmp_path / "act", Checkpoint("act", model, SPEC, AVERAGED, {}))
    loaded = load_checkpoint(tmp_path / "act")
    assert loaded.sampling == AVERAGED
    conformance, rows = PolicyConformance(), np.array([0])
    plans = []
    for checkpoint in (Checkpoint("act", model, SPEC, AVERAGED, {}), loaded):
        policy = checkpoint.policy({"num_execute": 3, "temporal_ensemble": None})
        policy.reset(np.zeros(1, np.int64))
        assert policy.num_execute == 3
        plans.append(conformance.plan(policy, np.zeros(1, np.int64), rows).actions)
    np.testing.assert_array_equal(*plans)


def test_bench_times_one_call_per_plan() -> None:
    checkpoint = Checkpoint("act", tiny_act(), SPEC, ActSampling(4), {})
    (row,) = timed_rows("run", checkpoint, "eager", BenchConfig())
    assert (row.name, row.costs.num_calls, row.policy.num_execute) == ("act-1", 1, 4)
    row.timer.run_block(2)
    assert row.timer.overhead(1) > -1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ActSampling(0), "num_execute must be at least 1, got 0"),
        (lambda: ActSampling(2, 0.1), r"needs num_execute 1, got 2; set sampling\.num_execute=1"),
        (lambda: ActSampling(7).check(ActConfig(6)), "between 1 and 6, the actions of a chunk"),
        (lambda: ActSampling(1, -1.0).check(ActConfig()), r"at least -0\.8 for chunks of 100"),
        (lambda: ActSampling(1, float("nan")).check(ActConfig()), "at least -0.8 .* got nan"),
        (lambda: ActConfig(dim=18), "dim must be a multiple of 4 and of num_heads 8, got 18"),
        (lambda: ActConfig(chunk_size=0), "chunk_size must be at least 1, got 0"),
        (lambda: ActConfig(num_encoder_layers=-1), "num_encoder_layers must be 0 or more"),
        (lambda: ActConfig(activation="glu"), r"activation must be one of .*'gelu'.*, got 'glu'"),
        (lambda: ActModel(ActConfig(), {}, 2), "observes something, got no observation keys"),
    ],
)
def test_what_is_no_policy_is_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
