import json
import os
import re
import shutil
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from hotloop.train.data.formats.registry import open_dataset, read_episodes

zarr = pytest.importorskip("zarr", reason="zarr 3 needs Python 3.11 or later")

PUSHT = (
    Path(os.environ.get("HOTLOOP_DATA", Path(__file__).parents[2] / "shared/data"))
    / "pusht_columbia"
)
needs_pusht = pytest.mark.skipif(not PUSHT.is_dir(), reason=f"Push-T data is not in {PUSHT}")
PUSHT_KEYS = {
    "observation.state": "state[:2]",
    "observation.environment_state": "keypoint",
    "action": "action",
}
KEYS = {"observation.state": "state", "action": "action"}


def make_arrays():
    """Three episodes of 2, 3 and 5 steps; no value is zarr's fill value 0."""
    rng = np.random.default_rng(0)
    return {
        "action": rng.uniform(1, 2, (10, 2)).astype(np.float32),
        "state": rng.uniform(1, 2, (10, 5)),
        "keypoint": rng.uniform(1, 2, (10, 9, 2)).astype(np.float32),
        "img": rng.integers(1, 255, (10, 4, 4, 3), dtype=np.uint8),
        "episode_ends": np.array([2, 5, 10]),
    }


def write_zarr(path, arrays, zarr_format=2):
    root = zarr.open_group(path, mode="w", zarr_format=zarr_format)
    for name, array in arrays.items():
        group = "meta" if name == "episode_ends" else "data"
        chunks = (3, *array.shape[1:])
        root.create_array(f"{group}/{name}", data=array, chunks=chunks)
    return path


def write_npz(path, **changes):
    np.savez(path, **(make_arrays() | changes))
    return path


def assert_error(message, call, *args):
    """The message begins with file, key, expected and found; a decoder's words may follow."""
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        call(*args)


def test_a_column_becomes_an_observation_with_its_steps_flattened(tmp_path):
    arrays = make_arrays()
    keys = KEYS | {"observation.state": "state[1:3]", "observation.keypoint": "keypoint"}
    episodes = read_episodes(write_npz(tmp_path / "a.npz"), keys)
    np.testing.assert_array_equal(episodes.actions, arrays["action"])
    np.testing.assert_array_equal(
        episodes.observations["observation.state"], arrays["state"][:, 1:3].astype(np.float32)
    )
    np.testing.assert_array_equal(
        episodes.observations["observation.keypoint"], arrays["keypoint"].reshape(10, 18)
    )
    assert episodes.episode_ends.tolist() == [2, 5, 10]
    assert episodes.metadata == {
        "source": "a.npz",
        "columns": keys,
        "num_terminated": 0,
        "num_unfinished": 0,
    }


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("zipped", [False, True])
def test_zarr_folder_and_zip_read_the_same_as_npz(tmp_path, zarr_format, zipped):
    path = write_zarr(tmp_path / "a.zarr", make_arrays(), zarr_format)
    if zipped:
        path = Path(shutil.make_archive(str(path), "zip", path))
    expected = read_episodes(write_npz(tmp_path / "a.npz"), KEYS)
    found = read_episodes(path, KEYS)
    np.testing.assert_array_equal(found.actions, expected.actions)
    np.testing.assert_array_equal(found.episode_ends, expected.episode_ends)
    np.testing.assert_array_equal(
        found.observations["observation.state"], expected.observations["observation.state"]
    )


def test_without_keys_every_column_but_images_is_read(tmp_path):
    episodes = read_episodes(write_npz(tmp_path / "a.npz"))
    assert set(episodes.observations) == {"observation.state", "observation.keypoint"}


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"a\.npz: no such file"):
        read_episodes(tmp_path / "a.npz")


def test_a_column_that_is_not_named_is_never_decoded(tmp_path):
    path = write_zarr(tmp_path / "a.zarr", make_arrays())
    (path / "data/img/0.0.0.0").write_bytes(b"garbage")
    assert read_episodes(path, KEYS).num_episodes == 3


