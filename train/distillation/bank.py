"""A teacher's trajectories from noise to actions, computed once.

A folder ``trajectories/*`` in the cache belongs to one teacher, its demonstrations, and the numbers
below; others have folders of their own. It appears complete or not at all, and processes that want
the same one wait for the first to make it. Until then ``*.blocks`` holds what is done, so that who
was killed goes on there. For P trajectories it holds `current` (P,), the windows that they begin
in, `crop` (P,), which of the known crops of the pictures the teacher saw, `vectors` (P, To, V), the
normalised observation that it saw, and `states` (P, K + 1, H, D), the actions at each of the
levels.
"""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import safetensors
import safetensors.torch
import torch
from accelerate import PartialState
from safetensors import SafetensorError
from torch import Tensor
from tqdm import tqdm

from ...decoding.plumbing.cache import cache_root
from ...decoding.plumbing.files import replacing
from ...decoding.samplers import reverse, spaced_levels
from ...policies.diffusion.model import DiffusionModel
from ..config.distill import TrajectoryDistillConfig
from ..data.windows import Windows, step_generator
from ..objectives.observed import Seen

VERSION = 1
_NUM_ROWS = 1024  # integrated at a time
_NAMES = ("current", "crop", "vectors", "states")


@dataclass(frozen=True)
class Bank:
    """Trajectories of a teacher; see the module's text.

    Attributes:
        levels: Integer levels of the points that are kept, from N down to 0, shape (K + 1,).
        current: Windows, integer, shape (P,).
        crop: Crops, integer, shape (P,).
        vectors: Normalised observations, shape (P, To, V).
        states: Normalised actions, shape (P, K + 1, H, D).
    """

    levels: np.ndarray
    current: np.ndarray
    crop: np.ndarray
    vectors: np.ndarray
    states: np.ndarray


def kept_levels(num_levels: int, num_points: int, calls: tuple[int, ...]) -> np.ndarray:
    """Levels N to 0 of `num_points` equal parts, and of all numbers of calls, shape (K + 1,).

    Raises:
        ValueError: If there are fewer levels than parts or calls.
    """
    parts = [spaced_levels(num_levels, 0, num) for num in (num_points, *calls)]
    return np.unique(np.concatenate(parts))[::-1].copy()


def make_bank(
    teacher: DiffusionModel,
    windows: Windows,
    config: TrajectoryDistillConfig,
    noise: float,
    seed: int,
) -> Bank:
    """Trajectories of a teacher, from the cache or computed now, with progress shown.

    Args:
        teacher: Trained model.
        windows: Demonstrations, with the features of their pictures instead of these.
        config: How many, how finely integrated, and which points are kept.
        noise: Standard deviation of the noise on normalised vectors that the teacher is shown.
        seed: Seed of windows, noise and crops.
    """
    from filelock import FileLock

    num_levels = teacher.config.num_levels
    levels = kept_levels(num_levels, config.num_points, config.calls_per_step)
    numbers = (config.num_trajectories, config.solver_steps, noise, seed)
    identity = _identity(teacher, windows, numbers)
    name = hashlib.sha256(json.dumps([identity, levels.tolist()]).encode()).hexdigest()[:32]
    folder = cache_root() / "trajectories" / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    sizes, done = _sizes(teacher, levels), folder.with_suffix(".blocks")
    with FileLock(f"{folder}.lock"):
        found = _load(folder, levels, sizes, config.num_trajectories, len(windows))
        if found is None:
            done.mkdir(exist_ok=True)
            blocks = _blocks(teacher, windows, config.num_trajectories, noise, seed)
            fine = spaced_levels(num_levels, 0, config.solver_steps)
            files = _integrated(
                done, teacher, blocks, (levels, fine), sizes, config.num_trajectories
            )
            with replacing(folder) as partial:
                partial.mkdir()
                _join(partial, files, config.num_trajectories)
            found = _load(folder, levels, sizes, config.num_trajectories, len(windows))
            assert found is not None
        # Also those of a process that was killed when it had just joined them.
        shutil.rmtree(done, ignore_errors=True)
        return found


@torch.no_grad()
def integrate(
    teacher: DiffusionModel, context: Tensor, x: Tensor, levels: np.ndarray, fine: np.ndarray
) -> Tensor:
    """A teacher's deterministic trajectory from actions x (B, H, D), kept at some levels.

    Args:
        teacher: Trained model.
        context: What its network is told, shape (B, To * O).
        x: Noisy actions at ``levels[0]``.
        levels: Integer levels to keep, descending, shape (K + 1,).
        fine: Further levels where the network is called.

    Returns:
        Actions at each of `levels`, shape (B, K + 1, H, D).
    """
    states, shape = [x], x.shape[1]
    for begin, end in pairwise(levels.tolist()):
        between = [int(level) for level in fine if end < level < begin]
        path = [np.full(shape, level) for level in (begin, *between, end)]
        states.append(
            reverse(
                lambda x, k: teacher.predict(x, k, context),
                states[-1],
                path,
                teacher.schedule,
                teacher.config.prediction,
                clip=teacher.config.clip,
            )
        )
    return torch.stack(states, dim=1)


@dataclass(frozen=True)
class _Block:
    """Where some trajectories begin: windows, crops, observations and noise."""

    current: Tensor
    crop: Tensor
    seen: Seen
    noise: Tensor


