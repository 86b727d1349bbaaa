"""Training windows cut from episodes, and the order in which they are visited."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ...policies.diffusion.model import Batch
from .digest import arrays_digest
from .episodes import Episodes


class Windows:
    """Every step of every episode as the current step of one window.

    A window holds `num_obs_steps` observations up to the current step and `horizon` actions, of
    which the one at position ``num_obs_steps - 1`` is current. Positions before the first or after
    the last step of the episode repeat that step, so late chunks are trained up to the very end,
    and episodes shorter than the window are not lost.

    Arrays are not copied: memory-mapped episodes stay on disk, and a batch reads its own rows.

    Args:
        episodes: Source.
        observation_keys: Keys that the policy reads.
        num_obs_steps: Observation frames To.
        horizon: Window length H.
        features: Features of the pictures of every step, shape (T, K, F), where an encoder that is
            not trained has made them of K crops; then batches have them too.

    Attributes:
        num_short: Episodes with fewer steps than the window, whose windows all repeat steps.
    """

    def __init__(
        self,
        episodes: Episodes,
        observation_keys: tuple[str, ...],
        num_obs_steps: int,
        horizon: int,
        features: np.ndarray | None = None,
    ) -> None:
        self.observations = {
            key: _as_tensor(episodes.observations[key]) for key in observation_keys
        }
        self.actions = _as_tensor(episodes.actions)
        self._features = None if features is None else _as_tensor(features)
        lengths = np.diff(episodes.episode_ends, prepend=0)
        self.num_short = int((lengths < horizon).sum())
        # Borders are looked up per batch: two integers per step would take memory of their own.
        self._starts = torch.from_numpy(episodes.episode_starts.astype(np.int64))
        self._ends = torch.from_numpy(episodes.episode_ends.astype(np.int64))
        self._observed = torch.arange(num_obs_steps) - (num_obs_steps - 1)
        self._window = torch.arange(horizon) - (num_obs_steps - 1)

    def __len__(self) -> int:
        """Number of windows, one per step."""
        return len(self.actions)

    def gather(self, current: Tensor) -> Batch:
        """Windows whose current steps are `current`, integer, shape (B,)."""
        first, last = (border[:, None] for border in self._borders(current))
        observed = torch.clamp(current[:, None] + self._observed, first, last)
        window = torch.clamp(current[:, None] + self._window, first, last)
        observation = {key: _rows(array, observed) for key, array in self.observations.items()}
        features = None if self._features is None else _rows(self._features, observed)
        return Batch(observation, _rows(self.actions, window), features)

    def later(self, current: Tensor, num_steps: int) -> Tensor:
        """The steps `num_steps` after `current`, at most the last of their episodes."""
        return torch.minimum(current + num_steps, self._borders(current)[1])

    def earlier(self, current: Tensor, num_steps: int) -> Tensor:
        """The steps `num_steps` before `current`, at least the first of their episodes."""
        return torch.maximum(current - num_steps, self._borders(current)[0])

    def digest(self) -> str:
        """Digest of everything that batches are made of."""
        arrays = {**self.observations, "action": self.actions, "ends": self._ends}
        if self._features is not None:
            arrays["features"] = self._features
        return arrays_digest({key: array.numpy() for key, array in arrays.items()})

    def _borders(self, current: Tensor) -> tuple[Tensor, Tensor]:
        """First and last step of the episode that each step is in."""
        episode = torch.bucketize(current.contiguous(), self._ends, right=True)
        return self._starts[episode], self._ends[episode] - 1


def _rows(array: Tensor, steps: Tensor) -> Tensor:
    """`array[steps]`, by the faster kernel for whole rows."""
    return array.index_select(0, steps.reshape(-1)).reshape(*steps.shape, *array.shape[1:])


def _as_tensor(array: np.ndarray) -> Tensor:
    """Float32, or bytes of images, sharing memory with `array` if it is of that type."""
    dtype = np.uint8 if array.dtype == np.uint8 else np.float32
    return torch.from_numpy(np.ascontiguousarray(array, dtype))


class EpochSampler:
    """Shuffled epochs as a pure function of the step, so that a resumed run needs no state.

    Args:
        num_samples: Size of the data set.
        batch_size: Samples per step, over all processes.
        seed: Seed of every epoch's order.
    """

    def __init__(self, num_samples: int, batch_size: int, seed: int) -> None:
        self.num_samples, self.batch_size, self.seed = num_samples, batch_size, seed
        self._epoch, self._order = -1, torch.zeros(0, dtype=torch.int64)

    def indices(self, step: int) -> Tensor:
        """Samples of optimisation step `step`, shape (B,); epochs follow without a gap."""
        begin, parts, missing = step * self.batch_size, [], self.batch_size
        while missing:
            epoch, position = divmod(begin, self.num_samples)
            part = self._epoch_order(epoch)[position : position + missing]
            parts.append(part)
            begin, missing = begin + len(part), missing - len(part)
        return torch.cat(parts)

    def _epoch_order(self, epoch: int) -> Tensor:
        if epoch != self._epoch:
            generator = step_generator(self.seed, epoch, stream="epoch")
            self._order = torch.randperm(self.num_samples, generator=generator)
            self._epoch = epoch
        return self._order


def step_generator(
    seed: int, step: int, stream: str, device: torch.device | None = None
) -> torch.Generator:
    """Random generator of one step and purpose: the same numbers whenever it is asked for.

    Args:
        seed: Seed of the run.
        step: Optimisation step or epoch.
        stream: Purpose, so that two draws of one step are independent.
        device: Where it draws, by default on the CPU; each kind of device has numbers of its own.
    """
    entropy = [seed, step, *stream.encode()]
    state = np.random.SeedSequence(entropy).generate_state(2, np.uint32)
    return torch.Generator(device or "cpu").manual_seed(int(state[0]) << 32 | int(state[1]))
