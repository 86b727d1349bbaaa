import re

import numpy as np
import pytest

from hotloop.train.data.formats.registry import find_dataset, read_episodes


@pytest.mark.parametrize("call", [read_episodes, find_dataset])
def test_a_missing_file_names_its_nearest_neighbours(tmp_path, call):
    np.savez(tmp_path / "pusht.npz", action=np.ones(3))
    path = tmp_path / "pushT.npz"
    message = f"{path}: no such file; nearest names there: pusht.npz"
    with pytest.raises(FileNotFoundError, match=f"^{re.escape(message)}$"):
        call(path)
    with pytest.raises(FileNotFoundError, match=r"no such file, nor a folder '.*absent'"):
        call(tmp_path / "absent" / "pusht.npz")


def test_an_unknown_suffix_names_the_known_ones(tmp_path):
    path = tmp_path / "a.pkl"
    path.touch()
    message = (
        f"{path}: unknown dataset suffix '.pkl'; expected one of .zarr, .zarr.zip, .npz, .hdf5, "
        ".h5, a LeRobotDataset folder with meta/info.json, a Minari folder with "
        "data/metadata.json or an RLDS folder with features.json"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        read_episodes(path)
