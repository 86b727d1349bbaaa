"""The action trajectory: the one type that all policies return and all runtimes consume."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np


def all_finite(values: np.ndarray) -> bool:
    """Whether no value is NaN or infinite.

    A sum of squares is finite only if every term is, and takes a quarter of the time of looking at
    each; if it overflows, they are looked at.
    """
    return math.isfinite(np.vdot(values, values)) or bool(np.isfinite(values).all())


@dataclass(frozen=True, eq=False)
class ActionTrajectory:
    """Actions of R rows over H consecutive control steps, in physical units.

    A streaming diffusion buffer has a noise level that rises along the horizon, a planner's
    trajectory is clean throughout, and the tail of a token chunk that has not converged is not
    valid: one type, no special case. Time is an integer control step, so splices are exact.

    Attributes:
        actions: Shape (R, H, D).
        first_step: Control step of ``actions[:, 0]``, shape (R,).
        observed_step: Control step of the newest observation that was used, shape (R,).
        dt: Control period [s].
        noise_level: 0 is clean, 1 is pure noise; shape (R, H).
        valid: False where the action is not meant to be executed; shape (R, H).
        num_usable: Length of the prefix of each row that is clean and valid, shape (R,), where it
            is known; `following` hands it on.
    """

    actions: np.ndarray
    first_step: np.ndarray
    observed_step: np.ndarray
    dt: float
    noise_level: np.ndarray
    valid: np.ndarray
    num_usable: np.ndarray | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Reject inconsistent shapes and trajectories without a step."""
        if self.num_usable is not None and self.actions.shape[:2] == self.noise_level.shape:
            return  # a following one: noise and validity were checked before
        if self.actions.ndim != 3 or self.actions.shape[1] == 0:
            raise ValueError(
                f"actions must have shape (R, H, D) with H > 0, got {self.actions.shape}"
            )
        rows, horizon, _ = self.actions.shape
        for name, shape in (
            ("first_step", (rows,)),
            ("observed_step", (rows,)),
            ("noise_level", (rows, horizon)),
            ("valid", (rows, horizon)),
        ):
            if getattr(self, name).shape != shape:
                raise ValueError(f"{name} must have shape {shape}, got {getattr(self, name).shape}")

    @classmethod
    def clean(
        cls, actions: np.ndarray, first_step: np.ndarray, observed_step: np.ndarray, dt: float
    ) -> ActionTrajectory:
        """Build a trajectory whose every action, shape (R, H, D), is ready to execute."""
        shape = actions.shape[:2]
        return cls(
            actions,
            first_step,
            observed_step,
            dt,
            np.zeros(shape, np.float32),
            np.ones(shape, bool),
        )

    @property
    def horizon(self) -> int:
        """Number of control steps H."""
        return self.actions.shape[1]

    @property
    def times(self) -> np.ndarray:
        """Time of each action since the start of its row's episode [s], shape (R, H)."""
        return (self.first_step[:, None] + np.arange(self.horizon)) * self.dt

    def following(
        self, actions: np.ndarray, first_step: np.ndarray, observed_step: np.ndarray
    ) -> ActionTrajectory:
        """Return a trajectory of other actions and steps, of the same shapes, noise and validity.

        A policy whose plans differ in nothing else makes them this way in a fraction of the time.
        """
        return ActionTrajectory(
            actions,
            first_step,
            observed_step,
            self.dt,
            self.noise_level,
            self.valid,
            self._num_usable,
        )

    @property
    def ready(self) -> np.ndarray:
        """Actions that are clean, valid and finite, and so is every one before; shape (R, H)."""
        usable = (self.noise_level <= 0) & self.valid & np.isfinite(self.actions).all(axis=-1)
        return np.logical_and.accumulate(usable, axis=1)

    @cached_property
    def _num_usable(self) -> np.ndarray:
        """Length of the prefix of each row that is clean and valid, finite or not, shape (R,)."""
        if self.num_usable is not None:
            return self.num_usable
        usable = (self.noise_level <= 0) & self.valid
        return np.logical_and.accumulate(usable, axis=1).sum(axis=1)

    @property
    def num_ready(self) -> np.ndarray:
        """Length of the ready prefix of each row, shape (R,)."""
        return self._num_usable if all_finite(self.actions) else self.ready.sum(axis=1)

    def select(self, rows: np.ndarray) -> ActionTrajectory:
        """Return the given rows as a trajectory of their own."""
        return ActionTrajectory(
            self.actions[rows],
            self.first_step[rows],
            self.observed_step[rows],
            self.dt,
            self.noise_level[rows],
            self.valid[rows],
        )
