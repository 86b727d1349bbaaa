"""Replay of demonstrations in the simulator."""

import h5py
import pytest

from hotloop.train.cli import main


@pytest.fixture(scope="module")
def reached(tmp_path_factory):
    path = tmp_path_factory.mktemp("replay") / "reach.hdf5"
    assert main(["data", "generate", "pybullet-reach", str(path), "--num-episodes", "2"]) == 0
    return path


def test_a_generated_dataset_replays_exactly(reached, capsys):
    assert main(["data", "replay", str(reached)]) == 0
    assert "2 of 2 solved" in capsys.readouterr().out


def test_changed_actions_are_noticed(reached, tmp_path, capsys):
    changed = tmp_path / "changed.hdf5"
    changed.write_bytes(reached.read_bytes())
    with h5py.File(changed, "r+") as file:
        file["actions"][0] = -file["actions"][0]
    assert main(["data", "replay", str(changed)]) == 1
    assert "NOT reproduced" in capsys.readouterr().out


def test_another_robosuite_version_is_named(shared_data, capsys):
    path = shared_data / "robosuite_demos/v1.0.1/lift/panda/demo.hdf5"
    main(["data", "replay", str(path)])
    assert "recorded with robosuite 1.0.0" in capsys.readouterr().out
