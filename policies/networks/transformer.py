"""Transformer denoiser with one token per action and modulation per token."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .config import UNET_CHOICES, NetworkConfig, WindowSizes
from .denoiser import Denoiser
from .levels import LevelEmbedding, LevelEncoder

# Slowest position feature [rad per control step]; windows are tens of steps long.
_SLOWEST_FREQUENCY = 0.01


def position_codes(length: int, dim: int, device: torch.device) -> Tensor:
    """Sinusoidal codes of the positions 0 to length - 1, shape (length, dim).

    A position is a control step after the window's start, so its code must not depend on how
    long the window is; an interpolated table of learned codes would stretch time instead.
    """
    exponents = torch.arange(dim // 2, device=device) / max(dim // 2 - 1, 1)
    frequencies = torch.exp(math.log(_SLOWEST_FREQUENCY) * exponents)
    angle = torch.arange(length, device=device)[:, None] * frequencies  # (length, dim / 2)
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


class TransformerBlock(nn.Module):
    """Pre-norm self-attention and MLP, each shifted, scaled and gated per token (adaLN-zero)."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.qkv = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)
        self.expand = nn.Linear(width, 4 * width)
        self.contract = nn.Linear(4 * width, width)

    def forward(self, x: Tensor, film: Tensor) -> Tensor:
        """Map tokens x of shape (B, H, W); `film` is (B, H, 6W)."""
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = film.chunk(6, dim=-1)  # each (b, h, w)
        x = x + gate * self._attend(self.norm(x) * (1 + scale) + shift)
        hidden = self.expand(self.norm(x) * (1 + mlp_scale) + mlp_shift)
        return x + mlp_gate * self.contract(F.gelu(hidden))

    def _attend(self, x: Tensor) -> Tensor:
        heads = self.qkv(x).unflatten(-1, (3, self.num_heads, -1))  # (b, h, 3, heads, w / heads)
        query, key, value = heads.transpose(1, 3).unbind(2)  # each (b, heads, h, w / heads)
        attended = F.scaled_dot_product_attention(query, key, value)  # (b, heads, h, w / heads)
        return self.project(attended.transpose(1, 2).flatten(2))  # (b, h, w)


class TransformerDenoiser(Denoiser):
    """Bidirectional transformer over the action window, for windows of any length.

    Every block is modulated per token by the level of that token plus the observation (DiT's
    adaLN-zero: all modulations start at zero, so each block starts as the identity). The level
    modulation also carries the position codes; without it, `denoise` treats the actions as a set.

    Source: Peebles & Xie, Scalable Diffusion Models with Transformers (2023).

    Args:
        action_dim: Action size D.
        observation_dim: Size of the flattened observation history C.
        width: Features per token W, even and a multiple of `num_heads`.
        num_layers: Number of blocks.
        num_heads: Attention heads per block.
        level_dim: Sinusoidal features per position, and size of the level embedding.
        max_angle: See `LevelEmbedding` [rad].
        jump: Whether the network is told how far one call moves the levels (a distilled student).

    Raises:
        ValueError: If `width` is odd or not a multiple of `num_heads`.
    """

    def __init__(
        self,
        action_dim: int,
        observation_dim: int,
        width: int = 128,
        num_layers: int = 4,
        num_heads: int = 4,
        level_dim: int = 64,
        max_angle: float = 6.0,
        jump: bool = False,
    ) -> None:
        super().__init__()
        if width < 2 or width % 2 or num_heads < 1 or width % num_heads:
            raise ValueError(
                f"width must be even and a multiple of num_heads, got width {width} and "
                f"num_heads {num_heads}"
            )
        self.width = width
        self.level_encoder = LevelEncoder(LevelEmbedding(level_dim, max_angle), None, jump)
        # One shift of the input, six modulations per block, shift and scale for the head.
        num_films = width * (1 + 6 * num_layers + 2)
        self.level_film = nn.Linear(level_dim, num_films)
        self.observation_input = nn.Linear(observation_dim, width)
        self.observation_film = nn.Linear(width, num_films, bias=False)
        for parameter in (*self.level_film.parameters(), self.observation_film.weight):
            nn.init.zeros_(parameter)
        self.action_input = nn.Linear(action_dim, width)
        self.blocks = nn.ModuleList(TransformerBlock(width, num_heads) for _ in range(num_layers))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.head = nn.Linear(width, action_dim)

    @classmethod
    def build(cls, config: NetworkConfig, sizes: WindowSizes) -> TransformerDenoiser:
        """Build it with new weights; see `Denoiser.build`."""
        config.refuse(*UNET_CHOICES, "options")
        return cls(
            sizes.action_dim,
            sizes.observation_dim,
            width=config.width,
            num_layers=config.depth,
            max_angle=config.max_angle,
            jump=sizes.jump,
        )

    def embed_level(self, level: Tensor, jump: Tensor | None = None) -> Tensor:
        """Return the level term of every modulation and the positions, shape (B, H, F)."""
        film = self.level_film(F.mish(self.level_encoder(level, jump)))  # (b, h, f)
        positions = position_codes(level.shape[1], self.width, level.device)
        return film + F.pad(positions, (0, film.shape[-1] - self.width))

    def encode(self, observation: Tensor) -> Tensor:
        """Return the observation term of every modulation, shape (B, 1, F)."""
        return self.observation_film(F.mish(self.observation_input(observation))).unsqueeze(1)

    def denoise(
        self, x: Tensor, level_modulation: Tensor, observation_modulation: Tensor
    ) -> Tensor:
        """Predict from noisy actions `x`, shape (B, H, D); returns the same shape."""
        width = self.width
        sizes = [width, *(6 * width for _ in self.blocks), width, width]
        films = (level_modulation + observation_modulation).split(sizes, dim=-1)
        hidden = self.action_input(x) + films[0]  # (b, h, w)
        for block, film in zip(self.blocks, films[1:-2], strict=True):
            hidden = block(hidden, film)
        return self.head(self.norm(hidden) * (1 + films[-1]) + films[-2])
