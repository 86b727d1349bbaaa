"""Denoising networks and picture encoders, each behind one call signature."""

from .build import NETWORKS, build_network
from .config import UNET_CHOICES, EncoderConfig, NetworkConfig, WindowSizes
from .denoiser import Denoiser
from .encoder import ENCODERS, PictureEncoder

__all__ = [
    "ENCODERS",
    "NETWORKS",
    "UNET_CHOICES",
    "Denoiser",
    "EncoderConfig",
    "NetworkConfig",
    "PictureEncoder",
    "WindowSizes",
    "build_network",
]
