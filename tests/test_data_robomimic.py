"""robomimic's HDF5 conventions, and what is refused."""

import json
import re
from importlib import metadata

import h5py
import numpy as np
import pytest
from example_episodes import make_episodes

from hotloop.train.data import ReadOptions, read_episodes, write_episodes
from hotloop.train.data.formats.robomimic import check_robosuite
from hotloop.train.data.inspect import inspect_dataset

LENGTHS = {"demo_0": 3, "demo_2": 4, "demo_10": 5}


def write_file(path, *, changes=(), env_args=None):
    """Three demonstrations as robomimic's scripts write them; `changes` replace datasets."""
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["total"] = sum(LENGTHS.values())
        data.attrs["env_args"] = json.dumps(env_args or {"env_name": "Lift", "type": 1})
        for name, length in LENGTHS.items():
            demo = data.create_group(name)
            demo.attrs["num_samples"] = length
            objects = rng.normal(size=(length + 1, 10))
            demo["actions"] = np.full((length, 7), float(name.removeprefix("demo_")))
            demo["actions_abs"] = rng.normal(size=(length, 10))
            demo["states"] = rng.normal(size=(length, 32))
            demo["rewards"] = np.zeros(length)
            demo["dones"] = (np.arange(length) == length - 1) & (name != "demo_2")
            demo["obs/object"], demo["next_obs/object"] = objects[:-1], objects[1:]
            demo["obs/agentview_image"] = rng.integers(0, 256, (length, 8, 8, 3), dtype=np.uint8)
            demo["next_obs/agentview_image"] = np.zeros((length, 8, 8, 3), np.uint8)
        file["mask/train"] = np.array([b"demo_10", b"demo_0"])
        for name, array in dict(changes).items():
            if name in file:
                del file[name]
            if array is not None:
                file[name] = array
    return path


def assert_error(message, call, *args, **options):
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        call(*args, **options)


def test_demonstrations_are_episodes_in_the_order_of_their_numbers(tmp_path):
    episodes = read_episodes(write_file(tmp_path / "a.hdf5"))
    assert episodes.episode_ends.tolist() == [3, 7, 12]
    assert episodes.actions[:, 0].tolist() == [0] * 3 + [2] * 4 + [10] * 5
    assert episodes.terminated.tolist() == [True, False, True]
    assert {key: array.shape for key, array in episodes.observations.items()} == {
        "observation.object": (12, 10)
    }
    assert episodes.metadata["env_args"] == {"env_name": "Lift", "type": 1}


def test_the_next_observation_of_the_last_action_is_the_final_one(tmp_path):
    path = write_file(tmp_path / "a.hdf5")
    with h5py.File(path) as file:
        last = [file[f"data/{name}/next_obs/object"][-1] for name in LENGTHS]
    final = read_episodes(path).final_observations
    assert final is not None
    np.testing.assert_array_equal(final["observation.object"], np.float32(last))


def test_images_and_states_are_read_when_asked_for(tmp_path):
    path = write_file(tmp_path / "a.hdf5")
    keys = {"observation.image": "obs/agentview_image", "action": "actions", "info.s": "states"}
    episodes = read_episodes(path, keys)
    assert episodes.observations["observation.image"].shape == (12, 8, 8, 3)
    assert episodes.observations["observation.image"].dtype == np.uint8
    assert (episodes.infos["s"].shape, episodes.infos["s"].dtype) == ((12, 32), np.float64)
    assert set(read_episodes(path, everything=True).infos) == {"actions_abs", "states"}


def test_a_key_of_hotloop_stands_for_what_the_format_has_under_it(tmp_path):
    path = write_file(tmp_path / "a.hdf5")
    keys = {"observation.object": "observation.object", "action": "action"}
    episodes, expected = read_episodes(path, keys), read_episodes(path)
    np.testing.assert_array_equal(
        episodes.observations["observation.object"], expected.observations["observation.object"]
    )
    np.testing.assert_array_equal(episodes.actions, expected.actions)
    with pytest.raises(
        ValueError, match=r"no column .observation\.cube.; the file has .*obs/object"
    ):
        read_episodes(path, {**keys, "observation.cube": "observation.cube"})


