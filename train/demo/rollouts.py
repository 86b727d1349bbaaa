"""Many episodes from one start, which differ in the policy's noise alone."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...decoding import Executor, Policy
from ...envs.expert import Expert
from ...envs.task import Environment, Task

STATE = "observation.state"
DECISION_X = -0.3  # [m], shortly before a puck must have turned aside to pass the first pillar

Act = Callable[[dict[str, np.ndarray], np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class Rollouts:
    """Where a policy went from one start.

    Attributes:
        paths: Positions x, y of each episode [m], arrays of shape (T, 2).
        reached: Whether each episode reached the goal.
        sideways: Velocity y that was asked for in the first control step beyond `DECISION_X`
            [m/s], one number for every episode that came so far.
    """

    paths: tuple[np.ndarray, ...]
    reached: tuple[bool, ...]
    sideways: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data, positions to the millimetre."""
        return {
            "reached": list(self.reached),
            "sideways": [round(one, 3) for one in self.sideways],
            "paths": [path.round(3).tolist() for path in self.paths],
        }


def roll_out(policy: Policy, task: Task, start: int, num: int) -> Rollouts:
    """Run `num` episodes of a policy with its seeds 0, 1, ... from the start of one seed.

    Args:
        policy: Who acts.
        task: Where; its state begins with the position x, y.
        start: The environment's seed in every episode.
        num: Number of episodes.
    """
    executor = Executor(policy)
    executor.reset(list(range(num)))
    return _run(task, start, num, executor.act)


def demonstrate(make_expert: Callable[[Any], Expert], task: Task, start: int, num: int) -> Rollouts:
    """The same of a scripted expert, who makes its own choices in every episode."""
    with closing(task.make()) as env:
        experts = [make_expert(env) for _ in range(num)]
        for seed, expert in enumerate(experts):
            expert.reset(env.reset(start), seed)

    def act(frame: dict[str, np.ndarray], rows: np.ndarray) -> np.ndarray:
        return np.stack(
            [
                experts[row].act({key: values[index] for key, values in frame.items()})
                for index, row in enumerate(rows)
            ]
        )

    return _run(task, start, num, act)


def _run(task: Task, start: int, num: int, act: Act) -> Rollouts:
    with ExitStack() as stack:
        envs = [stack.enter_context(closing(task.make())) for _ in range(num)]
        frames = [env.reset(start) for env in envs]
        paths = [[frame[STATE][:2]] for frame in frames]
        sideways: dict[int, float] = {}
        active = np.arange(num)
        while active.size:
            frame = {key: np.stack([frames[row][key] for row in active]) for key in frames[0]}
            actions = act(frame, active)
            going = []
            for row, action in zip(active.tolist(), actions, strict=True):
                if paths[row][-1][0] >= DECISION_X:
                    sideways.setdefault(row, float(action[1]))
                if not _step(envs[row], action, frames, row):
                    going.append(row)
                paths[row].append(frames[row][STATE][:2])
            active = np.array(going, np.int64)
        return Rollouts(
            tuple(np.stack(path) for path in paths),
            tuple(env.success for env in envs),
            tuple(sideways[row] for row in sorted(sideways)),
        )


def _step(env: Environment, action: np.ndarray, frames: list[Any], row: int) -> bool:
    """One control step of one row; return whether its episode is over."""
    frames[row], _, done = env.step(action)
    return done


def middle_start(task: Task, seeds: range) -> int:
    """The seed among `seeds` that starts nearest to the line of mirror symmetry, y = 0."""
    with closing(task.make()) as env:
        return min(seeds, key=lambda seed: abs(float(env.reset(seed)[STATE][1])))
