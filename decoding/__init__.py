"""Action trajectories, the policy contract, and the algorithms that decode actions.

Letters, used throughout: R rows (robots or environments), B training batch, H horizon,
D action size, To observation steps, Ta executed steps, N diffusion levels, h chunks.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .executor import Executor, NotReady
    from .interface import ActionSpec, Observation, ObservationSpec, Policy
    from .trajectory import ActionTrajectory

__all__ = [
    "ActionSpec",
    "ActionTrajectory",
    "Executor",
    "NotReady",
    "Observation",
    "ObservationSpec",
    "Policy",
]

# Imported when asked for: a command's help needs the plumbing of this package, but no numpy.
_MODULES = {
    "Executor": "executor",
    "NotReady": "executor",
    "ActionSpec": "interface",
    "Observation": "interface",
    "ObservationSpec": "interface",
    "Policy": "interface",
    "ActionTrajectory": "trajectory",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)
