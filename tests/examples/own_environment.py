"""A simulator of one's own, served to hotloop: recorded, trained on and evaluated by name.

python own_environment.py
"""

from __future__ import annotations

import numpy as np

from hotloop.decoding import ActionSpec
from hotloop.envs import EndsWhenSolved, Task

ACTIONS = ActionSpec(("velocity x [m/s]", "velocity y [m/s]"), low=(-1, -1), high=(1, 1), dt=0.1)


class Dock(EndsWhenSolved):
    """A point in the plane that has to reach its dock, the origin, from anywhere around it."""

    def reset(self, seed: int) -> dict[str, np.ndarray]:
        angle = np.random.default_rng(seed).uniform(0, 2 * np.pi)
        self._position, self._success = np.array([np.cos(angle), np.sin(angle)]), False
        return self._frame()

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], float, bool]:
        self._position = self._position + ACTIONS.dt * action
        self._success = bool(np.linalg.norm(self._position) < 0.1)
        return self._frame(), float(self._success), self._success

    def _frame(self) -> dict[str, np.ndarray]:
        return {"observation.state": self._position.astype(np.float32)}

    def render(self) -> np.ndarray:
        picture = np.full((64, 64, 3), 255, np.uint8)
        row, column = np.clip(32 - 24 * self._position[::-1] * (1, -1), 0, 63).astype(int)
        picture[row, column] = 0
        return picture

    def close(self) -> None:
        """Nothing to release."""


DOCK = Task("dock", ACTIONS, {"observation.state": (2,)}, 60, "docked", make=Dock)


if __name__ == "__main__":
    from hotloop.envs import summary
    from hotloop.envs.recording import record_episode
    from hotloop.train import EvalConfig, EvalOptions, compose_training, evaluate, train_on
    from hotloop.train.data.episodes import Episodes

    class Straight:
        """The expert: at full speed towards the dock."""

        def reset(self, frame: dict[str, np.ndarray], seed: int) -> None:
            """Nothing to plan."""

        def act(self, frame: dict[str, np.ndarray]) -> np.ndarray:
            position = frame["observation.state"]
            return -position / max(float(np.linalg.norm(position)), 0.1)

    recorded = [record_episode(DOCK, DOCK.make(), Straight(), seed) for seed in range(30)]
    states = [episode.observations["observation.state"] for episode in recorded]
    actions = [episode.actions for episode in recorded]
    demonstrations = Episodes(
        {"observation.state": np.concatenate(states)},
        np.concatenate(actions),
        np.cumsum([len(episode) for episode in actions]),
    )
    config = compose_training(
        [
            *("policy=dp", "task='own_environment:DOCK'", "output_dir=run", "steps=150"),
            *("policy.model.network.width=64", "batch_size=64", "optim.warmup_steps=20"),
        ]
    )
    folder = train_on(config, demonstrations, ACTIONS)
    episodes = EvalOptions(n_episodes=10, batch_size=10)
    print(summary(evaluate(folder, EvalConfig(eval=episodes, sampling={"calls_per_step": 4}))))
