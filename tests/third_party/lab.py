"""What a laboratory adds to hotloop from outside: one member of each group."""

from __future__ import annotations

import argparse
import csv
import re
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from hotloop.decoding import ActionSpec
from hotloop.envs import EndsWhenSolved, Task
from hotloop.policies.diffusion.kind import DIFFUSION
from hotloop.policies.networks.config import NetworkConfig, WindowSizes
from hotloop.policies.networks.denoiser import Denoiser
from hotloop.policies.programs.engines.eager import EagerEngine
from hotloop.real_robot.cameras import Picture
from hotloop.real_robot.drivers.dry_run import DryRunDriver
from hotloop.train.data.columns import StoredArray
from hotloop.train.data.formats.format import Advance, Format
from hotloop.train.data.selection import Selection
from hotloop.train.data.source import Cuts, DatasetFile
from hotloop.train.families.diffusion import DIFFUSION as DIFFUSION_FAMILY

KIND, FAMILY = DIFFUSION, DIFFUSION_FAMILY
ACTIONS = ActionSpec(("speed [m/s]",), low=(-1,), high=(1,), dt=0.1)


class Line(EndsWhenSolved):
    """A point on a line that has to reach the origin."""

    def reset(self, seed: int) -> dict[str, np.ndarray]:
        self._success, self._x = False, np.random.default_rng(seed).uniform(0.5, 1)
        return {"observation.state": np.array([self._x], np.float32)}

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], float, bool]:
        self._x += ACTIONS.dt * float(action[0])
        self._success = abs(self._x) < 0.1
        frame = {"observation.state": np.array([self._x], np.float32)}
        return frame, float(self._success), self._success

    def render(self) -> np.ndarray:
        return np.zeros((8, 8, 3), np.uint8)

    def close(self) -> None:
        """Nothing to release."""


TASK = Task("lab-line", ACTIONS, {"observation.state": (1,)}, 20, "solved", make=Line)


class LinearDenoiser(Denoiser):
    """The smallest network that there is."""

    def __init__(self, action_dim: int, observation_dim: int) -> None:
        super().__init__()
        self.action = nn.Linear(action_dim, action_dim)
        self.observation = nn.Linear(observation_dim, action_dim)

    @classmethod
    def build(cls, config: NetworkConfig, sizes: WindowSizes) -> LinearDenoiser:
        return cls(sizes.action_dim, sizes.observation_dim)

    def embed_level(self, level: Tensor, jump: Tensor | None = None) -> Tensor:
        return level[..., None]  # (b, h, 1)

    def encode(self, observation: Tensor) -> Tensor:
        return self.observation(observation)[:, None]  # (b, 1, d)

    def denoise(
        self, x: Tensor, level_modulation: Tensor, observation_modulation: Tensor
    ) -> Tensor:
        return self.action(x) * level_modulation + observation_modulation


class LoudEngine(EagerEngine):
    """Eager PyTorch under another name."""


class TableFile(DatasetFile):
    """Rows of ``episode,x,action``."""

    layout = "table"
    action_column = "action"

    def __init__(self, path: Path, options: Mapping[str, Any], resources: ExitStack) -> None:
        super().__init__(path, options, resources)
        with path.open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        self._columns = {
            name: np.array([[float(row[name])] for row in rows], np.float32)
            for name in ("x", "action")
        }
        self._episodes = np.array([int(row["episode"]) for row in rows])

    @property
    def names(self) -> tuple[str, ...]:
        return ("action", "x")

    def open_array(self, name: str) -> StoredArray:
        return self._columns[name]

    def cuts(self) -> Cuts:
        ends = np.append(np.flatnonzero(np.diff(self._episodes)) + 1, len(self._episodes))
        return Cuts(ends, terminated=np.zeros(len(ends), bool))

    def default_keys(self) -> dict[str, Selection]:
        return {"action": Selection("action"), "observation.state": Selection("x")}


class TableFormat(Format):
    """Comma-separated rows, read only."""

    name, description, suffixes = "table", "a .table.csv file", (".table.csv",)
    parts = re.compile(r".*\.csv")

    def recognise(self, path: Path) -> bool:
        return path.name.endswith(self.suffixes)

    def open(self, path: Path, options: Mapping[str, Any], resources: ExitStack) -> DatasetFile:
        return TableFile(path, options, resources)

    def write(self, partial: Path, episodes: Any, path: Path, advance: Advance) -> None:
        raise ValueError(f"{path}: tables are only read")


FORMAT = TableFormat()


class QuietDriver(DryRunDriver):
    """A robot that does what it is told, at once."""


class GreyCamera:
    """Sees nothing but grey."""

    def __init__(self, config: Any, state: Any) -> None:
        self._size = config.size

    def open(self) -> None:
        """Nothing to open."""

    def read(self) -> Picture:
        return Picture(0.0, np.full((*self._size, 3), 128, np.uint8))

    def close(self) -> None:
        """Nothing to close."""


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """The command ``hotloop greet``."""
    parser = subparsers.add_parser("greet", help="say hello from the laboratory")
    parser.set_defaults(run=lambda _: print("hello from the laboratory") or 0)
    return parser
