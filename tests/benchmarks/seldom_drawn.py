"""Meta-World's tabletop, drawn at those steps alone at which a policy plans."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from hotloop.envs.metaworld import Tabletop
from hotloop.envs.task import Task


class SeldomDrawn(Tabletop):
    """The tabletop that is observed at every so many steps only; in between, frames are old.

    A step of the simulator takes 0.2 ms of a core, a picture 9.

    Args:
        every: Steps from picture to picture.
        **choices: Of `Tabletop`.
    """

    def __init__(self, every: int, **choices: Any) -> None:
        super().__init__(**choices)
        self._every = every
        self._drawn: dict[str, np.ndarray] = {}

    def _frame(self) -> dict[str, np.ndarray]:
        if self._num_steps % self._every == 0:
            self._drawn = super()._frame()
        return dict(self._drawn)


def seldom_drawn(task: Task, every: int) -> Task:
    """A task on the tabletop for a policy that executes so many actions of every plan.

    Plans, actions and outcomes are those of the task itself.
    """
    assert isinstance(task.make, partial) and task.make.func is Tabletop
    return replace(task, make=partial(SeldomDrawn, every, **task.make.keywords))
