"""Evaluation: run a policy on a task over many seeds, several environments at a time."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from tqdm import tqdm

from ..decoding import Executor, Policy
from .task import Task
from .video import Video
from .workers import Environments, Frame, Step, environments


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
        run: How the policy was run, where whoever ran it tells; JSON-able.
    """

    task: str
    metric: str
    episodes: tuple[Episode, ...]
    wall_s: float
    policy_ms: float
    run: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seed of each episode."""
        return tuple(episode.seed for episode in self.episodes)


def evaluate(
    policy: Policy,
    task: Task,
    seeds: Sequence[int],
    num_envs: int | Environments = 1,
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
        num_envs: Environments that run side by side: how many, or the task's own from
            `environments`, which may be in several processes and serve one evaluation after the
            other.
        num_execute: Actions taken from each plan; the policy's own number by default.
        latency: Injected delay between an observation and the actions planned from it, in
            control steps.
        progress: Text before a progress bar; no bar without it.
        video: Records its first episodes.

    Raises:
        ValueError: If the policy does not fit the task, or seeds are missing or repeated.
        ChildProcessError: If a process that simulates ends before its time.
    """
    seeds = [int(seed) for seed in seeds]
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"evaluate needs at least one seed and no seed twice, got {seeds}")
    _check_fit(policy, task)
    executor = Executor(policy, num_execute, latency)
    began = time.perf_counter()
    with contextlib.ExitStack() as stack:
        if isinstance(num_envs, int):
            num_envs = stack.enter_context(environments(task, min(num_envs, len(seeds))))
        bar = stack.enter_context(
            tqdm(total=len(seeds), desc=progress, disable=progress is None, unit="episode")
        )
        run = _Run(executor, num_envs, video, task.action_spec.dt)
        run.finish(seeds, bar)
    if video is not None:
        video.write(task.action_spec.dt)
    return Evaluation(
        task=task.name,
        metric=task.metric,
        episodes=tuple(sorted(run.episodes, key=lambda episode: episode.episode_ix)),
        wall_s=time.perf_counter() - began,
        policy_ms=1e3 * run.policy_s / run.num_acts,
    )


class _Row:
    """The tally of the episode that runs in one environment."""

    def start(self, episode_ix: int, seed: int, frame: Frame) -> None:
        self.episode_ix, self._seed, self.frame = episode_ix, seed, frame
        self._rewards: list[float] = []

    @property
    def num_steps(self) -> int:
        return len(self._rewards)

    def take(self, step: Step) -> None:
        self.frame, self._newest = step.frame, step
        self._rewards.append(step.reward)

    def episode(self) -> Episode:
        return Episode(
            episode_ix=self.episode_ix,
            seed=self._seed,
            score=self._newest.score,
            success=self._newest.success,
            sum_reward=sum(self._rewards),
            max_reward=max(self._rewards),
            num_steps=self.num_steps,
        )


class _Run:
    """All episodes of an evaluation.

    Attributes:
        episodes: Those that have ended, in that order.
        num_acts: How often the executor was asked for actions.
        policy_s: How long that took [s].
    """

    def __init__(
        self, executor: Executor, envs: Environments, video: Video | None, dt: float
    ) -> None:
        self._executor, self._envs, self._rows = executor, envs, [_Row() for _ in range(len(envs))]
        self._video, self._dt = video, dt
        self.episodes: list[Episode] = []
        self.num_acts, self.policy_s = 0, 0.0

    def finish(self, seeds: Sequence[int], bar: tqdm) -> None:
        """Run one episode per seed."""
        waiting = deque(enumerate(seeds))
        active = list(range(min(len(self._rows), len(seeds))))
        self._executor.reset(list(seeds[: len(active)]))
        self._start({number: waiting.popleft() for number in active})
        while active:
            actions = self._act(active)
            read = self._executor.reads_next(np.array(active))
            unread = [number for number, reads in zip(active, read, strict=True) if not reads]
            steps = self._envs.step(actions, unread)
            following: dict[int, tuple[int, int]] = {}
            for number, step in steps.items():
                row = self._rows[number]
                row.take(step)
                self._record(number)
                if not step.done:
                    continue
                self.episodes.append(row.episode())
                bar.update()
                bar.set_postfix(score=f"{np.mean([one.score for one in self.episodes]):.3f}")
                if waiting:
                    following[number] = waiting.popleft()
                else:
                    active.remove(number)
            for number, (_, seed) in following.items():
                self._executor.reset([seed], np.array([number]))
            self._start(following)

    def _act(self, active: list[int]) -> dict[int, np.ndarray]:
        """The executor's actions by environment."""
        frames = [self._rows[number].frame for number in active]
        frame = {key: np.stack([one[key] for one in frames]) for key in frames[0]}
        began = time.perf_counter()
        actions = self._executor.act(frame, np.array(active))
        self.policy_s += time.perf_counter() - began
        self.num_acts += 1
        return dict(zip(active, actions, strict=True))

    def _start(self, episodes: Mapping[int, tuple[int, int]]) -> None:
        """Begin episodes, given their position and seed by environment."""
        frames = self._envs.reset({number: seed for number, (_, seed) in episodes.items()})
        for number, (episode_ix, seed) in episodes.items():
            self._rows[number].start(episode_ix, seed, frames[number])
            self._record(number)

    def _record(self, number: int) -> None:
        row = self._rows[number]
        if self._video is not None:
            draw = partial(self._envs.render, number)
            self._video.capture(draw, row.episode_ix, row.num_steps, self._dt)


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
