"""1-D convolutional U-Net denoiser of Diffusion Policy and Streaming Diffusion Policy."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .config import NetworkConfig, WindowSizes
from .denoiser import Denoiser
from .levels import LevelEmbedding, LevelEncoder, TimestepEmbedding

LEVEL_EMBEDDINGS = ("concatenated", "per_position")
LEVEL_FEATURES = ("continuous", "timesteps")
_NUM_GROUPS = 8
_LEVEL_DIM = 64


class BlockSizes(NamedTuple):
    """Kernel of the convolutions of a residual block, odd, and groups of its normalisations."""

    kernel_size: int = 5
    num_groups: int = _NUM_GROUPS


_BLOCK = BlockSizes()


class ConvBlock(nn.Sequential):
    """Convolution, group normalisation and Mish: (B, C_in, T) to (B, C, T)."""

    def __init__(self, num_in: int, num_out: int, sizes: BlockSizes) -> None:
        super().__init__(
            nn.Conv1d(num_in, num_out, sizes.kernel_size, padding=sizes.kernel_size // 2),
            nn.GroupNorm(sizes.num_groups, num_out),
            nn.Mish(),
        )


class ResidualBlock(nn.Module):
    """Two convolutions with FiLM in between, and a shortcut around them."""

    def __init__(self, num_in: int, num_out: int, sizes: BlockSizes) -> None:
        super().__init__()
        self.first = ConvBlock(num_in, num_out, sizes)
        self.second = ConvBlock(num_out, num_out, sizes)
        self.shortcut = nn.Conv1d(num_in, num_out, 1) if num_in != num_out else nn.Identity()

    def forward(self, x: Tensor, film: Tensor) -> Tensor:
        """Map x of shape (B, C_in, T) to (B, C, T); `film` is (B, 2C, T) or (B, 2C, 1)."""
        scale, bias = film.chunk(2, dim=1)  # each (b, c, t or 1)
        # The scale is raw, not 1 + scale, as in the reference network.
        return self.second(scale * self.first(x) + bias) + self.shortcut(x)


class Stage(nn.Module):
    """Two residual blocks at one resolution."""

    def __init__(self, num_in: int, num_out: int, sizes: BlockSizes) -> None:
        super().__init__()
        self.first = ResidualBlock(num_in, num_out, sizes)
        self.second = ResidualBlock(num_out, num_out, sizes)

    def forward(self, x: Tensor, film: Tensor) -> Tensor:
        """Map x of shape (B, C_in, T) to (B, C, T); `film` is (B, 4C, T) or (B, 4C, 1)."""
        first, second = film.chunk(2, dim=1)
        return self.second(self.first(x, first), second)


def _film_sizes(dims: tuple[int, ...]) -> list[list[int]]:
    """FiLM features of the stages at each resolution: down, middle (at the last), up."""
    sizes = [[4 * dim] for dim in dims]
    sizes[-1].append(4 * dims[-1])
    for resolution, dim in enumerate(dims[:-1], start=1):
        sizes[resolution].append(4 * dim)
    return sizes


class UNet1DDenoiser(Denoiser):
    """1-D U-Net over the action window with FiLM in every residual block.

    The paper's FiLM, ``Linear(Mish(concat(level, observation)))``, is a sum of a level term and
    an observation term, as Mish acts on each feature by itself. Each term is computed for all
    blocks together, by `embed_level` and `encode`; `denoise` only adds them.

    Source: Chi et al., Diffusion Policy (2023); Hoeg et al., Streaming Diffusion Policy (2024).

    Args:
        horizon: Window length H. Inside the network the window is continued on the right, by zeros
            at its last noise level, to a multiple of 2 ** (len(dims) - 1), and cut again.
        action_dim: Action size D.
        observation_dim: Size of the flattened observation history C.
        dims: Channels per resolution, multiples of the groups, the first one of 8 as well; the
            window halves from one to the next.
        level_features: Sinusoidal features per position, as many as the size of the level
            embedding; None are 64.
        level_embedding: ``"concatenated"``: the H embeddings become one vector that modulates
            the whole window, so H is fixed (the paper's). ``"per_position"``: each position is
            modulated by its own level, averaged at coarser resolutions, for any H;
            with equal levels this is the scalar conditioning of Diffusion Policy.
        jump: Whether the network is told how far one call moves the levels (a distilled student).
        block: Sizes of the residual blocks; the head has 8 groups whatever they have.

    Raises:
        ValueError: If a size or `level_embedding` is not as described above.
    """

    def __init__(
        self,
        horizon: int,
        action_dim: int,
        observation_dim: int,
        dims: tuple[int, ...] = (64, 128, 256),
        level_features: LevelEmbedding | None = None,
        level_embedding: str = "concatenated",
        jump: bool = False,
        block: BlockSizes = _BLOCK,
    ) -> None:
        super().__init__()
        _check_sizes(tuple(dims), block)
        _check_choice("level_embedding", level_embedding, LEVEL_EMBEDDINGS)
        self.horizon, self.dims = horizon, tuple(dims)
        self.per_position = level_embedding == "per_position"
        self._check_horizon(horizon)
        pairs = list(pairwise(dims))

        features = level_features or LevelEmbedding(_LEVEL_DIM)
        self.level_dim = level_dim = features.dim
        joined = None if self.per_position else horizon
        self.level_encoder = LevelEncoder(features, joined, jump)
        self.film_sizes = _film_sizes(self.dims)
        num_films = [sum(sizes) for sizes in self.film_sizes]
        self.level_films = nn.ModuleList(nn.Linear(level_dim, num) for num in num_films)
        self.observation_film = nn.Linear(observation_dim, sum(num_films), bias=False)
        # Initialised like the one layer on both inputs that these layers stand for.
        bound = (level_dim + observation_dim) ** -0.5
        for weight in (*self.level_films.parameters(), self.observation_film.weight):
            nn.init.uniform_(weight, -bound, bound)

        self.down = nn.ModuleList(
            [Stage(action_dim, dims[0], block), *(Stage(a, b, block) for a, b in pairs)]
        )
        self.downsample = nn.ModuleList(nn.Conv1d(a, a, 3, stride=2, padding=1) for a, _ in pairs)
        self.middle = Stage(dims[-1], dims[-1], block)
        self.up = nn.ModuleList(Stage(2 * b, a, block) for a, b in pairs)
        self.upsample = nn.ModuleList(
            nn.ConvTranspose1d(a, a, 4, stride=2, padding=1) for a, _ in pairs
        )
        self.head = nn.Sequential(
            ConvBlock(dims[0], dims[0], BlockSizes(block.kernel_size)),
            nn.Conv1d(dims[0], action_dim, 1),
        )

    @classmethod
    def build(cls, config: NetworkConfig, sizes: WindowSizes) -> UNet1DDenoiser:
        """Build it with new weights; see `Denoiser.build`."""
        config.refuse("options")
        kind = config.level_features or LEVEL_FEATURES[0]
        _check_choice("level_features", kind, LEVEL_FEATURES)
        level_dim = config.level_dim or _LEVEL_DIM
        if kind == "timesteps":
            features = TimestepEmbedding(level_dim, sizes.num_levels)
        else:
            features = LevelEmbedding(level_dim, config.max_angle)
        return cls(
            sizes.horizon,
            sizes.action_dim,
            sizes.observation_dim,
            dims=config.dims or tuple(config.width * 2**level for level in range(config.depth)),
            level_features=features,
            level_embedding=config.level_embedding or LEVEL_EMBEDDINGS[0],
            jump=sizes.jump,
            block=BlockSizes(
                config.kernel_size or _BLOCK.kernel_size, config.num_groups or _NUM_GROUPS
            ),
        )

    def embed_level(self, level: Tensor, jump: Tensor | None = None) -> Tensor:
        """Return the level term of every FiLM, resolutions joined, shape (B, ...)."""
        self._check_horizon(level.shape[1])
        if self.per_position and (missing := self._missing(level.shape[1])):
            level = torch.cat([level, level[:, -1:].expand(-1, missing)], dim=1)
        embedding = self.level_encoder(level, jump)  # (b, 1 or padded h, e)
        films = []
        for resolution, film in enumerate(self.level_films):
            if resolution and self.per_position:
                embedding = embedding.unflatten(1, (-1, 2)).mean(dim=2)  # half as many positions
            films.append(film(F.mish(embedding)).transpose(1, 2).flatten(1))
        return torch.cat(films, dim=1)

    def encode(self, observation: Tensor) -> Tensor:
        """Return the observation term of every FiLM, shape (B, F)."""
        # Mish is monotone above -1.19: observations scaled to [-1, 1] lose nothing.
        return self.observation_film(F.mish(observation))

    def denoise(
        self, x: Tensor, level_modulation: Tensor, observation_modulation: Tensor
    ) -> Tensor:
        """Predict from noisy actions `x`, shape (B, H, D); returns the same shape."""
        horizon = x.shape[1]
        self._check_horizon(horizon)
        x = F.pad(x.transpose(1, 2), (0, self._missing(horizon)))  # (b, d, padded h)
        films = self._films(level_modulation, observation_modulation, x.shape[2])
        hidden = self.down[0](x, films[0][0])  # (b, c, padded h)
        skips = []
        for index, downsample in enumerate(self.downsample):
            hidden = self.down[index + 1](downsample(hidden), films[index + 1][0])  # (b, c, t / 2)
            skips.append(hidden)
        hidden = self.middle(hidden, films[-1][1])
        # The first resolution has no skip connection, as in the reference network.
        for index in reversed(range(len(skips))):
            hidden = self.up[index](torch.cat([hidden, skips[index]], dim=1), films[index + 1][-1])
            hidden = self.upsample[index](hidden)  # (b, c, 2 t)
        return self.head(hidden).transpose(1, 2)[:, :horizon]  # (b, h, d)

    def _films(self, level: Tensor, observation: Tensor, length: int) -> list[tuple[Tensor, ...]]:
        """Add both terms; per resolution one film (B, 4C, T or 1) per stage."""
        totals = [sum(sizes) for sizes in self.film_sizes]
        lengths = [length >> index if self.per_position else 1 for index in range(len(totals))]
        level_sizes = [total * steps for total, steps in zip(totals, lengths, strict=True)]
        level_terms = level.split(level_sizes, dim=1)
        observation_terms = observation.split(totals, dim=1)
        films = []
        for index, sizes in enumerate(self.film_sizes):
            level_term = level_terms[index].unflatten(1, (totals[index], lengths[index]))
            film = level_term + observation_terms[index].unsqueeze(-1)
            films.append(film.split(sizes, dim=1))
        return films

    def _missing(self, length: int) -> int:
        """Positions between a window and the next length that halves at every resolution."""
        return -length % 2 ** (len(self.dims) - 1)

    def _check_horizon(self, length: int) -> None:
        if length < 1:
            raise ValueError(f"a window needs at least 1 step, got {length}")
        if not self.per_position and length != self.horizon:
            raise ValueError(
                f"this network was built for a window of {self.horizon} steps, got {length}; "
                "level_embedding='per_position' accepts other lengths"
            )


def _check_sizes(dims: tuple[int, ...], block: BlockSizes) -> None:
    """Raise ValueError for sizes of no U-Net."""
    kernel_size, num_groups = block
    if num_groups < 1 or not dims or any(dim < 1 or dim % num_groups for dim in dims):
        raise ValueError(f"dims must be positive multiples of {num_groups}, got {dims}")
    if dims[0] % _NUM_GROUPS:
        raise ValueError(f"dims must begin with a multiple of {_NUM_GROUPS}, got {dims}")
    if kernel_size < 1 or kernel_size % 2 == 0:
        raise ValueError(f"kernel_size must be odd, got {kernel_size}")


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {choices}, got {value!r}")
