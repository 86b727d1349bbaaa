import re
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from hotloop.train.data.columns import Column, ConcatenatedArray
from hotloop.train.data.decode import Decoding
from hotloop.train.data.formats.d4rl import FORMAT as D4RL
from hotloop.train.data.selection import Selection, Wanted
from hotloop.train.data.source import Cuts, DatasetFile


@dataclass
class StoredImages:
    """Images that are only ever made when they are read, with a record of the reads."""

    num_steps: int
    chunk: int
    reads: list[slice] = field(default_factory=list)

    @property
    def shape(self):
        return (self.num_steps, 96, 96, 3)

    @property
    def chunks(self):
        return (self.chunk, 96, 96, 3)

    dtype = np.dtype(np.float32)

    def __getitem__(self, rows):
        self.reads.append(rows)
        return np.zeros((rows.stop - rows.start, 96, 96, 3), np.float32)


@pytest.mark.parametrize(("num_steps", "chunk"), [(25650, 161), (1000, 7), (5, 161), (322, 161)])
def test_a_large_column_is_read_in_small_blocks_on_chunk_borders(num_steps, chunk):
    images = StoredImages(num_steps, chunk)
    column = Column(Path("a.zarr"), "img", images)
    blocks = list(column.blocks())
    assert images.reads == []
    assert [rows.start for rows in blocks] == [0, *(rows.stop for rows in blocks[:-1])]
    assert blocks[-1].stop == num_steps
    assert all(rows.start % chunk == 0 for rows in blocks)
    largest = max(rows.stop - rows.start for rows in blocks)
    assert largest <= max(chunk, 2**24 // (96 * 96 * 3 * 4))
    assert column.read(blocks[0]).shape == (blocks[0].stop, 96, 96, 3)
    assert images.reads == blocks[:1]


def test_a_small_column_is_one_block():
    column = Column(Path("a.npz"), "action", np.zeros((25650, 2), np.float32))
    assert list(column.blocks()) == [slice(0, 25650)]


def test_an_empty_column_has_no_blocks():
    column = Column(Path("a.npz"), "action", np.zeros((0, 2), np.float32))
    assert list(column.blocks()) == []
    assert column.read().shape == (0, 2)


class MemoryFile(DatasetFile):
    """One episode of four steps, without a file."""

    layout = "memory"
    arrays: ClassVar = {
        "action": np.eye(4, 2),
        "state": np.arange(20.0).reshape(4, 5),
        "img": np.arange(4 * 8 * 9 * 3).reshape(4, 8, 9, 3) % 256.0,
    }
    names = tuple(arrays)

    def open_array(self, name):
        return self.arrays[name]

    def cuts(self):
        return Cuts(np.array([4]), np.array([True]))

    def default_keys(self):
        return {"action": Selection("action"), "observation.img": Selection("img")}


@pytest.fixture
def file():
    return MemoryFile(Path("a.npz"), {}, ExitStack())


def read(file, **keys):
    selections = file.select({"action": "action"} | keys)
    return Decoding(file, selections).run({})


def select(file, selector):
    return read(file, **{"observation.x": selector}).observations["observation.x"]


def test_a_selector_takes_a_range_of_features(file):
    np.testing.assert_array_equal(select(file, "state[1:3]"), [[1, 2], [6, 7], [11, 12], [16, 17]])
    np.testing.assert_array_equal(select(file, "state[3:]"), select(file, "state[3:5]"))
    assert select(file, "state").dtype == np.float32


def test_whole_images_stay_images_of_bytes(file):
    image = select(file, "img")
    assert (image.shape, image.dtype) == ((4, 8, 9, 3), np.uint8)
    np.testing.assert_array_equal(image, file.arrays["img"])
    assert select(file, "img[:7]").shape == (4, 7)


def test_images_that_do_not_fit_bytes_are_refused(file, monkeypatch):
    monkeypatch.setitem(file.arrays, "img", np.full((4, 8, 9, 3), 0.5))
    message = (
        "a.npz: column 'img' has the shape of pictures, (8, 9, 3); pixels must be whole numbers "
        "from 0 to 255, found 0.5 to 0.5; store them as 255 times that; choose other columns with "
        "keys"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        select(file, "img")


def test_images_are_read_by_default_only_if_everything_is_wanted(file):
    assert set(file.select()) == {"action"}
    assert set(file.select(None, Wanted(everything=True))) == {"action", "observation.img"}


def test_infos_keep_their_type_and_shape(file):
    episodes = read(file, **{"observation.x": "state", "info.half": "state[:2]", "info.i": "img"})
    assert {k: (a.shape, str(a.dtype)) for k, a in episodes.infos.items()} == {
        "half": ((4, 2), "float64"),
        "i": ((4, 8, 9, 3), "float64"),
    }


def test_an_option_that_a_format_does_not_take_is_refused():
    message = "d4rl files have no option 'subset'; they take max_episode_steps, shift_rewards"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        D4RL.complete_options({"subset": "train"})


@pytest.mark.parametrize("rows", [slice(0, 9), slice(2, 3), slice(1, 8), slice(4, 4), slice(3, 99)])
def test_concatenated_arrays_read_like_one(rows):
    parts = {"a": np.arange(3), "b": np.arange(3, 4), "c": np.arange(4, 9)}
    whole = ConcatenatedArray(parts)
    assert whole.shape == (9,)
    np.testing.assert_array_equal(whole[rows], np.arange(9)[rows])


def test_arrays_of_different_steps_are_not_concatenated():
    with pytest.raises(ValueError, match=r"'b' has steps of shape \(3,\), but 'a' of shape \(2,\)"):
        ConcatenatedArray({"a": np.ones((2, 2)), "b": np.ones((2, 3))})


def test_a_reward_column_becomes_the_rewards(file):
    keys = {"observation.state": "state[:4]", "reward": "state[4:5]"}
    episodes = read(file, **keys)
    assert episodes.rewards is not None
    assert episodes.rewards.tolist() == [4, 9, 14, 19]
    assert set(episodes.observations) == {"observation.state"}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"observation.state": "states", "action": "action"},
            "no column 'states'; the file has action, state, img",
        ),
        (
            {"observation.state": "state[:9]", "action": "action"},
            "'state[:9]' is out of range, column 'state' has 5 features",
        ),
        (
            {"observation.state": "state[::2]", "action": "action"},
            "column selector must look like 'state', 'state[0:2]' or 'state[0:2,5]', got "
            "'state[::2]'",
        ),
        (
            {"state": "state", "action": "action"},
            "keys must be 'action', at least one 'observation.NAME' and optionally 'reward' and "
            "'info.NAME', got ['action', 'state']",
        ),
        (
            {"observation.state": "state", "action": "action", "reward": "state"},
            "'reward' must be one number per step, found 5 in 'state'",
        ),
    ],
)
def test_wrong_keys_are_named_beside_the_right_ones(file, keys, message):
    with pytest.raises(ValueError, match=f"^{re.escape('a.npz: ' + message)}$"):
        Decoding(file, file.select(keys))
