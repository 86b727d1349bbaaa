"""Training of planners: what the losses look at, and a run from the command to a policy."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_planner import HORIZON, SPEC, tiny_config, tiny_planner, walks

from hotloop.policies.checkpoint import load_checkpoint
from hotloop.policies.planners.model import PlannerModel
from hotloop.train.config.compose import compose
from hotloop.train.config.policies import PlannerLosses
from hotloop.train.config.training import TrainConfig
from hotloop.train.data.plan_windows import PlanWindows
from hotloop.train.data.write import write_episodes
from hotloop.train.families.planners import prepare_planner
from hotloop.train.objectives.planning import PlannerDraw, PlannerObjective, hindsight_goals
from hotloop.train.training import train_on

WHOLE = PlannerLosses(drafter_share=1.0, drafter_noise=0.0)
KINDS = ("trajectory_diffuser", "decision_diffuser", "diffuser")
SMALL = (
    "policy.model.horizon=6",
    "policy.model.inverse_width=8",
    "policy.model.network.width=16",
    "policy.model.network.depth=1",
    "policy.model.num_levels=20",
    "task.name=toy",
    "batch_size=8",
    "steps=4",
    "save_every=2",
)


def config(kind: str, folder: Path, *overrides: str) -> TrainConfig:
    chosen = (f"policy={kind}", "task=pointmaze-umaze", *SMALL, f"output_dir={folder}", *overrides)
    return compose("train", chosen, TrainConfig)


def drawn(model: PlannerModel, seed: int = 0) -> PlannerDraw:
    windows = PlanWindows(walks(), model.state_keys, model.config)
    objective = PlannerObjective(model, WHOLE)
    batch = windows.gather(torch.arange(0, len(windows), 3))
    return objective.draw(batch, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("choices", [{}, {"joint": True, "value": True}])
def test_no_loss_looks_behind_the_end_of_an_episode(choices: dict[str, bool]) -> None:
    """Predictions there are free: a target that only changes there changes no loss.

    The denoiser and the value do see those states as input, noised; here their noise hides them.
    """
    model = tiny_planner(**choices)
    inputs = drawn(model)
    behind = inputs.valid == 0
    assert behind.any()
    level = torch.full_like(inputs.level, model.config.num_levels)
    level[:, 0] = 0
    objective = PlannerObjective(model, WHOLE)
    model.schedule.signals[-1] = 0.0  # nothing of the clean plan shines through
    losses = []
    for value in (0.0, 5.0):
        states, actions, returns = (
            one.clone() for one in (inputs.states, inputs.actions, inputs.returns)
        )
        states[behind], actions[behind], returns[behind] = value, value, value
        changed = replace(inputs, level=level, states=states, actions=actions, returns=returns)
        losses.append(objective(changed))
    torch.testing.assert_close(losses[0], losses[1])


def test_processes_that_share_a_batch_lose_what_one_does() -> None:
    """The drafter's quarter of the batch was the first quarter of each process's rows."""
    model = tiny_planner()
    windows = PlanWindows(walks(), model.state_keys, model.config)
    objective = PlannerObjective(model, PlannerLosses(drafter_share=0.25))
    inputs = objective.draw(windows.gather(torch.arange(16)), torch.Generator().manual_seed(0))
    shares = [objective(inputs.select(slice(8 * half, 8 * half + 8))) for half in range(2)]
    torch.testing.assert_close(sum(shares) / 2, objective(inputs))


def test_noise_that_drowns_the_state_is_pointed_out(caplog: pytest.LogCaptureFixture) -> None:
    model = tiny_planner()
    assert model.drafter is not None
    model.drafter.gain[: model.state_dim] = 0.3
    PlannerObjective(model, PlannerLosses())
    assert not caplog.messages
    model.drafter.gain[: model.state_dim] = 1.2
    PlannerObjective(model, PlannerLosses())
    assert "drafter_noise=0.3 is 0.36 of their spread" in caplog.text
    assert "try 0.042" in caplog.text


def test_pinned_positions_are_clean_when_trained_as_when_planning() -> None:
    model = tiny_planner(goal_key="observation.goal", drafter=None)
    windows = PlanWindows(walks(rewards=False), model.state_keys, model.config)
    batch = windows.gather(torch.arange(40))
    inputs = PlannerObjective(model).draw(batch, torch.Generator().manual_seed(0))
    assert not inputs.level[:, [0, -1]].any()
    assert (inputs.level[:, 1:-1] > 0).all()
    clean = model.encode_plan(batch.states, batch.actions)
    noised = model.schedule.add_noise(clean, inputs.noise, inputs.level)
    assert torch.equal(noised[:, [0, -1]], clean[:, [0, -1]])


def test_a_window_stays_at_the_state_that_is_made_its_goal() -> None:
    model = tiny_planner(goal_key="observation.goal", critic=False, joint=True)
    windows = PlanWindows(walks(rewards=False), model.state_keys, model.config)
    batch = windows.gather(torch.arange(3))
    relabelled, goal = hindsight_goals(model, batch, torch.tensor([0, 2, HORIZON - 1]))
    for row, arrival in enumerate((0, 2, HORIZON - 1)):
        assert torch.equal(goal[row], batch.states[row, arrival, :2])
        kept = min(arrival + 1, HORIZON - 1)
        assert torch.equal(relabelled.states[row, :kept], batch.states[row, :kept])
        at_rest = torch.tensor([*goal[row].tolist(), 0.0, 0.0])
        assert torch.equal(relabelled.states[row, kept:], at_rest.expand(HORIZON - kept, 4))
        assert torch.equal(relabelled.actions[row, :arrival], batch.actions[row, :arrival])
        idle = model.action_normalizer(relabelled.actions[row, arrival:])
        torch.testing.assert_close(idle, torch.zeros_like(idle), atol=1e-6, rtol=0)


def test_goals_are_states_that_the_window_really_reaches() -> None:
    model = tiny_planner(goal_key="observation.goal", critic=False)
    windows = PlanWindows(walks(rewards=False), model.state_keys, model.config)
    last = torch.tensor([19]).repeat(50)  # nothing follows the last step of an episode
    inputs = PlannerObjective(model).draw(windows.gather(last), torch.Generator().manual_seed(0))
    assert torch.equal(inputs.goal, windows.states[last, :2])
    assert not inputs.moves.any(), "inverse dynamics learn from real steps only"


def test_dropped_conditions_are_hidden() -> None:
    model = tiny_planner()
    inputs = drawn(model)
    share = 1 - float(inputs.keep.mean())
    assert 0.1 < share < 0.4
    hidden = model.condition(inputs.returns[:, 0], inputs.keep)[inputs.keep == 0]
    assert not hidden.any()


def test_training_learns_to_draft_to_plan_and_to_act() -> None:
    model, windows = prepare_planner(tiny_config(value=True), walks(), seed=0)
    objective = PlannerObjective(model, WHOLE)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    generator = torch.Generator().manual_seed(0)
    losses = []
    for _ in range(150):
        batch = windows.gather(torch.randint(len(windows), (64,), generator=generator))
        loss = objective(objective.draw(batch, generator))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert np.mean(losses[-10:]) < 0.6 * np.mean(losses[:5])
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_ends_in_a_checkpoint_that_plans(kind: str, tmp_path: Path) -> None:
    folder = train_on(config(kind, tmp_path / "run"), walks(), SPEC)
    checkpoint = load_checkpoint(folder)
    assert checkpoint.kind == kind
    policy = checkpoint.policy({"calls_per_step": 1})
    policy.reset(np.array([0]))
    assert policy.observation_spec.shapes == {"observation.state": (4,), "reward": (1,)}
    assert policy.sampling.guidance == checkpoint.sampling.guidance


def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(tmp_path: Path) -> None:
    whole = train_on(config(KINDS[0], tmp_path / "whole"), walks(), SPEC)
    train_on(config(KINDS[0], tmp_path / "cut"), walks(), SPEC)
    (tmp_path / "cut" / "checkpoints" / "last").unlink()
    (tmp_path / "cut" / "checkpoints" / "last").symlink_to("000002")
    resumed = train_on(config(KINDS[0], tmp_path / "cut", "resume=true"), walks(), SPEC)
    for name in ("model.safetensors", "training_state/weights.safetensors"):
        one, other = load_file(whole / name), load_file(resumed / name)
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_a_planner_is_trained_by_one_command(tmp_path: Path) -> None:
    from hotloop.train.cli import main

    write_episodes(tmp_path / "walks.hdf5", walks())
    chosen = [f"task.dataset={tmp_path / 'walks.hdf5'}", "task=pointmaze-umaze"]
    settings = [one for one in SMALL if not one.startswith("task.name")]
    arguments = ["train", "policy=trajectory_diffuser", *chosen, *settings]
    assert main([*arguments, f"output_dir={tmp_path / 'run'}"]) == 0
    assert load_checkpoint(tmp_path / "run").provenance["task"] == "pointmaze-umaze"


def test_returns_need_rewards() -> None:
    with pytest.raises(ValueError, match="the dataset has no rewards"):
        prepare_planner(tiny_config(), walks(rewards=False), seed=0)


def test_a_goal_must_be_observed() -> None:
    with pytest.raises(ValueError, match=r"goal_key must be one of .*observation.state.*'goal'"):
        prepare_planner(tiny_config(goal_key="goal"), walks(), seed=0)


def test_a_planner_is_timed_by_bench(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from hotloop.train.cli import main

    folder = train_on(config("trajectory_diffuser", tmp_path / "run"), walks(), SPEC)
    output = tmp_path / "latency.json"
    options = ["engines=[eager]", "steps=2", "calls=[1,3]", "sampling.reuse=5"]
    assert main(["bench", str(folder), *options, f"output={output}"]) == 0
    rows = json.loads(output.read_text())["rows"]
    assert [row["name"] for row in rows] == ["trajectory-diffuser-2", "trajectory-diffuser-4"]
    assert all(row["median_ms"] > 0 and row["overhead"] is None for row in rows)
    assert "trajectory-diffuser-4" in capsys.readouterr().out
