"""Action trajectories, the policy contract, and the algorithms that decode actions.

Letters, used throughout: R rows (robots or environments), B training batch, H horizon,
D action size, To observation steps, Ta executed steps, N diffusion levels, h chunks.
"""

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
