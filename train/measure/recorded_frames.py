"""Frames of a checkpoint's own task, for what cannot be timed on random numbers."""

from __future__ import annotations

import contextlib

from ...decoding import Executor, Policy
from ...envs.registry import make_task
from ...envs.task import Environment
from ...policies.checkpoint import Checkpoint
from .latency import Frames

FIRST_SEED = 100_000  # as `hotloop eval`
NUM_EPISODES, MAX_STEPS = 6, 96


def recorded_frames(
    checkpoint: Checkpoint, num_episodes: int = NUM_EPISODES, max_steps: int = MAX_STEPS
) -> list[Frames]:
    """What the checkpoint's policy sees in its task when it acts by its own choices.

    Args:
        checkpoint: Which policy acts, and in which task.
        num_episodes: Number of episodes.
        max_steps: Control steps after which an episode is cut.

    Returns:
        Per episode its frames in order, each with arrays of shape (1, *shape).

    Raises:
        ValueError: If the checkpoint does not say which task it was trained for.
        ImportError: If the task's simulator is not installed.
    """
    name = str(checkpoint.provenance.get("task") or "")
    if not name:
        raise ValueError(
            f"a policy of kind {checkpoint.kind!r} is timed on frames of its task, and the "
            "checkpoint does not say which that is; train it with task.name"
        )
    policy, task = checkpoint.policy(), make_task(name)
    with contextlib.closing(task.make()) as env:
        seeds = range(FIRST_SEED, FIRST_SEED + num_episodes)
        return [_episode(policy, env, seed, max_steps) for seed in seeds]


def _episode(policy: Policy, env: Environment, seed: int, max_steps: int) -> Frames:
    executor = Executor(policy)
    executor.reset([seed])
    frame, done, frames = env.reset(seed), False, []
    while not done and len(frames) < max_steps:
        frames.append({key: frame[key][None] for key in policy.observation_spec.shapes})
        (action,) = executor.act(frames[-1])
        frame, _, done = env.step(action)
    return frames
