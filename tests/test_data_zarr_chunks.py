"""Chunks of zarr arrays that are not there: which of them are a loss, and which are zeros."""

import json
import re

import numpy as np
import pytest
from example_episodes import make_episodes

from hotloop.train.data import read_episodes, write_episodes
from hotloop.train.data.inspect import inspect_dataset

zarr = pytest.importorskip("zarr", reason="zarr 3 needs Python 3.11 or later")


def make_action():
    return np.random.default_rng(0).uniform(1, 2, (10, 2)).astype(np.float32)


def write_zarr(path):
    root = zarr.open_group(path, mode="w", zarr_format=2)
    root.create_array("data/action", data=make_action(), chunks=(3, 2))
    root.create_array("data/state", data=make_action(), chunks=(3, 2))
    root.create_array("meta/episode_ends", data=np.array([4, 10]))
    return path


def test_an_absent_chunk_holds_the_fill_value_and_is_told(tmp_path):
    """zarr 3 leaves out chunks of zeros: a gripper that stays open."""
    path = write_zarr(tmp_path / "a.zarr")
    (path / "data/action/1.0").unlink()
    action = read_episodes(path).actions
    expected = make_action()
    expected[3:6] = 0
    np.testing.assert_array_equal(action, expected)
    report = inspect_dataset(path)
    assert report.problems == ()
    assert report.notes == (
        "column 'action': 1 of 4 chunks are absent and read as 0, their fill value",
    )


def test_a_chunk_that_hotloop_wrote_is_missed(tmp_path):
    path = write_episodes(tmp_path / "a.zarr", make_episodes())
    next((path / "data/action").glob("0.0")).unlink()
    message = f"{path}: column 'action' cannot be opened: 1 of 1 chunks are absent, all of which"
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        read_episodes(path)


def test_an_array_that_declares_far_more_than_it_stores_is_refused(tmp_path):
    path = write_zarr(tmp_path / "a.zarr")
    metadata = path / "data/action/.zarray"
    declared = json.loads(metadata.read_text())
    metadata.write_text(json.dumps(declared | {"shape": [10**12, declared["shape"][1]]}))
    message = f"{path}: column 'action' cannot be opened: "
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        read_episodes(path)
