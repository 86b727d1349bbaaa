"""Diffusion Policy and Streaming Diffusion Policy as kinds of policy."""

from __future__ import annotations

from ...decoding import ActionSpec
from ...decoding.fitted import FITTED
from ..kinds import Kind
from .config import DiffusionSampling, ModelConfig, StreamingSampling
from .exported import export_diffusion
from .exported_stream import export_streaming
from .model import DiffusionModel
from .policy import DiffusionPolicy
from .real_time_chunking import RealTimeChunkingPolicy
from .streaming import StreamingDiffusionPolicy


def _diffusion_policy(
    model: DiffusionModel, action_spec: ActionSpec, sampling: DiffusionSampling, engine: str
) -> DiffusionPolicy | RealTimeChunkingPolicy:
    make = RealTimeChunkingPolicy if sampling.prefix_guidance else DiffusionPolicy
    return make(model, action_spec, sampling, engine)


def _idle(model: DiffusionModel, sampling: DiffusionSampling) -> dict[str, str]:
    """Fitted steps have levels of their own."""
    del model
    return {"spacing": "with update 'fitted'"} if sampling.update == FITTED else {}


DIFFUSION = Kind(
    ModelConfig,
    DiffusionModel,
    DiffusionSampling,
    _diffusion_policy,
    idle=_idle,
    export=export_diffusion,
)
STREAMING = Kind(
    ModelConfig,
    DiffusionModel,
    StreamingSampling,
    StreamingDiffusionPolicy,
    export=export_streaming,
)
