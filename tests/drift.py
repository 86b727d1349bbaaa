"""A tiny task: a point goes half way to each action; how long is said by the seed."""

import os

import numpy as np
from noisy_hold import NoisyHold

from hotloop.envs import Task

MAX_STEPS = 12


class Drift:
    """A point that goes half way to each action; an episode lasts as long as its seed says."""

    num_open = 0

    def __init__(self) -> None:
        Drift.num_open += 1
        self.score, self.success = 0.0, False

    def reset(self, seed):
        self.length = 3 + seed % (MAX_STEPS - 3)
        self.position = np.random.default_rng(seed).uniform(0, 1, 2)
        self.step_count, self.score, self.success = 0, 0.0, False
        return self.frame()

    def step(self, action):
        self.position = (self.position + action) / 2
        self.step_count += 1
        reward = float(np.abs(self.position).sum() / 4)
        self.score = max(self.score, reward)
        self.success = self.score > 0.4
        return self.frame(), reward, self.step_count >= self.length

    def frame(self):
        return {
            "observation.state": self.position.astype(np.float32),
            "observation.unread": np.zeros(3, np.float32),
        }

    def render(self):
        return np.full((32, 48, 3), 20 * self.step_count, np.uint8)

    def close(self):
        Drift.num_open -= 1


class Crashing(Drift):
    """Ends its process at the second step."""

    def step(self, action):
        if self.step_count == 1:
            os._exit(7)
        return super().step(action)


class NoSimulator(Drift):
    """Cannot be started."""

    def __init__(self) -> None:
        raise ImportError("the task 'drift' needs a drift: pip install drift")


DRIFT = Task(
    name="drift",
    action_spec=NoisyHold().action_spec,
    observation_shapes={"observation.state": (2,), "observation.unread": (3,)},
    max_steps=MAX_STEPS,
    metric="largest distance",
    make=Drift,
)
