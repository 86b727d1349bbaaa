"""Folders that LeRobot 0.6.1 recorded, with weights that follow from their names.

`shared/data/lerobot_fixtures` holds configuration, processors, the shapes of the weights, and a
trace: observations, noise in drawing order, and the actions that LeRobot computed.
"""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors.numpy

from hotloop.decoding import Executor, Policy

ROOT = Path(__file__).parents[1]
FIXTURES = Path(
    os.environ.get("HOTLOOP_LEROBOT_FIXTURES", ROOT.parent / "shared/data/lerobot_fixtures")
)


def weight(key: str, shape: list[int], grid: tuple[int, int] | None) -> np.ndarray | None:
    """The weight of that name; None for what LeRobot computes."""
    if key.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    if key.endswith("pos_grid"):
        assert grid is not None
        columns, rows = np.meshgrid(np.linspace(-1, 1, grid[1]), np.linspace(-1, 1, grid[0]))
        return np.stack([columns.ravel(), rows.ravel()], axis=1).astype(np.float32)
    if key.endswith("vae_encoder_pos_enc"):
        return None
    generator = np.random.Generator(np.random.PCG64(zlib.crc32(key.encode())))
    z = generator.standard_normal(shape, np.float32)
    if key.endswith("running_var"):
        return 1 + np.float32(0.1) * np.abs(z)
    if key.endswith(("running_mean", "bias")):
        return np.float32(0.1) * z
    if len(shape) == 1:
        return 1 + np.float32(0.1) * z
    return z / np.float32(np.sqrt(np.prod(shape[1:])))


def golden_folder(name: str, path: Path) -> Path:
    """A copy of a golden folder, with its weights, as LeRobot writes it."""
    folder = path / name
    shutil.copytree(FIXTURES / name, folder)
    config = json.loads((folder / "config.json").read_text())
    seen = config.get("crop_shape")
    grid = None if seen is None else (-(-seen[0] // 32), -(-seen[1] // 32))
    shapes = json.loads((folder / "shapes.json").read_text())
    weights = {key: weight(key, shape, grid) for key, shape in shapes.items()}
    kept = {key: value for key, value in weights.items() if value is not None}
    safetensors.numpy.save_file(kept, folder / "model.safetensors")
    return folder


def replayed(
    folder: Path, policy: Policy, shapes: Mapping[str, tuple[int, ...]]
) -> tuple[np.ndarray, np.ndarray]:
    """Actions of a policy on the recorded observations of these keys, and LeRobot's."""
    trace = np.load(folder / "trace.npz")
    executor = Executor(policy)
    executor.reset([0])
    found: list[np.ndarray] = []
    for step in range(len(trace["actions"])):
        frame = {}
        for key in shapes:
            value = trace[key][step]
            frame[key] = (value.transpose(1, 2, 0) if value.ndim == 3 else value)[None]
        found.append(executor.act(frame)[0])
    return np.array(found), trace["actions"]


def edit_json(path: Path, **values: object) -> None:
    """Set entries of a JSON file."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def as_before_0_4(folder: Path, kept: dict[str, tuple[str, ...]]) -> None:
    """Make a folder what LeRobot 0.3 wrote: statistics among the weights, no processor files.

    Args:
        folder: Golden folder, changed in place.
        kept: Statistics by feature that the normalisation needs; of pictures mean and std.
    """
    weights = safetensors.numpy.load_file(folder / "model.safetensors")
    for kind, file in (("normalize_inputs", "pre"), ("unnormalize_outputs", "post")):
        (stored,) = folder.glob(f"policy_{file}processor_step_*.safetensors")
        for key, value in safetensors.numpy.load_file(stored).items():
            feature, _, statistic = key.rpartition(".")
            names = kept.get(feature, ("mean", "std"))
            if (feature == "action") == (file == "post") and statistic in names:
                weights[f"{kind}.buffer_{feature.replace('.', '_')}.{statistic}"] = value
        stored.unlink()
        (folder / f"policy_{file}processor.json").unlink()
    safetensors.numpy.save_file(weights, folder / "model.safetensors")


def arm_folder(path: Path, names: tuple[str, ...], fps: int) -> tuple[Path, Path]:
    """A diffusion policy of joint positions, and the data set that knows their names.

    Args:
        path: Where both are written.
        names: One per joint.
        fps: Of the data set.
    """
    folder, size = golden_folder("dp_state_ddim10", path), len(names)
    state, action = "observation.state", "action"
    edit_json(
        folder / "config.json",
        input_features={state: {"type": "STATE", "shape": [size]}},
        output_features={action: {"type": "ACTION", "shape": [size]}},
    )
    ends = {"min": np.full(size, -0.4, np.float32), "max": np.full(size, 0.4, np.float32)}
    statistics = {f"{key}.{end}": ends[end] for key in (state, action) for end in ends}
    for file in folder.glob("policy_*_step_*.safetensors"):
        safetensors.numpy.save_file(statistics, file)
    weights = safetensors.numpy.load_file(folder / "model.safetensors")
    for key, value in weights.items():
        if "cond_encoder" in key and value.ndim == 2:
            # Two frames of state 3 and environment 5 become two of the joints.
            weights[key] = np.resize(value, (len(value), value.shape[1] - 16 + 2 * size))
        elif 2 in value.shape[:2] and value.ndim == 3:
            shape = tuple(size if side == 2 else side for side in value.shape)
            weights[key] = np.resize(value, shape)
        elif value.shape == (2,):
            weights[key] = np.resize(value, size)
    safetensors.numpy.save_file(weights, folder / "model.safetensors")
    meta = path / "dataset" / "meta"
    meta.mkdir(parents=True)
    declared = {"dtype": "float32", "shape": [size], "names": list(names)}
    (meta / "info.json").write_text(json.dumps({"fps": fps, "features": {action: declared}}))
    return folder, meta.parent
