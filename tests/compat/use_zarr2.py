"""Run by zarr 2, which diffusion_policy uses: read a replay buffer the way its ReplayBuffer does.

    python use_zarr2.py FOLDER_OR_ZIP

It prints what it found as one JSON object.
"""

import json
import sys

import zarr

path = sys.argv[1]
store = zarr.ZipStore(path, mode="r") if path.endswith(".zip") else zarr.DirectoryStore(path)
root = zarr.open_group(store, mode="r")
ends = root["meta"]["episode_ends"][:]
columns = {name: array[:] for name, array in root["data"].items()}
assert all(len(array) == ends[-1] for array in columns.values())
found = {
    "version": zarr.__version__,
    "episode_ends": ends.tolist(),
    "action": columns["action"].tolist(),
    "image": columns["images.top"].tolist(),
    "dtypes": {name: str(array.dtype) for name, array in columns.items()},
}
print(json.dumps(found))
