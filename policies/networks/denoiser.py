"""The call signature that every denoising network follows."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from .config import NetworkConfig, WindowSizes


class Denoiser(nn.Module, ABC):
    """A network that looks at a noisy action window and predicts noise, action or velocity.

    The call is split in three, because the parts run at different rates when deployed: the
    levels of a deterministic ladder never change (a table), the observation changes once per
    control step, and only `denoise` runs once per network call.

    To add one: a subclass in a file of its own, and its line in `build.NETWORKS`; or, in a package
    of one's own, an entry point of the group ``hotloop.networks``, or nothing but
    ``network.kind=module:Name``.
    """

    @classmethod
    @abstractmethod
    def build(cls, config: NetworkConfig, sizes: WindowSizes) -> Denoiser:
        """Build the network with new weights.

        Raises:
            ValueError: If a size or a choice in `config` does not fit it.
        """

    @abstractmethod
    def embed_level(self, level: Tensor, jump: Tensor | None = None) -> Tensor:
        """Turn noise levels into the modulation of `denoise`.

        Args:
            level: Noise level per position, 0 clean to 1 pure noise, shape (B, H).
            jump: How far one call moves the levels, shape (B,); 0 or None is an infinitesimal
                step, as in ordinary diffusion training.

        Returns:
            Level modulation of shape (B, ...).
        """

    @abstractmethod
    def encode(self, observation: Tensor) -> Tensor:
        """Turn a normalised, flattened observation history (B, C) into a modulation (B, ...)."""

    @abstractmethod
    def denoise(
        self, x: Tensor, level_modulation: Tensor, observation_modulation: Tensor
    ) -> Tensor:
        """Predict from noisy actions `x`, shape (B, H, D); returns the same shape."""

    def forward(
        self, x: Tensor, level: Tensor, observation: Tensor, jump: Tensor | None = None
    ) -> Tensor:
        """Predict from noisy actions (B, H, D) at levels (B, H) given observations (B, C)."""
        return self.denoise(x, self.embed_level(level, jump), self.encode(observation))
