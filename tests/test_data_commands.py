import argparse
import json
import subprocess
import sys

import numpy as np
import pytest

from hotloop.train.commands import data
from hotloop.train.data.d4rl import read_d4rl
from hotloop.train.data.demonstrations import generate_demonstrations


def run(*words):
    parser = argparse.ArgumentParser("hotloop")
    data.add_parser(parser.add_subparsers())
    args = parser.parse_args(["data", *map(str, words)])
    return args.run(args)


@pytest.fixture
def good_file(tmp_path):
    path = tmp_path / "good.npz"
    np.savez(path, action=np.eye(4, 2), state=np.ones((4, 3)), episode_ends=np.array([1, 4]))
    return path


@pytest.fixture
def bad_file(tmp_path):
    path = tmp_path / "bad.npz"
    np.savez(path, action=np.full((4, 2), np.nan), episode_ends=np.array([3]))
    return path


def test_inspect_prints_a_table_and_succeeds_on_a_good_file(good_file, capsys):
    assert run("inspect", good_file) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:4] == [
        f"{good_file} (replay)",
        "episodes  2",
        "steps     4",
        "length    min 1, median 2, max 3 steps",
    ]
    assert lines[6].split() == ["action", "(2,)", "float64", "0", "1", "0.25", "0", "0"]
    assert lines[-1] == "no problems found"


def test_inspect_lists_problems_and_fails_on_a_bad_file(bad_file, capsys):
    assert run("inspect", bad_file) == 1
    assert capsys.readouterr().out.splitlines()[-3:] == [
        "2 problem(s):",
        "  - column 'action' holds 8 NaN and 0 infinite values",
        "  - 'episode_ends' ends at 3, but the actions have 4 steps",
    ]


def test_inspect_prints_strict_json(bad_file, capsys):
    def refuse(constant):
        raise ValueError(constant)

    assert run("inspect", bad_file, "--json") == 1
    report = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert report["num_steps"] == 4
    assert report["columns"][0]["mean"] is None
    assert len(report["problems"]) == 2


def test_generate_writes_demonstrations_that_read_back(tmp_path, capsys):
    path = tmp_path / "maze.hdf5"
    words = ("generate", "pointmaze-umaze", path, "--num-episodes", 2, "--seed", 5)
    assert run(*words, "--action-noise", 0.1) == 0
    episodes = read_d4rl(path)
    assert capsys.readouterr().out == (
        f"{path}: 2 episodes, {len(episodes.actions)} steps, 2 reached the goal\n"
    )
    assert episodes.num_episodes == 2
    assert {key: array.shape[1:] for key, array in episodes.observations.items()} == {
        "observation.state": (4,),
        "observation.goal": (2,),
    }
    assert episodes.rewards is not None
    assert np.flatnonzero(episodes.rewards).tolist() == (episodes.episode_ends - 1).tolist()
    assert episodes.metadata["num_terminated"] == 2
    assert episodes.metadata["seed"] == 5
    assert episodes.metadata["action_noise"] == 0.1
    assert set(episodes.metadata["versions"]) >= {"hotloop", "mujoco"}


def test_generation_depends_on_its_arguments_alone(tmp_path):
    written = generate_demonstrations(tmp_path / "a.hdf5", "pointmaze-umaze", 1, action_noise=0.2)
    again = generate_demonstrations(tmp_path / "b.hdf5", "pointmaze-umaze", 1, action_noise=0.2)
    other = generate_demonstrations(tmp_path / "c.hdf5", "pointmaze-umaze", 1, seed=1)
    np.testing.assert_array_equal(written.actions, again.actions)
    assert written.actions.shape != other.actions.shape or (written.actions != other.actions).any()


def test_generate_refuses_before_it_simulates(tmp_path, monkeypatch):
    path = tmp_path / "maze.hdf5"
    path.write_bytes(b"precious")
    monkeypatch.setattr(
        "hotloop.envs.waypoint_controller.scripted_episodes", lambda *_: pytest.fail("simulated")
    )
    with pytest.raises(FileExistsError, match=r"maze\.hdf5: exists already"):
        run("generate", "pointmaze-umaze", path)
    with pytest.raises(ValueError, match=r"num_episodes must be at least 1 .* got 0 and 0"):
        run("generate", "pointmaze-umaze", path, "--overwrite", "--num-episodes", 0)
    assert path.read_bytes() == b"precious"


def test_importing_the_command_stays_light():
    heavy = "{'torch', 'h5py', 'zarr', 'gymnasium', 'numpy', 'tqdm'}"
    code = f"import sys, hotloop.train.commands.data; sys.exit(str({heavy} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stderr.strip() == "set()"
