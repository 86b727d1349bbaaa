"""Recordings of one's own robot: what is taken from them, from the command to a checkpoint."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from example_episodes import make_episodes

from hotloop.policies.checkpoint import load_checkpoint
from hotloop.train.cli import main
from hotloop.train.data.formats.registry import read_episodes
from hotloop.train.data.recorded_spec import recorded_action_spec
from hotloop.train.data.write import write_episodes

NAMES = ["shoulder.pos", "gripper.pos"]


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """A LeRobot dataset as a recording program writes it, with names."""
    folder = tmp_path / "lerobot"
    write_episodes(folder, replace(make_episodes(infos=False), metadata={"dt": 0.05}), "lerobot")
    path = folder / "meta" / "info.json"
    info = json.loads(path.read_text())
    info["features"]["action"]["names"] = NAMES
    path.write_text(json.dumps(info))
    return folder


def test_names_bounds_and_rate_are_the_datasets(recorded: Path) -> None:
    episodes = read_episodes(recorded, None)
    spec = recorded_action_spec(episodes)
    assert (list(spec.names), spec.dt) == (NAMES, 0.05)
    np.testing.assert_array_equal(spec.low, episodes.actions.min(axis=0))
    np.testing.assert_array_equal(spec.high, episodes.actions.max(axis=0))


def test_a_policy_trains_on_recordings_without_a_simulator(
    recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    tiny = ["policy.model.horizon=3", "policy.model.network.width=16", "batch_size=4"]
    tiny += ["policy.model.network.depth=1", "policy.sampling.num_execute=1", "steps=2"]
    data = ["task=recorded", f"task.dataset={recorded}", f"output_dir={run}", "save_every=2"]
    assert main(["train", "policy=dp", *data, *tiny]) == 0
    assert list(load_checkpoint(run).action_spec.names) == NAMES
    assert main(["eval", str(run)]) == 2
    assert "was trained on recordings of a robot" in capsys.readouterr().err
    few = ["distill.num_pairs=4", "batch_size=4", "steps=2", "save_every=2", "calls=2"]
    briefly = [f"report.{one}" for one in ("engines=[eager]", "steps=2", "states=2", "samples=4")]
    student = [f"task.dataset={recorded}", f"output_dir={tmp_path / 'student'}"]
    assert main(["distill", str(run), "method=sampler", *student, *few, *briefly]) == 0
    assert "what that does to its success was not measured" in capsys.readouterr().out


def test_recordings_that_do_not_say_what_a_robot_needs_are_refused() -> None:
    with pytest.raises(ValueError, match=r"does not say how much time lies between two steps"):
        recorded_action_spec(replace(make_episodes(), metadata={}))


def test_an_action_that_never_changes_is_told_once_and_held(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A locked wrist is no reason to refuse the recordings of all other joints."""
    episodes = make_episodes()
    still = episodes.actions.copy()
    still[:, 1] = 0.5
    spec = recorded_action_spec(replace(episodes, actions=still))
    assert spec.low[1] < 0.5 < spec.high[1]
    assert spec.high[1] - spec.low[1] < 1e-5
    assert spec.low[0] == episodes.actions[:, 0].min(), "others keep their own range"
    (told,) = caplog.messages
    assert f"{spec.names[1]} never changes" in told
