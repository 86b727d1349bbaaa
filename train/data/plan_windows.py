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


class PlanWindows:
    """Every step of every episode as the current step of one window.

    A window holds the `context` newest frames up to the current one and the H - 1 frames after
    it. Frames before the first or after the last of the episode repeat that one; the latter are
    marked, and no loss looks at them.

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
        num_short: Episodes with fewer steps than the horizon.
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
        lengths = np.diff(episodes.episode_ends, prepend=0)
        self._first = torch.from_numpy(np.repeat(episodes.episode_starts, lengths))
        self._last = torch.from_numpy(np.repeat(episodes.episode_ends - 1, lengths))
        self._offset = torch.arange(1 - config.context, config.horizon)
        self.num_padded = int(np.minimum(lengths, config.horizon - 1).sum())
        self.num_short = int((lengths < config.horizon).sum())

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
        """Standard deviation of how far each feature moves in k steps, shape (H, O).

        Row 0 is 1. Features that do not move count as moving by 1.
        """
        rows = [torch.ones(self.states.shape[1])]
        for offset in range(1, horizon):
            inside = torch.arange(len(self) - offset) + offset <= self._last[: len(self) - offset]
            if not inside.any():
                rows.append(rows[-1])
                continue
            moved = (self.states[offset:] - self.states[:-offset])[inside]
            spread = moved.square().mean(dim=0).sqrt()
            rows.append(torch.where(spread < 1e-6, torch.ones(()), spread))
        return torch.stack(rows)
