import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from hotloop.train.data.columns import Column, ColumnFile, build_episodes, select_columns


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


@pytest.fixture
def file():
    arrays = {"action": np.eye(4, 2), "state": np.arange(20.0).reshape(4, 5)}
    return ColumnFile(Path("a.npz"), "replay", tuple(arrays), arrays.__getitem__)


def test_a_selector_takes_a_range_of_features(file):
    np.testing.assert_array_equal(file.select("state[1:3]"), [[1, 2], [6, 7], [11, 12], [16, 17]])
    np.testing.assert_array_equal(file.select("state[3:]"), file.select("state[3:5]"))
    assert file.select("state").dtype == np.float32


def test_a_reward_column_becomes_the_rewards(file):
    keys = {"observation.state": "state[:4]", "action": "action", "reward": "state[4:5]"}
    episodes = build_episodes(file.path, select_columns(file, keys), np.array([4]), {})
    assert episodes.rewards is not None
    assert episodes.rewards.tolist() == [4, 9, 14, 19]
    assert set(episodes.observations) == {"observation.state"}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"observation.state": "states", "action": "action"},
            "no column 'states'; the file has action, state",
        ),
        (
            {"observation.state": "state[:9]", "action": "action"},
            "'state[:9]' is out of range, column 'state' has 5 features",
        ),
        (
            {"observation.state": "state[::2]", "action": "action"},
            "column selector must look like 'state' or 'state[0:2]', got 'state[::2]'",
        ),
        (
            {"state": "state", "action": "action"},
            "keys must be 'action', at least one 'observation.NAME' and optionally 'reward', "
            "got ['action', 'state']",
        ),
        (
            {"observation.state": "state", "action": "action", "reward": "state"},
            "'reward' must be one number per step, found 5 in 'state'",
        ),
    ],
)
def test_wrong_keys_are_named_beside_the_right_ones(file, keys, message):
    with pytest.raises(ValueError, match=f"^{re.escape('a.npz: ' + message)}$"):
        select_columns(file, keys)
