"""Demonstrations of robosuite's tasks, with all that robomimic's files hold of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from importlib import metadata
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ...decoding.interface import is_picture
from ...envs.recording import RecordedEpisode
from ...envs.registry import make_task
from ...envs.robosuite_arm import RobosuiteArm, make_arguments
from ...envs.task import Environment
from ...envs.workers import Environments, environments
from ..data.episodes import Episodes
from .replay_robosuite import ROBOSUITE_TASKS

ROBOSUITE_ENVS = {task: env_name for env_name, task in ROBOSUITE_TASKS.items()}
_ROBOSUITE_TYPE = 1  # robomimic's number for the kind of environment
_VALIDATION_PERIOD = 10  # every tenth demonstration, as in robomimic's files


class RecordedArm(RobosuiteArm):
    """A robosuite task that runs in the very model that its demonstrations' file will hold.

    A model that was written out and read again differs in the last digits, and after some contacts
    so would everything that happens in it.
    """

    recorded_model, recorded_seed = "", 0

    def reset(self, seed: int) -> dict[str, np.ndarray]:
        """Start the episode that `seed` determines."""
        super().reset(seed)
        self.recorded_model, self.recorded_seed, self._goals = self.model_xml, seed, []
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
        self._seeds: list[int] = []
        self.num_failed = 0

    def make(self) -> RecordedArm:
        """Start the simulator."""
        return RecordedArm(self._env_name)

    def keeps(self, env: Environment, episode: RecordedEpisode) -> bool:
        """Whether the episode that `env` just ended solved the task; what else it told is added."""
        assert isinstance(env, RecordedArm), "it is what `make` made"
        if not episode.success:
            self.num_failed += 1
            return False
        episode.infos["actions_abs"] = env.absolute_actions
        self._models.append(env.recorded_model)
        self._seeds.append(env.recorded_seed)
        return True

    def completed(self, episodes: Episodes) -> Episodes:
        """Add what robomimic's files say of their environment, models and subsets."""
        facts = {name: value for name, value in episodes.metadata.items() if name != "seed"}
        facts["generator"] = "hotloop data generate: scripted experts, not robomimic's people"
        facts |= {"num_failed": self.num_failed, "seeds": self._seeds}
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


def add_pictures(
    episodes: Episodes, folder: Path, *, num_workers: int = 0, progress: bool = False
) -> Episodes:
    """Let recorded episodes happen again in sight of the cameras.

    What was seen after the last actions is left out, as robomimic advises: it doubles the file.

    Args:
        episodes: What `SolvedEpisodes` completed.
        folder: Where the pictures lie meanwhile, for which the memory may be too small.
        num_workers: Processes that draw, which takes ten times as long as all else; 0 for this one.
        progress: Show a progress bar on stderr.

    Raises:
        ValueError: If an episode does not go as it did.
        ImportError: If nothing can draw.
    """
    task = make_task(f"{episodes.metadata['task']}-image")
    env_args = episodes.metadata["env_args"]
    drawn = replace(task, make=partial(RecordedArm, env_args["env_name"], images=True))
    pictures = {
        key: np.lib.format.open_memmap(
            folder / f"{key}.npy", "w+", np.uint8, (episodes.num_steps, *shape)
        )
        for key, shape in task.observation_shapes.items()
        if is_picture(shape)
    }
    with (
        environments(drawn, max(1, num_workers), num_workers) as envs,
        tqdm(total=episodes.num_steps, unit="step", desc="pictures", disable=not progress) as bar,
    ):
        for row, frame in _seen_again(episodes, envs):
            for key, kept in pictures.items():
                kept[row] = frame[key]
            bar.update()
    return replace(
        episodes,
        observations={**episodes.observations, **pictures},
        final_observations=None,
        metadata={
            **episodes.metadata,
            "env_args": {**env_args, "env_kwargs": make_arguments(images=True)},
        },
    )


def _seen_again(
    episodes: Episodes, envs: Environments
) -> Iterator[tuple[int, Mapping[str, np.ndarray]]]:
    """Yield each row of the episodes, in some order, with what is seen when it happens again."""
    spans, seeds = episodes.episode_slices, episodes.metadata["seeds"]
    order = np.argsort(np.diff(episodes.episode_ends, prepend=0))  # alike ones side by side
    for first in range(0, len(order), len(envs)):
        running = dict(enumerate(order[first : first + len(envs)].tolist()))
        frames = envs.reset({env: seeds[index] for env, index in running.items()})
        rows = {env: spans[index].start for env, index in running.items()}
        while running:
            for env, row in rows.items():
                _check_same(episodes, row, frames[env])
                yield row, frames[env]
            running = {e: index for e, index in running.items() if rows[e] + 1 < spans[index].stop}
            steps = envs.step({env: episodes.actions[rows[env]] for env in running})
            frames = {env: step.frame for env, step in steps.items()}
            rows = {env: rows[env] + 1 for env in running}


def _check_same(episodes: Episodes, row: int, frame: Mapping[str, np.ndarray]) -> None:
    for key, array in episodes.observations.items():
        if key in frame and not np.array_equal(array[row], frame[key]):
            raise ValueError(
                f"{key} is {frame[key]} in sight of the cameras, and was {array[row]}: this "
                "simulator does not do the same again"
            )
