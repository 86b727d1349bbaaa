"""Which geoms of an arm's model could touch each other, or a plane that the arm must not cross."""

from __future__ import annotations

from itertools import combinations
from typing import Any

from .config import KinematicsConfig


def plane_name(index: int) -> str:
    """What the model calls a plane of the robot file."""
    return f"kinematics.planes[{index}]"


def possible_pairs(model: Any, config: KinematicsConfig) -> list[tuple[int, int]]:
    """Pairs of geoms, by number, that move against each other and may not touch.

    Neighbours meet at a joint and may. Where no geom of the model collides, planes hold for all.

    Raises:
        ValueError: If `config.may_touch` names no body.
    """
    planes = [model.geom(plane_name(index)).id for index in range(len(config.planes))]
    parts = sorted({*range(model.ngeom)} - {*planes})
    solid = [part for part in parts if model.geom_contype[part] | model.geom_conaffinity[part]]
    if config.collisions == "all" or not solid:
        solid = parts
    pairs = [] if config.collisions == "none" else list(combinations(parts, 2))
    if config.collisions == "model":
        pairs = [pair for pair in pairs if _meant_to_touch(model, *pair)]
    pairs += [(part, plane) for part in solid for plane in planes]
    left_out = _may_touch(model, config)
    return [
        pair
        for pair in pairs
        if not _neighbours(model, *pair)
        and frozenset(model.geom_bodyid[[*pair]].tolist()) not in left_out
    ]


def _may_touch(model: Any, config: KinematicsConfig) -> set[frozenset[int]]:
    """Bodies, by number, that the robot file lets touch."""
    bodies = {model.body(index).name: index for index in range(model.nbody)}
    if unknown := {name for pair in config.may_touch for name in pair} - {*bodies}:
        raise ValueError(
            f"kinematics.may_touch: there is no body {min(unknown)!r}; choose from {list(bodies)}"
        )
    return {frozenset(bodies[name] for name in pair) for pair in config.may_touch}


def _meant_to_touch(model: Any, first: int, second: int) -> bool:
    """Whether the model itself lets two geoms collide."""
    types, affinities = model.geom_contype, model.geom_conaffinity
    return bool(types[first] & affinities[second] or types[second] & affinities[first])


def _neighbours(model: Any, first: int, second: int) -> bool:
    """Whether two geoms are on one body, or on two that a joint connects."""
    bodies = model.body_weldid[model.geom_bodyid[[first, second]]]
    parents = model.body_weldid[model.body_parentid[bodies]]
    return bool(bodies[0] == bodies[1] or bodies[0] == parents[1] or bodies[1] == parents[0])
