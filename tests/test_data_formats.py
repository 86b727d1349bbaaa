import re

import numpy as np
import pytest

from hotloop.train.data.formats.registry import FORMATS, find_dataset, read_episodes

NAMES = ("d4rl", "lerobot", "minari", "rlds", "robomimic", "zarr")


@pytest.mark.parametrize("call", [read_episodes, find_dataset])
def test_a_missing_file_names_its_nearest_neighbours(tmp_path, call):
    np.savez(tmp_path / "pusht.npz", action=np.ones(3))
    path = tmp_path / "pushT.npz"
    message = f"{path}: no such file; nearest names there: pusht.npz"
    with pytest.raises(FileNotFoundError, match=f"^{re.escape(message)}$"):
        call(path)
    with pytest.raises(FileNotFoundError, match=r"no such file, nor a folder '.*absent'"):
        call(tmp_path / "absent" / "pusht.npz")


def test_an_unknown_file_names_the_known_formats(tmp_path):
    path = tmp_path / "a.pkl"
    path.touch()
    message = f"{path}: not a dataset of a known format. These are known: d4rl: D4RL's .hdf5, or"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}") as caught:
        read_episodes(path)
    assert all(f"{name}: {FORMATS.get(name).description}" in str(caught.value) for name in NAMES)
