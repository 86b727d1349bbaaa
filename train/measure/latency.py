"""Latency of control steps: from an observation to the action that is sent, one row, warm."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
from tqdm import tqdm

from ...decoding import Executor, Policy
from ...decoding.example_frames import random_frames

NUM_BLOCKS = 20
# A block that takes longer than this is cut, so that slow policies have fewer samples [s].
MAX_BLOCK_SECONDS = 1.0
_NUM_FRAMES = 64

Frames = Sequence[Mapping[str, np.ndarray]]


class ControlStepTimer:
    """Times whole control steps of one policy, and beside them what they are made of.

    The first plan of an episode, which may take more network calls than the others, is not timed.

    Args:
        policy: What to time; it is reset.
        forward: One bare network call on an observation, if that is to be timed too.
        scale: Standard deviation of random observations, in their physical units; pictures are
            random bytes.
        episodes: Frames to observe instead, with arrays of shape (1, *shape), over and over, each
            time as a new episode. Random observations are one episode that never ends.
        calls: The newest plan's number of network calls, where plans differ.
        encode: What `forward` does with the pictures of a frame before its call, which a plan does
            once, whatever its number of calls.

    Attributes:
        plan_ms: Duration of each control step that planned [ms].
        num_calls: Network calls of each of them, if `calls` tells.
        action_ms: Mean duration of the control steps from each plan to the next [ms].
        plan_blocks: Per block the durations that are in `plan_ms` [ms].
        forward_blocks: The same of bare calls.
        encode_blocks: The same of the encoder of pictures.
    """

    def __init__(
        self,
        policy: Policy,
        forward: Callable[[], object] | None = None,
        scale: float = 1.0,
        episodes: Sequence[Frames] = (),
        calls: Callable[[], int] | None = None,
        encode: Callable[[], object] | None = None,
    ) -> None:
        self.forward, self.encode = forward, encode
        self.num_calls: list[int] = []
        self.action_ms: list[float] = []
        self.plan_blocks: list[list[float]] = []
        self.forward_blocks: list[list[float]] = []
        self.encode_blocks: list[list[float]] = []
        self._executor = Executor(policy)
        self._calls = calls
        self._endless = not episodes
        self._episodes = episodes or [random_frames(policy.observation_spec, _NUM_FRAMES, scale)]
        if not self._endless and min(map(len, episodes)) < 2 * self._executor.num_execute:
            raise ValueError(
                f"episodes must have at least two plans of {self._executor.num_execute} steps, got "
                f"one of {min(map(len, episodes))} frames"
            )
        self._num_episodes = self._num_steps = 0
        self._start_episode()

    @property
    def episodes(self) -> Sequence[Frames]:
        """Frames that are observed."""
        return self._episodes

    @property
    def plan_ms(self) -> np.ndarray:
        """All durations of control steps that planned [ms], shape (n,)."""
        return np.concatenate(self.plan_blocks)

    @property
    def forward_ms(self) -> np.ndarray:
        """All durations of bare network calls [ms], shape (n,)."""
        return np.concatenate(self.forward_blocks)

    @property
    def encode_ms(self) -> np.ndarray:
        """All durations of the encoder of pictures [ms], shape (n,)."""
        return np.concatenate(self.encode_blocks)

    def run_block(self, num_plans: int) -> None:
        """Time up to `num_plans` plans in a row, then as often what else there is to be timed.

        Each is called once before, untimed.
        """
        end = time.perf_counter() + MAX_BLOCK_SECONDS
        self._cycle()
        plans = []
        while len(plans) < num_plans and (len(plans) < 2 or time.perf_counter() < end):
            plan_ms, action_ms = self._cycle()
            plans.append(plan_ms)
            if self._calls is not None:
                self.num_calls.append(self._calls())
            self.action_ms.append(action_ms)
        self.plan_blocks.append(plans)
        for part, blocks in (
            (self.forward, self.forward_blocks),
            (self.encode, self.encode_blocks),
        ):
            if part is not None:
                part()
                blocks.append([_milliseconds(part) for _ in plans])

    def overhead(self, num_calls: int) -> float:
        """Share of a control step's time beyond `num_calls` bare calls, and one of the encoder.

        All are compared within each block, as the speed of a shared machine drifts; the result is
        the median over the blocks.
        """
        plans, calls = _medians(self.plan_blocks), _medians(self.forward_blocks)
        encodes = _medians(self.encode_blocks) if self.encode_blocks else np.zeros_like(plans)
        return float(np.median(plans / (encodes + num_calls * (calls - encodes)))) - 1

    def encoder_share(self) -> float:
        """Share of a control step's time that the encoder of pictures takes, by blocks as well."""
        return float(np.median(_medians(self.encode_blocks) / _medians(self.plan_blocks)))

    def _start_episode(self) -> None:
        """Reset, and act up to the second plan."""
        self._frames = self._episodes[self._num_episodes % len(self._episodes)]
        self._executor.reset([self._num_episodes])
        self._num_episodes, self._num_steps = self._num_episodes + 1, 0
        self._cycle()

    def _cycle(self) -> tuple[float, float]:
        """Act from one plan to the next; return the plan's and the mean duration [ms]."""
        end = self._num_steps + self._executor.num_execute
        if not self._endless and end > len(self._frames):
            self._start_episode()
        num_plans = self._executor.num_plans
        plan_ms = total_ms = self._act()
        assert self._executor.num_plans == num_plans + 1, "a cycle must begin with a plan"
        for _ in range(self._executor.num_execute - 1):
            total_ms += self._act()
        return plan_ms, total_ms / self._executor.num_execute

    def _act(self) -> float:
        frame = self._frames[self._num_steps % len(self._frames)]
        self._num_steps += 1
        return _milliseconds(lambda: self._executor.act(frame))


def time_interleaved(timers: Sequence[ControlStepTimer], num_steps: int, label: str = "") -> None:
    """Time several policies in turns, so that the machine's drift meets all of them alike.

    Args:
        timers: One per policy.
        num_steps: Planning control steps per policy, fewer for slow ones.
        label: Shown at the progress bar; without it there is none.
    """
    num_blocks = min(NUM_BLOCKS, num_steps)
    with undisturbed():
        for _ in tqdm(range(num_blocks), desc=label, unit="block", disable=not label):
            for timer in timers:
                timer.run_block(math.ceil(num_steps / num_blocks))


@contextmanager
def undisturbed() -> Iterator[None]:
    """Keep the garbage collector from running, and from looking at what exists already."""
    was_enabled, was_frozen = gc.isenabled(), gc.get_freeze_count() > 0
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        if not was_frozen:
            gc.unfreeze()  # there is no way to tell what a caller has frozen from the rest
        if was_enabled:
            gc.enable()


def _medians(blocks: Sequence[Sequence[float]]) -> np.ndarray:
    """Median of each block, shape (n,)."""
    return np.array([np.median(block) for block in blocks])


def _milliseconds(call: Callable[[], object]) -> float:
    start = time.perf_counter_ns()
    call()
    return (time.perf_counter_ns() - start) / 1e6
