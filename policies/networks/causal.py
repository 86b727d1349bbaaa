"""Causal transformer with a key-value cache, for drafting one token after another."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Keys (B, heads, W / heads, L), transposed as they are used, and values (B, heads, L, W / heads).
LayerCache = tuple[Tensor, Tensor]
Cache = list[LayerCache]


class CausalBlock(nn.Module):
    """Pre-norm self-attention with one fused projection, then an MLP."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads, self.head_dim = num_heads, width // num_heads
        self.scale = self.head_dim**-0.5
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)
        self.mlp_norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, 2 * width)
        self.contract = nn.Linear(2 * width, width)

    def forward(self, x: Tensor, bias: Tensor) -> tuple[Tensor, LayerCache]:
        """Map tokens x (B * L, W); `bias` is (heads, L, L), minus infinity where none may look."""
        # Matrices instead of batches of them: runtimes fuse their products with the bias.
        heads = self.qkv(self.norm(x)).view(-1, bias.shape[1], 3, self.num_heads, self.head_dim)
        query, key, value = heads.permute(2, 0, 3, 1, 4).unbind(0)  # each (b, heads, l, w / heads)
        key = key.transpose(2, 3)  # (b, heads, w / heads, l)
        weights = (query @ key * self.scale + bias).softmax(dim=-1)  # (b, heads, l, l)
        x = x + self.project((weights @ value).transpose(1, 2).flatten(2).flatten(0, 1))
        return self._transform(x), (key, value)

    def decode(self, x: Tensor, bias: Tensor, cache: LayerCache) -> tuple[Tensor, LayerCache]:
        """Map one more token x (B, W) that sees L cached ones; `bias` is (heads, 1, L + 1)."""
        heads = self.qkv(self.norm(x)).unflatten(-1, (3, self.num_heads, -1))
        query, key, value = heads.unbind(1)  # each (b, heads, w / heads)
        key = torch.cat([cache[0], key.unsqueeze(3)], dim=3)  # (b, heads, w / heads, l + 1)
        value = torch.cat([cache[1], value.unsqueeze(2)], dim=2)  # (b, heads, l + 1, w / heads)
        weights = (query.unsqueeze(2) @ key * self.scale + bias).softmax(dim=-1)
        x = x + self.project((weights @ value).flatten(1))
        return self._transform(x), (key, value)

    def _transform(self, x: Tensor) -> Tensor:
        return x + self.contract(F.relu(self.expand(self.mlp_norm(x))))


class CausalTransformer(nn.Module):
    """Predicts from each token and the ones before it.

    Positions are relative: attention is biased by a learned value per head and distance, so a
    sequence means the same wherever a window of it begins.

    Args:
        token_dim: Size of a token.
        output_dim: Size of a prediction.
        max_length: Longest sequence.
        width: Features per token W, a multiple of `num_heads`.
        num_layers: Number of blocks.
        num_heads: Attention heads.
    """

    distance: Tensor

    def __init__(
        self,
        token_dim: int,
        output_dim: int,
        max_length: int,
        width: int = 128,
        num_layers: int = 2,
        num_heads: int = 4,
    ) -> None:
        super().__init__()
        if num_heads < 1 or width % num_heads:
            raise ValueError(
                f"width must be a multiple of num_heads, got width {width} and num_heads "
                f"{num_heads}"
            )
        self.max_length = max_length
        self.input = nn.Linear(token_dim, width)
        self.blocks = nn.ModuleList(CausalBlock(width, num_heads) for _ in range(num_layers))
        self.distance_bias = nn.Parameter(torch.zeros(num_heads, max_length))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, output_dim)
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)
        index = torch.arange(max_length)
        self.register_buffer("distance", index[:, None] - index, persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Predictions of all tokens, shape (B, L, output_dim)."""
        return self.prefill(tokens)[0]

    def prefill(self, tokens: Tensor) -> tuple[Tensor, Cache]:
        """Predict from all of the tokens (B, L, token_dim), and keep what later ones will need.

        Returns:
            Predictions (B, L, output_dim) and the cache.
        """
        length = tokens.shape[1]
        self._check_length(length)
        distance = self.distance[:length, :length]  # (l, l)
        bias = self.distance_bias[:, distance.clamp(min=0)].masked_fill(distance < 0, -torch.inf)
        x, cache = self.input(tokens.flatten(0, 1)), []  # (b * l, w)
        for block in self.blocks:
            x, layer = block(x, bias)
            cache.append(layer)
        return self.head(self.norm(x)).unflatten(0, (-1, length)), cache

    def decode(self, token: Tensor, cache: Cache) -> tuple[Tensor, Cache]:
        """Predict from one token (B, token_dim) that follows the cached ones.

        Returns:
            Prediction (B, output_dim) and the cache with the token in it.
        """
        past = cache[0][1].shape[2]
        self._check_length(past + 1)
        # The oldest cached token is the farthest away.
        bias = self.distance_bias[:, None, : past + 1].flip(2)
        x, extended = self.input(token), []
        for block, layer in zip(self.blocks, cache, strict=True):
            assert isinstance(block, CausalBlock)
            x, layer = block.decode(x, bias, layer)
            extended.append(layer)
        return self.head(self.norm(x)), extended

    def _check_length(self, length: int) -> None:
        if length > self.max_length:
            raise ValueError(
                f"this network was built for sequences of {self.max_length} tokens, got {length}"
            )
