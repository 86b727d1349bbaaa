"""Policies: diffusion models sampled from scratch or from a rolling buffer."""

from .checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from .diffusion import DiffusionPolicy
from .model import DiffusionModel, ModelConfig
from .sampling import SamplingConfig
from .streaming_diffusion import StreamingDiffusionPolicy

__all__ = [
    "Checkpoint",
    "DiffusionModel",
    "DiffusionPolicy",
    "ModelConfig",
    "SamplingConfig",
    "StreamingDiffusionPolicy",
    "load_checkpoint",
    "save_checkpoint",
]
