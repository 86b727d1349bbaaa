"""The executor: keeps the observation history, decides when to replan, hands out actions."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

import numpy as np

from .interface import Observation, Observing, Policy
from .trajectory import ActionTrajectory


class NotReady(ValueError):
    """A plan has no action that may be executed at the step that it was asked for."""


class Row:
    """Where one row stands: plain Python, since numpy costs microseconds for a single number.

    Attributes:
        step: Next control step.
        observed: Control step of the observation that the newest plan was made from.
        queue: Scheduled actions from `step` on, shape (D,) each.
    """

    __slots__ = ("observed", "queue", "step")

    def __init__(self) -> None:
        self.step = self.observed = 0
        self.queue: deque[np.ndarray] = deque()


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
        self._action_spec, self._observation_spec = policy.action_spec, policy.observation_spec
        # Vectors need no time; with one frame, nothing that is seen now is part of a later plan.
        helps = self._observation_spec.pictures and self._observation_spec.num_steps > 1
        self._observing = policy if helps and isinstance(policy, Observing) else None
        self._rows: list[Row] = []
        self._all = np.arange(0)
        self._history: dict[str, np.ndarray] = {}

    def reset(self, seeds: Sequence[int] | np.ndarray, rows: np.ndarray | None = None) -> None:
        """Start an episode in each of `rows`; without `rows`, in ``len(seeds)`` new rows."""
        seeds = np.asarray(seeds, np.int64)
        if rows is None:
            num_rows, spec = len(seeds), self._observation_spec
            self._rows = [Row() for _ in range(num_rows)]
            self._all = np.arange(num_rows)
            self._history = {
                key: np.zeros((num_rows, spec.num_steps, *shape), spec.dtype(key))
                for key, shape in spec.shapes.items()
            }
        else:
            self._acting(rows)  # refuses rows that are not there
            for row in rows.tolist():
                self._rows[row] = Row()
        self.policy.reset(seeds, rows)

    def act(self, frame: Mapping[str, np.ndarray], rows: np.ndarray | None = None) -> np.ndarray:
        """Take the newest observation of `rows` (default all) and return their next actions.

        Args:
            frame: Per key an array of shape (R, *shape), physical units.
            rows: Rows that the frame belongs to, shape (R,).

        Returns:
            Actions of shape (R, D), physical units, inside the action spec's bounds.

        Raises:
            NotReady: If a plan has no ready action; the frame is remembered, no step is taken.
            ValueError: Before `reset`, on a missing key, a wrong shape, or an action out of bounds;
                no step is taken either.
        """
        indices = self._all if rows is None else rows
        acting = self._acting(rows)
        self._observe(frame, indices, acting, complete=rows is None)
        return self._hand_out(indices, acting, complete=rows is None)

    def act_on_seen(self, rows: np.ndarray) -> np.ndarray:
        """The next actions of some rows of an `act` that failed: their frame is remembered."""
        return self._hand_out(rows, self._acting(rows), complete=False)

    def skip(self, frame: Mapping[str, np.ndarray]) -> None:
        """Let a control step of all rows pass that nobody can act in any more.

        Its frame enters the history, its action is dropped; no plan is made.
        """
        acting = self._acting(None)
        self._observe(frame, self._all, acting, complete=True)
        for row in acting:
            if row.queue:
                row.queue.popleft()
            row.step += 1

    def next_step(self, row: int = 0) -> int:
        """Control step of a row's next action."""
        return self._acting(np.array([row]))[0].step

    def reads_next(self, rows: np.ndarray | None = None) -> list[bool]:
        """Whether each row's next frame will be part of what its next plan is made from."""
        return [self._is_read(row) for row in self._acting(rows)]

    def upcoming(self, row: int = 0) -> ActionTrajectory | None:
        """What is scheduled from a row's next step on, one row; None if nothing is."""
        state = self._acting(np.array([row]))[0]
        if not state.queue:
            return None
        first_step, observed_step = np.array([state.step]), np.array([state.observed])
        actions = np.array(state.queue)[None]
        return ActionTrajectory.clean(actions, first_step, observed_step, self._action_spec.dt)

    def _acting(self, rows: np.ndarray | None) -> list[Row]:
        """The states of `rows`, by default of all, or ValueError if they were never reset."""
        if not self._rows:
            raise ValueError(
                "no episode has begun; call reset(seeds), with one seed per row, first"
            )
        if rows is None:
            return self._rows
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(self._rows):
            raise ValueError(
                f"rows must be between 0 and {len(self._rows) - 1}, as many as were reset, got "
                f"{rows.tolist()}"
            )
        return [self._rows[row] for row in rows.tolist()]

    def _hand_out(self, rows: np.ndarray, acting: list[Row], complete: bool) -> np.ndarray:
        """The next action of each row, after a new plan where it needs one."""
        while due := [i for i, row in enumerate(acting) if len(row.queue) <= self.latency]:
            if len(due) == len(acting):
                self._replan(rows, acting, complete)
            else:
                self._replan(rows[due], [acting[i] for i in due], complete=False)
        if self._observing is not None:
            self._show(self._observing, rows, acting)
        actions = np.empty((len(acting), self._action_spec.size))
        for index, row in enumerate(acting):
            actions[index] = row.queue[0]
        self._action_spec.check(actions)
        for row in acting:
            row.queue.popleft()
            row.step += 1
        return actions

    def _observe(
        self, frame: Mapping[str, np.ndarray], rows: np.ndarray, acting: list[Row], complete: bool
    ) -> None:
        self._observation_spec.check_frame(frame)
        first = [row for row, state in zip(rows.tolist(), acting, strict=True) if not state.step]
        where = slice(None) if complete else rows
        for key, history in self._history.items():
            newest = frame[key]
            if len(newest) != len(rows):
                raise ValueError(f"observation {key!r}: {len(newest)} entries for {len(rows)} rows")
            if history.shape[1] > 1:
                history[where, :-1] = history[where, 1:]
            history[where, -1] = newest
            # An episode's first frame stands in for the ones before it.
            for row in first:
                history[row] = history[row, -1]

    def _seen(self, rows: np.ndarray, acting: list[Row], complete: bool) -> Observation:
        """The newest frames of some rows."""
        frames = {
            key: np.array(history) if complete else history[rows]
            for key, history in self._history.items()
        }
        return Observation(frames, np.array([row.step for row in acting]), rows)

    def _show(self, policy: Observing, rows: np.ndarray, acting: list[Row]) -> None:
        """Show the newest frames of rows that do not plan now, if their next plans look back."""
        soon = [
            index
            for index, row in enumerate(acting)
            if self._is_read(row) and row.observed != row.step
        ]
        if soon:
            policy.observe(self._seen(rows[soon], [acting[i] for i in soon], complete=False))

    def _is_read(self, row: Row) -> bool:
        """Whether the frame at a row's step is part of what its next plan is made from."""
        return len(row.queue) < self.latency + self._observation_spec.num_steps

    def _replan(self, rows: np.ndarray, acting: list[Row], complete: bool) -> None:
        observation = self._seen(rows, acting, complete)
        first = [row.step + len(row.queue) for row in acting]
        plan = self.policy.plan(observation, np.array(first))
        self.num_plans += 1
        for index, (row, begin, num_ready) in enumerate(
            zip(acting, plan.first_step.tolist(), plan.num_ready.tolist(), strict=True)
        ):
            offset = first[index] - begin
            if not 0 <= offset < plan.horizon:
                raise ValueError(
                    f"plan of row {rows[index]} covers {plan.horizon} steps from {begin}, but step "
                    f"{first[index]} was asked for; num_execute {self.num_execute} plus latency "
                    f"{self.latency} may exceed it"
                )
            if num_ready <= offset:
                raise NotReady(
                    f"plan has no ready action at step {first[index]} in row {rows[index]}"
                )
            row.observed = row.step
            row.queue.extend(
                plan.actions[index, offset : min(num_ready, offset + self.num_execute)]
            )
