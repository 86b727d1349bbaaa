"""The table of families: what is trained and timed how, by kind of policy."""

from __future__ import annotations

import dataclasses
from typing import get_type_hints

from ...decoding.plumbing.plugins import Registry
from ...decoding.plumbing.schema import key_types
from .family import Family

__all__ = ["FAMILIES", "family_of", "kinds_with", "sampling_names"]

FAMILIES: Registry[Family] = Registry(
    "hotloop.families",
    "kind of policy to train or to time",
    {
        "dp": "diffusion:DIFFUSION",
        "sdp": "diffusion:STREAMING",
        "diffuser": "planners:FAMILY",
        "decision_diffuser": "planners:FAMILY",
        "trajectory_diffuser": "planners:FAMILY",
        "vla": "vla:FAMILY",
        "act": "lerobot:ACT",
        "lerobot": "lerobot:INSTALLED",
    },
    str(__package__),
)


def family_of(kind: str) -> Family:
    """The family that a kind of policy belongs to.

    Raises:
        ValueError: If there is none; the message names the kinds that there are.
        ImportError: If it is a plugin's and cannot be imported.
    """
    family = FAMILIES.get(str(kind))
    if not isinstance(family, Family):
        raise ValueError(
            f"policies of kind {kind!r} are neither trained nor timed: {family!r} is no "
            "hotloop.train.families.family.Family; name one in the entry-point group "
            "hotloop.families"
        )
    return family


def sampling_names() -> set[str]:
    """Names of all sampling choices of all families."""
    kinds = [get_type_hints(FAMILIES.get(kind).config)["sampling"] for kind in FAMILIES.names]
    return {field.name for kind in kinds for field in dataclasses.fields(kind)}


def kinds_with(path: str) -> list[str]:
    """Kinds whose settings of a policy have the nested name `path`."""
    return [kind for kind in FAMILIES.names if path in key_types(family_of(kind).config)]
