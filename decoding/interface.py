"""The contract between policies and everything that runs them; numpy only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np

from .pictures import picture_problem
from .trajectory import ActionTrajectory, all_finite


@dataclass(frozen=True)
class ActionSpec:
    """What one action is: its dimensions with units, its bounds, and how often it is sent.

    Attributes:
        names: One name per dimension, with its unit, e.g. ``"agent x [px]"``.
        low: Smallest admissible value per dimension, in physical units.
        high: Largest admissible value per dimension, in physical units.
        dt: Control period [s].
    """

    names: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    dt: float

    def __post_init__(self) -> None:
        """Reject a spec that could not bound anything."""
        if not len(self.names) == len(self.low) == len(self.high) > 0:
            raise ValueError(
                "ActionSpec needs as many names as low and high bounds, at least one; got "
                f"{len(self.names)} names, {len(self.low)} low, {len(self.high)} high"
            )
        for name, low, high in zip(self.names, self.low, self.high, strict=True):
            if not low < high:
                raise ValueError(
                    f"ActionSpec {name!r}: low must be below high, got [{low}, {high}]"
                )
        if not (self.dt > 0 and np.isfinite(self.dt)):
            raise ValueError(f"ActionSpec dt must be a positive number of seconds, got {self.dt}")
        if not np.isfinite([*self.low, *self.high]).all():
            raise ValueError(f"ActionSpec bounds must be finite, got {self.low} and {self.high}")

    @property
    def size(self) -> int:
        """Number of action dimensions D."""
        return len(self.names)

    @cached_property
    def float32_bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Low and high as float32, shape (D,), rounded inwards: clipping to them never leaves."""
        low, high = np.asarray(self.low), np.asarray(self.high)
        return -_largest_below(-low), _largest_below(high)

    def check(self, actions: np.ndarray) -> np.ndarray:
        """Return `actions`, shape (..., D), or raise ValueError; NaN never passes."""
        if actions.shape[-1] != self.size:
            raise ValueError(
                f"actions must have {self.size} dimensions {self.names}, got shape {actions.shape}"
            )
        # Plain numbers: for the few of one control step this is several times faster than numpy.
        values = actions.ravel().tolist()
        for dim, (low, high) in enumerate(zip(self.low, self.high, strict=True)):
            for entry, value in enumerate(values[dim :: self.size]):
                # Written so that NaN, which fails every comparison, is out of bounds.
                if not low <= value <= high:
                    index = (*np.unravel_index(entry, actions.shape[:-1]), dim)
                    raise ValueError(
                        f"action {self.names[dim]!r} = {value} at index "
                        f"{tuple(int(i) for i in index)} is outside [{low}, {high}]"
                    )
        return actions


def _largest_below(bound: np.ndarray) -> np.ndarray:
    """Largest float32 not above a float64 bound."""
    rounded = bound.astype(np.float32)
    return np.where(rounded > bound, np.nextafter(rounded, np.float32(-np.inf)), rounded)


def is_picture(shape: tuple[int, ...]) -> bool:
    """Whether observations of this shape are pictures: height, width and red, green, blue.

    Pictures are bytes (uint8), upright, from the camera to the encoder.
    """
    return len(shape) == 3 and shape[2] == 3


@dataclass(frozen=True)
class ObservationSpec:
    """Which observation keys a policy reads, their shapes, and how many newest frames.

    Attributes:
        shapes: Shape of one frame per key, e.g. ``{"observation.state": (2,)}``.
        num_steps: Newest frames the policy sees, To.
    """

    shapes: Mapping[str, tuple[int, ...]]
    num_steps: int

    @cached_property
    def pictures(self) -> tuple[str, ...]:
        """Keys that hold pictures, see `is_picture`."""
        return tuple(key for key, shape in self.shapes.items() if is_picture(shape))

    def dtype(self, key: str) -> type[np.uint8] | type[np.float32]:
        """Type of the numbers of a key."""
        return np.uint8 if key in self.pictures else np.float32

    def check_frame(self, frame: Mapping[str, np.ndarray]) -> None:
        """Raise ValueError unless `frame` has every key, finite, of shape (R, *shape).

        Pictures must be bytes.
        """
        for key, shape in self.shapes.items():
            if key not in frame:
                raise ValueError(
                    f"observation key {key!r} is missing; expected {sorted(self.shapes)}, "
                    f"got {sorted(frame)}"
                )
            values = frame[key]
            if key in self.pictures:
                if problem := picture_problem(values.shape[1:], values.dtype, shape):
                    raise ValueError(f"each row's picture of observation {key!r} {problem}")
                continue
            if values.shape[1:] != shape:
                raise ValueError(
                    f"observation {key!r} must have shape (rows, {', '.join(map(str, shape))}), "
                    f"got {values.shape}"
                )
            if not all_finite(values):
                raise ValueError(f"observation {key!r} holds NaN or infinite values: {values}")


@dataclass(frozen=True)
class Observation:
    """The newest frames of R batch rows, in physical units.

    A *row* is one robot or one environment. Rows are reset, observed and planned for
    independently, so a call may carry any subset of them.

    Attributes:
        frames: Per key an array of shape (R, To, *shape), oldest frame first.
        step: Control step of the newest frame of each row, shape (R,).
        rows: Which batch row each entry belongs to, shape (R,), without repeats.
    """

    frames: Mapping[str, np.ndarray]
    step: np.ndarray
    rows: np.ndarray

    def select(self, index: np.ndarray) -> Observation:
        """Return the entries at `index`, integer, shape (n,), as an observation of their own."""
        frames = {key: values[index] for key, values in self.frames.items()}
        return Observation(frames, self.step[index], self.rows[index])


@runtime_checkable
class Observing(Protocol):
    """A policy that uses the time between its plans, e.g. to encode pictures.

    Plans are the same whether it was given that time or not.
    """

    def observe(self, observation: Observation) -> None:
        """See frames, without a plan, that will be among the older ones of the next plan."""
        ...


@runtime_checkable
class Policy(Protocol):
    """Anything that plans actions: diffusion, planner, token decoder, script.

    `reset` and `plan` act on the named rows only. A policy keeps per-row state (a rolling
    buffer, a random generator, a warm start) between calls, never the observation history. One
    that can use the time between plans is `Observing` as well.
    """

    @property
    def action_spec(self) -> ActionSpec:
        """Names, bounds and period of the planned actions."""
        ...

    @property
    def observation_spec(self) -> ObservationSpec:
        """Keys, shapes and number of frames that `plan` reads."""
        ...

    @property
    def num_execute(self) -> int:
        """Actions meant to be executed per plan, Ta."""
        ...

    def reset(self, seeds: np.ndarray, rows: np.ndarray | None = None) -> None:
        """Start an episode in each of `rows`; without `rows`, in ``len(seeds)`` new rows.

        Args:
            seeds: One seed per row, shape (R,). A row's plans depend on its seed and its
                observations alone, not on the other rows.
            rows: Rows to restart, shape (R,); the others keep their state.
        """
        ...

    def plan(self, observation: Observation, step: np.ndarray) -> ActionTrajectory:
        """Plan for the rows of `observation`.

        Args:
            observation: Newest frames of R rows.
            step: First control step that still needs an action, shape (R,). It is later than
                ``observation.step`` when the plan is computed ahead of its execution.

        Returns:
            A trajectory of R rows whose actions at `step` and after are usable as far as
            `ActionTrajectory.ready` says.
        """
        ...
