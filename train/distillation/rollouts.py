"""What a teacher does in its task's simulator, for students that are distilled without a dataset.

Every second episode is disturbed: its executed actions are noisy, those that are recorded are the
teacher's own (DART, Laskey et al. 2017). A student comes to states beside its teacher's way, and
sees there what the teacher would do. Episodes are kept in the cache, under their teacher; until all
are there, ``*.blocks`` beside them holds those that are, so that who was killed goes on there.
"""

from __future__ import annotations

import glob
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from ...decoding import Policy
from ...decoding.plumbing.files import replacing
from ...envs.registry import make_task
from ...envs.rollout import evaluate
from ...envs.task import Task
from ...envs.workers import Environments, Frame, Step, environments
from ...policies.checkpoint import Checkpoint, find_checkpoint
from ...policies.lerobot.folder import find_folder
from ..config.distill import RolloutDistillConfig
from ..config.lerobot import LeRobotConfig, load_for_task
from ..config.training import RECORDED, TrainConfig
from ..data.cache import EpisodeCache
from ..data.decode import Allocate
from ..data.episodes import Episodes
from .method import Method

VERSION = 1
_BLOCK = 50  # episodes that are simulated and kept together


def check_source(config: TrainConfig, teacher: Checkpoint, method: Method) -> None:
    """Raise ValueError if there is nothing that a student could learn from.

    Args:
        config: Its run.
        teacher: Whom it learns from.
        method: How.
    """
    if config.task.dataset:
        return
    name, told = config.distill.teacher, teacher.provenance.get("dataset")
    theirs = f"the demonstrations that {name} learned from{f' ({told})' if told else ''}"
    if not method.data_free:
        raise ValueError(
            f"method {method.name} needs {theirs}; name them with task.dataset=PATH, or choose a "
            "method that needs the teacher alone, see `hotloop distill --list`"
        )
    if config.task.name == RECORDED:
        raise ValueError(
            f"{name} is a policy of a robot that no simulator belongs to, so its student needs "
            f"{theirs}; name them with task.dataset=PATH"
        )


def rollouts(config: TrainConfig) -> Episodes:
    """Episodes of a teacher, from the cache or simulated now, with progress shown.

    Args:
        config: The run of its student; it has a task with a simulator.

    Returns:
        Observations that the teacher reads, and its actions.

    Raises:
        ValueError: If the teacher does not fit the task.
        ImportError: If the simulator is not installed.
    """
    distill, task = config.distill, make_task(config.task.name)
    assert isinstance(distill, RolloutDistillConfig)
    weights = find_folder(Path(distill.teacher)) or find_checkpoint(distill.teacher)
    numbers = [VERSION, distill.num_rollouts, distill.rollout_noise, config.seed]
    cache = EpisodeCache(weights, {"rollouts": numbers, "task": task.name})
    if (found := cache.load()) is None:
        policy = load_for_task(distill.teacher, LeRobotConfig(), task.action_spec).policy()
        # A teacher that was trained anew since goes on with no episode of its predecessor.
        blocks = cache.folder.with_name(f"{cache.folder.name}-{cache.fingerprint()[:16]}.blocks")
        found = cache.build(lambda allocate: _collect(allocate, blocks, policy, task, config))
    for done in cache.folder.parent.glob(f"{glob.escape(cache.folder.name)}-*.blocks"):
        shutil.rmtree(done, ignore_errors=True)
    return found


def first_seed(seed: int) -> int:
    """Seed of a run's first episode, far from those that evaluations begin with."""
    drawn = np.random.SeedSequence([seed, *b"rollouts"]).generate_state(1)[0]
    return 10_000_000 + int(drawn) % 1_000_000_000


def _collect(
    allocate: Allocate, blocks: Path, policy: Policy, task: Task, config: TrainConfig
) -> Episodes:
    """Simulate block by block what is not there yet, and join all."""
    distill = config.distill
    assert isinstance(distill, RolloutDistillConfig)
    first, parts = first_seed(config.seed), []
    seeds, keys = range(first, first + distill.num_rollouts), tuple(policy.observation_spec.shapes)
    blocks.mkdir(parents=True, exist_ok=True)
    for begin in range(0, len(seeds), _BLOCK):
        file, chosen = blocks / f"{begin:06d}.safetensors", seeds[begin : begin + _BLOCK]
        if (arrays := _load_block(file, keys, len(chosen))) is None:
            label = f"rollouts {begin + 1} to {begin + len(chosen)} of {len(seeds)}"
            arrays = roll_out(policy, task, chosen, distill.rollout_noise, label)
            with replacing(file) as partial:
                safetensors.numpy.save_file(arrays, partial)
        parts.append(arrays)
    lengths = np.concatenate([part.pop("lengths") for part in parts])
    joined: dict[str, np.ndarray] = {}
    for key in ("action", *keys):
        shape, dtype = parts[0][key].shape[1:], parts[0][key].dtype
        joined[key] = allocate(key, (int(lengths.sum()), *shape), dtype)
        np.concatenate([part[key] for part in parts], out=joined[key])
    facts = {"rollouts_of": Path(distill.teacher).name, "first_seed": first}
    return Episodes(joined, joined.pop("action"), lengths.cumsum(), metadata=facts)