def _blocks(
    teacher: DiffusionModel, windows: Windows, num: int, noise: float, seed: int
) -> Iterator[_Block]:
    """Beginnings of all trajectories in order; windows are used alike, in random order."""
    rounds = -(-num // len(windows))
    order = [
        torch.randperm(len(windows), generator=step_generator(seed, one, stream="bank order"))
        for one in range(rounds)
    ]
    for number, current in enumerate(torch.cat(order)[:num].split(_NUM_ROWS)):
        generator = step_generator(seed, number, stream="bank")
        batch = windows.gather(current)
        crop, features = torch.zeros(len(current), dtype=torch.int64), batch.features
        if features is not None:
            crop = torch.randint(features.shape[2], (len(current),), generator=generator)
            features = features[torch.arange(len(current)), :, crop]
        if teacher.vector_keys:
            device = teacher.action_normalizer.scale.device
            vectors = teacher.vectors(batch.to(device).observation).cpu()
            vectors = vectors + noise * torch.randn(vectors.shape, generator=generator)
        else:
            assert features is not None
            vectors = features[..., :0]
        start = torch.randn(len(current), *teacher.window_shape, generator=generator)
        yield _Block(current, crop, Seen(vectors, features=features), start)


def _integrated(
    folder: Path,
    teacher: DiffusionModel,
    blocks: Iterator[_Block],
    levels: tuple[np.ndarray, np.ndarray],
    sizes: Mapping[str, tuple[int, ...]],
    num: int,
) -> list[Path]:
    """Integrate block by block, at levels to keep and to call at; a file of each, in order."""
    device = PartialState().device
    model, files = copy.deepcopy(teacher).to(device).eval(), []
    with tqdm(total=num, desc="teacher trajectories", unit="trajectory") as progress:
        for number, block in enumerate(blocks):
            files.append(folder / f"{number:05d}.safetensors")
            if not _is_block(files[-1], sizes, len(block.current)):
                context = block.seen.context(model).to(device)
                states = integrate(model, context, block.noise.to(device), *levels).cpu()
                arrays = (block.current, block.crop, block.seen.vectors, states)
                tensors = {
                    name: array.contiguous() for name, array in zip(_NAMES, arrays, strict=True)
                }
                with replacing(files[-1]) as partial:
                    safetensors.torch.save_file(tensors, partial)
            progress.update(len(block.current))
    return files


def _join(folder: Path, files: Sequence[Path], num: int) -> None:
    """Write the `num` rows of all blocks into one file per array."""
    for name in _NAMES:
        with (folder / f"{name}.npy").open("wb") as stream:
            for path in files:
                with safetensors.safe_open(path, "numpy") as block:
                    array = block.get_tensor(name)
                if stream.tell() == 0:
                    header = {
                        "descr": array.dtype.str,
                        "fortran_order": False,
                        "shape": (num, *array.shape[1:]),
                    }
                    np.lib.format.write_array_header_1_0(stream, header)
                stream.write(array.tobytes())


def _sizes(teacher: DiffusionModel, levels: np.ndarray) -> dict[str, tuple[int, ...]]:
    """Shape of one trajectory's part of each array."""
    vectors = teacher.observation_normalizer.scale.numel() if teacher.vector_keys else 0
    return {
        "current": (),
        "crop": (),
        "vectors": (teacher.config.num_obs_steps, vectors),
        "states": (len(levels), *teacher.window_shape),
    }


def _is_block(path: Path, sizes: Mapping[str, tuple[int, ...]], num: int) -> bool:
    """Whether a file holds so many trajectories; not if it is damaged."""
    try:
        with safetensors.safe_open(path, "numpy") as block:
            found = {name: tuple(block.get_slice(name).get_shape()) for name in block.keys()}  # noqa: SIM118
    except (OSError, SafetensorError):
        return False
    return found == {name: (num, *size) for name, size in sizes.items()}


def _load(
    folder: Path,
    levels: np.ndarray,
    sizes: Mapping[str, tuple[int, ...]],
    num: int,
    num_windows: int,
) -> Bank | None:
    """Map a folder; None if there is none, or it was tampered with."""
    try:
        # Copy on write: the files stay as they are, and torch gets the memory it asks for.
        arrays = {
            name: np.load(folder / f"{name}.npy", mmap_mode="c", allow_pickle=False)
            for name in _NAMES
        }
    except (OSError, EOFError, ValueError):
        return None
    for name, array in arrays.items():
        dtype = np.int64 if name in ("current", "crop") else np.float32
        if array.dtype != dtype or array.shape != (num, *sizes[name]):
            return None
    current = arrays["current"]
    return Bank(levels, **arrays) if 0 <= current.min() <= current.max() < num_windows else None


def _identity(
    teacher: DiffusionModel, windows: Windows, numbers: tuple[float, ...]
) -> list[object]:
    """All that decides what trajectories there are, JSON-able."""
    weights = {key: value.contiguous().cpu() for key, value in teacher.state_dict().items()}
    return [
        VERSION,
        numbers,
        hashlib.sha256(safetensors.torch.save(weights)).hexdigest(),
        teacher.config_dict(),
        teacher.observation_shapes,
        windows.digest(),
    ]
