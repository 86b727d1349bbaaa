import re

import numpy as np
import pytest

from hotloop.train.data.formats import open_columns, read_episodes


@pytest.mark.parametrize("call", [read_episodes, open_columns])
def test_a_missing_file_names_its_nearest_neighbours(tmp_path, call):
    np.savez(tmp_path / "pusht.npz", action=np.ones(3))
    path = tmp_path / "pushT.npz"
    message = f"{path}: no such file; nearest names there: pusht.npz"
    with pytest.raises(FileNotFoundError, match=f"^{re.escape(message)}$"):
        call(path)
    with pytest.raises(FileNotFoundError, match=r"no such file, nor a folder '.*absent'"):
        call(tmp_path / "absent" / "pusht.npz")


@pytest.mark.parametrize("call", [read_episodes, open_columns])
def test_an_unknown_suffix_names_the_known_ones(tmp_path, call):
    path = tmp_path / "a.pkl"
    path.touch()
    message = (
        f"{path}: unknown dataset suffix '.pkl'; expected one of .zarr, .zarr.zip, .npz, .hdf5, .h5"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        call(path)
