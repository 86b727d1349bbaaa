"""Training windows of planners: states, actions and returns around each step of each episode."""

from __future__ import annotations

import numpy as np
import torch
from scipy.signal import lfilter
from torch import Tensor

from ...policies.planners.config import PlannerConfig
from ...policies.planners.model import PlanBatch
from .episodes import Episodes


def returns_to_go(episodes: Episodes, discount: float, termination_penalty: float) -> np.ndarray:
    """Discounted sum of the rewards from each step to the end of its episode, shape (T,).

    With a discount below 1, an episode that was cut off by time goes on with its mean reward, so
    that its last steps are not taken for bad ones. Without rewards all returns are 0.

    Args:
        episodes: Source.
        discount: 1 for the plain sum.
        termination_penalty: Added to the last reward of an episode that ended in a terminal state.
    """
    if episodes.rewards is None:
        return np.zeros(len(episodes.actions), np.float32)
    rewards = episodes.rewards.astype(np.float64)
    result = np.empty_like(rewards)
    ends, starts = episodes.episode_ends, episodes.episode_starts
    for start, end, terminated in zip(starts, ends, episodes.terminated, strict=True):
        episode = rewards[start:end].copy()
        if terminated:
            episode[-1] += termination_penalty
        elif discount < 1:
            episode[-1] += discount / (1 - discount) * episode.mean()
        result[start:end] = lfilter([1.0], [1.0, -discount], episode[::-1])[::-1]
    return result.astype(np.float32)


def goal_segments(goals: np.ndarray, episode_ends: np.ndarray) -> np.ndarray:
    """Where episodes end or their goal changes; goals have shape (T, G)."""
    changes = 1 + np.flatnonzero((goals[1:] != goals[:-1]).any(axis=1))
    return np.union1d(episode_ends, changes)


class PlanWindows:
    """Every step of every episode as the current step of one window.

    A window holds the `context` newest frames up to the current one and H - 1 frames after it,
    each `stride` steps after the one before. Frames before the first or after the last of the
    episode repeat that one; the latter are marked, and no loss looks at them. Where plans have
    goals, an episode counts as several if its recorded goal changes: what leads to one goal does
    not show how to reach another.

    Args:
        episodes: Source; T steps.
        state_keys: Observations that make up a state, in order.
        config: Sizes and discount.

    Attributes:
        states: All states, shape (T, O).
        actions: All actions, shape (T, A).
        returns: Physical returns to go, shape (T,).
        return_scale: Largest magnitude of a return, the unit of those in a batch.
        num_padded: Windows that reach beyond the end of their episode.
        num_episodes: Episodes, or parts of them with one goal.
        num_short: How many of them have fewer steps than a plan spans.
        span: Steps from the first to the last state of a plan.
    """

    def __init__(
        self, episodes: Episodes, state_keys: tuple[str, ...], config: PlannerConfig
    ) -> None:
        flat = [episodes.observations[key].reshape(len(episodes.actions), -1) for key in state_keys]
        self.states = torch.from_numpy(np.concatenate(flat, axis=1).astype(np.float32))
        self.actions = torch.from_numpy(np.ascontiguousarray(episodes.actions, np.float32))
        returns = returns_to_go(episodes, config.discount, config.termination_penalty)
        self.returns = torch.from_numpy(returns)
        self.return_scale = float(np.abs(returns).max()) or 1.0
        ends = episodes.episode_ends
        if config.goal_key:
            ends = goal_segments(episodes.observations[config.goal_key], ends)
        lengths = np.diff(ends, prepend=0)
        self._first = torch.from_numpy(np.repeat(ends - lengths, lengths))
        self._last = torch.from_numpy(np.repeat(ends - 1, lengths))
        self._stride = config.stride
        self._offset = config.stride * torch.arange(1 - config.context, config.horizon)
        self.span = config.stride * (config.horizon - 1)
        self.num_padded = int(np.minimum(lengths, self.span).sum())
        self.num_episodes, self.num_short = len(ends), int((lengths <= self.span).sum())

    def __len__(self) -> int:
        """Number of windows, one per step."""
        return len(self.actions)

    def gather(self, current: Tensor) -> PlanBatch:
        """Windows whose current steps are `current`, integer, shape (B,)."""
        wanted = current[:, None] + self._offset
        last = self._last[current, None]
        frames = torch.clamp(wanted, self._first[current, None], last)
        return PlanBatch(
            self.states[frames],
            self.actions[frames],
            self.returns[frames] / self.return_scale,
            wanted <= last,
        )

    def displacement_scale(self, horizon: int) -> Tensor:
        """Standard deviation of how far each feature moves to position k of a plan, shape (H, O).

        Row 0 is 1. Features that do not move count as moving by 1.
        """
        rows = [torch.ones(self.states.shape[1])]
        for offset in range(self._stride, self._stride * horizon, self._stride):
            inside = torch.arange(len(self) - offset) + offset <= self._last[: len(self) - offset]
            if not inside.any():
                rows.append(rows[-1])
                continue
            moved = (self.states[offset:] - self.states[:-offset])[inside]
            spread = moved.square().mean(dim=0).sqrt()
            rows.append(torch.where(spread < 1e-6, torch.ones(()), spread))
        return torch.stack(rows)
