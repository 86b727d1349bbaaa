"""Toy B: a slalom in closed loop, whose driver keeps to the side that it has chosen, under pushes.

A car drives at constant speed towards pillars, one every 12 steps, and is steered sideways: the
action is its next position y. Behind a pillar the driver chooses a side of the next one, with a
probability that the observation tells; then it returns to the middle, and only half-way it turns to
the side of its choice, which until then nobody sees. Pushes move the car at random.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np

from hotloop.decoding import ActionSpec
from hotloop.train.data.episodes import Episodes

KEY = "observation.state"
SPEC = ActionSpec(("y",), (-1.0,), (1.0,), dt=0.1)
GATE_STEPS, NUM_GATES = 12, 12
NUM_STEPS = GATE_STEPS * NUM_GATES
_RADIUS, _FASTEST = 0.15, 0.2  # of a pillar; change of y per step
_PUSHED, _PUSH, _TREMOR = 0.04, 0.1, 0.005  # share of steps; standard deviations
_TURN = 5  # steps behind a pillar in which the driver returns to the middle


def probability_above(pillar: np.ndarray) -> np.ndarray:
    """How often the driver passes a pillar at y on the upper side."""
    return 0.5 - 0.4 * np.tanh(pillar / 0.2)


class Driver(Protocol):
    """What steers cars side by side."""

    def steer(self, observed: np.ndarray, step: int) -> np.ndarray:
        """Next positions (R,) after observations (R, 4) at a step."""
        ...


@dataclass
class Expert:
    """The driver who demonstrates.

    Attributes:
        rng: Source of its choices.
    """

    rng: np.random.Generator
    _aim: np.ndarray = field(default_factory=lambda: np.zeros(0))

    def steer(self, observed: np.ndarray, step: int) -> np.ndarray:
        """Choose behind a pillar, return to the middle, then approach the chosen height."""
        y, _, pillar, _ = observed.T
        phase = step % GATE_STEPS
        if phase == 0:
            above = self.rng.random(len(y)) < probability_above(pillar)
            distance = _RADIUS + self.rng.uniform(0.05, 0.2, len(y))
            self._aim = pillar + np.where(above, distance, -distance)
        if phase < _TURN:
            moved = 0.6 * y
        else:
            moved = y + (self._aim - y) * min(1.0, 2 / (GATE_STEPS - phase))
        return moved + _TREMOR * self.rng.normal(size=len(y))


class Drive(NamedTuple):
    """Cars that were driven past all pillars.

    Attributes:
        observed: Observations y, phase and height of the next two pillars, (R, steps, 4).
        actions: Shape (R, steps).
        passed: Heights at the pillars, shape (R, gates).
        pillars: Heights of the pillars, shape (R, gates).
    """

    observed: np.ndarray
    actions: np.ndarray
    passed: np.ndarray
    pillars: np.ndarray


def drive(driver: Driver, num: int, seed: int) -> Drive:
    """Drive `num` cars; pillars and pushes depend on the seed alone."""
    rng = np.random.default_rng(seed)
    pillars = rng.uniform(-0.3, 0.3, (num, NUM_GATES + 1))
    pushes = _PUSH * rng.normal(size=(num, NUM_STEPS)) * (rng.random((num, NUM_STEPS)) < _PUSHED)
    y = rng.uniform(-0.3, 0.3, num)
    observed, actions, passed = [], [], []
    for step in range(NUM_STEPS):
        gate, phase = divmod(step, GATE_STEPS)
        seen = [y, np.full(num, phase / GATE_STEPS), pillars[:, gate], pillars[:, gate + 1]]
        observed.append(np.stack(seen, axis=1).astype(np.float32))
        actions.append(driver.steer(observed[-1], step).astype(np.float32))
        y = y + (actions[-1] - y).clip(-_FASTEST, _FASTEST) + pushes[:, step]
        if phase == GATE_STEPS - 1:
            passed.append(y)
    return Drive(
        np.stack(observed, axis=1),
        np.stack(actions, axis=1),
        np.stack(passed, axis=1),
        pillars[:, :-1],
    )


def demonstrations(num: int, seed: int = 0) -> Episodes:
    """Drives of the expert."""
    drives = drive(Expert(np.random.default_rng(seed + 1)), num, seed)
    actions = drives.actions.reshape(-1, 1).clip(-1, 1)
    observed = drives.observed.reshape(len(actions), -1)
    return Episodes({KEY: observed}, actions, np.arange(1, num + 1) * NUM_STEPS)


class Score(NamedTuple):
    """How cars were driven.

    Attributes:
        crashes: Share of pillars that were touched [%].
        calibration: Mean difference between how often a side was chosen and how often the expert
            chooses it, over ten heights of pillars.
        switches: Share of neighbouring pillars that were passed on different sides.
    """

    crashes: float
    calibration: float
    switches: float


def score(drives: Drive) -> Score:
    """Measure drives."""
    offset = drives.passed - drives.pillars
    above = offset > 0
    edges = np.linspace(-0.3, 0.3, 11)
    height = np.digitize(drives.pillars, edges[1:-1])
    errors = [
        abs(above[height == one].mean() - probability_above(drives.pillars[height == one]).mean())
        for one in range(len(edges) - 1)
    ]
    return Score(
        crashes=100 * float((np.abs(offset) < _RADIUS).mean()),
        calibration=float(np.mean(errors)),
        switches=float((above[:, 1:] != above[:, :-1]).mean()),
    )
