"""Sampling choices that a user gives beside a checkpoint, checked against its kind's own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from ...decoding.plumbing.schema import build
from ...policies.checkpoint import Checkpoint
from .groups import merged


def sampled_policy(checkpoint: Checkpoint, choices: Mapping[str, Any], engine: str) -> Any:
    """The policy of a checkpoint with some of its sampling choices replaced.

    Args:
        checkpoint: The checkpoint.
        choices: What ``sampling.*`` says, plain data; what is absent stays as stored.
        engine: Name of an engine, or ``"auto"``.

    Raises:
        ValueError: For a choice that this kind of policy does not have, or of the wrong type; the
            message names it as the user writes it.
    """
    stored = checkpoint.sampling
    names = [field.name for field in fields(stored)]
    if unknown := [name for name in choices if name not in names]:
        raise ValueError(
            f"sampling.{unknown[0]} is no choice of a policy of kind {checkpoint.kind!r}, which "
            f"has {', '.join(names)}"
        )
    sampling = build(type(stored), merged(asdict(stored), choices), "sampling.")
    return checkpoint.policy({name: getattr(sampling, name) for name in names}, engine)


def ran_on(policy: Any, asked: str) -> str:
    """Name of the engine that runs a policy: the one that was asked for, or what ``auto`` chose."""
    return getattr(policy, "engine", asked)


def as_overrides(choices: Mapping[str, Any], prefix: str) -> list[str]:
    """Plain data as ``key=value``, as a user would type it for another process."""
    overrides: list[str] = []
    for name, value in choices.items():
        key = f"{prefix}.{name}"
        if isinstance(value, Mapping):
            overrides += as_overrides(value, key)
        else:
            overrides.append(f"{key}={json.dumps(value)}")
    return overrides
