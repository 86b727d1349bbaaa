import argparse
import json
import subprocess
import sys

import h5py
import numpy as np
import pytest
from example_episodes import make_episodes

from hotloop.train.commands import data
from hotloop.train.data import write_episodes
from hotloop.train.data.formats.registry import read_episodes
from hotloop.train.demonstrations.generate import Collection, generate_demonstrations


def run(*words):
    parser = argparse.ArgumentParser("hotloop")
    data.complete(data.add_parser(parser.add_subparsers()))
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
        f"{good_file} (zarr)",
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


def test_inspect_takes_ids_and_options(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOTLOOP_DATASETS", str(tmp_path))
    with h5py.File(tmp_path / "kitchen_microwave_kettle_light_slider-v0.hdf5", "w") as file:
        file["observations"], file["actions"] = np.ones((10, 4)), np.ones((10, 2))
        file["terminals"] = np.zeros(10, bool)
    assert run("inspect", "kitchen-partial-v0") == 1
    assert "max_episode_steps (kitchen 280" in capsys.readouterr().out
    assert run("inspect", "kitchen-partial-v0", "--max-episode-steps", 5) == 0
    assert "length    min 5, median 5, max 5 steps" in capsys.readouterr().out


def test_convert_writes_another_format_and_says_what_it_cannot_keep(tmp_path, capsys):
    source = write_episodes(tmp_path / "a.hdf5", make_episodes())
    target = tmp_path / "b"
    words = ("convert", source, target, "--to", "lerobot", "--fps", 25, "--task", "reach it")
    assert run(*words) == 0
    assert capsys.readouterr().out == (
        f"{target} (lerobot): 3 episodes, 12 steps\n"
        "not kept: final_observations, what was seen after the last action of each episode\n"
    )
    metadata = read_episodes(target).metadata
    assert (metadata["fps"], metadata["tasks"]) == (25, ["reach it"])
    with pytest.raises(FileExistsError, match="exists already"):
        run(*words)
    assert run(*words, "--overwrite") == 0


def test_convert_takes_columns(tmp_path):
    source = write_episodes(tmp_path / "a.hdf5", make_episodes())
    keys = ("--keys", "action=actions", "observation.x=observations[4:]")
    assert run("convert", source, tmp_path / "b.zarr", *keys) == 0
    assert set(read_episodes(tmp_path / "b.zarr").observations) == {"observation.x"}
    with pytest.raises(ValueError, match=r"--keys takes KEY=COLUMN, .* got 'action'"):
        run("convert", source, tmp_path / "c.zarr", "--keys", "action")


def test_generate_writes_demonstrations_that_read_back(tmp_path, capsys):
    path = tmp_path / "maze.hdf5"
    words = ("generate", "pointmaze-umaze", path, "--num-episodes", 2, "--seed", 5)
    assert run(*words, "--action-noise", 0.1) == 0
    episodes = read_episodes(path)
    assert capsys.readouterr().out == (
        f"{path}: 2 episodes, {len(episodes.actions)} steps, 2 successful, 2 ended in a terminal "
        "state, mean return 1.0\n"
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
    assert episodes.metadata["experts"] == [
        {
            "expert": "waypoint controller",
            "action_noise": 0.1,
            "actions": "intended, without the noise",
            "first_seed": 5,
            "num_episodes": 2,
        }
    ]
    assert set(episodes.metadata["versions"]) >= {"hotloop", "mujoco"}


def test_generation_depends_on_its_arguments_alone(tmp_path):
    one, other = (
        Collection("pointmaze-umaze", 1, action_noise=0.2),
        Collection("pointmaze-umaze", 1),
    )
    written = generate_demonstrations(tmp_path / "a.hdf5", one)
    again = generate_demonstrations(tmp_path / "b.hdf5", one)
    np.testing.assert_array_equal(written.actions, again.actions)
    different = generate_demonstrations(tmp_path / "c.hdf5", other)
    assert not np.array_equal(written.actions[:20], different.actions[:20])


def test_generate_refuses_before_it_simulates(tmp_path, monkeypatch):
    path = tmp_path / "maze.hdf5"
    old = write_episodes(path, make_episodes()).read_bytes()
    monkeypatch.setattr(
        "hotloop.train.demonstrations.generate.record_episode",
        lambda *_, **__: pytest.fail("simulated"),
    )
    with pytest.raises(FileExistsError, match=r"maze\.hdf5: exists already"):
        run("generate", "pointmaze-umaze", path)
    for words, message in (
        (("pointmaze-umaze", "--num-episodes", 0), "num_episodes must be at least 1"),
        (("pointmaze-umaze", "--level", "expert"), "scripted expert, which knows no level"),
        (("hoper", "--level", "expert"), "there is no task 'hoper'"),
        (("hopper", "--level", "mediun"), "has no level 'mediun'; did you mean 'medium'"),
        (("hopper", "--level", "medium"), "give the folder that holds Hopper_.*npz as agents"),
        (("pusht",), "nobody demonstrates task 'pusht'; there are trained agents for hopper"),
    ):
        with pytest.raises(ValueError, match=message):
            run("generate", words[0], path, "--overwrite", *words[1:])
    words = ("hopper", path, "--overwrite", "--level", "medium", "--agents", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"Hopper_\w+\.npz: no such agent"):
        run("generate", *words)
    assert path.read_bytes() == old


def test_importing_the_command_stays_light():
    heavy = "{'torch', 'h5py', 'zarr', 'gymnasium', 'numpy', 'tqdm'}"
    code = f"import sys, hotloop.train.commands.data; sys.exit(str({heavy} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stderr.strip() == "set()"
