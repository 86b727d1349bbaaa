"""The network of ACT with its normalisers: a frame in physical units to a normalised chunk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from ...decoding.interface import is_picture
from ..networks.folded_resnet import NUM_CHANNELS, STRIDE, Backbone
from ..normalizer import Normalizer
from .config import ActConfig
from .transformer import DecoderLayer, EncoderLayer, picture_positions


class ActModel(nn.Module):
    """Action chunking with transformers, as it acts.

    Zhao et al. 2023, "Learning Fine-Grained Bimanual Manipulation with Low-Cost Hardware", figure
    4, without what only training needs: the style variable is 0, its token therefore a constant,
    and the encoder of styles is absent.

    Args:
        config: Sizes and choices.
        observation_shapes: Shape of one frame per key; the order of keys is part of the model.
        action_dim: Action size D.

    Raises:
        ValueError: If nothing is observed.
    """

    grid_positions: Tensor

    def __init__(
        self,
        config: ActConfig,
        observation_shapes: Mapping[str, tuple[int, ...]],
        action_dim: int,
    ) -> None:
        super().__init__()
        if not observation_shapes:
            raise ValueError("an ACT policy observes something, got no observation keys")
        self.config, self.observation_shapes = config, dict(observation_shapes)
        self.action_dim = action_dim
        self.cameras = {
            key: shape for key, shape in observation_shapes.items() if is_picture(shape)
        }
        self.vectors = {
            key: int(torch.Size(shape).numel())
            for key, shape in observation_shapes.items()
            if key not in self.cameras
        }
        self.observation_normalizer = Normalizer(sum(self.vectors.values()))
        self.picture_normalizers = nn.ModuleList(Normalizer(3) for _ in self.cameras)
        # From the network's units to physical ones: what never varied has scale 0.
        self.action_scaling = Normalizer(action_dim)
        dim = config.dim
        self.style_token = nn.Parameter(torch.zeros(dim))
        self.vector_inputs = nn.ModuleList(nn.Linear(n, dim) for n in self.vectors.values())
        self.token_positions = nn.Parameter(torch.zeros(1 + len(self.vectors), dim))
        self.backbone = Backbone() if self.cameras else None
        self.picture_input = nn.Conv2d(NUM_CHANNELS, dim, 1) if self.cameras else None
        grids = [
            picture_positions(-(-height // STRIDE), -(-width // STRIDE), dim)
            for height, width, _ in self.cameras.values()
        ]
        grid = torch.cat(grids) if grids else torch.zeros(0, dim)
        self.register_buffer("grid_positions", grid, persistent=False)
        self.encoder = nn.ModuleList(EncoderLayer(config) for _ in range(config.num_encoder_layers))
        self.encoder_norm = nn.LayerNorm(dim) if config.pre_norm else nn.Identity()
        self.queries = nn.Parameter(torch.zeros(config.chunk_size, dim))
        self.decoder = nn.ModuleList(DecoderLayer(config) for _ in range(config.num_decoder_layers))
        self.decoder_norm = nn.LayerNorm(dim)
        self.action_head = nn.Linear(dim, action_dim)

    @property
    def num_bytes(self) -> int:
        """Bytes P of one frame of all cameras."""
        return sum(int(torch.Size(shape).numel()) for shape in self.cameras.values())

    def forward(self, observation: Tensor | None = None, pictures: Tensor | None = None) -> Tensor:
        """Turn a frame into a chunk of actions, normalised, shape (R, C, D).

        Args:
            observation: Vectors side by side in physical units, shape (R, 1, V), if there are any.
            pictures: Frame of all cameras, shape (R, P), uint8, if there are any.
        """
        tokens = self._tokens(observation, pictures)  # (r, l, w)
        positions = torch.cat([self.token_positions, self.grid_positions])  # (l, w)
        for layer in self.encoder:
            tokens = layer(tokens, positions)
        memory = self.encoder_norm(tokens)
        placed = memory + positions
        actions = torch.zeros_like(self.queries)[None]  # (1, c, w)
        for layer in self.decoder:
            actions = layer(actions, self.queries, memory, placed)
        return self.action_head(self.decoder_norm(actions))

    def _tokens(self, observation: Tensor | None, pictures: Tensor | None) -> Tensor:
        """Style, vectors and cells of the pictures as tokens, shape (R, L, W)."""
        given = observation if observation is not None else pictures
        assert given is not None
        tokens = [self.style_token.expand(given.shape[0], 1, -1)]
        if observation is not None:
            vectors = self.observation_normalizer(observation).split([*self.vectors.values()], -1)
            tokens += [embed(x) for embed, x in zip(self.vector_inputs, vectors, strict=True)]
        if pictures is not None:
            tokens += self._cells(pictures)
        return torch.cat(tokens, dim=1)

    def _cells(self, pictures: Tensor) -> list[Tensor]:
        """Tokens (R, h * w, W) of each camera's last feature map."""
        assert self.backbone is not None and self.picture_input is not None
        begin, tokens = 0, []
        for normalizer, (height, width, _) in zip(
            self.picture_normalizers, self.cameras.values(), strict=True
        ):
            end = begin + height * width * 3
            frame = pictures[:, begin:end].unflatten(1, (height, width, 3))
            seen = normalizer(frame.to(self.queries.dtype)).permute(0, 3, 1, 2)
            cells = self.picture_input(self.backbone(seen))  # (r, w, h / 32, w / 32)
            tokens.append(cells.flatten(2).transpose(1, 2))
            begin = end
        return tokens

    def config_dict(self) -> dict[str, Any]:
        """The configuration as JSON-able values."""
        return asdict(self.config)
