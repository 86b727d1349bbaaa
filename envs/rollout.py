"""Evaluation: run a policy on a task over many seeds, several environments at a time."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from ..decoding import Executor, Policy
from .task import Environment, Task
from .video import Video


@dataclass(frozen=True)
class Episode:
    """What came out of one episode.

    Attributes:
        episode_ix: Position of the seed in the list of seeds.
        seed: Seed of both the environment and the policy.
        score: The task's metric, see `Environment.score`.
        success: Whether the task was solved.
        sum_reward: Sum of the rewards.
        max_reward: Largest reward.
        num_steps: Control steps taken.
    """

    episode_ix: int
    seed: int
    score: float
    success: bool
    sum_reward: float
    max_reward: float
    num_steps: int


@dataclass(frozen=True)
class Evaluation:
    """Episodes of one policy on one task, in the order of the seeds.

    Attributes:
        task: Name of the task.
        metric: What an episode's score is.
        episodes: One entry per seed.
        wall_s: Duration of the whole evaluation [s].
        policy_ms: Mean time that policy and executor took per vectorised control step [ms].
    """

    task: str
    metric: str
    episodes: tuple[Episode, ...]
    wall_s: float
    policy_ms: float

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seed of each episode."""
        return tuple(episode.seed for episode in self.episodes)


def evaluate(
    policy: Policy,
    task: Task,
    seeds: Sequence[int],
    num_envs: int = 1,
    *,
    num_execute: int | None = None,
    latency: int = 0,
    progress: str | None = None,
    video: Video | None = None,
) -> Evaluation:
    """Run one episode per seed and return the outcomes.

    A row whose episode is over is reset at once with the next seed, so all rows stay busy. An
    episode depends on its seed alone: the outcome is the same for every `num_envs`, as far as the
    policy computes the same for every batch size.

    Args:
        policy: What to evaluate.
        task: What to evaluate it on.
        seeds: Seed i starts environment and policy of episode i; no repeats.
        num_envs: Environments that run side by side.
        num_execute: Actions taken from each plan; the policy's own number by default.
        latency: Injected delay between an observation and the actions planned from it, in
            control steps.
        progress: Text before a progress bar; no bar without it.
        video: Records its first episodes.

    Raises:
        ValueError: If the policy does not fit the task, or seeds are missing or repeated.
    """
    seeds = [int(seed) for seed in seeds]
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"evaluate needs at least one seed and no seed twice, got {seeds}")
    if num_envs < 1:
        raise ValueError(f"num_envs must be at least 1, got {num_envs}")
    _check_fit(policy, task)
    executor = Executor(policy, num_execute, latency)
    began = time.perf_counter()
    with contextlib.ExitStack() as stack:
        rows = [
            _Row(stack.enter_context(contextlib.closing(task.make())), video, task.action_spec.dt)
            for _ in range(min(num_envs, len(seeds)))
        ]
        bar = stack.enter_context(
            tqdm(total=len(seeds), desc=progress, disable=progress is None, unit="episode")
        )
        episodes, num_acts, policy_s = _run(executor, rows, seeds, bar)
    if video is not None:
        video.write(task.action_spec.dt)
    return Evaluation(
        task=task.name,
        metric=task.metric,
        episodes=tuple(sorted(episodes, key=lambda episode: episode.episode_ix)),
        wall_s=time.perf_counter() - began,
        policy_ms=1e3 * policy_s / num_acts,
    )


class _Row:
    """One environment and the tally of the episode that runs in it."""

    def __init__(self, env: Environment, video: Video | None, dt: float) -> None:
        self._env, self._video, self._dt = env, video, dt
        self._episode_ix, self._seed = -1, -1
        self._rewards: list[float] = []
        self.frame: dict[str, np.ndarray] = {}

    def start(self, episode_ix: int, seed: int) -> None:
        self._episode_ix, self._seed = episode_ix, seed
        self._rewards = []
        self.frame = self._env.reset(seed)
        self._record()

    def step(self, action: np.ndarray) -> bool:
        self.frame, reward, done = self._env.step(action)
        self._rewards.append(reward)
        self._record()
        return done

    def episode(self) -> Episode:
        return Episode(
            episode_ix=self._episode_ix,
            seed=self._seed,
            score=self._env.score,
            success=self._env.success,
            sum_reward=sum(self._rewards),
            max_reward=max(self._rewards),
            num_steps=len(self._rewards),
        )

    def _record(self) -> None:
        if self._video is not None:
            self._video.capture(self._env, self._episode_ix, len(self._rewards), self._dt)


def _run(
    executor: Executor, rows: list[_Row], seeds: Sequence[int], bar: tqdm
) -> tuple[list[Episode], int, float]:
    """Run all episodes; return them as they end, the number of act calls and their time [s]."""
    waiting = deque(enumerate(seeds))
    active = np.arange(len(rows))
    executor.reset(list(seeds[: len(rows)]))
    for row in rows:
        row.start(*waiting.popleft())
    episodes: list[Episode] = []
    num_acts, policy_s = 0, 0.0
    while active.size:
        frames = [rows[index].frame for index in active]
        frame = {key: np.stack([one[key] for one in frames]) for key in frames[0]}
        began = time.perf_counter()
        actions = executor.act(frame, active)
        policy_s += time.perf_counter() - began
        num_acts += 1
        for index, action in zip(active.tolist(), actions, strict=True):
            if not rows[index].step(action):
                continue
            episodes.append(rows[index].episode())
            bar.update()
            bar.set_postfix(score=f"{np.mean([episode.score for episode in episodes]):.3f}")
            if waiting:
                episode_ix, seed = waiting.popleft()
                executor.reset([seed], np.array([index]))
                rows[index].start(episode_ix, seed)
            else:
                active = active[active != index]
    return episodes, num_acts, policy_s


def _check_fit(policy: Policy, task: Task) -> None:
    ours, theirs = policy.action_spec, task.action_spec
    if ours.size != theirs.size:
        raise ValueError(
            f"task {task.name!r} takes {theirs.size} action dimensions {theirs.names}, "
            f"the policy plans {ours.size}: {ours.names}"
        )
    if not np.isclose(ours.dt, theirs.dt):
        raise ValueError(
            f"task {task.name!r} has a control period of {theirs.dt} s, the policy one of {ours.dt}"
        )
    if np.less(ours.low, theirs.low).any() or np.greater(ours.high, theirs.high).any():
        raise ValueError(
            f"task {task.name!r} takes actions from {theirs.low} to {theirs.high}, "
            f"the policy may plan from {ours.low} to {ours.high}"
        )
    for key, shape in policy.observation_spec.shapes.items():
        if task.observation_shapes.get(key) != tuple(shape):
            raise ValueError(
                f"the policy reads {key!r} of shape {tuple(shape)}, task {task.name!r} offers "
                f"{dict(task.observation_shapes)}"
            )
