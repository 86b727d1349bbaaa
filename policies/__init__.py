"""Policies: diffusion models sampled from scratch or from a rolling buffer."""

from .checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from .diffusion.config import SamplingConfig
from .diffusion.model import DiffusionModel, ModelConfig
from .diffusion.policy import DiffusionPolicy
from .diffusion.streaming import StreamingDiffusionPolicy

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
