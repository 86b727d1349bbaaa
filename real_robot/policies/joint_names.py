"""Which joint an action is for, by what it is called; what is called no joint moves none."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from ...decoding import ActionSpec
from ..config import RobotConfig, plain_name

# Names that say nothing but a number.
GENERIC = re.compile(r"((action|joint|motor|dim|dimension)s? ?)?\d+")
# Names of a tool's coordinates, also of their changes (dx) and with a number behind.
COORDINATES = re.compile(
    r"d?(r?[xyz]|q[xyzw]|t[xyz])\d*|d(roll|pitch|yaw|q|theta|pos|grip)\d*"
    r"|.*\b(linear|angular|tool|hand|gripper|pos|position|rot|rotation|orientation) d?[xyz]"
)
# Parts of names that are no positions of joints, also with a number behind.
OTHER_WORDS = {
    **dict.fromkeys(("delta", "diff", "increment", "relative"), "a change"),
    **dict.fromkeys(("vel", "velocity", "velocities", "speed", "rate", "dot", "qvel", "qd", "qdot",
                     "twist"), "a speed"),
    **dict.fromkeys(("acc", "accel", "acceleration"), "an acceleration"),
    **dict.fromkeys(("torque", "effort", "force", "wrench", "current", "pwm", "voltage", "tau"),
                    "a force"),
    **dict.fromkeys(("eef", "ee", "tcp", "effector", "pose", "cartesian", "quat", "quaternion"),
                    "a coordinate of the tool"),
}  # fmt: skip
# Units of speeds and forces; others may be turned into rad or m.
OTHER_UNITS = re.compile(r".*(/|per ).*|n|nm|n ?[*·]? ?m|m?a|m?v|w|hz|px|pixels?", re.IGNORECASE)


def order_of_joints(
    spec: ActionSpec, robot: RobotConfig, num_read: int | None
) -> NDArray[np.int64]:
    """Joint of the robot that each action is for, shape (D,): by name, or by number.

    Raises:
        ValueError: If an action is called no position of a joint, or none of this robot's.
    """
    for name in spec.names:
        if found := other_meaning(name):
            raise ValueError(
                f"the checkpoint's action {name!r} is by its name {found}, no position of a joint, "
                "and is never sent as one; a policy that moves the tool is run with actions=..."
            )
    theirs = [plain_name(name) for name in spec.names]
    ours = [plain_name(name) for name in robot.joints]
    if len(set(theirs)) < len(theirs):
        raise ValueError(f"the checkpoint has two actions of one name: {spec.names}")
    if theirs and set(theirs) <= set(ours):
        return np.array([ours.index(name) for name in theirs])
    if all(GENERIC.fullmatch(name) for name in theirs):
        return _by_number(spec, theirs, robot, num_read)
    if not ours:
        raise ValueError(
            f"the checkpoint's actions are {spec.names}, and robot {robot.name} does not say what "
            "its joints are called; say it, in their order: robot.joints=[...]"
        )
    if spec.size > len(ours):
        raise _other_robot(spec, robot)
    raise ValueError(
        f"the checkpoint's actions are {spec.names}, the joints of robot {robot.name} are "
        f"{robot.joints}; if they are the same, say so with robot.joints=[...]"
    )


def other_meaning(name: str) -> str:
    """What an action is by its name and unit, empty if it may be a joint's position."""
    unit = re.search(r"\[(.*)\]\s*$", name)
    if unit and OTHER_UNITS.fullmatch(unit[1].strip()):
        return f"in {unit[1]}"
    if COORDINATES.fullmatch(plain_name(name)):
        return "a coordinate of the tool"
    # shoulderVel is two words, and so is shoulder_vel.
    text = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", re.sub(r"\[.*", "", name)).lower()
    words = [word.rstrip("0123456789") for word in re.split(r"[^a-z0-9]+", text)]
    if words[0] == "d" and any(words[1:]):
        return "a change"
    return next((OTHER_WORDS[word] for word in words if word in OTHER_WORDS), "")


def _by_number(
    spec: ActionSpec, theirs: list[str], robot: RobotConfig, num_read: int | None
) -> NDArray[np.int64]:
    """Numbers of all joints, from 0 or 1, or those of the recordings that are still planned."""
    num_joints = robot.control.limits.num_joints
    numbers = np.array([int(re.sub(r"\D", "", name)) for name in theirs])
    if len(set(numbers.tolist())) == len(numbers):
        first = numbers - numbers.min()
        if spec.size == num_joints and first.max() < num_joints and numbers.min() <= 1:
            return first
        if spec.size == num_joints and (np.diff(numbers) > 0).all():
            # Columns of a recording that held more than the joints.
            return np.arange(num_joints)
        if num_read == num_joints and numbers.max() < num_joints:
            return numbers
    raise _other_robot(spec, robot)


def _other_robot(spec: ActionSpec, robot: RobotConfig) -> ValueError:
    return ValueError(
        f"the checkpoint plans {spec.size} values {spec.names}, robot {robot.name} has "
        f"{robot.control.limits.num_joints} joints {robot.joints}"
    )
