"""Policies that `hotloop control` knows by name, and checkpoints on robots."""

from __future__ import annotations

from dataclasses import fields
from inspect import signature
from typing import Any

from ...decoding.plumbing.plugins import Registry
from ...real_robot.config import ControlConfig, PolicyOptions, RobotConfig
from ...real_robot.policies.cartesian import on_tool
from ...real_robot.policies.joints import on_joints
from ...real_robot.policies.protocol import PolicyKind, RobotPolicy, RobotPolicyFactory
from .opening import open_for_robot
from .recorded_positions import refuse_other_than_positions

ROBOT_POLICIES: Registry[PolicyKind | RobotPolicyFactory] = Registry(
    "hotloop.robot_policies",
    "robot policy",
    {
        "cartesian": "robot_policies:CARTESIAN",
        "joints": "robot_policies:JOINTS",
        "reach": "..real_robot.policies.reach:REACH",
        "pick": "..real_robot.policies.pick_task:PICK",
        "table": "table_policy:TABLE",
    },
    __package__ or "",
)


def policy_kind(config: ControlConfig) -> PolicyKind:
    """What a run's policy is.

    Raises:
        ValueError: If the policy is unknown or none, needs a checkpoint, or does not read a setting
            that was given.
        ImportError: If it is a plugin or ``module:Name`` that cannot be imported.
    """
    by_checkpoint = "joints" if config.actions is None else "cartesian"
    name = config.policy or (by_checkpoint if config.checkpoint else "reach")
    found = ROBOT_POLICIES.get(name)
    if not isinstance(found, PolicyKind):
        _check_factory(name, found)
    kind = found if isinstance(found, PolicyKind) else PolicyKind(found)
    if kind.settings is not None:
        _check_settings(name, kind.settings, config.policy_options)
    return kind


def _check_factory(name: str, found: Any) -> None:
    """Raise ValueError for what cannot build a policy from a robot and options, uncalled."""
    try:
        signature(found).bind(None, None)
        PolicyKind(found).path  # noqa: B018 - the policy process finds it by its own name
    except (TypeError, ValueError, AttributeError):
        raise ValueError(
            f"robot policy {name!r} is {found!r}; it must be a PolicyKind, or a class or function "
            "that is called with a robot's configuration and the policy's options"
        ) from None


def _check_settings(name: str, settings: tuple[str, ...], options: PolicyOptions) -> None:
    """Raise ValueError for settings that the policy does not read, and for one that it lacks."""
    if "checkpoint" not in settings and options.checkpoint:
        raise ValueError(f"policy {name} runs no checkpoint; leave policy={name} out")
    if "checkpoint" in settings and not options.checkpoint:
        raise ValueError(f"the {name} policy needs a checkpoint, e.g. checkpoint=outputs/run")
    default = PolicyOptions()
    for field in fields(options):
        given = getattr(options, field.name)
        if field.name not in settings and given != getattr(default, field.name):
            raise ValueError(
                f"policy {name} does not read the setting {field.name}, got {given!r}; it reads "
                f"{', '.join(settings) or 'none'}"
            )


def make_joint_policy(robot: RobotConfig, options: PolicyOptions) -> RobotPolicy:
    """Build the policy of any checkpoint whose actions are joint positions.

    Raises:
        ValueError: If the checkpoint and the robot do not fit each other, or its actions are no
            joint positions.
    """
    opened = open_for_robot(robot, options)
    refuse_other_than_positions(opened.recorded)
    return on_joints(opened.policy, robot, options)


JOINTS = PolicyKind(
    make_joint_policy,
    settings=(
        "checkpoint",
        "sampling",
        "latency",
        "instruction",
        "units",
        "given",
        "lerobot",
        "engine",
        "device",
        "precision",
    ),
)


def make_cartesian_policy(robot: RobotConfig, options: PolicyOptions) -> RobotPolicy:
    """Build the policy of a checkpoint whose actions move the tool.

    Raises:
        ValueError: If the checkpoint, its stated actions and the robot do not fit each other.
    """
    opened = open_for_robot(robot, options)
    return on_tool(opened.policy, robot, options)


CARTESIAN = PolicyKind(
    make_cartesian_policy,
    settings=(
        "checkpoint",
        "sampling",
        "latency",
        "instruction",
        "given",
        "lerobot",
        "actions",
        "engine",
        "device",
        "precision",
    ),
)
