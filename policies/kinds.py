"""The table of families: the kinds of policy, and what a checkpoint of each is made of.

To add a family: a package whose ``kind.py`` holds a `Kind`, and its line here; or, in a package of
one's own, an entry point of the group ``hotloop.policies`` that names a `Kind`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..decoding import ActionSpec
from ..decoding.plumbing.plugins import Registry

if TYPE_CHECKING:
    from .export.parts import Exportable


def _none(model: Any, sampling: Any) -> Mapping[str, str]:
    """The dataclass of the choices refuses by itself what has no effect."""
    del model, sampling
    return {}


@dataclass(frozen=True)
class Kind:
    """One kind of policy.

    Attributes:
        model_config: Dataclass from which the model is rebuilt.
        model: Called with that configuration, the observation shapes and the action size. The
            model is a module with `observation_shapes` and `config_dict()`.
        sampling: Dataclass of the choices that need no training, as many as mean something for
            this kind.
        policy: Called with model, action spec, sampling choices and the name of an engine.
        idle: Called with model and sampling choices; which of them have no effect beside the
            others, each with what deprives it of one.
        export: Called with model, action spec and sampling choices; the policy as an
            `export.parts.Exportable`. None for a kind that cannot be.
    """

    model_config: type[Any]
    model: Callable[..., Any]
    sampling: type[Any]
    policy: Callable[..., Any]
    idle: Callable[[Any, Any], Mapping[str, str]] = _none
    export: Callable[[Any, ActionSpec, Any], Exportable] | None = None


KINDS: Registry[Kind] = Registry(
    "hotloop.policies",
    "kind of policy",
    {
        "dp": "diffusion.kind:DIFFUSION",
        "sdp": "diffusion.kind:STREAMING",
        "diffuser": "planners.kind:PLANNER",
        "decision_diffuser": "planners.kind:PLANNER",
        "trajectory_diffuser": "planners.kind:PLANNER",
        "vla": "vla.kind:VLA",
        "act": "act.kind:ACT",
        "lerobot": "lerobot.installed_policy:LEROBOT",
    },
    str(__package__),
)


def kind_of(name: str) -> Kind:
    """The kind of policy of that name.

    Raises:
        ValueError: If there is none; the message names those that there are.
        ImportError: If it is a plugin's, or one's own, and cannot be imported.
    """
    kind = KINDS.get(name)
    if not isinstance(kind, Kind):
        raise ValueError(f"kind of policy {name!r} is no hotloop.policies.kinds.Kind: {kind!r}")
    return kind
