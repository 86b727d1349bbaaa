"""What a server says of its policy to a client that connects, and how a client reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, cast

from ..instruction import INSTRUCTION_KEY
from ..interface import ActionSpec, ObservationSpec, Policy
from ..plumbing.machine import package_version
from ..plumbing.schema import build


@dataclass(frozen=True)
class _Numbers:
    shape: tuple[int, ...]
    dtype: str

    def __post_init__(self) -> None:
        if any(size < 1 for size in self.shape):
            raise ValueError(f"an observation of shape {self.shape}")


@dataclass(frozen=True)
class _Action:
    names: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True)
class Metadata:
    """A policy and the way it is served.

    Attributes:
        hotloop: Version of the server.
        mode: What a request without an endpoint asks for, see `ServerOptions`.
        num_obs_steps: Newest frames the policy sees, To.
        num_execute: Actions meant to be executed per plan.
        dt: Control period [s].
        observation: Shape and type of one frame by key.
        action: Names with units, and bounds.
        instruction: Whether it follows one.
        about: What else is known of the policy: its kind, its task, how its recordings were spread.
    """

    hotloop: str
    mode: str
    num_obs_steps: int
    num_execute: int
    dt: float
    observation: dict[str, _Numbers]
    action: _Action
    instruction: bool
    about: dict[str, Any] = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        """Reject what no policy could have."""
        if not (self.num_obs_steps > 0 < self.num_execute and self.observation):
            raise ValueError(
                f"a policy that reads {self.num_obs_steps} frames of {list(self.observation)} and "
                f"executes {self.num_execute} actions"
            )

    @property
    def action_spec(self) -> ActionSpec:
        """Names, bounds and period of the actions."""
        return ActionSpec(self.action.names, self.action.low, self.action.high, self.dt)

    @property
    def observation_spec(self) -> ObservationSpec:
        """Keys, shapes and number of frames."""
        shapes = {key: one.shape for key, one in self.observation.items()}
        return ObservationSpec(shapes, self.num_obs_steps)


def describe(policy: Policy, mode: str, about: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata of a policy as plain data."""
    action, observation = policy.action_spec, policy.observation_spec
    frames = {
        key: _Numbers(tuple(shape), "uint8" if key in observation.pictures else "float32")
        for key, shape in observation.shapes.items()
    }
    bounds = _Action(action.names, tuple(map(float, action.low)), tuple(map(float, action.high)))
    return asdict(
        Metadata(
            package_version("hotloop") or "", mode, observation.num_steps, policy.num_execute,
            action.dt, frames, bounds, INSTRUCTION_KEY in frames, dict(about),
        )
    )  # fmt: skip


def read_metadata(message: Any) -> Metadata:
    """Read a server's first message.

    Raises:
        ValueError: If it comes from no hotloop, whose observations nobody could know, or from one
            that is too old or too new.
    """
    found = cast("dict[Any, Any]", message) if isinstance(message, dict) else {}
    if "hotloop" not in found:
        raise ValueError(
            "it is no server of hotloop: it does not say which observations its policy reads"
        )
    try:
        return build(Metadata, found)
    except ValueError as error:
        raise ValueError(f"it speaks another version of hotloop, {error}") from error
