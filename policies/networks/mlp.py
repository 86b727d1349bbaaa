"""Residual MLP denoiser: the fastest network for low-dimensional observations."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from .config import UNET_CHOICES, NetworkConfig, WindowSizes
from .denoiser import Denoiser
from .levels import LevelEmbedding


class ResidualBlock(nn.Module):
    """Pre-norm residual block whose normalised input is scaled and shifted (FiLM)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.expand = nn.Linear(width, width)
        self.project = nn.Linear(width, width)

    def forward(self, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """Map x of shape (B, W), modulated by scale and shift of shape (B, W)."""
        return x + self.project(F.silu(self.expand(self.norm(x) * (1 + scale) + shift)))


class MLPDenoiser(Denoiser):
    """Residual MLP over the flattened action window.

    Observations enter additively at the input, levels by FiLM in each block; the embeddings of
    the H positions are concatenated, as in the Streaming Diffusion Policy, so H is fixed.

    Args:
        horizon: Window length H.
        action_dim: Action size D.
        observation_dim: Size of the flattened observation history C.
        width: Features per block.
        num_blocks: Number of residual blocks.
        level_dim: Sinusoidal features per position.
        max_angle: See `LevelEmbedding` [rad].
        jump: Whether the network is told how far one call moves the levels (a distilled student).
    """

    def __init__(
        self,
        horizon: int,
        action_dim: int,
        observation_dim: int,
        width: int = 512,
        num_blocks: int = 3,
        level_dim: int = 16,
        max_angle: float = 6.0,
        jump: bool = False,
    ) -> None:
        super().__init__()
        self.horizon, self.action_dim = horizon, action_dim
        self.level_embedding = LevelEmbedding(level_dim, max_angle)
        hidden = width // 8
        self.level_input = nn.Linear(horizon * level_dim, hidden)
        self.level_hidden = nn.Linear(hidden, hidden)
        # Without bias, so that jump 0 stays the same as no jump throughout training.
        self.jump_input = nn.Linear(level_dim, hidden, bias=False) if jump else None
        if self.jump_input is not None:
            # Starts silent, so a student begins as an exact copy of its teacher.
            nn.init.zeros_(self.jump_input.weight)
        # One shift of the input and one (scale, shift) per block and for the head.
        self.film = nn.Linear(hidden, width * (1 + 2 * (num_blocks + 1)))
        nn.init.zeros_(self.film.bias)
        self.action_input = nn.Linear(horizon * action_dim, width)
        self.observation_input = nn.Linear(observation_dim, width, bias=False)
        self.blocks = nn.ModuleList(ResidualBlock(width) for _ in range(num_blocks))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.head = nn.Linear(width, horizon * action_dim)

    @classmethod
    def build(cls, config: NetworkConfig, sizes: WindowSizes) -> MLPDenoiser:
        """Build it with new weights; see `Denoiser.build`."""
        config.refuse(*UNET_CHOICES, "options")
        return cls(
            sizes.horizon,
            sizes.action_dim,
            sizes.observation_dim,
            width=config.width,
            num_blocks=config.depth,
            max_angle=config.max_angle,
            jump=sizes.jump,
        )

    def embed_level(self, level: Tensor, jump: Tensor | None = None) -> Tensor:
        """Return the input shift and the FiLM of every block, shape (B, W * (3 + 2 * blocks))."""
        if level.shape[1] != self.horizon:
            raise ValueError(
                f"this network was built for a window of {self.horizon} steps, got {level.shape[1]}"
            )
        hidden = self.level_input(self.level_embedding(level).flatten(1))  # (b, w / 8)
        if jump is not None:
            if self.jump_input is None:
                raise ValueError("this network was built without jump conditioning (jump=False)")
            hidden = hidden + self.jump_input(self.level_embedding.jump(jump))
        return self.film(F.silu(self.level_hidden(F.silu(hidden))))

    def encode(self, observation: Tensor) -> Tensor:
        """Return the observation's share of the input layer, shape (B, W)."""
        return self.observation_input(observation)

    def denoise(
        self, x: Tensor, level_modulation: Tensor, observation_modulation: Tensor
    ) -> Tensor:
        """Predict from noisy actions `x`, shape (B, H, D); returns the same shape."""
        shift, *films = level_modulation.split(self.norm.normalized_shape[0], dim=-1)  # each (b, w)
        hidden = self.action_input(x.flatten(1)) + observation_modulation + shift  # (b, w)
        for index, block in enumerate(self.blocks):
            hidden = block(hidden, films[2 * index], films[2 * index + 1])
        hidden = self.norm(hidden) * (1 + films[-2]) + films[-1]
        return self.head(F.silu(hidden)).unflatten(1, (self.horizon, self.action_dim))  # (b, h, d)
