import re
from dataclasses import replace

import h5py
import numpy as np
import pytest
from example_episodes import d4rl_columns, write_d4rl_columns

from hotloop.train.data.episodes import Episodes
from hotloop.train.data.formats.registry import read_episodes
from hotloop.train.data.write import write_episodes


def make_episodes():
    """Two episodes of 3 and 4 steps with a vector and a matrix observation."""
    rng = np.random.default_rng(0)
    return Episodes(
        observations={
            "observation.state": rng.normal(size=(7, 4)).astype(np.float32),
            "observation.corners": rng.normal(size=(7, 3, 2)).astype(np.float32),
        },
        actions=rng.normal(size=(7, 2)).astype(np.float32),
        episode_ends=np.array([3, 7]),
        rewards=rng.normal(size=7).astype(np.float32),
        terminated=np.array([True, False]),
        metadata={"generator": "test", "seed": 3},
    )


def assert_error(message, call, *args, error=ValueError):
    """The message begins with file, key, expected and found; a decoder's words may follow."""
    with pytest.raises(error, match="^" + re.escape(message)):
        call(*args)


def test_what_is_written_is_read_back(tmp_path):
    path, written = tmp_path / "a.hdf5", make_episodes()
    write_episodes(path, written)
    found = read_episodes(path)
    assert list(found.observations) == list(written.observations)
    for key, array in written.observations.items():
        np.testing.assert_array_equal(found.observations[key], array)
    np.testing.assert_array_equal(found.actions, written.actions)
    np.testing.assert_array_equal(found.rewards, written.rewards)
    np.testing.assert_array_equal(found.episode_ends, written.episode_ends)
    np.testing.assert_array_equal(found.terminated, written.terminated)
    assert found.metadata == {
        "generator": "test",
        "seed": 3,
        "source": "a.hdf5",
        "num_terminated": 1,
        "num_unfinished": 0,
    }


def test_any_d4rl_reader_finds_its_columns(tmp_path):
    write_episodes(tmp_path / "a.hdf5", make_episodes())
    with h5py.File(tmp_path / "a.hdf5") as file:
        assert set(file) == {"observations", "actions", "rewards", "terminals", "timeouts"}
        assert file["observations"].shape == (7, 10)
        assert np.flatnonzero(file["terminals"]).tolist() == [2]
        assert np.flatnonzero(file["timeouts"]).tolist() == [6]


def test_rewards_that_are_unknown_are_not_invented(tmp_path):
    known = make_episodes()
    write_episodes(
        tmp_path / "a.hdf5", Episodes(known.observations, known.actions, known.episode_ends)
    )
    assert read_episodes(tmp_path / "a.hdf5").rewards is None


def test_a_plain_d4rl_file_is_cut_at_terminals_and_timeouts(tmp_path):
    episodes = read_episodes(write_d4rl_columns(tmp_path / "a.hdf5"))
    assert episodes.episode_ends.tolist() == [3, 7, 8]
    assert episodes.terminated.tolist() == [True, False, False]
    assert episodes.metadata["num_terminated"] == 1
    assert episodes.metadata["num_unfinished"] == 1
    columns = d4rl_columns()
    np.testing.assert_array_equal(
        episodes.observations["observation.state"], columns["observations"].astype(np.float32)
    )
    np.testing.assert_array_equal(episodes.rewards, columns["rewards"].astype(np.float32))


def test_a_file_without_terminals_set_and_timeouts_set_is_one_unfinished_episode(tmp_path):
    never = np.zeros(8, bool)
    episodes = read_episodes(
        write_d4rl_columns(tmp_path / "a.hdf5", terminals=never, timeouts=never)
    )
    assert episodes.episode_ends.tolist() == [8]
    assert episodes.metadata["num_unfinished"] == 1


def test_keys_choose_columns_and_infos(tmp_path):
    path = write_d4rl_columns(tmp_path / "a.hdf5")
    keys = {"observation.goal": "infos/goal", "observation.x": "observations[:2]"}
    episodes = read_episodes(path, keys | {"action": "actions"})
    assert {key: a.shape for key, a in episodes.observations.items()} == {
        "observation.goal": (8, 2),
        "observation.x": (8, 2),
    }
    assert episodes.rewards is None


def test_an_existing_file_is_kept_unless_told_otherwise(tmp_path):
    path = tmp_path / "a.hdf5"
    old = write_d4rl_columns(path).read_bytes()
    message = f"{path}: exists already; choose another name or overwrite it"
    assert_error(message, write_episodes, path, make_episodes(), error=FileExistsError)
    assert path.read_bytes() == old
    write_episodes(path, make_episodes(), overwrite=True)
    assert read_episodes(path).num_episodes == 2


