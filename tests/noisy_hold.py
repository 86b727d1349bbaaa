"""The smallest policy with state per row, for tests of what runs policies."""

from __future__ import annotations

import numpy as np

from hotloop.decoding import ActionSpec, ActionTrajectory, Observation, ObservationSpec


class NoisyHold:
    """The smallest policy with state per row: aims at where it is, plus noise of its seed."""

    num_execute = 3
    horizon = 6

    def __init__(self, noise: float = 0.1, low: float = -1.0, high: float = 2.0) -> None:
        self.action_spec = ActionSpec(("x [m]", "y [m]"), (low, low), (high, high), dt=0.1)
        self.observation_spec = ObservationSpec({"observation.state": (2,)}, num_steps=2)
        self.noise = noise
        self.generators: dict[int, np.random.Generator] = {}

    def reset(self, seeds: np.ndarray, rows: np.ndarray | None = None) -> None:
        rows = np.arange(len(seeds)) if rows is None else rows
        for row, seed in zip(rows, seeds, strict=True):
            self.generators[int(row)] = np.random.default_rng(seed)

    def plan(self, observation: Observation, step: np.ndarray) -> ActionTrajectory:
        newest = observation.frames["observation.state"][:, -1:]
        noise = np.stack(
            [
                self.generators[int(row)].standard_normal((self.horizon, 2))
                for row in observation.rows
            ]
        )
        spec = self.action_spec
        actions = np.clip(newest + self.noise * noise, spec.low, spec.high)
        return ActionTrajectory.clean(actions, step, observation.step, spec.dt)