@needs_pusht
def test_pusht_reads_the_same_from_zarr_zip_and_npz():
    from_zip = read_episodes(PUSHT / "pusht_cchi_v7_replay.zarr.zip", PUSHT_KEYS)
    from_npz = read_episodes(PUSHT / "pusht_lowdim.npz", PUSHT_KEYS)
    assert (from_zip.num_episodes, len(from_zip.actions)) == (206, 25650)
    np.testing.assert_array_equal(from_zip.actions, from_npz.actions)
    np.testing.assert_array_equal(from_zip.episode_ends, from_npz.episode_ends)
    for key, shape in {"observation.state": (2,), "observation.environment_state": (18,)}.items():
        assert from_zip.observations[key].shape[1:] == shape
        np.testing.assert_array_equal(from_zip.observations[key], from_npz.observations[key])


@needs_pusht
def test_a_truncated_chunk_of_pusht_is_named_by_its_steps(tmp_path):
    path = tmp_path / "pusht.zarr"
    with zipfile.ZipFile(PUSHT / "pusht_cchi_v7_replay.zarr.zip") as archive:
        names = [name for name in archive.namelist() if not name.startswith("data/img/")]
        archive.extractall(path, names)
    chunk = path / "data/action/3.0"
    size = chunk.stat().st_size
    chunk.write_bytes(chunk.read_bytes()[:-100])
    assert_error(
        f"{path}: column 'action' cannot be decoded at steps 483 to 643 of 25650: chunk 3.0 has "
        f"{size - 100} bytes, by its header {size}; the file is damaged or incomplete, copy it "
        "again",
        read_episodes,
        path,
        PUSHT_KEYS,
    )


def test_a_wrong_key_in_a_zip_is_named_beside_the_right_ones(tmp_path):
    """zarr's zip store raised AttributeError on closing when nothing had been read from it."""
    folder = write_zarr(tmp_path / "a.zarr", make_arrays())
    path = Path(shutil.make_archive(str(folder), "zip", folder))
    message = f"{path}: no column 'states'; the file has action, img, keypoint, state, episode_ends"
    assert_error(message, read_episodes, path, KEYS | {"observation.state": "states"})
    with open_dataset(path) as file:
        assert "img" in file.names


def test_an_unknown_codec_of_an_unused_column_is_no_obstacle(tmp_path):
    path = write_zarr(tmp_path / "a.zarr", make_arrays())
    metadata = json.loads((path / "data/img/.zarray").read_text())
    metadata["compressor"] = {"id": "a_codec_from_elsewhere"}
    (path / "data/img/.zarray").write_text(json.dumps(metadata))
    assert read_episodes(path, KEYS).num_episodes == 3
    keys = KEYS | {"observation.image": "img"}
    assert_error(
        f"{path}: column 'img' cannot be opened: codec not avail", read_episodes, path, keys
    )


def test_damaged_array_metadata_names_the_column(tmp_path):
    path = write_zarr(tmp_path / "a.zarr", make_arrays())
    metadata = path / "data/state/.zarray"
    metadata.write_text(metadata.read_text()[:-20])
    assert_error(f"{path}: column 'state' cannot be opened: ", read_episodes, path, KEYS)


def test_array_metadata_of_another_kind_names_the_column(tmp_path):
    path = write_zarr(tmp_path / "a.zarr", make_arrays())
    metadata = path / "data/state/.zarray"
    metadata.write_text(metadata.read_text().replace('"shape"', '"size"'))
    assert_error(f"{path}: column 'state' cannot be opened: ", read_episodes, path, KEYS)


