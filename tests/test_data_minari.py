"""Minari datasets: the real package reads what is written, and its conventions are kept."""

import json
import re
import sys

import h5py
import numpy as np
import pytest
from example_episodes import assert_same, make_episodes
from gymnasium import spaces

from hotloop.train.data import read_episodes, write_episodes
from hotloop.train.data.formats.registry import find_dataset, open_dataset
from hotloop.train.data.inspect import inspect_dataset

minari = pytest.importorskip("minari", reason="Minari needs Python 3.11 or later")
EpisodeBuffer = pytest.importorskip("minari.data_collector").EpisodeBuffer

QUIET = pytest.mark.filterwarnings("ignore::UserWarning:minari")


@pytest.fixture(autouse=True)
def datasets_root(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    return tmp_path


def collect(dataset_id, observation_space, observations, action_space=None, actions=None):
    """A dataset of 2 and 3 steps made by the real package; only truncations, as in PointMaze."""
    box = spaces.Box(-1, 1, (2,), np.float32)
    buffers = []
    for index, length in enumerate((2, 3)):
        buffers.append(
            EpisodeBuffer(
                observations=observations[index],
                actions=np.full((length, 2), index, np.float32)
                if actions is None
                else actions[index],
                rewards=np.arange(length, dtype=np.float64),
                terminations=np.zeros(length, bool),
                truncations=np.arange(length) == length - 1,
                infos={"success": np.arange(length + 1) == length},
            )
        )
    return minari.create_dataset_from_buffers(
        dataset_id,
        buffers,
        observation_space=observation_space,
        action_space=action_space or box,
    )


@QUIET
def test_an_episode_has_one_observation_more_than_actions(datasets_root):
    rows = [np.arange(3.0)[:, None], 10 + np.arange(4.0)[:, None]]
    collect("toy/line-v0", spaces.Box(-np.inf, np.inf, (1,), np.float64), rows)
    episodes = read_episodes("toy/line-v0")
    assert episodes.observations["observation.state"][:, 0].tolist() == [0, 1, 10, 11, 12]
    assert episodes.final_observations is not None
    assert episodes.final_observations["observation.state"][:, 0].tolist() == [2, 13]
    assert episodes.episode_ends.tolist() == [2, 5]
    assert episodes.terminated.tolist() == [False, False]
    assert episodes.metadata["minari"]["dataset_id"] == "toy/line-v0"
    info = read_episodes("toy/line-v0", everything=True).infos["success"]
    assert info.tolist() == [False] * 5


@QUIET
def test_a_dict_observation_becomes_one_key_per_entry():
    box = spaces.Box(-np.inf, np.inf, (2,), np.float64)
    space = spaces.Dict({"observation": box, "desired_goal": box})
    rows = [{name: np.full((n + 1, 2), n) for name in space} for n in (2.0, 3.0) for n in [int(n)]]
    collect("toy/maze-v0", space, rows)
    episodes = read_episodes("toy/maze-v0")
    assert set(episodes.observations) == {"observation.observation", "observation.desired_goal"}
    keys = {"observation.goal": "observations/desired_goal[:1]", "action": "actions"}
    chosen = read_episodes("toy/maze-v0", keys).observations["observation.goal"]
    assert chosen[:, 0].tolist() == [2, 2, 3, 3, 3]


@QUIET
def test_discrete_observations_are_vectors_of_one():
    rows = [np.arange(3), np.arange(4)]
    collect("toy/grid-v0", spaces.Discrete(9), rows)
    assert read_episodes("toy/grid-v0").observations["observation.state"].shape == (5, 1)


def test_only_few_episodes_are_in_memory_at_a_time(monkeypatch):
    """Rewards are small, but Minari reads whole episodes: one block of them is all of the data."""
    path = write_episodes("reach/scripted-v0", make_episodes(images=True), "minari")
    monkeypatch.setattr("hotloop.train.data.formats.minari._KEPT_BYTES", 1)
    with open_dataset(path) as file:
        assert len(file.column("rewards").read()) == 12
        assert file.cuts().terminated.tolist() == [True, False, True]
        assert len(file._loaded) == 1
    assert_same(read_episodes(path, everything=True), make_episodes(images=True))


def test_the_real_package_reads_what_is_written():
    written = make_episodes(images=True)
    write_episodes("reach/scripted-v0", written, "minari")
    dataset = minari.load_dataset("reach/scripted-v0")
    assert (dataset.total_episodes, dataset.total_steps) == (3, 12)
    episodes = list(dataset.iterate_episodes())
    assert [len(episode.rewards) for episode in episodes] == [3, 4, 5]
    assert [bool(episode.terminations[-1]) for episode in episodes] == [True, False, True]
    assert [bool(episode.truncations[-1]) for episode in episodes] == [False, True, False]
    image = episodes[1].observations["images.top"]
    assert (image.shape, image.dtype) == ((5, 10, 12, 3), np.uint8)
    np.testing.assert_array_equal(image[:4], written.observations["observation.images.top"][3:7])
    assert dataset.observation_space["state"].shape == (4,)


def test_a_single_state_is_a_box_and_not_a_dict():
    episodes = make_episodes()
    only = {"observation.state": episodes.observations["observation.state"]}
    write_episodes(
        "reach/state-v0", type(episodes)(only, episodes.actions, np.array([12])), "minari"
    )
    assert minari.load_dataset("reach/state-v0").observation_space.shape == (4,)


def test_an_id_that_minari_would_not_read_is_refused(datasets_root):
    with pytest.raises(ValueError, match="Malformed dataset ID: x/y-v0"):
        write_episodes("x/y-v0", make_episodes(), "minari")
    assert list(datasets_root.rglob("*.hdf5")) == []


def test_an_unknown_id_names_the_nearest_of_those_that_are_there():
    write_episodes("reach/scripted-v0", make_episodes(), "minari")
    with pytest.raises(FileNotFoundError, match=r"'reach/scriptd-v0' .*nearest: reach/scripted-v0"):
        find_dataset("reach/scriptd-v0")


def test_a_missing_episode_is_named(datasets_root):
    path = write_episodes("reach/scripted-v0", make_episodes(), "minari")
    with h5py.File(path / "data/main_data.hdf5", "a") as file:
        del file["episode_1/actions"]
    with pytest.raises(ValueError, match=rf"^{re.escape(str(path))}: episode 1 .*'actions'"):
        read_episodes(path)
    assert inspect_dataset(path).problems != ()


def test_a_truncated_file_is_named():
    path = write_episodes("reach/scripted-v0", make_episodes(), "minari")
    file = path / "data/main_data.hdf5"
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(
        ValueError, match=rf"^{re.escape(str(path))}: cannot be opened: .*truncated"
    ):
        read_episodes(path)


def test_a_folder_without_data_is_named():
    path = write_episodes("reach/scripted-v0", make_episodes(), "minari")
    (path / "data/main_data.hdf5").unlink()
    with pytest.raises(ValueError, match=rf"^{re.escape(str(path))}: cannot be opened: No data"):
        read_episodes(path)


def test_missing_minari_names_the_extra(monkeypatch):
    path = write_episodes("reach/scripted-v0", make_episodes(), "minari")
    assert json.loads((path / "data/metadata.json").read_text())["total_steps"] == 12
    monkeypatch.setitem(sys.modules, "minari", None)
    with pytest.raises(ImportError, match=re.escape("pip install 'hotloop[minari]'")):
        read_episodes(path)
