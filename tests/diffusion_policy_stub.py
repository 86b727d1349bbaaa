"""Diffusion Policy's low-dimensional U-Net policy by its own names of modules and attributes.

Written after `diffusion_policy/model/diffusion/conditional_unet1d.py` (real-stanford, 2023), whose
names are the keys of its checkpoints, and `policy/diffusion_unet_lowdim_policy.py`.
"""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn


class SinusoidalPosEmb(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        half = self.dim // 2
        rate = torch.exp(torch.arange(half) * -(torch.log(torch.tensor(10000.0)) / (half - 1)))
        angle = x[:, None] * rate[None]
        return torch.cat((angle.sin(), angle.cos()), dim=-1)


class Conv1dBlock(nn.Module):
    def __init__(self, before: int, after: int, kernel: int, groups: int = 8) -> None:
        super().__init__()
        convolution = nn.Conv1d(before, after, kernel, padding=kernel // 2)
        self.block = nn.Sequential(convolution, nn.GroupNorm(groups, after), nn.Mish())

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)


class ConditionalResidualBlock1D(nn.Module):
    def __init__(self, before: int, after: int, cond: int, kernel: int, groups: int, scale: bool):
        super().__init__()
        self.blocks = nn.ModuleList(
            Conv1dBlock(size, after, kernel, groups) for size in (before, after)
        )
        self.scale = scale
        self.cond_encoder = nn.Sequential(nn.Mish(), nn.Linear(cond, after * (1 + scale)))
        self.residual_conv = nn.Conv1d(before, after, 1) if before != after else nn.Identity()

    def forward(self, x: Tensor, cond: Tensor) -> Tensor:
        out, embed = self.blocks[0](x), self.cond_encoder(cond)[..., None]
        if self.scale:
            scale, bias = embed.chunk(2, dim=1)
            out = scale * out + bias
        else:
            out = out + embed
        return self.blocks[1](out) + self.residual_conv(x)


class Downsample1d(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(dim, dim, 3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class Upsample1d(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose1d(dim, dim, 4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class ConditionalUnet1D(nn.Module):
    def __init__(
        self,
        size: int,
        cond: int,
        embed: int,
        dims: list[int],
        kernel: int,
        groups: int,
        scale: bool,
    ) -> None:
        super().__init__()
        all_dims, common = [size, *dims], (cond + embed, kernel, groups, scale)
        block = ConditionalResidualBlock1D
        self.diffusion_step_encoder = nn.Sequential(
            SinusoidalPosEmb(embed),
            nn.Linear(embed, embed * 4),
            nn.Mish(),
            nn.Linear(embed * 4, embed),
        )
        pairs = list(pairwise(all_dims))
        middle = all_dims[-1]
        self.mid_modules = nn.ModuleList(block(middle, middle, *common) for _ in range(2))
        self.down_modules, self.up_modules = nn.ModuleList(), nn.ModuleList()
        for index, (before, after) in enumerate(pairs):
            last = index >= len(pairs) - 1
            parts = [block(before, after, *common), block(after, after, *common)]
            self.down_modules.append(
                nn.ModuleList([*parts, nn.Identity() if last else Downsample1d(after)])
            )
        for before, after in reversed(pairs[1:]):
            parts = [block(after * 2, before, *common), block(before, before, *common)]
            self.up_modules.append(nn.ModuleList([*parts, Upsample1d(before)]))
        self.final_conv = nn.Sequential(
            Conv1dBlock(dims[0], dims[0], kernel), nn.Conv1d(dims[0], size, 1)
        )

    def forward(self, sample: Tensor, timestep: Tensor, global_cond: Tensor) -> Tensor:
        x, skips = sample.mT, []
        cond = torch.cat([self.diffusion_step_encoder(timestep), global_cond], dim=-1)
        for first, second, downsample in self.down_modules:  # pyright: ignore
            x = second(first(x, cond), cond)
            skips.append(x)
            x = downsample(x)
        for part in self.mid_modules:
            x = part(x, cond)
        for first, second, upsample in self.up_modules:  # pyright: ignore
            x = torch.cat((x, skips.pop()), dim=1)
            x = upsample(second(first(x, cond), cond))
        return self.final_conv(x).mT


class DictOfTensorMixin(nn.Module):
    """Their normaliser: a tree of parameters."""

    def __init__(self, fields: dict[str, tuple[Tensor, Tensor]]) -> None:
        super().__init__()
        self.params_dict = nn.ParameterDict()
        for name, (low, high) in fields.items():
            constant = high - low < 1e-4
            scale = 2 / torch.where(constant, 2.0, high - low)
            offset = torch.where(constant, -low, -1 - scale * low)
            tree = {"scale": scale, "offset": offset, "input_stats": {"min": low, "max": high}}
            self.params_dict[name] = _tree(tree)

    def normalize(self, field: str, x: Tensor) -> Tensor:
        tree: Any = self.params_dict[field]
        return x * tree["scale"] + tree["offset"]


def _tree(values: dict[str, Any]) -> nn.ParameterDict:
    tree = nn.ParameterDict()
    for name, value in values.items():
        tree[name] = _tree(value) if isinstance(value, dict) else nn.Parameter(value, False)
    return tree


class DiffusionUnetLowdimPolicy(nn.Module):
    """What a workspace trains; its random weights are as large as trained ones."""

    def __init__(self, obs_dim: int = 20, scale: bool = True, **scheduler: Any) -> None:
        super().__init__()
        self.horizon, self.n_obs_steps, self.n_action_steps = 8, 2, 4
        self.obs_dim, self.action_dim, self.num_inference_steps = obs_dim, 2, 5
        self.obs_as_global_cond = self.oa_step_convention = True
        self.pred_action_steps_only = False
        generator = torch.Generator().manual_seed(0)
        low = torch.rand(obs_dim, generator=generator)
        high = low + torch.rand(obs_dim, generator=generator) * 100
        high[1] = low[1]  # one that never varied
        ends = torch.tensor([-3.0, 10.0]), torch.tensor([5.0, 12.0])
        self.normalizer = DictOfTensorMixin({"obs": (low, high), "action": ends})
        self.model = ConditionalUnet1D(2, 2 * obs_dim, 16, [8, 16], 3, 4, scale)
        for parameter in self.model.parameters():
            parameter.data += 0.2 * torch.randn(parameter.shape, generator=generator)
        self.noise_scheduler = type(
            "DDPMScheduler",
            (SimpleNamespace,),
            {},
        )(
            config={
                "num_train_timesteps": 20,
                "beta_start": 0.0001,
                "beta_end": 0.02,
                "beta_schedule": "squaredcos_cap_v2",
                "variance_type": "fixed_small",
                "clip_sample": True,
                "prediction_type": "epsilon",
                **scheduler,
            }
        )
