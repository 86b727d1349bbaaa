"""Planners as policies: the contract, the reductions, and what is asked for later."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tiny_planner import DECISION, DIFFUSER, HORIZON, SPEC, TRAJECTORY, tiny_planner

from hotloop.decoding import Observation, Policy
from hotloop.decoding.conformance import PolicyConformance
from hotloop.policies.planners.config import PlannerConfig, PlannerSampling
from hotloop.policies.planners.model import PlannerModel
from hotloop.policies.planners.planner import Planner

POLICIES: dict[str, tuple[dict[str, Any], PlannerSampling]] = {
    "trajectory diffuser": ({}, TRAJECTORY),
    "trajectory diffuser, warm": ({}, replace(TRAJECTORY, reuse=2, num_execute=2)),
    "trajectory diffuser, candidates": ({}, replace(TRAJECTORY, candidates=3, select="critic")),
    "decision diffuser": ({"drafter": None}, DECISION),
    "decision diffuser, warm": ({}, replace(DECISION, reuse=1, draft_level=3, calls_per_step=3)),
    "diffuser": ({"joint": True, "value": True, "drafter": None}, DIFFUSER),
    "goal": ({"goal_key": "observation.goal", "drafter": None}, DECISION),
    "drafted goal, warm": (
        {"goal_key": "observation.goal", "critic": False, "stride": 3},
        replace(TRAJECTORY, reuse=2, num_execute=2),
    ),
}


@pytest.fixture(scope="module")
def model() -> PlannerModel:
    return tiny_planner()


def observe(states: np.ndarray, reward: float, step: int, num_steps: int = 1) -> Observation:
    frames = np.repeat(states[:, None].astype(np.float32), num_steps, axis=1)
    rewards = np.full((len(states), num_steps, 1), reward, np.float32)
    observed = {"observation.state": frames, "reward": rewards}
    return Observation(observed, np.full(len(states), step), np.arange(len(states)))


@pytest.mark.parametrize("name", POLICIES)
class TestContract(PolicyConformance):
    """The contract of every policy, for every planner."""

    num_plans = 4

    @pytest.fixture
    def policy(self, name: str) -> Policy:
        choices, sampling = POLICIES[name]
        return Planner(tiny_planner(**choices), SPEC, sampling)


@pytest.mark.parametrize("name", POLICIES)
def test_a_plan_begins_at_the_current_state(name: str) -> None:
    choices, sampling = POLICIES[name]
    policy = Planner(tiny_planner(**choices), SPEC, sampling)
    policy.reset(np.array([1, 2]))
    state = np.array([[0.3, -0.1, 0.2, 0.5], [1.0, 0.2, -0.3, 0.1]], np.float32)
    observation = observe(state, 0.1, 0, policy.observation_spec.num_steps)
    goal = {"observation.goal": np.ones((2, 1, 2), np.float32)}
    observation = replace(observation, frames={**observation.frames, **goal})
    policy.plan(observation, np.zeros(2, np.int64))
    np.testing.assert_array_equal(policy.states(np.arange(2))[:, 0], state)


def test_with_a_stride_an_action_is_held_until_the_next_state() -> None:
    choices = {"goal_key": "observation.goal", "critic": False, "stride": 3}
    policy = Planner(tiny_planner(**choices), SPEC, replace(TRAJECTORY, num_execute=5))
    observation = observe(np.zeros((1, 4)), 0.0, 0, num_steps=5)
    goal = {"observation.goal": np.ones((1, 5, 2), np.float32)}
    observation = replace(observation, frames={**observation.frames, **goal})
    policy.reset(np.array([0]))
    actions = policy.plan(observation, np.zeros(1, np.int64)).actions[0]
    policy.reset(np.array([0]))
    all_actions = policy.plan(observation, np.full(1, 4)).actions[0]
    held = all_actions.reshape(HORIZON - 1, 3, 2)
    assert (held == held[:, :1]).all()
    assert len(np.unique(held[:, 0], axis=0)) == HORIZON - 1
    np.testing.assert_allclose(actions, all_actions[:5], rtol=1e-5, atol=1e-6)


def test_the_return_asked_for_falls_with_the_rewards_to_its_floor(model: PlannerModel) -> None:
    policy = Planner(model, SPEC, replace(TRAJECTORY, target_return=0.9, return_floor=0.5))
    policy.reset(np.array([0]))
    state, share = np.zeros((1, 4)), 0.1 * float(model.return_scale)
    asked = []
    for step in range(7):
        policy.plan(observe(state, 0.0 if step == 0 else share, step), np.array([step]))
        asked.append(policy._rows[0].return_to_go[-1])
    np.testing.assert_allclose(asked, [0.9, 0.8, 0.7, 0.6, 0.5, 0.45, 0.45], rtol=1e-5)


def test_the_return_counts_every_step_between_two_plans(model: PlannerModel) -> None:
    policy = Planner(model, SPEC, replace(TRAJECTORY, num_execute=3, return_floor=0.0))
    policy.reset(np.array([0]))
    share = 0.1 * float(model.return_scale)
    for step in (0, 3):
        policy.plan(observe(np.zeros((1, 4)), share, step, num_steps=3), np.array([step]))
    np.testing.assert_allclose(policy._rows[0].return_to_go, [0.7], rtol=1e-5)


@pytest.mark.parametrize(
    ("choices", "sampling", "message"),
    [
        ({"drafter": None}, TRAJECTORY, "without the part that draft 'rollout' needs"),
        ({"critic": False}, replace(TRAJECTORY, select="critic"), "select 'critic' needs"),
        ({}, replace(DECISION, select="value"), "select 'value' needs"),
        ({}, replace(DECISION, value_steps=1), "value_steps needs"),
        ({}, replace(DECISION, calls_per_step=0), "calls_per_step 0 returns the draft"),
        ({}, replace(DECISION, num_execute=HORIZON), "num_execute must be between 1 and 5"),
        ({}, replace(TRAJECTORY, draft_level=11), "draft_level .* must be at most 10, got 11"),
    ],
)
def test_what_the_model_cannot_do_is_refused(
    choices: dict[str, Any], sampling: PlannerSampling, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Planner(tiny_planner(**choices), SPEC, sampling)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"draft": "guess"}, "draft must be one of"),
        ({"select": "best"}, "select must be one of"),
        ({"candidates": 0}, "candidates and sweeps must be at least 1, got 0 and 1"),
        ({"reuse": -1}, "must be 0 or more"),
        ({"return_floor": float("nan")}, "return_floor must be between 0 and 1, got nan"),
    ],
)
def test_impossible_choices_are_refused(choices: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PlannerSampling(**choices)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"prediction": "noise"}, "prediction must be one of .*velocity.*, got 'noise'"),
        ({"horizon": 1}, "horizon of at least 2 states, got 1"),
        ({"discount": 1.5}, r"discount must be in \(0, 1\], got 1.5"),
    ],
)
def test_impossible_models_are_refused(choices: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PlannerConfig(**choices)
