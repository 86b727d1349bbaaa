"""Datasets of our own: experts act in simulation, and what they did becomes a dataset file."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ...decoding.plumbing.machine import package_version
from ...envs.expert import SCRIPTED_EXPERTS, Expert, trained_expert
from ...envs.recording import RecordedEpisode, record_episode
from ...envs.registry import make_task
from ...envs.task import Environment, Task
from ..data.episodes import Episodes
from ..data.write import check_target, write_episodes
from .behaviors import behaviors
from .robosuite import ROBOSUITE_ENVS, SolvedEpisodes, add_pictures

_PROVENANCE_PACKAGES = (
    "hotloop",
    "gymnasium",
    "gymnasium-robotics",
    "metaworld",
    "robosuite",
    "mujoco",
    "pybullet",
    "numpy",
)


@dataclass(frozen=True)
class Collection:
    """What to record.

    Attributes:
        task: Name of the task.
        num_episodes: How many episodes, unless `num_steps` is given.
        num_steps: Record whole episodes until there are this many steps or a few more.
        level: Which trained agents act, see `behaviors`; not for scripted experts.
        agents: Folder with the trained agents' files.
        action_noise: Standard deviation of the noise on executed actions, in half widths of their
            range; None takes the level's own, or none.
        seed: First seed; every episode has the next one.
        pictures: Whether robosuite's demonstrations hold pictures beside the objects' states.
        num_workers: Processes that draw them; 0 for this one.
    """

    task: str
    num_episodes: int = 200
    num_steps: int = 0
    level: str = ""
    agents: Path | None = None
    action_noise: float | None = None
    seed: int = 0
    pictures: bool = False
    num_workers: int = 0

    def __post_init__(self) -> None:
        """Raise ValueError if a number is out of range."""
        if self.pictures and self.task not in ROBOSUITE_ENVS:
            raise ValueError(
                f"pictures on request are for {', '.join(ROBOSUITE_ENVS)}, got task {self.task!r}; "
                "other tasks have pictures or have none"
            )
        if self.num_workers < 0 or (self.num_workers and not self.pictures):
            raise ValueError(
                "num_workers is how many processes draw pictures: 0 or more, and 0 without "
                f"pictures, got {self.num_workers}"
            )
        if self.num_episodes < 1 or self.seed < 0 or self.num_steps < 0:
            raise ValueError(
                "num_episodes must be at least 1, num_steps and seed at least 0, got "
                f"{self.num_episodes}, {self.num_steps} and {self.seed}"
            )


@dataclass(frozen=True)
class _Part:
    """One expert's part of a dataset."""

    name: str
    make: Callable[[Environment], Expert]
    action_noise: float
    record_intended: bool = False
    keys: Sequence[str] | None = None
    solved: SolvedEpisodes | None = None


def generate_demonstrations(
    path: Path | str, collection: Collection, *, overwrite: bool = False, progress: bool = False
) -> Episodes:
    """Record episodes into the HDF5 file `path` and return them.

    The layout is D4RL's; robomimic's for robosuite's tasks, of which only solved episodes are kept,
    and where there are pictures, for which D4RL's has no place.

    Args:
        path: File to create, see `write_episodes`; nothing is written before all are there.
        collection: What to record.
        overwrite: Replace an existing file.
        progress: Show a progress bar on stderr.

    Raises:
        FileExistsError: If `path` exists and `overwrite` is false.
        FileNotFoundError: If an agent's file is not there.
        ValueError: If the task has no such experts, or an agent does not fit it.
    """
    task = make_task(collection.task)
    pictures = any(len(shape) == 3 for shape in task.observation_shapes.values())
    parts = _parts(collection)
    solved = parts[0].solved
    layout = "robomimic" if pictures or solved else "d4rl"
    path, kind = check_target(path, layout, overwrite=overwrite)
    unit, total = "episode", collection.num_episodes
    if collection.num_steps:
        unit, total = "step", collection.num_steps
    recorded, facts = [], []
    with tqdm(total=total, unit=unit, disable=not progress) as bar:
        for index, part in enumerate(parts):
            share = total * (index + 1) // len(parts) - total * index // len(parts)
            first_seed = collection.seed + len(recorded)
            episodes = _take(_record(task, part, first_seed), share, unit, bar)
            recorded += episodes
            facts.append(_part_facts(part, first_seed, len(episodes)))
    dataset = _joined(task, recorded, {**_facts(task, collection), "experts": facts})
    with tempfile.TemporaryDirectory(dir=path.parent if collection.pictures else None) as folder:
        if solved is not None:
            dataset = solved.completed(dataset)
        if collection.pictures:
            workers = collection.num_workers
            dataset = add_pictures(dataset, Path(folder), num_workers=workers, progress=progress)
        write_episodes(path, dataset, kind.name, overwrite=overwrite)
    return dataset


