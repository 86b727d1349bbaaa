"""An OpenVLA folder as a checkpoint of hotloop's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ....decoding import ActionSpec
from ....decoding.plumbing.files import read_json_object
from ...checkpoint import Checkpoint
from ..decoding_config import TokenDecodingConfig
from ..tokenizer import BinStatistics
from .choices import OpenVlaChoices
from .folder import PICTURES_FILE, find_weights, read_config, read_statistics
from .load import load_openvla

SPREAD = 1e-6  # half the range of a dimension that never varied


def read_openvla(
    path: Path, choices: OpenVlaChoices, dt: float, names: tuple[str, ...] = ()
) -> Checkpoint:
    """Read a folder; its weights keep the type in which they are stored.

    Args:
        path: Folder with ``"model_type": "openvla"``.
        choices: What it does not say.
        dt: Period of the actions [s].
        names: One name per action dimension; none are called ``"action 0"`` and so on.

    Raises:
        OSError: If a file is missing.
        ValueError: If it is not OpenVLA's layout, or there are no such statistics.
    """
    statistics = read_statistics(path, read_config(path), choices.norm_key)
    model = load_openvla(path, choices.num_actions, statistics, (choices.camera,))
    dtype = find_weights(path).dtype
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    low, high = _bounds(statistics)
    names = names or tuple(f"action {index}" for index in range(len(low)))
    pictures = path / PICTURES_FILE
    resize = read_json_object(pictures).get("image_resize_strategy") if pictures.is_file() else None
    return Checkpoint(
        "vla",
        model.eval().requires_grad_(False),
        ActionSpec(names, low, high, dt),
        TokenDecodingConfig(num_execute=choices.num_actions),
        {"source": "openvla", "norm_key": choices.norm_key, "resize": resize or "resize-naive"},
    )


def _bounds(statistics: BinStatistics) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """All that the tokens can say: nothing of it is clipped."""
    scaled = np.array(statistics.scaled)
    low = np.where(scaled, statistics.low, -1.0)
    high = np.where(scaled, statistics.high, 1.0)
    spread = np.where(high > low, 0, SPREAD * np.maximum(np.abs(low), 1))
    return tuple((low - spread).tolist()), tuple((high + spread).tolist())
