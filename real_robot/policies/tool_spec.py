"""Whether a checkpoint's actions can be what the settings say that they are."""

from __future__ import annotations

import re

import numpy as np

from ...decoding import ActionSpec
from ..config import RobotConfig, plain_name
from ..kinematics.actions import ACTION_PARTS, AXES, ROTATIONS, ActionsConfig
from .joint_names import GENERIC

# Metres or radians per unit that stands in brackets behind a name, e.g. "hand dx [0.05 m]".
UNITS = {"m": 1.0, "cm": 0.01, "mm": 0.001, "rad": 1.0, "deg": np.pi / 180}
IN_BRACKETS = re.compile(r"\[\s*([\d.]*)\s*([a-z]+)(?:/s)?\s*\]$")
FASTEST = {"position": 5.0, "rotation": 30.0}  # Faster than any arm's tool [m/s, rad/s].
FARTHEST = 5.0  # Further away than any arm reaches [m].
LARGEST_PART = 2.0  # Of a quaternion or of the axes of a rotation, which are 1 long.


def check_tool_spec(spec: ActionSpec, config: ActionsConfig, robot: RobotConfig) -> None:
    """Compare a checkpoint's actions with what they are said to be.

    Args:
        spec: The checkpoint's actions.
        config: What the settings say of them.
        robot: Its joints' names are no names of a tool's motion.

    Raises:
        ValueError: If number, names, units or bounds do not fit.
    """
    if spec.size != config.size:
        parts = ", ".join(f"{part} {ACTION_PARTS[part]}" for part in config.layout)
        raise ValueError(
            f"the checkpoint plans {spec.size} numbers {spec.names}, actions.layout is "
            f"{config.size}: {parts}"
        )
    parts = [part for part in config.layout for _ in range(ACTION_PARTS[part])]
    _check_names(spec, config, parts, robot)
    for index, part in enumerate(parts):
        kind = "position" if part in (*AXES, "position") else part
        if kind in ROTATIONS and ROTATIONS[kind] == 3:
            kind = "rotation"
        if kind in FASTEST:
            _check_unit(spec.names[index], getattr(config, f"{kind}_scale"), f"{kind}_scale")
            _check_size(spec, index, kind, config)
        elif kind in ROTATIONS and _largest(spec, index) > LARGEST_PART:
            raise ValueError(
                f"the checkpoint's {spec.names[index]!r} goes up to {_largest(spec, index):.3g} "
                f"and is no part of a rotation written as {part}; correct actions.layout"
            )


def _check_names(
    spec: ActionSpec, config: ActionsConfig, parts: list[str], robot: RobotConfig
) -> None:
    theirs = [plain_name(name) for name in spec.names]
    if all(GENERIC.fullmatch(name) for name in theirs):
        return
    stated = [plain_name(name) for name in config.names]
    if stated and stated != theirs:
        raise ValueError(
            f"the checkpoint's actions are {spec.names}, actions.names are {config.names}; if they "
            "mean the same, in this order, give the checkpoint's as actions.names"
        )
    joints = {plain_name(name) for name in robot.joints}
    for name, part in zip(theirs, parts, strict=True):
        if not stated and name in joints and part not in ("gripper", "unused"):
            raise ValueError(
                f"the checkpoint's {name!r} is a joint of robot {robot.name}, no {part} of its "
                "tool; leave out actions for a checkpoint that plans joint positions"
            )


def _check_unit(name: str, scale: float, key: str) -> None:
    """Raise ValueError if a name says another unit than the settings do."""
    found = IN_BRACKETS.search(name)
    if not found:
        return
    if found[2] not in UNITS:
        raise ValueError(
            f"the checkpoint's {name!r} is in {found[2]}, which is no unit of a tool's motion"
        )
    said = float(found[1] or 1) * UNITS[found[2]]
    if not np.isclose(said, scale, rtol=1e-3):
        raise ValueError(f"the checkpoint's {name!r} says actions.{key}={said:g}, got {scale:g}")


def _check_size(spec: ActionSpec, index: int, kind: str, config: ActionsConfig) -> None:
    """Raise ValueError for ways that no arm goes."""
    scale = getattr(config, f"{kind}_scale")
    largest, unit = abs(scale) * _largest(spec, index), "m" if kind == "position" else "rad"
    if config.kind == "pose":
        bound = FARTHEST if kind == "position" else np.inf
        what = f"{largest:.3g} {unit} from the base"
    else:
        bound, speed = FASTEST[kind], largest / (spec.dt if config.kind == "delta" else 1.0)
        largest, what = speed, f"{speed:.3g} {unit}/s"
    if largest > bound:
        raise ValueError(
            f"the checkpoint's {spec.names[index]!r} goes up to {what}, which no arm does; correct "
            f"actions.{kind}_scale or actions.kind"
        )


def _largest(spec: ActionSpec, index: int) -> float:
    return max(abs(spec.low[index]), abs(spec.high[index]))