def test_depths_stay_what_they_are(tmp_path):
    depth = {f"data/{n}/obs/depth": np.full((m, 4, 5, 1), 0.3) for n, m in LENGTHS.items()}
    path = write_file(tmp_path / "a.hdf5", changes=depth)
    array = read_episodes(path, everything=True).observations["observation.depth"]
    assert (array.shape, array.dtype, array.max()) == ((12, 4, 5, 1), np.float32, np.float32(0.3))


def test_a_subset_is_the_demonstrations_that_its_mask_names(tmp_path):
    episodes = read_episodes(write_file(tmp_path / "a.hdf5"), options=ReadOptions(subset="train"))
    assert episodes.actions[:, 0].tolist() == [0] * 3 + [10] * 5


def test_absolute_actions_replace_the_relative_ones(tmp_path):
    path = write_file(tmp_path / "a.hdf5")
    episodes = read_episodes(path, options=ReadOptions(absolute_actions=True), everything=True)
    assert episodes.actions.shape == (12, 10)
    assert set(episodes.infos) == {"states"}


def test_a_written_file_has_every_attribute_that_robomimic_reads(tmp_path):
    path = write_episodes(tmp_path / "a.hdf5", make_episodes(images=True), "robomimic")
    with h5py.File(path) as file:
        assert file["data"].attrs["total"] == 12
        assert json.loads(file["data"].attrs["env_args"]) == {
            "env_name": "reach",
            "type": 2,
            "env_kwargs": {},
        }
        assert [file[f"data/demo_{i}"].attrs["num_samples"] for i in range(3)] == [3, 4, 5]
        demo = file["data/demo_1"]
        assert set(demo["obs"]) == set(demo["next_obs"]) == {"state", "goal", "images.top"}
        assert demo["obs/images.top"].dtype == np.uint8
        assert demo["dones"][:].tolist() == [0, 0, 0, 0]
        np.testing.assert_array_equal(demo["next_obs/state"][:-1], demo["obs/state"][1:])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"data/demo_2/obs/object": None},
            "column 'obs/object' cannot be opened: data/demo_2 has no 'obs/object', unlike the",
        ),
        (
            {"data/demo_2/obs/object": np.ones((9, 10))},
            "column 'obs/object' cannot be opened: data/demo_2/obs/object has 9 steps, but "
            "data/demo_2/actions has 4",
        ),
        (
            {"data/demo_2/obs/object": np.ones((4, 3))},
            "column 'obs/object' cannot be opened: 'data/demo_2/obs/object' has steps of shape "
            "(3,), but 'data/demo_0/obs/object' of shape (10,)",
        ),
        (
            {f"data/{name}/actions": None for name in LENGTHS},
            "no column 'actions'; the file has actions_abs, ",
        ),
        (
            {
                f"data/demo_2/{name}": np.zeros((0, *step))
                for name, step in {
                    "actions": (7,),
                    "rewards": (),
                    "obs/object": (10,),
                    "obs/agentview_image": (8, 8, 3),
                }.items()
            },
            "data/demo_2 has no steps",
        ),
        (
            {"data/demo_0/rewards": np.full(3, np.nan)},
            "'reward' is NaN or infinite in 3 of 12 steps, first at step 0",
        ),
    ],
)
def test_inconsistent_demonstrations_are_named(tmp_path, changes, message):
    path = write_file(tmp_path / "a.hdf5", changes=changes)
    assert_error(f"{path}: {message}", read_episodes, path)


def test_an_unknown_subset_is_named_beside_the_known_ones(tmp_path):
    path = write_file(tmp_path / "a.hdf5")
    message = f"{path}: cannot be opened: no subset 'mask/valid'; the file has train"
    assert_error(message, read_episodes, path, options=ReadOptions(subset="valid"))
    write_file(path, changes={"mask/train": np.array([b"demo_7"])})
    message = f"{path}: cannot be opened: 'mask/train' names 'demo_7', which is not in the file"
    assert_error(message, read_episodes, path, options=ReadOptions(subset="train"))


