"""What a conversion does not keep is told; words of RLDS become tasks."""

import h5py
import numpy as np
import pyarrow.parquet as pq
from rlds_example import write_rlds

from hotloop.train.data import WriteOptions, read_episodes
from hotloop.train.data.convert import Target, convert_dataset


def test_words_of_rlds_become_the_tasks_of_lerobot(tmp_path):
    source = write_rlds(tmp_path / "rlds")
    target = Target(tmp_path / "a", "lerobot", WriteOptions(fps=5))
    path = convert_dataset(source, target).path
    table = pq.read_table(path / "meta/tasks.parquet").to_pydict()
    texts = dict(zip(table["task_index"], table["__index_level_0__"], strict=True))
    frames = pq.read_table(next((path / "data").rglob("*.parquet")))
    found = [texts[index] for index in frames["task_index"].to_pylist()]
    assert found == ["task 0"] * 3 + ["task 1"] * 3
    assert "observation.instruction" not in frames.column_names


def test_flags_before_the_end_are_kept_and_other_next_observations_told(tmp_path):
    path = tmp_path / "a.hdf5"
    with h5py.File(path, "w") as file:
        demo = file.create_group("data/demo_0")
        demo.attrs["num_samples"] = 4
        demo["actions"], demo["obs/object"] = np.eye(4, 2), np.eye(4, 3)
        demo["next_obs/object"], demo["dones"] = np.ones((4, 3)), [0, 1, 0, 1]
    result = convert_dataset(path, Target(tmp_path / "b.hdf5", "robomimic"))
    told = "next_obs/object, which differs from obs/object one step later"
    assert told in result.dropped
    assert read_episodes(result.path, everything=True).infos["dones"].tolist() == [0, 1, 0, 1]
    flat = convert_dataset(path, Target(tmp_path / "c.hdf5")).path
    assert read_episodes(flat, everything=True).infos["dones"].tolist() == [0, 1, 0, 1]
