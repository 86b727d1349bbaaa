"""What LeRobot's processors do, as data: other names, and one affine map per feature."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ...decoding import ActionSpec
from ..normalizer import ROUNDING
from .given import Given

MODES = ("IDENTITY", "MEAN_STD", "MIN_MAX", "QUANTILES", "QUANTILE10")
_ENDS = {"MIN_MAX": ("min", "max"), "QUANTILES": ("q01", "q99"), "QUANTILE10": ("q10", "q90")}
_WIDER = 1e-6  # of the range of the training data, beyond which actions are clipped
_WIDER_CONSTANT = 1e-3  # likewise of the magnitude, where it is constant

Statistics = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Feature:
    """One thing that a policy reads or commands.

    Attributes:
        name: Its name inside the policy, e.g. ``"observation.state"``.
        type: ``"STATE"``, ``"ENV"``, ``"VISUAL"`` or ``"ACTION"``.
        shape: (D,), or (3, height, width) of a picture.
    """

    name: str
    type: str
    shape: tuple[int, ...]

    @property
    def is_picture(self) -> bool:
        """Whether it is a picture."""
        return self.type == "VISUAL"

    @property
    def size(self) -> int:
        """Numbers that have statistics of their own: elements, or channels of a picture."""
        return self.shape[0]


@dataclass(frozen=True, eq=False)
class Affine:
    """The map ``x * scale + offset``; of pictures, x is from 0 to 1, one entry per channel.

    Attributes:
        scale: Shape (D,), float64.
        offset: Shape (D,), float64.
        typical: A value of the training data, shape (D,), float64.
    """

    scale: np.ndarray
    offset: np.ndarray
    typical: np.ndarray


@dataclass(frozen=True, eq=False)
class Processors:
    """What happens before and after the network.

    Attributes:
        inputs: Observed units to the network's, by the name inside the policy. A dimension that
            did not vary has scale 0.
        to_network: Physical actions to the network's units.
        low: Smallest action of the training data, shape (D,), float64; None if nobody knows.
        high: Largest likewise.
        renames: Name that is observed to name inside the policy, where they differ.
        lacking: What would be normalised, were there statistics of it; LeRobot leaves it as it is.
    """

    inputs: Mapping[str, Affine]
    to_network: Affine
    low: np.ndarray | None
    high: np.ndarray | None
    renames: Mapping[str, str] = field(default_factory=dict)
    lacking: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Reject two inputs of one observed name."""
        observed = [self.observed(name) for name in self.inputs]
        if len(set(observed)) < len(observed):
            raise ValueError(
                f"rename_map {dict(self.renames)} makes two of {', '.join(self.inputs)} from one "
                "observation"
            )

    def observed(self, name: str) -> str:
        """Name under which the feature `name` of the policy is observed."""
        return {inner: outer for outer, inner in self.renames.items()}.get(name, name)

    def action_spec(self, given: Given) -> ActionSpec:
        """Names, bounds and period of the actions.

        Bounds that are not given are the ends of the training data, a little wider.

        Raises:
            ValueError: If something is neither given nor known, or of another size.
        """
        size = len(self.to_network.scale)
        if given.dt is None:
            raise ValueError(
                "a LeRobot folder does not say how often actions are sent; give the period in "
                "seconds, e.g. lerobot.dt=0.1, or its data set, lerobot.dataset=FOLDER"
            )
        names = given.names or tuple(f"action {index}" for index in range(size))
        low, high = _bounds(self.low, self.high, given)
        for what, values in (("names", names), ("action_low", low), ("action_high", high)):
            if len(values) != size:
                raise ValueError(
                    f"lerobot.{what} must have {size} entries, one per action dimension, got "
                    f"{len(values)}: {list(values)}"
                )
        return ActionSpec(names, low, high, float(given.dt))


def _bounds(
    least: np.ndarray | None, greatest: np.ndarray | None, given: Given
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Lower and upper bounds of actions."""
    low, high = given.action_low, given.action_high
    if low and high:
        return low, high
    if least is None or greatest is None:
        raise ValueError(
            "the folder does not say how large actions are; give lerobot.action_low=[…] and "
            "lerobot.action_high=[…], or its data set, lerobot.dataset=FOLDER"
        )
    wide_low, wide_high = widened(least, greatest)
    return low or wide_low, high or wide_high


def widened(least: np.ndarray, greatest: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Bounds a little outside the ends of the training data, shape (D,), and apart."""
    magnitude = np.maximum(np.maximum(np.abs(least), np.abs(greatest)), 1.0)
    constant = greatest - least <= ROUNDING * magnitude
    margin = np.where(constant, _WIDER_CONSTANT * magnitude, _WIDER * (greatest - least))
    return tuple((least - margin).tolist()), tuple((greatest + margin).tolist())


def normalization(
    feature: Feature, mode: str, statistics: Statistics, eps: float, invertible: bool = False
) -> Affine:
    """The map from observed units, of pictures 0 to 1, to the network's.

    Args:
        feature: What is mapped.
        mode: One of `MODES`.
        statistics: Of the training data, by name, ``"mean"`` and so on; nothing is mapped where
            there are none.
        eps: What LeRobot adds to a deviation, and takes for a range of 0.
        invertible: Whether the map is used backwards, as that of actions is: what is constant is
            then made from any output of the network.

    Raises:
        ValueError: If the mode is unknown, or a statistic is missing or of another size.
    """
    if mode not in MODES:
        raise ValueError(f"{feature.name}: normalisation {mode!r} is none of {', '.join(MODES)}")
    size = feature.size
    if mode == "IDENTITY" or not statistics:
        return Affine(np.ones(size), np.zeros(size), np.zeros(size))
    if mode == "MEAN_STD":
        low, half = _statistic(feature, statistics, "mean"), _statistic(feature, statistics, "std")
        # Forwards LeRobot adds eps to the deviation, backwards it does not.
        scale, target = 1 / np.where(half == 0, eps, half if invertible else half + eps), 0.0
    else:
        low, high = (_statistic(feature, statistics, end) for end in _ENDS[mode])
        half = (high - low) / 2
        scale, target = 1 / np.where(half == 0, eps / 2, half), -1.0
    if (half < 0).any():
        raise ValueError(
            f"the statistics of {feature.name} must be of a deviation of at least 0, and of a "
            f"least value that is not above the greatest, got half widths {half}"
        )
    # One that is constant up to rounding has no digits left in ``x * scale + offset``: it is what
    # it was in training, whatever x is.
    constant = half <= ROUNDING * np.abs(low)
    if not invertible:
        scale = np.where(constant, 0.0, scale)
    return Affine(scale, target - low * scale, low)


def vector(statistics: Statistics, name: str) -> np.ndarray | None:
    """A statistic as float64 of shape (D,); None if there is none."""
    return statistics[name].astype(np.float64).ravel() if name in statistics else None


def _statistic(feature: Feature, statistics: Statistics, name: str) -> np.ndarray:
    found = vector(statistics, name)
    if found is None:
        raise ValueError(
            f"the statistics of {feature.name} lack {name!r}, which its normalisation needs; there "
            f"are {', '.join(sorted(statistics))}"
        )
    if found.shape != (feature.size,):
        raise ValueError(
            f"the statistic {name!r} of {feature.name} must have {feature.size} entries, got shape "
            f"{statistics[name].shape}"
        )
    if not np.isfinite(found).all():
        raise ValueError(f"the statistic {name!r} of {feature.name} is not finite: {found}")
    return found