def test_a_damaged_member_of_an_npz_names_the_column(tmp_path):
    path = write_npz(tmp_path / "a.npz")
    stored = bytearray(path.read_bytes())
    stored[stored.index(make_arrays()["action"].tobytes())] ^= 0xFF
    path.write_bytes(stored)
    assert_error(
        f"{path}: column 'action' cannot be opened: Bad CRC-32 for file 'action.npy'",
        read_episodes,
        path,
        KEYS,
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"episode_ends": np.array([5, 2, 10])},
            "'episode_ends' must increase strictly, but entry 1 is 2 after 5",
        ),
        (
            {"episode_ends": np.array([5, 5, 10])},
            "'episode_ends' must increase strictly, but entry 1 is 5 after 5",
        ),
        (
            {"episode_ends": np.array([5, 12])},
            "'episode_ends' ends at 12, but 'action' has 10 steps",
        ),
        (
            {"episode_ends": np.array([], np.int64)},
            "'episode_ends' must be a non-empty list, got shape (0,)",
        ),
        (
            {"episode_ends": np.array([5.0, 10.0])},
            "column 'episode_ends' must be a list of integers, found float64 of shape (2,)",
        ),
        (
            {"action": np.full((10, 2), np.nan)},
            "'action' is NaN or infinite in 10 of 10 steps, first at step 0",
        ),
        (
            {"state": np.full((10, 5), 1e300)},
            "'observation.state' is NaN or infinite in 10 of 10 steps, first at step 0",
        ),
        (
            {"state": np.ones((8, 5))},
            "'observation.state' has 8 steps, but 'action' has 10",
        ),
        (
            {"action": np.ones((0, 2))},
            "'action' must have shape (T, D) with T > 0, got (0, 2)",
        ),
        (
            {"state": np.array(["left"] * 10)},
            "column 'state' must hold numbers, one row per step; found <U4 of shape (10,)",
        ),
        (
            {"state": np.array([{}] * 10)},
            "column 'state' cannot be opened: Object arrays cannot be loaded when "
            "allow_pickle=False",
        ),
    ],
)
def test_inconsistent_columns_are_named(tmp_path, changes, message):
    path = write_npz(tmp_path / "a.npz", **changes)
    assert_error(f"{path}: {message}", read_episodes, path, KEYS)


def test_a_pickle_is_never_opened(tmp_path):
    path = tmp_path / "a.npz"
    np.save(tmp_path / "a.npy", np.array([{}]), allow_pickle=True)
    (tmp_path / "a.npy").rename(path)
    message = (
        f"{path}: cannot be opened: not a complete npz archive; it is truncated or another kind "
        "of file (pickles are never opened)"
    )
    assert_error(message, read_episodes, path)


def test_a_damaged_archive_directory_is_named(tmp_path):
    path = write_npz(tmp_path / "a.npz")
    stored = bytearray(path.read_bytes())
    stored[stored.index(b"PK\x01\x02")] ^= 1
    path.write_bytes(stored)
    assert_error(f"{path}: cannot be opened: Bad magic number", read_episodes, path, KEYS)


def test_a_truncated_zip_is_named(tmp_path):
    folder = write_zarr(tmp_path / "a.zarr", make_arrays())
    archive = Path(shutil.make_archive(str(folder), "zip", folder))
    archive.write_bytes(archive.read_bytes()[:-4])
    message = (
        f"{archive}: cannot be opened: not a complete zip archive; it is truncated, copy it again"
    )
    assert_error(message, read_episodes, archive)


def test_a_folder_that_is_no_replay_buffer_is_named(tmp_path):
    path = tmp_path / "a.zarr"
    (path / "frames").mkdir(parents=True)
    message = (
        f"{path}: cannot be opened: not a buffer of diffusion_policy; expected 'data/' and "
        "'meta/episode_ends', found ['frames']"
    )
    assert_error(message, read_episodes, path)


def test_missing_zarr_names_the_extra(tmp_path, monkeypatch):
    path = write_zarr(tmp_path / "a.zarr", make_arrays())
    monkeypatch.setitem(sys.modules, "zarr", None)
    monkeypatch.setitem(sys.modules, "zarr.storage", None)
    with pytest.raises(ImportError, match=re.escape("pip install 'hotloop[zarr]'")):
        read_episodes(path)
