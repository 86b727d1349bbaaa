"""Denoising networks behind one call signature."""

from .build import NetworkConfig, build_network
from .denoiser import Denoiser

__all__ = ["Denoiser", "NetworkConfig", "build_network"]
