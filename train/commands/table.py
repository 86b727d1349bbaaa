"""Push-T on a table: where the block starts, and how much of the mark it covers."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...envs.pusht import CENTRE_OF_GRAVITY

PIXELS = 1000.0  # per metre


def random_scene(seed: int) -> list[float]:
    """A start of the block: its centre of gravity [m], drawn as in Push-T, and its angle [rad]."""
    generator = np.random.default_rng(seed)
    x, y = (generator.integers(100, 400, 2) + CENTRE_OF_GRAVITY) / PIXELS
    return [float(x), float(y), float(generator.uniform(-np.pi, np.pi))]


def block_poses(scene: np.ndarray) -> np.ndarray:
    """Push-T's pose of the block, x, y [px] and angle [rad], from the scene's sensors.

    Args:
        scene: Centre of gravity x, y [m] and angle [rad], shape (..., 3).
    """
    cos, sin = np.cos(scene[..., 2]), np.sin(scene[..., 2])
    turn = np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)
    origin = PIXELS * scene[..., :2] - turn @ CENTRE_OF_GRAVITY
    return np.concatenate([origin, scene[..., 2:3]], axis=-1)


def coverage(blocks: np.ndarray) -> np.ndarray:
    """Share of the mark that the block covers, shape (n,), for poses of shape (n, 3).

    Args:
        blocks: x, y [px] and angle [rad].
    """
    import shapely

    mark = _outline(np.array([[256.0, 256.0, np.pi / 4]]))[0]
    outlines = np.asarray(_outline(blocks), dtype=object)
    return shapely.area(shapely.intersection(outlines, mark)) / mark.area


def _outline(poses: np.ndarray) -> list[Any]:
    """The T's outline [px] at each pose, shape (n, 3)."""
    import shapely

    shape = np.array(
        [(-60, 0), (60, 0), (60, 30), (15, 30), (15, 120), (-15, 120), (-15, 30), (-60, 30)]
    )
    cos, sin = np.cos(poses[:, 2]), np.sin(poses[:, 2])
    turn = np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)
    points = np.einsum("nij,kj->nki", turn, shape) + poses[:, None, :2]
    return [shapely.Polygon(one) for one in points]
