"""A hotloop policy in LeRobot's control loop."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hotloop.decoding import Executor, Observation, Policy
from hotloop.decoding.instruction import INSTRUCTION_KEY, encode_instruction


class Running:
    """Hands out actions for as many robots as the next frame has.

    LeRobot says that episodes begin, but neither in how many rows nor with which seeds: rows are
    counted in the first frame after `reset`, and every episode takes the next seed.

    Args:
        policy: What to run.
        seed: Seed of the first episode.

    Attributes:
        observation_spec: What it reads.
    """

    def __init__(self, policy: Policy, seed: int) -> None:
        self._policy, self._executor = policy, Executor(policy)
        self.observation_spec = policy.observation_spec
        self._next_seed, self._num_rows, self._step = seed, 0, 0
        self._warm_up()

    def reset(self) -> None:
        """Let new episodes begin with the next frame, in all rows."""
        self._num_rows = 0

    def act(self, frame: Mapping[str, np.ndarray]) -> np.ndarray:
        """Actions (B, D) for frames (B, *shape), physical units.

        Raises:
            ValueError: If the number of rows changes within an episode, or a key has another shape.
        """
        self._begin(frame)
        return self._executor.act(frame)

    def chunk(self, frames: Mapping[str, np.ndarray]) -> np.ndarray:
        """The actions (B, T, D) that are meant to be executed before the next chunk is asked for.

        Args:
            frames: Newest frames, oldest first, shape (B, To, *shape); of a policy that looks at
                the newest one alone also (B, *shape).

        Raises:
            ValueError: If there are not as many frames as the policy looks back on.
        """
        spec = self._policy.observation_spec
        if spec.num_steps == 1:
            frames = {
                key: frames[key].reshape(-1, 1, *shape)
                if frames[key].shape[1:] == shape
                else frames[key]
                for key, shape in spec.shapes.items()
            }
        for key, shape in spec.shapes.items():
            if frames[key].shape[1:] != (spec.num_steps, *shape):
                raise ValueError(
                    f"a chunk of actions needs the newest {spec.num_steps} frames of {key!r}, "
                    f"shape (B, {spec.num_steps}, {', '.join(map(str, shape))}), got "
                    f"{frames[key].shape}; select_action keeps them by itself"
                )
        self._begin(frames)
        rows = np.arange(self._num_rows)
        step = np.full(self._num_rows, self._step)
        plan = self._policy.plan(Observation(dict(frames), step, rows), step)
        # As the executor would: a plan may begin before the step that it was asked for.
        begin, num_execute = self._step - int(plan.first_step[0]), self._policy.num_execute
        num_ready = min(int(plan.num_ready.min()), begin + num_execute)
        self._step += num_ready - begin
        return self._policy.action_spec.check(plan.actions[:, begin:num_ready])

    def _begin(self, frame: Mapping[str, np.ndarray]) -> None:
        num_rows = len(next(iter(frame.values())))
        if not self._num_rows:
            seeds = range(self._next_seed, self._next_seed + num_rows)
            self._executor.reset(list(seeds))
            self._next_seed += num_rows
            self._num_rows, self._step = num_rows, 0
        elif num_rows != self._num_rows:
            raise ValueError(
                f"the episode has {self._num_rows} rows, the frame {num_rows}; reset() begins "
                "another one"
            )

    def _warm_up(self) -> None:
        """Make the first two plans of one row here, since the first ones take longest."""
        spec = self._policy.observation_spec
        frame = {key: np.zeros((1, *shape), spec.dtype(key)) for key, shape in spec.shapes.items()}
        if INSTRUCTION_KEY in frame:
            frame[INSTRUCTION_KEY] = encode_instruction("wait")[None]
        self._executor.reset([0])
        for _ in range(self._executor.num_execute + 1):
            self._executor.act(frame)