def test_a_damaged_chunk_names_its_demonstration(tmp_path):
    path = tmp_path / "a.hdf5"
    write_episodes(path, make_episodes(), "robomimic")
    with h5py.File(path) as file:
        offset = file["data/demo_1/actions"].id.get_chunk_info(0).byte_offset
    stored = bytearray(path.read_bytes())
    stored[offset : offset + 8] = b"\xff" * 8
    path.write_bytes(stored)
    with pytest.raises(ValueError, match=r"column 'actions' cannot be decoded .*data/demo_1/act"):
        read_episodes(path)


def test_inspection_finds_wrong_counts_and_masks(tmp_path):
    path = write_file(tmp_path / "a.hdf5", changes={"mask/train": np.array([b"demo_7"])})
    with h5py.File(path, "a") as file:
        file["data"].attrs["total"] = 99
        file["data/demo_2"].attrs["num_samples"] = 5
        del file["data/demo_10"].attrs["num_samples"]
    report = inspect_dataset(path)
    assert report.num_episodes == 3
    assert sorted(report.problems) == [
        "attribute 'total' of 'data' says 99 steps, but there are 12",
        "data/demo_10 has no attribute 'num_samples', which robomimic needs",
        "data/demo_2 says 5 samples, but has 4 actions",
        "mask/train names demonstrations that are not there: ['demo_7']",
    ]


def test_raw_robosuite_demonstrations_say_how_to_use_them(shared_data):
    path = shared_data / "robosuite_demos/v1.4.1/lift/demo.hdf5"
    report = inspect_dataset(path)
    assert report.layout == "unreadable"
    (problem,) = report.problems
    assert "no observations: these are simulator states" in problem
    assert f"`hotloop data replay {path}`" in problem


@pytest.mark.parametrize("recorded", ["1.2.0", "0.3.0"])
def test_another_robosuite_release_is_refused_before_training(tmp_path, monkeypatch, recorded):
    """A policy trained across that border never succeeds, and nothing says why."""
    monkeypatch.setattr(metadata, "version", lambda name: {"robosuite": "1.5.1"}[name])
    env_args = {"env_name": "Lift", "type": 1, "env_version": recorded}
    path = write_file(tmp_path / "a.hdf5", env_args=env_args)
    message = f"a.hdf5 was recorded with robosuite {recorded}, but 1.5.1 is installed"
    assert_error(message, check_robosuite, read_episodes(path).metadata)
    assert inspect_dataset(path).problems[0].endswith(f"accept_robosuite={recorded}")
    accepted = read_episodes(path, options=ReadOptions(accept_robosuite=recorded))
    check_robosuite(accepted.metadata)


@pytest.mark.parametrize(
    "env_args",
    [
        {"env_name": "Lift", "type": 1, "env_version": "1.5.0"},
        {"env_name": "Lift", "type": 1},
        {"env_name": "Hopper", "type": 2, "env_version": "0.1"},
    ],
)
def test_the_same_release_and_other_simulators_pass(monkeypatch, env_args):
    monkeypatch.setattr(metadata, "version", lambda name: {"robosuite": "1.5.1"}[name])
    check_robosuite({"env_args": env_args})


@pytest.mark.parametrize("frequency", [0, -5, "fast"])
def test_a_control_frequency_is_a_number_above_zero(tmp_path, frequency):
    env_args = {"env_name": "Lift", "type": 1, "env_kwargs": {"control_freq": frequency}}
    problems = inspect_dataset(write_file(tmp_path / "a.hdf5", env_args=env_args)).problems
    assert (
        f"env_kwargs: control_freq must be a number above 0, found {str(frequency)!r}" in problems
    )


def test_pictures_of_fractions_are_a_problem(tmp_path):
    pictures = np.full((3, 8, 8, 3), 0.5, np.float32)
    path = write_file(tmp_path / "a.hdf5")
    with h5py.File(path, "r+") as file:
        for name, length in LENGTHS.items():
            del file[f"data/{name}/obs/agentview_image"]
            file[f"data/{name}/obs/agentview_image"] = np.resize(pictures, (length, 8, 8, 3))
    assert any(
        "'obs/agentview_image' has the shape of pictures" in p and "from 0 to 255" in p
        for p in inspect_dataset(path).problems
    )
