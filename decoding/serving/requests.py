"""What a client asks for, read from its message and checked before a policy sees it.

A message is a map. Observations stand under their keys, LeRobot's (``observation.state``) or
openpi's (``observation/state``), an instruction under ``prompt``. Beside them may stand
``endpoint`` (``"infer"``, ``"plan"`` or ``"reset"``), ``reset``, ``seed``, ``session_id``, ``step``
and ``observed_step``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from ..instruction import INSTRUCTION_KEY, decode_instruction, encode_instruction
from ..interface import ObservationSpec
from ..pictures import picture_problem
from ..trajectory import all_finite

ENDPOINTS = ("infer", "plan", "reset")
LATEST_STEP = 1 << 53  # the largest integer that every client can count to


@dataclass(frozen=True)
class Request:
    """One request, checked.

    Attributes:
        kind: ``"act"`` for the action of a control step, ``"plan"`` for all actions that are ready,
            ``"reset"`` for neither.
        frames: Per observation key one frame, or the newest To stacked for a plan.
        step: First control step that needs an action; None for the one after those before.
        observed_step: Control step of the newest frame; None for `step`.
        reset: Whether an episode begins.
        seed: Seed of that episode; None for one of the server's.
        session: Name of the client's session, whose change begins an episode too; empty for none.
    """

    kind: str
    frames: Mapping[str, np.ndarray] = field(default_factory=dict[str, np.ndarray])
    step: int | None = None
    observed_step: int | None = None
    reset: bool = False
    seed: int | None = None
    session: str = ""


class RequestReader:
    """Reads requests to one policy.

    Args:
        spec: Observations of the policy.
        mode: What ``"infer"`` asks for: ``"step"`` an action, ``"chunk"`` a plan.
    """

    def __init__(self, spec: ObservationSpec, mode: str) -> None:
        self._spec = spec
        self._infer = "act" if mode == "step" else "plan"

    def read(self, message: Any) -> Request:
        """Read a message.

        Raises:
            ValueError: If it is no request to this policy; the message says what would be.
        """
        if not isinstance(message, dict):
            raise ValueError(f"a request is a map of observations, got {type(message).__name__}")
        asked = cast("dict[Any, Any]", message)
        endpoint = asked.get("endpoint", "infer")
        if not isinstance(endpoint, str) or endpoint not in ENDPOINTS:
            raise ValueError(
                f"endpoint must be one of {', '.join(ENDPOINTS)}, got {endpoint!r:.40}"
            )
        seed, step = _count(asked, "seed"), _count(asked, "step")
        if endpoint == "reset":
            return Request("reset", reset=True, seed=seed, session=_session(asked))
        kind = self._infer if endpoint == "infer" else "plan"
        observed_step = _count(asked, "observed_step")
        if step is not None and observed_step is not None and observed_step > step:
            raise ValueError(f"observed_step {observed_step} is later than step {step}")
        restarts = asked.get("reset", False)
        if type(restarts) not in (bool, np.bool_):
            raise ValueError(f"reset must be true or false, got {restarts!r:.40}")
        frames = self._frames(asked, kind == "plan")
        return Request(
            kind, frames, step, observed_step, bool(restarts), seed, session=_session(asked)
        )

    def _frames(self, asked: Mapping[Any, Any], stacked: bool) -> dict[str, np.ndarray]:
        given = {key.replace("/", "."): value for key, value in asked.items() if type(key) is str}
        if INSTRUCTION_KEY in self._spec.shapes and "prompt" in given:
            given.setdefault(INSTRUCTION_KEY, given["prompt"])
        missing = [key for key in self._spec.shapes if key not in given]
        if missing:
            raise ValueError(
                f"observation {missing[0]!r} is missing; the policy reads "
                f"{', '.join(self._spec.shapes)}, got {', '.join(given)[:400] or 'nothing'}"
            )
        num_steps = self._spec.num_steps if stacked else 0
        return {key: self._frame(key, given[key], num_steps) for key in self._spec.shapes}

    def _frame(self, key: str, value: Any, num_steps: int) -> np.ndarray:
        """One observation: a frame, or `num_steps` of them if that is not 0."""
        shape = self._spec.shapes[key]
        if key == INSTRUCTION_KEY and isinstance(value, str):
            value = encode_instruction(value, shape[0])
            value = np.tile(value, (num_steps, 1)) if num_steps else value
        array = _as_array(key, value)
        # A single frame is a stack of one.
        array = array[None] if num_steps == 1 and array.shape == shape else array
        if key in self._spec.pictures:
            self._check_picture(key, array, num_steps)
            return array
        expected = (num_steps, *shape) if num_steps else shape
        if array.shape != expected:
            raise ValueError(
                f"observation {key!r} must have shape {expected}, got {array.shape}"
                f"{self._stacking(num_steps)}"
            )
        with np.errstate(over="ignore"):
            numbers = array.astype(np.float32)
        if not all_finite(numbers):
            raise ValueError(f"observation {key!r} holds NaN or infinite values")
        if key == INSTRUCTION_KEY:
            decode_instruction(numbers[-1] if num_steps else numbers)
        return numbers

    def _check_picture(self, key: str, array: np.ndarray, num_steps: int) -> None:
        frame = array
        if num_steps:
            if array.ndim != 4 or len(array) != num_steps:
                raise ValueError(
                    f"observation {key!r} must have shape {(num_steps, *self._spec.shapes[key])}, "
                    f"got {array.shape}{self._stacking(num_steps)}"
                )
            frame = array[-1]
        if problem := picture_problem(frame.shape, frame.dtype, self._spec.shapes[key]):
            raise ValueError(f"the picture of observation {key!r} {problem}")

    def _stacking(self, num_steps: int) -> str:
        """How frames have to come, where more than one is read."""
        if num_steps > 1:
            return (
                f": a plan needs the newest {num_steps} frames of consecutive control steps, "
                "stacked, oldest first; with mode=step the server keeps them"
            )
        return ": one frame at a time, the server keeps those before" if not num_steps else ""


def _as_array(key: str, value: Any) -> np.ndarray:
    """Numbers as an array; lists of them are welcome too."""
    try:
        array = np.asarray(value)
    except ValueError:
        array = np.empty(0, "V1")
    if array.dtype.kind not in "biuf":
        raise ValueError(f"observation {key!r} must be an array of numbers, got {value!r:.60}")
    return array


def _count(asked: Mapping[Any, Any], name: str) -> int | None:
    """A whole number of 0 or more, None if it is not given."""
    value = asked.get(name)
    if value is None:
        return None
    is_whole = issubclass(type(value), (int, np.integer)) and type(value) is not bool
    if not is_whole or not 0 <= value < LATEST_STEP:
        raise ValueError(f"{name} must be a whole number of 0 or more, got {value!r:.40}")
    return int(value)


def _session(asked: Mapping[Any, Any]) -> str:
    session = asked.get("session_id", "")
    if not isinstance(session, str):
        raise ValueError(f"session_id must be a text, got {session!r:.40}")
    return session
