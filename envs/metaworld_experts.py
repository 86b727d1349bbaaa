"""Meta-World's scripted experts on the tabletop."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from .metaworld import Tabletop, import_metaworld
from .task import Environment


class TabletopExpert:
    """Acts by the script of the episode's subtask.

    Args:
        env: Where it acts; the scripts read Meta-World's own state, which frames do not hold.
    """

    def __init__(self, env: Tabletop) -> None:
        self._env = env
        self._scripts: dict[str, Any] = {}

    def reset(self, frame: Mapping[str, np.ndarray], seed: int) -> None:
        """Begin an episode; see `Expert`."""
        name = self._env.subtask.name
        if name not in self._scripts:
            self._scripts[name] = _script(name)

    def act(self, frame: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the action for the environment's present state, shape (4,)."""
        with warnings.catch_warnings():
            # The experts ask for more than the arm can do, and warn that it is clipped.
            warnings.filterwarnings("ignore", "Constant\\(s\\) may be too high")
            wanted = self._scripts[self._env.subtask.name].get_action(self._env.state)
        return np.clip(wanted, -1, 1).astype(np.float32)


def make_tabletop_expert(env: Environment) -> TabletopExpert:
    """The expert of a tabletop."""
    assert isinstance(env, Tabletop), "the scripts are Meta-World's"
    return TabletopExpert(env)


def _script(name: str) -> Any:
    import_metaworld()
    from metaworld import policies

    words = "".join(word.capitalize() for word in name.split("-"))
    return getattr(policies, f"Sawyer{words}V3Policy")()
