"""Vision transformers (Dosovitskiy et al. 2021) with the weight names that OpenVLA stores.

DINOv2 with registers (Oquab et al. 2023, Darcet et al. 2023) has a class token, registers and layer
scale; SigLIP (Zhai et al. 2023) has an attention pool instead. Both give the patches after their
second-to-last block, without its normalisation: the last block, the final norm and the pool are
stored and never computed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

EPSILON = 1e-6  # of every LayerNorm


@dataclass(frozen=True)
class TowerSizes:
    """Sizes of a vision transformer, and what its pictures are normalised by.

    Attributes:
        width: Width.
        layers: Blocks, the last one included.
        heads: Attention heads.
        hidden: Width inside of the blocks' MLPs.
        patch_size: Side of a patch [px].
        registers: Register tokens; with any there is a class token too, and layer scale.
        mean: What pictures in [0, 1] are shifted by, per colour.
        std: What they are divided by.
    """

    width: int
    layers: int
    heads: int
    hidden: int
    patch_size: int
    registers: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __post_init__(self) -> None:
        """Reject sizes without features."""
        if self.layers < 2:
            raise ValueError(f"a vision tower needs at least 2 blocks, got {self.layers}")
        if self.width % self.heads:
            raise ValueError(
                f"a vision tower's width must be a multiple of its {self.heads} heads, got "
                f"{self.width}"
            )


class Tower(nn.Module):
    """Pictures to patch features.

    Args:
        sizes: Sizes.
        image_size: Side of a picture [px].
    """

    _mean: Tensor
    _std: Tensor

    def __init__(self, sizes: TowerSizes, image_size: int) -> None:
        super().__init__()
        width, patch = sizes.width, sizes.patch_size
        self.num_prefix = 1 + sizes.registers if sizes.registers else 0
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, patch, stride=patch)})
        self.pos_embed = nn.Parameter(torch.zeros(1, (image_size // patch) ** 2, width))
        if sizes.registers:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
            self.reg_token = nn.Parameter(torch.zeros(1, sizes.registers, width))
        else:
            self.add_module("attn_pool", _Pool(sizes))
        self.blocks = nn.ModuleList(_Block(sizes) for _ in range(sizes.layers))
        self.norm = nn.LayerNorm(width, EPSILON)
        for name, values in (("_mean", sizes.mean), ("_std", sizes.std)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Features (B, patches, width) of pictures (B, 3, H, W) in [0, 1]."""
        mean, std = self._mean.to(images.dtype), self._std.to(images.dtype)
        patches = self.patch_embed["proj"]((images - mean) / std).flatten(2).transpose(1, 2)
        states = patches + self.pos_embed
        if self.num_prefix:
            prefix = torch.cat([self.cls_token, self.reg_token], dim=1)
            states = torch.cat([prefix.expand(states.shape[0], -1, -1), states], dim=1)
        for block in self.blocks[:-1]:
            states = block(states)
        return states[:, self.num_prefix :]


class _Scale(nn.Module):
    """Layer scale (Touvron et al. 2021)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale_factor = nn.Parameter(torch.full((width,), 1e-5))

    def forward(self, states: Tensor) -> Tensor:
        return states * self.scale_factor


class _Mlp(nn.Module):
    def __init__(self, sizes: TowerSizes) -> None:
        super().__init__()
        self.fc1 = nn.Linear(sizes.width, sizes.hidden)
        self.fc2 = nn.Linear(sizes.hidden, sizes.width)

    def forward(self, states: Tensor) -> Tensor:
        return self.fc2(functional.gelu(self.fc1(states)))


class _Attention(nn.Module):
    def __init__(self, sizes: TowerSizes) -> None:
        super().__init__()
        self.heads = sizes.heads
        self.qkv = nn.Linear(sizes.width, 3 * sizes.width)
        self.proj = nn.Linear(sizes.width, sizes.width)

    def forward(self, states: Tensor) -> Tensor:
        parts = self.qkv(states).unflatten(-1, (3, self.heads, -1))  # (b, n, 3, h, d)
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)  # (b, h, n, d)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        return self.proj(mixed.transpose(1, 2).flatten(2))


class _Block(nn.Module):
    def __init__(self, sizes: TowerSizes) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(sizes.width, EPSILON)
        self.attn = _Attention(sizes)
        self.ls1 = _Scale(sizes.width) if sizes.registers else nn.Identity()
        self.norm2 = nn.LayerNorm(sizes.width, EPSILON)
        self.mlp = _Mlp(sizes)
        self.ls2 = _Scale(sizes.width) if sizes.registers else nn.Identity()

    def forward(self, states: Tensor) -> Tensor:
        states = states + self.ls1(self.attn(self.norm1(states)))
        return states + self.ls2(self.mlp(self.norm2(states)))


class _Pool(nn.Module):
    """Weights of SigLIP's attention pool, which is not computed."""

    def __init__(self, sizes: TowerSizes) -> None:
        super().__init__()
        self.register_parameter("latent", nn.Parameter(torch.zeros(1, 1, sizes.width)))
        self.add_module("q", nn.Linear(sizes.width, sizes.width))
        self.add_module("kv", nn.Linear(sizes.width, 2 * sizes.width))
        self.proj = nn.Linear(sizes.width, sizes.width)
        self.norm = nn.LayerNorm(sizes.width, EPSILON)
        self.mlp = _Mlp(sizes)
