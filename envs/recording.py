"""Demonstrations: episodes in which an expert acts, recorded step by step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from .expert import Expert
from .task import Environment, Task


@runtime_checkable
class HasInfos(Protocol):
    """An environment or expert that tells more than a policy may see, e.g. simulator states."""

    @property
    def infos(self) -> Mapping[str, np.ndarray]:
        """Arrays of the newest frame or action, the same keys and shapes every time."""
        ...


@dataclass(frozen=True)
class RecordedEpisode:
    """One demonstration of T control steps.

    Attributes:
        observations: Per key what was seen before each action, shape (T, *shape), float32.
        actions: Shape (T, D), float32; see `record_episode`.
        rewards: What each action earned, shape (T,), float32.
        infos: What else environment and expert told about each action, arrays of T rows.
        final_observations: Per key what was seen after the last action, shape (*shape).
        terminated: Whether the episode ended in a terminal state, not out of time.
        success: Whether the task was solved.
    """

    observations: dict[str, np.ndarray]
    actions: np.ndarray
    rewards: np.ndarray
    infos: dict[str, np.ndarray]
    final_observations: dict[str, np.ndarray]
    terminated: bool
    success: bool


def record_episode(
    task: Task,
    env: Environment,
    expert: Expert,
    seed: int,
    *,
    action_noise: float = 0.0,
    record_intended: bool = False,
    keys: Sequence[str] | None = None,
) -> RecordedEpisode:
    """Run one episode, which depends on its arguments alone.

    Args:
        task: What `env` is an environment of.
        env: Where to act.
        expert: Who acts.
        seed: Seed of the environment and of the noise, at least 0.
        action_noise: Standard deviation of Gaussian noise on each executed action, in half widths
            of the action's range; the sum is clipped to that range.
        record_intended: Record the expert's actions instead of the executed ones.
        keys: Observations to record, by default all that the frames hold.

    Raises:
        ValueError: If the noise is negative.
    """
    if not action_noise >= 0:
        raise ValueError(f"action_noise must be 0 or more, got {action_noise}")
    spec, noise = task.action_spec, np.random.default_rng(seed)
    low, high = np.array(spec.low), np.array(spec.high)
    sigma = action_noise * (high - low) / 2
    frame, done = env.reset(seed), False
    expert.reset(frame, seed)
    frames, infos, actions, rewards = [frame], [], [], []
    env_infos, expert_infos = _infos(env), _infos(expert)
    while not done:
        state = env_infos()
        intended = expert.act(frame)
        infos.append({**state, **expert_infos()})
        executed = np.clip(intended + sigma * noise.standard_normal(spec.size), low, high)
        # The environment gets what a dataset can hold, so that a replay ends the same way.
        executed = executed.astype(np.float32)
        actions.append(intended if record_intended else executed)
        frame, reward, done = env.step(executed)
        frames.append(frame)
        rewards.append(reward)
    keys = keys or [key for key in frame if key.startswith("observation.")]
    return RecordedEpisode(
        observations={key: np.stack([one[key] for one in frames[:-1]]) for key in keys},
        actions=np.stack(actions, dtype=np.float32),
        rewards=np.array(rewards, np.float32),
        infos={key: np.stack([one[key] for one in infos]) for key in infos[0]},
        final_observations={key: frame[key] for key in keys},
        terminated=env.terminated,
        success=env.success,
    )


def _infos(source: Environment | Expert) -> Callable[[], Mapping[str, np.ndarray]]:
    """What reads the newest infos of `source`."""
    if isinstance(source, HasInfos):
        told = source
        return lambda: told.infos
    return dict
