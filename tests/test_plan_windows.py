"""Windows of planners: returns, padding, scales."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from tiny_planner import tiny_config, walks

from hotloop.policies.planners.config import DrafterConfig
from hotloop.train.data.episodes import Episodes
from hotloop.train.data.plan_windows import PlanWindows, returns_to_go
from hotloop.train.families.planners import prepare_planner


def episodes(terminated: tuple[bool, bool] = (True, False)) -> Episodes:
    """Two episodes of 3 and 4 steps whose state and action are the step."""
    step = np.arange(7, dtype=np.float32)[:, None]
    rewards = np.array([1, 2, 3, 1, 1, 1, 5], np.float32)
    return Episodes(
        {"observation.state": step},
        step,
        np.array([3, 7]),
        rewards,
        terminated=np.array(terminated),
    )


def test_returns_are_sums_to_the_end_of_the_episode() -> None:
    assert returns_to_go(episodes(), 1.0, 0.0).tolist() == [6, 5, 3, 8, 7, 6, 5]


def test_a_terminal_state_costs_its_penalty_and_a_time_limit_does_not() -> None:
    assert returns_to_go(episodes(), 1.0, -100).tolist() == [-94, -95, -97, 8, 7, 6, 5]


def test_discounted_returns_go_on_behind_a_time_limit() -> None:
    """Episode 2 goes on with its mean reward 2 for ever: worth 2 after its last reward."""
    found = returns_to_go(episodes(), 0.5, 0.0)
    np.testing.assert_allclose(found[:3], [1 + 1 + 0.75, 2 + 1.5, 3])
    np.testing.assert_allclose(found[3:], [1 + 0.5 + 0.25 + 7 / 8, 1 + 0.5 + 7 / 4, 1 + 7 / 2, 7])


def test_data_without_rewards_has_no_returns() -> None:
    assert not returns_to_go(walks(rewards=False), 1.0, 0.0).any()


def test_windows_repeat_the_edges_of_their_episode_and_say_so() -> None:
    config = tiny_config(horizon=3, drafter=DrafterConfig(8, 1, 1, context=2))
    windows = PlanWindows(episodes(), ("observation.state",), config)
    assert len(windows) == 7
    batch = windows.gather(torch.tensor([0, 2, 4]))
    assert batch.states[..., 0].tolist() == [[0, 0, 1, 2], [1, 2, 2, 2], [3, 4, 5, 6]]
    assert batch.valid.tolist() == [[True] * 4, [True, True, False, False], [True] * 4]
    np.testing.assert_allclose(batch.returns[2] * windows.return_scale, [8, 7, 6, 5])
    assert float(windows.returns.abs().max()) == windows.return_scale


def test_padded_windows_and_short_episodes_are_counted_and_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    windows = PlanWindows(episodes(), ("observation.state",), tiny_config(horizon=4))
    assert (windows.num_padded, windows.num_short) == (6, 1)
    with caplog.at_level(logging.INFO):
        prepare_planner(tiny_config(horizon=4), episodes(), seed=0)
    assert "6 of 7 windows reach beyond the end of their episode" in caplog.text
    assert "1 of 2 episodes have fewer than the 4 steps of a plan" in caplog.text


def test_a_stride_looks_farther_ahead() -> None:
    windows = PlanWindows(episodes(), ("observation.state",), tiny_config(horizon=3, stride=2))
    batch = windows.gather(torch.tensor([0, 3]))
    assert batch.states[..., 0].tolist() == [[0, 2, 2], [3, 5, 6]]
    assert batch.valid.tolist() == [[True, True, False], [True, True, False]]
    assert windows.displacement_scale(3)[:, 0].tolist() == [1, 2, 2]
    assert (windows.num_padded, windows.num_short) == (7, 2)


def test_windows_end_where_the_goal_changes() -> None:
    """What led to one goal does not show how to get to another, or back."""
    data = episodes()
    goals = np.array([0, 0, 1, 1, 1, 2, 2], np.float32)[:, None]
    data.observations["observation.goal"] = goals
    config = tiny_config(horizon=3, goal_key="observation.goal", drafter=None)
    windows = PlanWindows(data, ("observation.state",), config)
    batch = windows.gather(torch.arange(7))
    assert batch.valid.sum(dim=1).tolist() == [2, 1, 1, 2, 1, 2, 1]
    assert windows.num_episodes == 4


def test_displacements_are_measured_inside_episodes() -> None:
    """Each step moves by 1, but from one episode to the next nothing is measured."""
    data = episodes()
    data.observations["observation.state"][3:] += 1000
    windows = PlanWindows(data, ("observation.state",), tiny_config(horizon=6))
    scale = windows.displacement_scale(6)[:, 0]
    assert scale.tolist() == [1, 1, 2, 3, 3, 3], "the longest episode has four steps"
