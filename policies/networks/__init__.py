"""Denoising networks behind one call signature."""

from .build import NETWORKS, build_network
from .config import NetworkConfig, WindowSizes
from .denoiser import Denoiser

__all__ = ["NETWORKS", "Denoiser", "NetworkConfig", "WindowSizes", "build_network"]
