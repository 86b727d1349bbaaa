"""An imported policy beside the one that an installed LeRobot makes of the same folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from ...decoding import Observation, Policy
from ..checkpoint import Checkpoint
from ..diffusion.policy import DiffusionPolicy
from ..programs.rows import RowNoise
from .folder import open_folder
from .installed import InstalledModel

TOLERANCE = 1e-4  # of half the range of an action
_NUM_PLANS = 8


class TorchNoise(RowNoise):
    """Noise of one row as LeRobot draws it, window by window, from a generator of PyTorch's."""

    def reset(self, seeds: np.ndarray, rows: np.ndarray | None) -> None:
        """Seed the generator."""
        del rows
        self._generator = torch.Generator().manual_seed(int(seeds[0]))

    def fill(self, rows: np.ndarray, out: np.ndarray) -> None:
        """Write standard normal noise to `out`, shape (1, ..., H, D)."""
        del rows
        for window in out.reshape(-1, *out.shape[-2:]):
            window[...] = torch.randn((1, *window.shape), generator=self._generator)[0].numpy()


def largest_difference(path: Path, checkpoint: Checkpoint) -> float:
    """How far its actions are from LeRobot's, in units of half their range.

    Both are given the same random frames, like those of the training data, and the same noise.

    Args:
        path: LeRobot's folder.
        checkpoint: What was read from it.

    Raises:
        ImportError: If LeRobot is not installed.
    """
    theirs = InstalledModel(path)
    policy: Policy = checkpoint.policy()
    if isinstance(policy, DiffusionPolicy):
        policy = DiffusionPolicy(
            checkpoint.model, checkpoint.action_spec, checkpoint.sampling, noise=TorchNoise()
        )
    low, high = checkpoint.action_spec.float32_bounds
    generator, worst = np.random.default_rng(0), 0.0
    draw = _Frames(path, policy, generator)
    for seed in range(_NUM_PLANS):
        frames = [draw() for _ in range(policy.observation_spec.num_steps)]
        expected = np.clip(theirs.chunk(frames, seed), low, high)  # (t, d)
        policy.reset(np.array([seed]))
        stacked = {key: np.stack([one[key] for one in frames])[None] for key in frames[0]}
        now = np.zeros(1, np.int64)
        found = policy.plan(Observation(stacked, now, now), now).actions[0]
        difference = np.abs(found[: len(expected)] - expected) / ((high - low) / 2)
        worst = max(worst, float(difference.max()))
    return worst


class _Frames:
    """Draws frames; vectors have about the spread that their normalisation is made for."""

    def __init__(self, path: Path, policy: Policy, generator: np.random.Generator) -> None:
        processors = open_folder(path).processors
        maps = {processors.observed(name): one for name, one in processors.inputs.items()}
        self._maps, self._spec, self._generator = maps, policy.observation_spec, generator

    def __call__(self) -> dict[str, np.ndarray]:
        frame = {}
        for key, shape in self._spec.shapes.items():
            if key in self._spec.pictures:
                frame[key] = self._generator.integers(0, 256, shape, np.uint8)
                continue
            one = self._maps[key]
            scale = np.where(one.scale == 0, np.inf, one.scale)
            drawn = one.typical + 0.3 * self._generator.standard_normal(shape) / scale
            frame[key] = drawn.astype(np.float32)
        return frame