def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "a.hdf5"
    old = write_d4rl_columns(path).read_bytes()
    create_dataset = h5py.File.create_dataset

    def interrupted(file, name, **options):
        if name == "terminals":
            raise KeyboardInterrupt
        return create_dataset(file, name, **options)

    monkeypatch.setattr(h5py.File, "create_dataset", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_episodes(path, make_episodes(), overwrite=True)
    assert [child.name for child in tmp_path.iterdir()] == ["a.hdf5"]
    assert path.read_bytes() == old


@pytest.mark.parametrize("terminated", [np.zeros(7, bool), np.zeros(2)])
def test_terminated_must_have_one_boolean_per_episode(terminated):
    message = (
        "'terminated' must have one boolean for each of 2 episodes, got "
        f"{terminated.dtype} of shape {terminated.shape}"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        replace(make_episodes(), terminated=terminated)


def test_without_knowledge_no_episode_terminated():
    known = make_episodes()
    unknown = Episodes(known.observations, known.actions, known.episode_ends)
    assert unknown.terminated.tolist() == [False, False]


def test_a_file_that_could_not_be_read_back_is_not_written(tmp_path):
    path = tmp_path / "a.npz"
    message = f"{path}: a d4rl dataset must end in .hdf5 or .h5, got '.npz'"
    assert_error(message, write_episodes, path, make_episodes(), "d4rl")


def test_a_truncated_file_is_named(tmp_path):
    path = tmp_path / "a.hdf5"
    write_episodes(path, make_episodes())
    path.write_bytes(path.read_bytes()[:-50])
    message = f"{path}: cannot be opened: Unable to synchronously open file (truncated file: eof ="
    assert_error(message, read_episodes, path)


def test_a_file_of_another_kind_is_named(tmp_path):
    path = tmp_path / "a.hdf5"
    path.write_bytes(b"not HDF5")
    message = f"{path}: cannot be opened: Unable to synchronously open file (file signature not"
    assert_error(message, read_episodes, path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"a\.hdf5: no such file"):
        read_episodes(tmp_path / "a.hdf5")


def test_a_flipped_bit_is_found_by_the_checksum(tmp_path):
    path = tmp_path / "a.hdf5"
    write_episodes(path, make_episodes())
    with h5py.File(path) as file:
        offset = file["actions"].id.get_chunk_info(0).byte_offset
    stored = bytearray(path.read_bytes())
    stored[offset + 10] ^= 1
    path.write_bytes(stored)
    assert_error(f"{path}: column 'actions' cannot be decoded at steps 0 to 6", read_episodes, path)


def test_a_foreign_hdf5_is_named_with_what_it_holds(tmp_path):
    path = tmp_path / "a.hdf5"
    with h5py.File(path, "w") as file:
        file["steps/actions"] = np.zeros((3, 2))
        file["mask"] = np.zeros(1)
    message = (
        f"{path}: cannot be opened: not D4RL's flat layout; expected observations, actions, "
        "terminals and timeouts at the top, found mask, steps"
    )
    assert_error(message, read_episodes, path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"timeouts": None},
            "no column 'timeouts'; without it, episodes that ran out of time would be joined",
        ),
        (
            {"terminals": None},
            "no column 'terminals'; the file has actions, observations, rewards, timeouts, "
            "infos/goal",
        ),
        (
            {"actions": None},
            "no column 'actions'; the file has observations, rewards, terminals, timeouts, ",
        ),
        (
            {"terminals": np.linspace(0, 1, 8)},
            "column 'terminals' must be 0 or 1, found [0. ",
        ),
        (
            {"timeouts": np.zeros(5, bool)},
            "'terminals' has 8 steps, but 'timeouts' has 5",
        ),
        (
            {"observations": np.ones((6, 4))},
            "'observation.state' has 6 steps, but 'action' has 8",
        ),
        (
            {"actions": np.ones((5, 2)), "observations": np.ones((5, 4)), "rewards": np.ones(5)},
            "'episode_ends' ends at 8, but 'action' has 5 steps",
        ),
        (
            {"rewards": np.where(np.arange(8) == 5, np.nan, 0)},
            "'reward' is NaN or infinite in 1 of 8 steps, first at step 5",
        ),
        (
            {"actions": np.where(np.arange(16).reshape(8, 2) == 9, np.nan, 0)},
            "'action' is NaN or infinite in 1 of 8 steps, first at step 4",
        ),
        (
            {name: array[:0] for name, array in d4rl_columns().items()},
            "'action' must have shape (T, D) with T > 0, got (0, 2)",
        ),
        (
            {"actions": np.float64(3.0)},
            "column 'actions' must hold numbers, one row per step; found float64 of shape ()",
        ),
    ],
)
def test_inconsistent_columns_are_named(tmp_path, changes, message):
    path = write_d4rl_columns(tmp_path / "a.hdf5", **changes)
    assert_error(f"{path}: {message}", read_episodes, path)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            '{"observation.state": [3]}',
            "'observations' has 4 features, but its attribute 'keys' declares 3: "
            "{'observation.state': [3]}",
        ),
        ("state", "cannot be read: attribute 'keys' is not JSON: 'state'"),
        ("[4]", "cannot be read: attribute 'keys' must be a JSON object, found [4]"),
    ],
)
def test_declared_observation_keys_must_fit(tmp_path, keys, message):
    path = write_d4rl_columns(tmp_path / "a.hdf5")
    with h5py.File(path, "a") as file:
        file["observations"].attrs["keys"] = keys
    assert_error(f"{path}: {message}", read_episodes, path)


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (b"", "the file is empty; copy it again"),
        (b"\x1f\x8b\x08\x00", "the file is packed by gzip, expected HDF5; unpack it first"),
        (b"PK\x03\x04", "the file is a zip archive, expected HDF5; unpack it first"),
    ],
)
def test_an_archive_under_the_name_of_a_dataset_is_told(tmp_path, start, message):
    path = tmp_path / "a.hdf5"
    path.write_bytes(start)
    assert_error(f"{path}: cannot be opened: {message}", read_episodes, path)
