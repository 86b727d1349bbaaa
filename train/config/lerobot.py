"""What a LeRobot checkpoint does not say of itself, as settings ``lerobot.*`` of every command."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...decoding import ActionSpec
from ...decoding.plumbing.files import read_json_object
from ...decoding.plumbing.schema import build
from ...policies.checkpoint import Checkpoint, load_checkpoint
from ...policies.lerobot.folder import INSTALLED, find_folder
from ...policies.lerobot.given import Given
from ...policies.lerobot.processors import widened

_SPILL = 1e-3  # of a task's range, by which bounds of training data may lie beyond it
_BEYOND = 1e30  # what no action is
ANY_PERIOD = 1.0  # [s] where nothing depends on it: the time of a plan, a teacher's network


@dataclass(frozen=True)
class LeRobotConfig:
    """What LeRobot's folders do not hold.

    Attributes:
        dt: Control period [s], 1 / fps of the recordings.
        dataset: Folder of the LeRobotDataset that the policy was trained on, which knows period,
            names and range of the actions.
        action_low: Smallest admissible action per dimension; by default the smallest of the
            training data, a millionth of its range wider.
        action_high: Largest admissible action per dimension, likewise.
    """

    dt: float | None = None
    dataset: str = ""
    action_low: tuple[float, ...] = ()
    action_high: tuple[float, ...] = ()

    def given(self, dt: float | None = None) -> Given:
        """The same, with what the data set says.

        Args:
            dt: Period [s] if nobody says otherwise: a task's own.

        Raises:
            OSError: If the data set is not there.
            ValueError: If it is none, or its actions have other numbers.
        """
        found = _of_dataset(Path(self.dataset)) if self.dataset else Given()
        return Given(
            self.dt or found.dt or dt,
            found.names,
            self.action_low or found.action_low,
            self.action_high or found.action_high,
        )


def read_lerobot_config(values: Mapping[str, Any]) -> LeRobotConfig:
    """Build it from plain data, as ``lerobot.*`` is given."""
    return build(LeRobotConfig, values, "lerobot.")


def load(name: str | Path, lerobot: LeRobotConfig, dt: float | None = None) -> Checkpoint:
    """Load a checkpoint of hotloop's or LeRobot's.

    Args:
        name: Name or path.
        lerobot: What a LeRobot folder does not hold.
        dt: Period of the actions [s] if neither the checkpoint nor the user says.

    Raises:
        OSError: If it is not there.
        ValueError: If it is damaged or not supported.
    """
    if not is_lerobot(name):
        return load_checkpoint(name)
    return load_checkpoint(name, lerobot.given(dt))


def load_for_task(name: str | Path, lerobot: LeRobotConfig, spec: ActionSpec) -> Checkpoint:
    """Load a checkpoint for a task, whose actions are as `spec` says.

    Of a LeRobot folder, the period is the task's unless it is given, and bounds that were widened
    beyond the task's end with them.

    Raises:
        OSError: If it is not there.
        ValueError: If it is damaged or not supported.
    """
    checkpoint = load(name, lerobot, spec.dt)
    own = checkpoint.action_spec
    if not is_lerobot(name) or own.size != spec.size:
        return checkpoint
    span = np.subtract(spec.high, spec.low) * _SPILL
    low = np.where(np.subtract(spec.low, own.low) <= span, np.maximum(own.low, spec.low), own.low)
    beyond = np.subtract(own.high, spec.high)
    high = np.where(beyond <= span, np.minimum(own.high, spec.high), own.high)
    bounds = {"low": tuple(low.tolist()), "high": tuple(high.tolist())}
    return replace(checkpoint, action_spec=replace(own, **bounds))


def is_lerobot(name: str | Path) -> bool:
    """Whether a checkpoint is LeRobot's."""
    return str(name).startswith(INSTALLED) or find_folder(Path(name)) is not None


def refuse_unread(names: Sequence[str | Path], lerobot: LeRobotConfig) -> None:
    """Raise ValueError if ``lerobot.*`` is given, and none of the checkpoints is LeRobot's."""
    if lerobot != LeRobotConfig() and not any(map(is_lerobot, names)):
        raise ValueError(
            f"lerobot.* says what LeRobot's folders do not; {', '.join(map(str, names))} holds "
            "everything itself; leave it out"
        )


def _of_dataset(folder: Path) -> Given:
    """Period, names and range of the actions of a LeRobotDataset."""
    path = folder / "meta" / "info.json"
    info = read_json_object(path)
    features = info.get("features")
    action = features.get("action") if isinstance(features, dict) else None
    declared = action if isinstance(action, dict) else {}
    match declared.get("shape"):
        case [int(size)] if size > 0:
            pass
        case shape:
            raise ValueError(
                f"{path} must declare features.action.shape, the number of actions in a list, got "
                f"{shape!r}"
            )
    fps = info.get("fps")
    if isinstance(fps, bool) or not isinstance(fps, int | float) or not 1e-6 < fps < 1e6:
        raise ValueError(f"{path}: fps must be a positive number, got {str(fps)[:40]}")
    low, high = _range(folder / "meta" / "stats.json", size)
    return Given(1 / fps, _names(declared.get("names"), size), low, high)


def _names(declared: Any, size: int) -> tuple[str, ...]:
    """One name per dimension, of a list or of a dictionary of lists; none if there are others."""
    if isinstance(declared, Mapping):
        declared = [name for names in declared.values() for name in _listed(names)]
    names = _listed(declared)
    return tuple(names) if len(names) == size and all(map(_is_name, names)) else ()


def _is_name(value: Any) -> bool:
    return isinstance(value, str)


def _listed(names: Any) -> list[Any]:
    return names if isinstance(names, list) else []


def _range(path: Path, size: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Smallest and largest action, a little wider; none where nobody says."""
    if not path.is_file():
        return (), ()
    found = read_json_object(path).get("action")
    if not isinstance(found, Mapping) or not {"min", "max"} <= found.keys():
        return (), ()
    ends = [found["min"], found["max"]]
    if not all(isinstance(end, list) and len(end) == size for end in ends) or not all(
        isinstance(value, int | float) and abs(value) < _BEYOND for end in ends for value in end
    ):
        raise ValueError(
            f"{path}: action.min and action.max must be lists of {size} finite numbers, got "
            f"{str(ends)[:200]}"
        )
    low, high = (np.asarray(end, np.float64) for end in ends)
    if (low > high).any():
        raise ValueError(f"{path}: action.min must not be above action.max, got {ends}")
    return widened(low, high)
