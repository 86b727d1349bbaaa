"""Small RLDS datasets, written without TensorFlow."""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hotloop.train.data.tfrecord import example_class, masked_checksum

Features = dict[str, list[Any]]
CAMERA, STATE = "observation.images.front", "observation.joints"


def example(features: Features) -> bytes:
    message = example_class()()
    for name, values in features.items():
        kinds = {bytes: "bytes_list", float: "float_list", int: "int64_list"}
        getattr(message.features.feature[name], kinds[type(values[0])]).value.extend(values)
    return message.SerializeToString()


def framed(payload: bytes) -> bytes:
    length = struct.pack("<Q", len(payload))
    checksums = [struct.pack("<I", masked_checksum(part)) for part in (length, payload)]
    return length + checksums[0] + payload + checksums[1]


def picture(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((4, 6, 3), value, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def episode(number: int, length: int = 3) -> Features:
    steps = range(length)
    return {
        "steps/is_first": [int(step == 0) for step in steps],
        "steps/is_terminal": [int(step == length - 1 and number == 1) for step in steps],
        "steps/action": [float(10 * number + step + half / 2) for step in steps for half in (0, 1)],
        "steps/reward": [0.0] * length,
        "steps/language_instruction": [f"task {number}".encode()] * length,
        "steps/observation/front": [picture(10 * number + step) for step in steps],
        "steps/observation/joints": [float(number)] * 3 * length,
    }


def tensor(dtype: str, *shape: int) -> dict[str, Any]:
    return {"tensor": {"shape": {"dimensions": [str(size) for size in shape]}, "dtype": dtype}}


STEPS = {
    "is_first": tensor("bool"),
    "is_terminal": tensor("bool"),
    "action": tensor("float32", 2),
    "reward": tensor("float32"),
    "language_instruction": {"text": {}},
    "observation": {
        "featuresDict": {
            "features": {
                "front": {"image": {"shape": {"dimensions": ["4", "6", "3"]}}},
                "joints": tensor("float32", 3),
            }
        }
    },
}


def write(folder: Path, split: str, *episodes: Features) -> Path:
    path = folder / f"toy-{split}.tfrecord-00000-of-00001"
    path.write_bytes(b"".join(framed(example(one)) for one in episodes))
    return path


def declare(folder: Path) -> None:
    """Write ``features.json``."""
    steps = {"sequence": {"feature": {"featuresDict": {"features": STEPS}}, "length": "-1"}}
    declared = {"featuresDict": {"features": {"steps": steps}}}
    (folder / "features.json").write_text(json.dumps(declared))


def write_rlds(folder: Path) -> Path:
    """A whole dataset of two episodes."""
    folder.mkdir()
    declare(folder)
    write(folder, "train", episode(0), episode(1))
    return folder
