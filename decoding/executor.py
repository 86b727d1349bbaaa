"""The executor: keeps the observation history, decides when to replan, hands out actions."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .interface import Observation, Policy


class Executor:
    """Turns a policy's plans into one checked action per control step and row.

    Each row holds a queue of scheduled actions. A new plan is requested when no more than
    `latency` actions are left behind the current one, so it takes over exactly when the queue
    runs dry: a plan for step k is computed from the observation of step k - latency. The first
    plan after a reset is waited for.

    Args:
        policy: What to run.
        num_execute: Actions taken from each plan; the policy's own number by default. Fewer are
            taken when a plan has fewer ready actions (a token chunk that has not converged).
        latency: Control steps between an observation and the first action planned from it.
    """

    def __init__(self, policy: Policy, num_execute: int | None = None, latency: int = 0) -> None:
        self.policy = policy
        self.num_execute = policy.num_execute if num_execute is None else num_execute
        self.latency = latency
        if self.num_execute < 1:
            raise ValueError(f"num_execute must be at least 1, got {self.num_execute}")
        if latency < 0:
            raise ValueError(f"latency must be 0 or more control steps, got {latency}")
        self.num_plans = 0
        self._step = np.zeros(0, np.int64)  # next control step of each row
        self._end = np.zeros(0, np.int64)  # first control step without a scheduled action
        self._history: dict[str, np.ndarray] = {}
        self._queue = np.zeros((0, 0, 0))

    def reset(self, seeds: np.ndarray | list[int], rows: np.ndarray | None = None) -> None:
        """Start an episode in each of `rows`; without `rows`, in ``len(seeds)`` new rows."""
        seeds = np.asarray(seeds, np.int64)
        if rows is None:
            num_rows, spec = len(seeds), self.policy.observation_spec
            self._step = np.zeros(num_rows, np.int64)
            self._end = np.zeros(num_rows, np.int64)
            self._history = {
                key: np.zeros((num_rows, spec.num_steps, *shape), np.float32)
                for key, shape in spec.shapes.items()
            }
            capacity = self.latency + self.num_execute
            self._queue = np.zeros((num_rows, capacity, self.policy.action_spec.size))
        else:
            self._step[rows] = 0
            self._end[rows] = 0
        self.policy.reset(seeds, rows)

    def act(self, frame: Mapping[str, np.ndarray], rows: np.ndarray | None = None) -> np.ndarray:
        """Take the newest observation of `rows` (default all) and return their next actions.

        Args:
            frame: Per key an array of shape (R, *shape), physical units.
            rows: Rows that the frame belongs to, shape (R,).

        Returns:
            Actions of shape (R, D), physical units, inside the action spec's bounds.

        Raises:
            ValueError: On a missing key, a wrong shape, a plan without a ready action, or an
                action out of bounds.
        """
        rows = np.arange(len(self._step)) if rows is None else rows
        self._observe(frame, rows)
        step = self._step[rows]
        due = self._end[rows] - step <= self.latency
        while due.any():
            self._replan(rows[due])
            due = self._end[rows] - step <= self.latency
        actions = self._queue[rows, step % self._queue.shape[1]]
        self._step[rows] = step + 1
        return self.policy.action_spec.check(actions)

    def _observe(self, frame: Mapping[str, np.ndarray], rows: np.ndarray) -> None:
        self.policy.observation_spec.check_frame(frame)
        first = self._step[rows] == 0
        for key, history in self._history.items():
            newest = frame[key]
            if len(newest) != len(rows):
                raise ValueError(f"observation {key!r}: {len(newest)} entries for {len(rows)} rows")
            if history.shape[1] > 1:
                history[rows, :-1] = history[rows, 1:]
            history[rows, -1] = newest
            if first.any():
                # An episode's first frame stands in for the ones before it.
                history[rows[first]] = newest[first, None]

    def _replan(self, rows: np.ndarray) -> None:
        first = self._end[rows]
        frames = {key: history[rows] for key, history in self._history.items()}
        plan = self.policy.plan(Observation(frames, self._step[rows], rows), first)
        self.num_plans += 1
        offset = first - plan.first_step
        if (offset < 0).any() or (offset >= plan.horizon).any():
            raise ValueError(
                f"plan covers steps {plan.first_step} + {plan.horizon}, but step {first} was asked "
                f"for; num_execute {self.num_execute} plus latency {self.latency} may exceed it"
            )
        num_ready = np.minimum(plan.num_ready - offset, self.num_execute)
        if (num_ready < 1).any():
            raise ValueError(f"plan has no ready action at step {first} in rows {rows}")
        for index, row in enumerate(rows):
            num, begin = num_ready[index], offset[index]
            slots = (np.arange(int(num)) + int(first[index])) % self._queue.shape[1]
            self._queue[row, slots] = plan.actions[index, begin : begin + num]
        self._end[rows] = first + num_ready
