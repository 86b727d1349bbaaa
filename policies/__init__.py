"""Policies: diffusion models sampled from scratch or from a rolling buffer."""

from .checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from .diffusion.config import DiffusionSampling, ModelConfig, StreamingSampling
from .diffusion.model import DiffusionModel
from .diffusion.policy import DiffusionPolicy
from .diffusion.streaming import StreamingDiffusionPolicy

__all__ = [
    "Checkpoint",
    "DiffusionModel",
    "DiffusionPolicy",
    "DiffusionSampling",
    "ModelConfig",
    "StreamingDiffusionPolicy",
    "StreamingSampling",
    "load_checkpoint",
    "save_checkpoint",
]
