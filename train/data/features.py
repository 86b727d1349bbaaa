"""Features of a data set's pictures, computed once by an encoder that is not trained.

A file ``features/*.npy`` in the cache holds the features of some crops of every frame. It belongs
to the pictures and their episodes, the encoders' configuration and weights, and the number of
crops; others have files of their own. It appears complete or not at all, and processes that want
the same one wait for the first to make it.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from accelerate import PartialState
from tqdm import tqdm

from ...decoding.plumbing.cache import cache_root
from ...decoding.plumbing.files import replacing
from ...policies.networks.vision import Vision
from .digest import arrays_digest
from .episodes import Episodes
from .windows import step_generator

VERSION = 1
_NUM_FRAMES = 128  # encoded at a time


def cached_features(vision: Vision, episodes: Episodes, num_crops: int) -> np.ndarray:
    """Features of every frame, from the cache or computed now, with progress shown.

    The first crop is from the middle, as at run time. Each other one has a place per episode and
    camera, so that all frames of a window are cut alike. Places are the same for every run.

    Args:
        vision: Encoders of all cameras.
        episodes: Demonstrations with the pictures that `vision` reads.
        num_crops: Crops of each frame; one is all there is where nothing is cut off.

    Returns:
        Memory-mapped float32 of shape (T, K, F).

    Raises:
        ValueError: If the episodes lack a camera, or its pictures have another shape.
    """
    from filelock import FileLock

    check_seen(vision, {key: array.shape[1:] for key, array in episodes.observations.items()})
    shape = (episodes.num_steps, num_crops if is_cut(vision) else 1, vision.num_features)
    path = cache_root() / "features" / f"{_identity(vision, episodes, shape)}.npy"
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        if (found := _load(path, shape)) is not None:
            return found
        with replacing(path) as partial, partial.open("wb") as stream:
            header = {"descr": "<f4", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(stream, header)
            # No memory map here: it would end the process where the disk is full.
            for block in _encoded(vision, episodes, shape[1]):
                stream.write(block.astype("<f4").tobytes())
        return np.load(path, mmap_mode="c", allow_pickle=False)


def check_seen(vision: Vision, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise ValueError if demonstrations of these shapes are not what a teacher has seen."""
    for key, expected in vision.shapes.items():
        found = shapes.get(key)
        if found is None or tuple(found) != tuple(expected):
            raise ValueError(
                f"{key!r}: the teacher reads pictures of shape {tuple(expected)}, the "
                f"demonstrations have {found or 'no such key'}; distil on those it was trained on"
            )


def is_cut(vision: Vision) -> bool:
    """Whether encoders see less than a whole picture, so that crops differ."""
    resize = vision.config.resize
    return any(vision.seen[key] != (resize or shape[:2]) for key, shape in vision.shapes.items())


def _encoded(vision: Vision, episodes: Episodes, num_crops: int) -> Iterator[np.ndarray]:
    """Features (n, K, F) of all frames in order, some at a time."""
    device = PartialState().device
    encoder = copy.deepcopy(vision).to(device).eval()
    with tqdm(total=episodes.num_steps, desc="encode pictures", unit="frame") as progress:
        for index, steps in enumerate(episodes.episode_slices):
            for begin in range(steps.start, steps.stop, _NUM_FRAMES):
                rows = slice(begin, min(begin + _NUM_FRAMES, steps.stop))
                frames = {
                    key: torch.from_numpy(np.array(episodes.observations[key][rows])).to(device)
                    for key in vision.shapes
                }
                yield _crops_encoded(encoder, frames, index, num_crops)
                progress.update(rows.stop - rows.start)


@torch.no_grad()
def _crops_encoded(
    vision: Vision, frames: dict[str, torch.Tensor], episode: int, num_crops: int
) -> np.ndarray:
    """Features (n, K, F) of frames (n, height, width, 3) of one episode."""
    # To `crop`, an episode is one sample of many frames: they are cut at one place.
    together = {key: pictures[None] for key, pictures in frames.items()}
    features = []
    for crop in range(num_crops):
        place = step_generator(crop, episode, stream="place") if crop else None
        features.append(vision.encode(vision.crop(together, place))[0])
    return torch.stack(features, dim=1).float().cpu().numpy()


def _identity(vision: Vision, episodes: Episodes, shape: tuple[int, ...]) -> str:
    """Digest of all that decides what features there are."""
    pictures = {key: episodes.observations[key] for key in vision.shapes}
    weights = {key: value.contiguous() for key, value in vision.state_dict().items()}
    facts = {
        "version": VERSION,
        "shape": shape,
        "pictures": arrays_digest({**pictures, "ends": episodes.episode_ends}),
        "cameras": vision.shapes,
        "encoder": asdict(vision.config),
        "weights": hashlib.sha256(safetensors.torch.save(weights)).hexdigest(),
    }
    text = json.dumps(list(facts.items()))  # in order: so features of cameras lie side by side
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _load(path: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    """Map a file; None if there is none, or it was tampered with."""
    try:
        # Copy on write: the file stays as it is, and torch gets the memory it asks for.
        features = np.load(path, mmap_mode="c", allow_pickle=False)
    except (OSError, EOFError, ValueError):
        return None
    return features if features.shape == shape and features.dtype == np.float32 else None
