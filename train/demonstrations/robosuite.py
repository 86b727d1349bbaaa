"""Demonstrations of robosuite's tasks, with all that robomimic's files hold of them."""

from __future__ import annotations

from dataclasses import replace
from importlib import metadata

import numpy as np

from ...envs.recording import RecordedEpisode
from ...envs.robosuite_arm import RobosuiteArm, make_arguments
from ..data.episodes import Episodes

ROBOSUITE_ENVS = {"lift": "Lift", "can": "PickPlaceCan", "square": "NutAssemblySquare"}
_ROBOSUITE_TYPE = 1  # robomimic's number for the kind of environment
_VALIDATION_PERIOD = 10  # every tenth demonstration, as in robomimic's files


class RecordedArm(RobosuiteArm):
    """A robosuite task that runs in the very model that its demonstrations' file will hold.

    A model that was written out and read again differs in the last digits, and after some contacts
    so would everything that happens in it.
    """

    recorded_model = ""

    def reset(self, seed: int) -> dict[str, np.ndarray]:
        """Start the episode that `seed` determines."""
        super().reset(seed)
        self.recorded_model, self._goals = self.model_xml, []
        return self.set_state(self.infos["states"], self.recorded_model)

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], float, bool]:
        """Act, and keep where that asked the hand to be."""
        result = super().step(action)
        self._goals.append(np.append(self.goal, action[-1]))
        return result

    @property
    def absolute_actions(self) -> np.ndarray:
        """What asks for the same as the episode's actions in absolute terms, shape (T, 7)."""
        return np.stack(self._goals)


class SolvedEpisodes:
    """Keeps the episodes of a robosuite task that solve it.

    Attributes:
        num_failed: How many episodes were left out.
    """

    def __init__(self, env_name: str) -> None:
        self._env_name = env_name
        self._models: list[str] = []
        self.num_failed = 0

    def make(self) -> RecordedArm:
        """Start the simulator."""
        return RecordedArm(self._env_name)

    def keeps(self, env: RecordedArm, episode: RecordedEpisode) -> bool:
        """Whether the episode that `env` just ended solved the task; what else it told is added."""
        if not episode.success:
            self.num_failed += 1
            return False
        episode.infos["actions_abs"] = env.absolute_actions
        self._models.append(env.recorded_model)
        return True

    def completed(self, episodes: Episodes) -> Episodes:
        """Add what robomimic's files say of their environment, models and subsets."""
        facts = {name: value for name, value in episodes.metadata.items() if name != "seed"}
        facts["num_failed"] = self.num_failed
        facts["env_args"] = {
            "env_name": self._env_name,
            "env_version": metadata.version("robosuite"),
            "type": _ROBOSUITE_TYPE,
            "env_kwargs": make_arguments(images=False),
        }
        numbers = range(episodes.num_episodes)
        held_out = [i for i in numbers if i % _VALIDATION_PERIOD == _VALIDATION_PERIOD - 1]
        facts["subsets"] = {"train": [i for i in numbers if i not in held_out], "valid": held_out}
        return replace(episodes, texts={"model_file": self._models}, metadata=facts)
