"""Sampling choices of planners that have no effect beside the others are refused where given."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tiny_planner import DECISION, DIFFUSER, SPEC, TRAJECTORY, tiny_planner

from hotloop.decoding import Observation
from hotloop.policies.checkpoint import Checkpoint
from hotloop.policies.planners.config import PlannerSampling
from hotloop.policies.planners.idle import idle_choices
from hotloop.policies.planners.model import PlannerModel
from hotloop.policies.planners.planner import Planner

OTHER: dict[str, Any] = {
    "update": "ddpm",
    "temperature": 0.3,
    "guidance": 3.0,
    "target_return": 0.4,
    "return_floor": 0.9,
    "draft_level": 7,
    "add_noise": False,
    "candidates": 2,
    "select": "critic",
    "value_scale": 5.0,
    "value_steps": 1,
    "value_stop": 6,  # the last step adds no noise, and so has no guidance anyway
    "sweeps": 2,
}
DRAFT = replace(TRAJECTORY, calls_per_step=0)
SAMPLINGS = {
    "trajectory": TRAJECTORY,
    "draft": DRAFT,
    "clean draft": replace(TRAJECTORY, add_noise=False),
    "warm": replace(TRAJECTORY, reuse=5),
    "decision": DECISION,
    "warm noise": replace(DECISION, reuse=5),
    "diffuser": replace(DIFFUSER, return_floor=0.3),
    "one candidate": replace(DIFFUSER, candidates=1),
}


@pytest.fixture(scope="module")
def model() -> PlannerModel:
    return tiny_planner(value=True)


def actions(model: PlannerModel, sampling: PlannerSampling) -> np.ndarray:
    """Actions of a few plans of an episode, with a reward of 0.5 each."""
    planner, rng = Planner(model, SPEC, sampling), np.random.default_rng(0)
    planner.reset(np.arange(2))
    plans = []
    for step in range(3):
        frames = {
            key: rng.standard_normal((2, 1, *shape)).astype(np.float32)
            for key, shape in model.observation_shapes.items()
        }
        if "reward" in frames:
            frames["reward"][...] = 0.5
        observation = Observation(frames, np.full(2, step), np.arange(2))
        plans.append(planner.plan(observation, observation.step).actions)
    return np.stack(plans)


@pytest.mark.parametrize("name", SAMPLINGS)
def test_a_choice_is_called_idle_if_it_changes_no_plan(model: PlannerModel, name: str) -> None:
    sampling = SAMPLINGS[name]
    expected, idle = actions(model, sampling), idle_choices(model, sampling)
    for choice, value in OTHER.items():
        if value == getattr(sampling, choice):
            continue
        changed = replace(sampling, **{choice: value})
        same = np.array_equal(actions(model, changed), expected)
        assert same == (choice in idle), choice


def test_a_goal_leaves_nothing_to_be_asked_of_a_return() -> None:
    model = tiny_planner(goal_key="observation.goal")
    sampling = replace(TRAJECTORY, reuse=1)
    expected, idle = actions(model, sampling), idle_choices(model, sampling)
    for choice in ("guidance", "target_return", "return_floor"):
        assert "goal" in idle[choice]
        changed = replace(sampling, **{choice: OTHER[choice]})
        assert np.array_equal(actions(model, changed), expected)


@pytest.mark.parametrize(
    ("sampling", "choices", "message"),
    [
        (
            TRAJECTORY,
            {"value_scale": 5.0},
            "sampling.value_scale 5.0 has no .* value_steps 0; leave",
        ),
        (TRAJECTORY, {"sweeps": 2}, "sampling.sweeps 2 has no effect with reuse 0"),
        (TRAJECTORY, {"select": "critic"}, "sampling.select 'critic' .* with candidates 1"),
        (DECISION, {"draft_level": 3}, "sampling.draft_level 3 .* with draft 'noise'"),
        (DRAFT, {"guidance": 2.0}, "sampling.guidance 2.0 .* with calls_per_step 0"),
        (DIFFUSER, {"target_return": 0.5}, "target_return 0.5 .* guidance 0 and draft 'noise'"),
        (TRAJECTORY, {"calls_per_step": 0, "candidates": 3}, "candidates 3 .* calls_per_step 0"),
    ],
)
def test_a_choice_without_effect_is_refused(
    model: PlannerModel, sampling: PlannerSampling, choices: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Checkpoint("trajectory_diffuser", model, SPEC, sampling, {}).policy(choices)


def test_what_a_checkpoint_stores_may_lose_its_effect(model: PlannerModel) -> None:
    """Turning value guidance off must not ask for its stored scale to be taken back as well."""
    stored = replace(DIFFUSER, value_scale=30.0)
    checkpoint = Checkpoint("diffuser", model, SPEC, stored, {})
    choices = {"value_steps": 0, "value_scale": 30.0, "candidates": 1}
    assert checkpoint.policy(choices).sampling.value_steps == 0
