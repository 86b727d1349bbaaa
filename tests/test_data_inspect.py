import os
from pathlib import Path

import h5py
import numpy as np
import pytest

from hotloop.train.data.episodes import Episodes
from hotloop.train.data.inspect import inspect_dataset
from hotloop.train.data.write import write_episodes

zarr = pytest.importorskip("zarr", reason="zarr 3 needs Python 3.11 or later")

PUSHT = (
    Path(os.environ.get("HOTLOOP_DATA", Path(__file__).parents[2] / "shared/data"))
    / "pusht_columbia"
)
needs_pusht = pytest.mark.skipif(not PUSHT.is_dir(), reason=f"Push-T data is not in {PUSHT}")


@needs_pusht
def test_pusht_is_as_its_authors_describe_it():
    report = inspect_dataset(PUSHT / "pusht_lowdim.npz")
    assert (report.num_episodes, report.num_steps) == (206, 25650)
    assert report.problems == ()
    columns = {column.name: column for column in report.columns}
    assert (columns["action"].minimum, columns["action"].maximum) == (12, 511)
    assert columns["keypoint"].shape == (9, 2)
    recorded = np.load(PUSHT / "pusht_lowdim.npz")
    lengths = np.diff(recorded["episode_ends"], prepend=0)
    assert report.episode_length == (lengths.min(), np.median(lengths), lengths.max())
    assert columns["state"].mean == pytest.approx(recorded["state"].mean(dtype=np.float64))


def test_a_bad_replay_buffer_reports_everything_at_once(tmp_path):
    path = tmp_path / "a.zarr"
    action = np.ones((10, 2), np.float32)
    action[3] = np.nan
    action[7, 1] = np.inf
    root = zarr.open_group(path, mode="w", zarr_format=2)
    root.create_array("data/action", data=action)
    root.create_array("data/state", data=np.ones((10, 4)), chunks=(5, 4))
    root.create_array("data/keypoint", data=np.ones((8, 3)))
    root.create_array("data/force", data=np.ones((10, 3)), chunks=(2, 3))
    root.create_array("meta/episode_ends", data=np.array([4, 3, 3, 12]))
    (path / "data/state/1.0").write_bytes(b"garbage")
    (path / "data/force/4.0").unlink()
    report = inspect_dataset(path)
    assert (report.num_episodes, report.num_steps) == (4, 10)
    decoding = [problem for problem in report.problems if "cannot be decoded" in problem]
    assert len(decoding) == 1
    assert decoding[0].startswith("column 'state' cannot be decoded at steps 5 to 9 of 10: ")
    assert sorted(set(report.problems) - set(decoding)) == [
        "'episode_ends' ends at 12, but the actions have 10 steps",
        "'episode_ends' must increase strictly, but entry 1 is 3 after 4",
        "'episode_ends' must increase strictly, but entry 2 is 3 after 3",
        "column 'action' holds 2 NaN and 1 infinite values",
        "column 'keypoint' has 8 steps, but the actions have 10",
    ]
    summary = next(column for column in report.columns if column.name == "action")
    assert (summary.num_nan, summary.num_inf, summary.mean) == (2, 1, 1.0)


def test_missing_columns_are_all_reported(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, state=np.ones((4, 2)))
    assert inspect_dataset(path).problems == (
        "no column 'action'; the file has state",
        "no column 'episode_ends'; the file has state",
    )


def test_an_empty_dataset_is_a_problem(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, action=np.ones((0, 2)), episode_ends=np.array([], np.int64))
    report = inspect_dataset(path)
    assert report.problems == ("there are no steps", "there are no episodes")
    assert report.episode_length is None
    assert report.columns[0].mean is None


def test_our_own_file_is_reported_with_its_provenance(tmp_path):
    observations = {"observation.state": np.ones((6, 4), np.float32)}
    actions, ends = np.zeros((6, 2), np.float32), np.array([1, 6])
    episodes = Episodes(observations, actions, ends, metadata={"seed": 3})
    write_episodes(tmp_path / "a.hdf5", episodes)
    report = inspect_dataset(tmp_path / "a.hdf5")
    assert (report.layout, report.num_episodes, report.num_steps) == ("d4rl", 2, 6)
    assert report.episode_length == (1, 3.0, 5)
    assert report.metadata == {"seed": 3, "observation_keys": {"observation.state": [4]}}
    assert report.problems == ()


def test_a_bad_d4rl_file_reports_everything_at_once(tmp_path):
    path = tmp_path / "a.hdf5"
    with h5py.File(path, "w") as file:
        file["observations"] = np.ones((5, 4))
        file["observations"].attrs["keys"] = '{"observation.state": [3]}'
        file.attrs["metadata"] = "seed 3"
        file["terminals"] = np.full(5, 2)
        file["timeouts"] = np.zeros(5)
    report = inspect_dataset(path)
    assert sorted(report.problems) == [
        "'observations' has 4 features, but its attribute 'keys' declares 3: "
        "{'observation.state': [3]}",
        "attribute 'metadata' is not JSON: 'seed 3'",
        "column 'terminals' must be 0 or 1, found [2]",
        "no column 'actions'; the file has observations, terminals, timeouts",
    ]


def test_a_file_that_cannot_be_opened_is_a_report_too(tmp_path):
    path = tmp_path / "a.hdf5"
    path.write_bytes(b"not HDF5")
    report = inspect_dataset(path)
    assert (report.layout, report.columns, report.num_steps) == ("unreadable", (), None)
    assert len(report.problems) == 1
    assert report.problems[0].startswith("cannot be opened: Unable to ")
