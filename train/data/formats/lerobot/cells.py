"""Frames as columns of a LeRobotDataset's parquet files."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np

from .....decoding.plumbing.extras import require

_WHOLE = ("frame_index", "episode_index", "index", "task_index")


def declare(array: np.ndarray, fps: float, names: Any) -> dict[str, Any]:
    """What ``meta/info.json`` says of a column.

    Args:
        array: One value per step, shape (T, ...).
        fps: Frames per second [Hz].
        names: One name for each number of a step; left out if it is not that.
    """
    shape = list(array.shape[1:]) or [1]
    if array.dtype == np.uint8 and len(shape) == 3:
        axes = ["height", "width", "channels"]
        return {"dtype": "image", "shape": shape, "names": axes, "fps": fps}
    fits = isinstance(names, list) and len(names) == int(np.prod(shape))
    dtype = str(array.dtype)
    return {"dtype": dtype, "shape": shape, "names": names if fits else None, "fps": fps}


def declare_bookkeeping(fps: float) -> dict[str, dict[str, Any]]:
    """What ``meta/info.json`` says of the columns that every dataset has."""
    dtypes = {"timestamp": "float32", **dict.fromkeys(_WHOLE, "int64")}
    return {
        name: {"dtype": dtype, "shape": [1], "names": None, "fps": fps}
        for name, dtype in dtypes.items()
    }


def episode_table(
    columns: Mapping[str, np.ndarray], features: Mapping[str, Any], task_index: np.ndarray,
    episode: int, first_frame: int,
) -> Any:  # fmt: skip
    """The frames of one episode as an arrow table.

    Args:
        columns: One row per frame, by feature.
        features: What is declared of them.
        task_index: Which task each frame belongs to, shape (T,).
        episode: Its number.
        first_frame: Frames of all episodes before it.
    """
    pyarrow = require("pyarrow", "lerobot")
    frames = np.arange(len(task_index))
    cells = {name: _cells(array, features[name]) for name, array in columns.items()}
    cells["timestamp"] = pyarrow.array((frames / features["timestamp"]["fps"]).astype(np.float32))
    cells["frame_index"] = pyarrow.array(frames)
    cells["episode_index"] = pyarrow.array(np.full(len(frames), episode))
    cells["index"] = pyarrow.array(first_frame + frames)
    cells["task_index"] = pyarrow.array(task_index)
    return pyarrow.table(cells)


def _cells(array: np.ndarray, feature: Mapping[str, Any]) -> Any:
    """An arrow array with one cell per step: a number, nested fixed-size lists or a PNG."""
    pyarrow = require("pyarrow", "lerobot")
    if feature["dtype"] == "image":
        pictures = [{"bytes": encode_png(picture), "path": None} for picture in array]
        kind = pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()})
        return pyarrow.array(pictures, kind)
    cells = pyarrow.array(np.ascontiguousarray(array).reshape(-1))
    if feature["shape"] == [1]:
        return cells
    for size in reversed(feature["shape"]):
        cells = pyarrow.FixedSizeListArray.from_arrays(cells, size)
    return cells


def encode_png(picture: np.ndarray | bytes) -> bytes:
    """A picture of shape (height, width, channels) as a file; a file stays as it is."""
    if isinstance(picture, bytes):
        return picture
    stream = io.BytesIO()
    gray = picture.shape[2] == 1
    image = require("PIL.Image", "lerobot").fromarray(
        picture[..., 0] if gray else np.asarray(picture)
    )
    image.save(stream, format="PNG")
    return stream.getvalue()
