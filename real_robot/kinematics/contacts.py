"""Which geoms of an arm's model could touch each other, or a plane that the arm must not cross."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np

from .config import KinematicsConfig


def possible_pairs(model: Any, config: KinematicsConfig) -> list[tuple[int, int]]:
    """Pairs of geoms, by number, that move against each other and are no neighbours.

    Neighbours meet at a joint. The planes are the model's last geoms.
    """
    num_planes = len(config.planes)
    num_parts = model.ngeom - num_planes
    solid = (model.geom_contype | model.geom_conaffinity)[:num_parts] != 0
    if config.collisions == "all" or not solid.any():
        solid = np.ones(num_parts, bool)
    pairs: list[tuple[int, int]] = []
    if config.collisions != "none":
        pairs += [
            pair
            for pair in combinations(range(num_parts), 2)
            if config.collisions == "all" or _meant_to_touch(model, *pair)
        ]
    planes = range(num_parts, model.ngeom)
    pairs += [(int(part), plane) for part in np.flatnonzero(solid) for plane in planes]
    return [pair for pair in pairs if not _neighbours(model, *pair)]


def _meant_to_touch(model: Any, first: int, second: int) -> bool:
    """Whether the model itself lets two geoms collide."""
    types, affinities = model.geom_contype, model.geom_conaffinity
    return bool(types[first] & affinities[second] or types[second] & affinities[first])


def _neighbours(model: Any, first: int, second: int) -> bool:
    """Whether two geoms are on one body, or on two that a joint connects."""
    bodies = model.body_weldid[model.geom_bodyid[[first, second]]]
    parents = model.body_weldid[model.body_parentid[bodies]]
    return bool(bodies[0] == bodies[1] or bodies[0] == parents[1] or bodies[1] == parents[0])
