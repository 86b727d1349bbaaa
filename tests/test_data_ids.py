"""D4RL's ids: which file each one is, and what to do when it is not there."""

import re

import pytest
from example_episodes import assert_same, make_episodes

from hotloop.train.data import read_episodes, write_episodes
from hotloop.train.data.formats.d4rl_ids import D4RL_FILES
from hotloop.train.data.formats.registry import find_dataset


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOTLOOP_DATASETS", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("dataset_id", "file"),
    [
        ("hopper-medium-v2", "gym_mujoco_v2/hopper_medium-v2.hdf5"),
        ("walker2d-medium-replay-v0", "gym_mujoco/walker_mixed.hdf5"),
        ("halfcheetah-medium-expert-v2", "gym_mujoco_v2/halfcheetah_medium_expert-v2.hdf5"),
        ("ant-full-replay-v1", "gym_mujoco_v1/ant_full_replay-v1.hdf5"),
        ("maze2d-umaze-v1", "maze2d/maze2d-umaze-sparse-v1.hdf5"),
        ("maze2d-large-dense-v1", "maze2d/maze2d-large-dense-v1.hdf5"),
        (
            "antmaze-large-diverse-v2",
            "ant_maze_v2/Ant_maze_hardest-maze_noisy_multistart_True_multigoal_True_sparse_fixed"
            ".hdf5",
        ),
        ("kitchen-mixed-v0", "kitchen/kitchen_microwave_kettle_bottomburner_light-v0.hdf5"),
        ("pen-human-v1", "hand_dapg_v1/pen-human-v1.hdf5"),
        ("door-cloned-v0", "hand_dapg/door-demos-v0-bc-combined.hdf5"),
    ],
)
def test_an_id_is_the_file_that_d4rl_gives_it(dataset_id, file):
    assert D4RL_FILES[dataset_id] == file


def test_the_ids_are_those_of_the_benchmark():
    """Counted from the table of the d4rl package 1.1: locomotion, mazes, kitchen and hands."""
    families = [name.split("-")[0] for name in D4RL_FILES]
    counts = {family: families.count(family) for family in families}
    locomotion = dict.fromkeys(("halfcheetah", "hopper", "walker2d", "ant"), 17)
    hands = dict.fromkeys(("pen", "hammer", "door", "relocate"), 6)
    assert counts == {**locomotion, "maze2d": 8, "antmaze": 12, "kitchen": 3, **hands}
    assert len(set(D4RL_FILES.values())) == len(D4RL_FILES)


def test_an_id_is_read_from_the_folder_of_datasets(folder):
    write_episodes(folder / "hopper_medium-v2.hdf5", make_episodes())
    assert_same(read_episodes("hopper-medium-v2", everything=True), make_episodes())


def test_an_absent_file_says_where_to_get_it_and_where_to_put_it(folder):
    message = (
        f"{folder / 'hopper_medium-v2.hdf5'}: the file of 'hopper-medium-v2' is not there; nothing "
        "is downloaded by itself: fetch http://rail.eecs.berkeley.edu/datasets/offline_rl/"
        "gym_mujoco_v2/hopper_medium-v2.hdf5 into that folder, or set HOTLOOP_DATASETS"
    )
    with pytest.raises(FileNotFoundError, match="^" + re.escape(message)):
        find_dataset("hopper-medium-v2")


def test_an_unknown_id_names_the_nearest():
    with pytest.raises(FileNotFoundError, match=r"^'hoper-medium-v2' .*nearest: hopper-medium-v2,"):
        find_dataset("hoper-medium-v2")
