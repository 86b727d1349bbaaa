"""What the requests of several robots are answered with: one policy, a row for each of them."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from typing import NamedTuple

import numpy as np

from ..executor import Executor
from ..instruction import INSTRUCTION_KEY, encode_instruction
from ..interface import Observation, Policy
from .requests import Request

# A warm-up that takes longer leaves the remaining group sizes to the first requests [s].
WARM_UP = 3.0


class Work(NamedTuple):
    """A request, and where it comes from.

    Attributes:
        row: Row of the robot that asks.
        request: What it asks for, an action or a plan.
        step: First control step that needs an action.
        seed: Seed of the episode that begins before it; None if it goes on.
    """

    row: int
    request: Request
    step: int
    seed: int | None


class Answer(NamedTuple):
    """What a robot gets.

    Attributes:
        actions: Shape (T, D): one for a control step, all that are ready for a plan.
        infer_s: How long the policy was at it, together for all robots of the forward [s].
    """

    actions: np.ndarray
    infer_s: float


class Rows:
    """Computes answers, those of several robots in one forward; for one thread alone.

    Robots are independent: what one of them asks for spoils no other's answer.

    Args:
        policy: What to run.
        num_rows: Robots at a time.
    """

    def __init__(self, policy: Policy, num_rows: int) -> None:
        self.policy, self.num_rows = policy, num_rows
        self._executor = Executor(policy)
        self._executor.reset(np.zeros(num_rows, np.int64))
        self._num_own_plans = 0

    @property
    def num_plans(self) -> int:
        """Plans made so far; one for several robots counts once."""
        return self._executor.num_plans + self._num_own_plans

    def compute(self, works: Sequence[Work]) -> list[Answer | Exception]:
        """Answer requests of different rows, in their order; with the error where there is one."""
        answers: dict[int, Answer | Exception] = self._begin(
            [work for work in works if work.seed is not None]
        )
        going = [work for work in works if work.row not in answers]
        for kind, run in (("act", self._act), ("plan", self._plan)):
            if chosen := [work for work in going if work.request.kind == kind]:
                answers |= run(chosen)
        return [answers[work.row] for work in works]

    def _begin(self, works: list[Work]) -> dict[int, Answer | Exception]:
        """Begin episodes; returns the errors of those that could not."""
        if not works:
            return {}
        try:
            seeds = np.array([work.seed for work in works], np.int64)
            self._executor.reset(seeds, np.array([work.row for work in works]))
        except Exception as error:  # noqa: BLE001 - a stranger's policy can fail in any way
            if len(works) == 1:
                return {works[0].row: error}
            return {row: one for work in works for row, one in self._begin([work]).items()}
        return {}

    def warm_up(self) -> list[int]:
        """Plan once and once more for groups of robots, and return their sizes.

        What engines prepare for a size, or at the start of an episode, is over then.
        """
        begin, done = perf_counter(), list[int]()
        for size in dict.fromkeys([1, self.num_rows, *range(2, self.num_rows)]):
            works = [Work(row, Request("plan", self._still()), 0, 0) for row in range(size)]
            later = [work._replace(step=self.policy.num_execute, seed=None) for work in works]
            for answer in [*self.compute(works), *self.compute(later)]:
                if isinstance(answer, Exception):
                    raise answer
            done.append(size)
            if perf_counter() - begin > WARM_UP:
                break
        return sorted(done)

    def _still(self) -> dict[str, np.ndarray]:
        """The newest frames of a robot where nothing happens."""
        spec = self.policy.observation_spec
        frames = {
            key: np.zeros((spec.num_steps, *shape), spec.dtype(key))
            for key, shape in spec.shapes.items()
        }
        if INSTRUCTION_KEY in frames:
            frames[INSTRUCTION_KEY][:] = encode_instruction("-", frames[INSTRUCTION_KEY].shape[1])
        return frames

    def _act(self, works: list[Work]) -> dict[int, Answer | Exception]:
        rows = np.array([work.row for work in works])
        frame = {
            key: np.stack([work.request.frames[key] for work in works])
            for key in self.policy.observation_spec.shapes
        }
        begin = perf_counter()
        try:
            actions = self._executor.act(frame, rows)
        except Exception as error:  # noqa: BLE001 - a stranger's policy can fail in any way
            if len(works) == 1:
                return {works[0].row: error}
            return {work.row: self._act_alone(work) for work in works}
        infer_s = perf_counter() - begin
        return {work.row: Answer(actions[[index]], infer_s) for index, work in enumerate(works)}

    def _act_alone(self, work: Work) -> Answer | Exception:
        """The action of one robot of a group for which it failed."""
        begin = perf_counter()
        try:
            actions = self._executor.act_on_seen(np.array([work.row]))
        except Exception as error:  # noqa: BLE001 - as above
            return error
        return Answer(actions, perf_counter() - begin)

    def _plan(self, works: list[Work]) -> dict[int, Answer | Exception]:
        frames = {
            key: np.stack([work.request.frames[key] for work in works])
            for key in self.policy.observation_spec.shapes
        }
        step = np.array([work.step for work in works])
        observed = np.array(
            [
                work.step if work.request.observed_step is None else work.request.observed_step
                for work in works
            ]
        )
        rows = np.array([work.row for work in works])
        begin = perf_counter()
        try:
            ready = self._ready(Observation(frames, observed, rows), step)
        except Exception as error:  # noqa: BLE001 - as above
            if len(works) == 1:
                return {works[0].row: error}
            return {row: one for work in works for row, one in self._plan([work]).items()}
        infer_s = perf_counter() - begin
        return {
            work.row: Answer(actions, infer_s) for work, actions in zip(works, ready, strict=True)
        }

    def _ready(self, observation: Observation, step: np.ndarray) -> list[np.ndarray]:
        """Of each row the actions from `step` on that may be executed, shape (T, D), maybe none."""
        plan = self.policy.plan(observation, step)
        self._num_own_plans += 1
        offsets, spec = (step - plan.first_step).tolist(), self.policy.action_spec
        found: list[np.ndarray] = []
        for index, (offset, num) in enumerate(zip(offsets, plan.num_ready.tolist(), strict=True)):
            if offset < 0:
                raise ValueError(f"the plan begins {-offset} control steps late")
            found.append(spec.check(np.asarray(plan.actions[index, offset:num])))
        return found
