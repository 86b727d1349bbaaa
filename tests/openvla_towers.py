"""OpenVLA's vision towers by the networks of transformers, an independent reference."""

from __future__ import annotations

from typing import Any

import torch
from tiny_openvla import DINO_WIDTH, IMAGE_SIZE, PATCH, SIGLIP_WIDTH
from torch import Tensor


def features(weights: dict[str, Tensor], images: Tensor) -> Tensor:
    """What both towers see, by the networks of transformers, of pictures in [0, 1]."""
    import transformers

    sizes: dict[str, Any] = {
        "num_attention_heads": 16,
        "image_size": IMAGE_SIZE,
        "patch_size": PATCH,
    }
    dino = transformers.Dinov2WithRegistersModel(
        transformers.Dinov2WithRegistersConfig(
            hidden_size=DINO_WIDTH, num_hidden_layers=3, num_register_tokens=4, **sizes
        )
    )
    siglip = transformers.SiglipVisionModel(
        transformers.SiglipVisionConfig(
            hidden_size=SIGLIP_WIDTH, num_hidden_layers=2, intermediate_size=179, hidden_act="gelu",
            **sizes,
        )
    )  # fmt: skip
    dino.load_state_dict(dino_names(weights), strict=False)
    siglip.load_state_dict(siglip_names(weights), strict=False)
    mean, std = (torch.tensor(one).view(3, 1, 1).double() for one in IMAGENET)
    one = dino.double()((images - mean) / std, output_hidden_states=True).hidden_states[-2]
    other = siglip.double()(2 * images - 1, output_hidden_states=True).hidden_states[-2]
    return torch.cat([one[:, 5:], other], dim=-1)


IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def dino_names(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    prefix = "vision_backbone.featurizer."
    own = {
        name.removeprefix(prefix): value
        for name, value in weights.items()
        if name.startswith(prefix)
    }
    positions = own["pos_embed"]
    found = {
        "embeddings.cls_token": own["cls_token"],
        "embeddings.register_tokens": own["reg_token"],
        # The class token has no position in this layout.
        "embeddings.position_embeddings": torch.cat([0 * positions[:, :1], positions], dim=1),
        "embeddings.patch_embeddings.projection.weight": own["patch_embed.proj.weight"],
        "embeddings.patch_embeddings.projection.bias": own["patch_embed.proj.bias"],
    }
    renamed = {
        "ls1.scale_factor": "layer_scale1.lambda1",
        "ls2.scale_factor": "layer_scale2.lambda1",
    }
    attention = {"q": "attention.q_proj", "k": "attention.k_proj", "v": "attention.v_proj"}
    return found | blocks(own, "encoder.layer", renamed, attention, "attention.o_proj")


def siglip_names(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    prefix = "vision_backbone.fused_featurizer."
    own = {
        name.removeprefix(prefix): value
        for name, value in weights.items()
        if name.startswith(prefix)
    }
    found = {
        "embeddings.patch_embedding.weight": own["patch_embed.proj.weight"],
        "embeddings.patch_embedding.bias": own["patch_embed.proj.bias"],
        "embeddings.position_embedding.weight": own["pos_embed"][0],
    }
    renamed = {
        f"norm{one}.{part}": f"layer_norm{one}.{part}"
        for one in (1, 2)
        for part in ("weight", "bias")
    }
    attention = {"q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj"}
    return found | blocks(own, "encoder.layers", renamed, attention, "self_attn.out_proj")


def blocks(
    own: dict[str, Tensor],
    prefix: str,
    renamed: dict[str, str],
    attention: dict[str, str],
    projection: str,
) -> dict[str, Tensor]:
    found = {}
    for name, value in own.items():
        if not name.startswith("blocks."):
            continue
        _, index, rest = name.split(".", 2)
        if rest.startswith("attn.qkv"):
            part = rest.rsplit(".", 1)[1]
            for key, third in zip("qkv", value.chunk(3), strict=True):
                found[f"{prefix}.{index}.{attention[key]}.{part}"] = third
            continue
        rest = rest.replace("attn.proj", projection)
        found[f"{prefix}.{index}.{renamed.get(rest, rest)}"] = value
    return found
