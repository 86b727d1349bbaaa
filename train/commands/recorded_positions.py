"""Whether a checkpoint's actions were joint positions, by how its recordings were spread."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ...real_robot.core.limits import Vector
from ...real_robot.policies.joints import STATE_KEY

if TYPE_CHECKING:
    from ...policies.checkpoint import Checkpoint

# An arm goes about as far as it is told to go: changes and speeds have another size or middle.
OTHER_SIZE = 4.0
_LEAST_HALF = 1e-8


class Spread(NamedTuple):
    """Middle and half the range of some columns, each of shape (D,)."""

    centre: Vector
    half: Vector

    def of(self, chosen: Any) -> Spread:
        """Some of the columns."""
        return Spread(self.centre[chosen], self.half[chosen])


class Recorded(NamedTuple):
    """How actions, and the joint positions beside them, were spread; D columns that varied."""

    names: tuple[str, ...]
    actions: Spread
    states: Spread

    def to_json(self) -> dict[str, Any]:
        """Plain data, see `from_json`."""
        spreads = {"actions": self.actions, "states": self.states}
        lists = {
            name: {part: values.tolist() for part, values in spread._asdict().items()}
            for name, spread in spreads.items()
        }
        return {"names": list(self.names), **lists}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Recorded:
        """Read what `to_json` made.

        Raises:
            ValueError: If it made something else.
        """
        try:
            actions, states = (
                Spread(*(np.asarray(values[name][part], np.float64) for part in Spread._fields))
                for name in ("actions", "states")
            )
            return cls(tuple(values["names"]), actions, states)
        except (KeyError, TypeError) as error:
            raise ValueError(f"not the spread of recordings: {error!r}") from error


def refuse_other_than_positions(found: Recorded | None) -> None:
    """Compare the actions of a policy's recordings with the joint positions in them.

    Raises:
        ValueError: If most actions go over another range than the positions did.
    """
    if found is None:
        return
    names, actions, states = found
    ratio = float(np.median(actions.half / states.half))
    if not 1 / OTHER_SIZE <= ratio <= OTHER_SIZE:
        raise ValueError(
            f"the checkpoint's actions go over {ratio:.3g} times the range of the joint positions "
            "that were recorded with them: they are changes, speeds, or in another unit, and are "
            "never sent as positions; a policy that moves the tool is run with actions=..."
        )
    away = np.abs(actions.centre - states.centre) / np.maximum(actions.half, states.half)
    if np.median(away) > 1:
        index = int(np.argmax(away))
        raise ValueError(
            f"the checkpoint's actions lie elsewhere than the joint positions that were recorded "
            f"with them, {names[index]!r} about {actions.centre[index]:.3g} where its joint was "
            f"about {states.centre[index]:.3g}: they are changes, speeds, or from another zero, "
            "and are never sent as positions"
        )


def recorded(checkpoint: Checkpoint) -> Recorded | None:
    """How a checkpoint's recordings were spread; None if that is not known.

    Only checkpoints that read as many joint positions as they plan, and that were normalised by
    their recordings, tell anything.
    """
    model = checkpoint.model
    normalizers = [getattr(model, f"{name}_normalizer", None) for name in ("action", "observation")]
    shapes = dict(model.observation_shapes)
    keys = list(getattr(model, "state_keys", shapes))
    if None in normalizers or STATE_KEY not in keys:
        return None
    before = sum(int(np.prod(shapes[key])) for key in keys[: keys.index(STATE_KEY)])
    actions, observations = (_spread(one) for one in normalizers)
    states = observations.of(slice(before, before + int(np.prod(shapes[STATE_KEY]))))
    if len(states.half) != len(actions.half):
        return None
    # What is scaled by 1 was left as it is: it never changed, or was normalised by no data.
    # LeRobot takes half of 1e-8 for the range of an action that never changed.
    varied = (states.half != 1) & (actions.half != 1) & (actions.half > _LEAST_HALF)
    names = [name for name, one in zip(checkpoint.action_spec.names, varied, strict=True) if one]
    if not names:
        return None
    return Recorded(tuple(names), actions.of(varied), states.of(varied))


def _spread(normalizer: Any) -> Spread:
    scale, offset = (
        getattr(normalizer, name).cpu().numpy().astype(np.float64) for name in ("scale", "offset")
    )
    # A scale of 0 looks at nothing, which is as good as being left as it is.
    scale = np.where(scale == 0, 1.0, scale)
    return Spread((0 - offset) / scale, 1 / np.abs(scale))
