"""The kinds of policy: what a checkpoint of each is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..decoding import ActionSpec
from .diffusion.config import SamplingConfig
from .diffusion.model import DiffusionModel, ModelConfig
from .diffusion.policy import DiffusionPolicy
from .diffusion.real_time_chunking import RealTimeChunkingPolicy
from .diffusion.streaming import StreamingDiffusionPolicy
from .planners.config import PlannerConfig, PlannerSampling
from .planners.model import PlannerModel
from .planners.planner import Planner
from .vla.build import vla_of_checkpoint
from .vla.decoding_config import TokenDecodingConfig
from .vla.model import VlaConfig
from .vla.policy import VlaPolicy


@dataclass(frozen=True)
class Kind:
    """One kind of policy.

    Attributes:
        model_config: Dataclass from which the model is rebuilt.
        model: Called with that configuration, the observation shapes and the action size.
        sampling: Dataclass of the choices that need no training.
        policy: Called with model, action spec, sampling choices and the name of an engine.
    """

    model_config: type[Any]
    model: Callable[..., Any]
    sampling: type[Any]
    policy: Callable[..., Any]


def _diffusion_policy(
    model: DiffusionModel, action_spec: ActionSpec, sampling: SamplingConfig, engine: str
) -> DiffusionPolicy | RealTimeChunkingPolicy:
    make = RealTimeChunkingPolicy if sampling.prefix_guidance else DiffusionPolicy
    return make(model, action_spec, sampling, engine)


_PLANNER = Kind(PlannerConfig, PlannerModel, PlannerSampling, Planner)
KINDS: dict[str, Kind] = {
    "dp": Kind(ModelConfig, DiffusionModel, SamplingConfig, _diffusion_policy),
    "sdp": Kind(ModelConfig, DiffusionModel, SamplingConfig, StreamingDiffusionPolicy),
    "diffuser": _PLANNER,
    "decision_diffuser": _PLANNER,
    "trajectory_diffuser": _PLANNER,
    "vla": Kind(VlaConfig, vla_of_checkpoint, TokenDecodingConfig, VlaPolicy),
}