def _take(
    episodes: Generator[RecordedEpisode, None, None], share: int, unit: str, bar: tqdm
) -> list[RecordedEpisode]:
    """Record whole episodes until there are as many episodes or steps as wanted."""
    taken, done = [], 0
    with closing(episodes):
        while done < share:
            taken.append(next(episodes))
            size = 1 if unit == "episode" else len(taken[-1].actions)
            bar.update(min(size, share - done))
            done += size
    return taken


def _parts(collection: Collection) -> list[_Part]:
    """Resolve who acts; raise before anything is simulated if somebody is missing."""
    scripted, level = SCRIPTED_EXPERTS.get(collection.task), collection.level
    noise = collection.action_noise
    if scripted is not None:
        if level or collection.agents:
            raise ValueError(
                f"task {collection.task!r} has a scripted expert, which knows no level and needs "
                f"no agents, got level {level!r} and agents {collection.agents}"
            )
        noise = scripted.action_noise if noise is None else noise
        intended, keys = scripted.record_intended, scripted.records
        solved = None
        if (env_name := ROBOSUITE_ENVS.get(collection.task)) is not None:
            solved = SolvedEpisodes(env_name)
        return [_Part(scripted.name, scripted.make, noise, intended, keys, solved)]
    if (base := collection.task.partition("-")[0]) in ROBOSUITE_ENVS:
        raise ValueError(
            f"demonstrations of {collection.task!r} are those of {base!r}: generate that, with "
            "pictures on request; the file holds deltas and absolute hand poses"
        )
    found = behaviors(collection.task, level)
    if collection.agents is None:
        raise ValueError(
            f"task {collection.task!r} is demonstrated by trained agents: give the folder that "
            f"holds {', '.join(behavior.agent for behavior in found)} as agents"
        )
    experts = [trained_expert(collection.task, collection.agents / one.agent) for one in found]
    return [
        _Part(
            behavior.agent,
            lambda env, expert=expert: expert,
            behavior.action_noise if noise is None else noise,
        )
        for behavior, expert in zip(found, experts, strict=True)
    ]


def _record(task: Task, part: _Part, seed: int) -> Generator[RecordedEpisode, None, None]:
    """Yield one episode after the other, without end."""
    solved = part.solved
    with closing(solved.make() if solved else task.make()) as env:
        expert: Expert = part.make(env)
        while True:
            episode = record_episode(
                task,
                env,
                expert,
                seed,
                action_noise=part.action_noise,
                record_intended=part.record_intended,
                keys=part.keys,
            )
            seed += 1
            if solved is None or solved.keeps(env, episode):
                yield episode


def _joined(task: Task, recorded: list[RecordedEpisode], metadata: dict[str, Any]) -> Episodes:
    first = recorded[0]
    returns = np.array([episode.rewards.sum(dtype=np.float64) for episode in recorded])
    facts = {
        "num_success": sum(episode.success for episode in recorded),
        "mean_return": float(returns.mean()),
    }
    if task.reference is not None:
        facts["mean_score"] = 100 * task.reference.normalized(facts["mean_return"])
    return Episodes(
        observations={
            key: np.concatenate([one.observations[key] for one in recorded])
            for key in first.observations
        },
        actions=np.concatenate([one.actions for one in recorded]),
        episode_ends=np.cumsum([len(one.actions) for one in recorded]),
        rewards=np.concatenate([one.rewards for one in recorded]),
        terminated=np.array([one.terminated for one in recorded]),
        final_observations={
            key: np.stack([one.final_observations[key] for one in recorded])
            for key in first.final_observations
        },
        infos={key: np.concatenate([one.infos[key] for one in recorded]) for key in first.infos},
        metadata={**metadata, **facts},
    )


def _facts(task: Task, collection: Collection) -> dict[str, Any]:
    return {
        "generator": "hotloop data generate: a D4RL-style dataset, not one of D4RL's",
        "task": task.name,
        "simulator": task.simulator,
        "level": collection.level,
        "seed": collection.seed,
        "dt": task.action_spec.dt,
        "versions": {name: package_version(name) for name in _PROVENANCE_PACKAGES},
    }


def _part_facts(part: _Part, first_seed: int, num_episodes: int) -> dict[str, Any]:
    return {
        "expert": part.name,
        "action_noise": part.action_noise,
        "actions": "intended, without the noise" if part.record_intended else "as executed",
        "first_seed": first_seed,
        "num_episodes": num_episodes,
    }
