"""A policy as programs that are pure functions of observation, state and noise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ..programs.program import Program

STEP, START, FRAME = "step", "start", "frame"


@dataclass(frozen=True, eq=False)
class Graph:
    """One program that is exported.

    Attributes:
        program: Its inputs are ``observation`` (To, V), the vectors of all keys side by side,
            ``features`` (To, F) of the pictures, old state, and noise; its outputs ``actions`` (F,
            D) and the new state. ``frame`` alone maps pictures to ``features`` (F,).
        noise: Inputs that are standard normal, in the order in which they are drawn.
        late: For plans that go on from a state: control steps between observation and plan.
        noise_level: How noisy each planned action still is, 0 clean to 1, shape (F,).
    """

    program: Program
    noise: tuple[str, ...] = ()
    late: int | None = None
    noise_level: np.ndarray = field(default_factory=lambda: np.zeros(0))


@dataclass(frozen=True, eq=False)
class Exportable:
    """A policy as graphs.

    Attributes:
        graphs: `STEP` plans; ``step-1`` and so on plan so many steps after the observation, where
            a policy is trained for that; `START` plans where there is no state to go on from, if
            that is something else; `FRAME` encodes pictures, if there are any.
        num_obs_steps: Newest frames that a plan is made from, To.
        num_execute: Actions meant to be executed per plan, Ta.
        state: Shape of what is carried from plan to plan, by name: outputs of the planning graphs.
        state_input: Inputs of graphs that are given a state, with the state's name.
        from_observation: Whether the first planned action is that of the newest frame, else it is
            the first that is still needed.
    """

    graphs: Mapping[str, Graph]
    num_obs_steps: int
    num_execute: int
    state: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    state_input: Mapping[str, str] = field(default_factory=dict)
    from_observation: bool = True