def _load_block(path: Path, keys: tuple[str, ...], num: int) -> dict[str, np.ndarray] | None:
    """Episodes that are kept already; None if there are none, or the file is damaged."""
    try:
        arrays = safetensors.numpy.load_file(path)
    except (OSError, SafetensorError):
        return None
    lengths = arrays.get("lengths", np.zeros(0))
    complete = arrays.keys() == {"lengths", "action", *keys} and len(lengths) == num
    whole = complete and all(
        len(array) == lengths.sum() for key, array in arrays.items() if key != "lengths"
    )
    return arrays if whole else None


def roll_out(
    policy: Policy, task: Task, seeds: range, noise: float, label: str | None = None
) -> dict[str, np.ndarray]:
    """Record one episode for each seed.

    Args:
        policy: Who acts.
        task: In what.
        seeds: Of environments and policy; those of even number are disturbed.
        noise: Standard deviation of the noise on their executed actions, in half ranges.
        label: Text before a progress bar; no bar without it.

    Returns:
        ``lengths`` of the episodes, shape (E,), ``action``, shape (T, D), float32, and what was
        observed before each, by key, shape (T, *shape).
    """
    with environments(task, min(task.side_by_side, len(seeds))) as envs:
        recorder = _Recorder(envs, task, tuple(policy.observation_spec.shapes), noise)
        evaluate(policy, task, seeds, recorder, progress=label)
    episodes = [recorder.episodes[seed] for seed in seeds]
    lengths = np.array([len(episode) for episode in episodes])
    actions = [action for episode in episodes for _, action in episode]
    arrays = {"lengths": lengths, "action": np.stack(actions).astype(np.float32)}
    for key in policy.observation_spec.shapes:
        arrays[key] = np.stack([frame[key] for episode in episodes for frame, _ in episode])
    return arrays


class _Recorder:
    """Environments whose episodes are kept, by seed, and disturbed where the seed is even."""

    def __init__(self, envs: Environments, task: Task, keys: tuple[str, ...], noise: float) -> None:
        self._envs, self._keys = envs, keys
        spec = task.action_spec
        self._low, self._high = np.array(spec.low), np.array(spec.high)
        self._spread = noise * (self._high - self._low) / 2
        self._newest: dict[int, tuple[int, Frame]] = {}
        self._generators: dict[int, np.random.Generator] = {}
        self.episodes: dict[int, list[tuple[Frame, np.ndarray]]] = {}

    def __len__(self) -> int:
        return len(self._envs)

    def reset(self, seeds: Mapping[int, int]) -> dict[int, Frame]:
        frames = self._envs.reset(seeds)
        for number, seed in seeds.items():
            self._newest[number] = seed, self._seen(frames[number])
            self._generators[seed] = np.random.default_rng([seed, *b"disturbed"])
            self.episodes[seed] = []
        return frames

    def step(
        self, actions: Mapping[int, np.ndarray], unread: Collection[int] = ()
    ) -> dict[int, Step]:
        """Apply actions; every picture is drawn, since every frame is kept."""
        executed = {}
        for number, action in actions.items():
            seed, frame = self._newest[number]
            self.episodes[seed].append((frame, np.array(action)))
            executed[number] = action if seed % 2 else self._disturbed(seed, action)
        steps = self._envs.step(executed)
        for number, step in steps.items():
            self._newest[number] = self._newest[number][0], self._seen(step.frame)
        return steps

    def render(self, number: int) -> np.ndarray:
        return self._envs.render(number)

    def _disturbed(self, seed: int, action: np.ndarray) -> np.ndarray:
        push = self._generators[seed].normal(size=len(action))
        return np.clip(action + self._spread * push, self._low, self._high)

    def _seen(self, frame: Frame) -> Frame:
        return {key: np.array(frame[key]) for key in self._keys}
