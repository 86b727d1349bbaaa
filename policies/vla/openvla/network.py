"""OpenVLA's network: two vision towers side by side, a projector of three layers, and a Llama.

Its modules are named as its checkpoints name them: ``vision_backbone.featurizer`` (DINOv2),
``vision_backbone.fused_featurizer`` (SigLIP), ``projector`` and ``language_model``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ....decoding.plumbing.schema import build
from ..prompt_format import PromptFormat
from ..text import import_transformers
from .towers import Tower, TowerSizes

MODEL_TYPE = "openvla"
BEGIN_OF_TEXT_ID = 1
EMPTY_ID = 29_871  # Llama 2's token of a lone space, behind which actions follow
TEMPLATE = "In: What action should the robot take to {instruction}?\nOut:"
PROMPT = PromptFormat(TEMPLATE, lower=True, head=(BEGIN_OF_TEXT_ID,))


@dataclass(frozen=True)
class OpenVlaSizes:
    """All that OpenVLA's network is built from, as `VlaConfig.host` keeps it.

    Attributes:
        model_type: ``"openvla"``.
        image_size: Side of a picture [px].
        featurizer: The first tower, DINOv2.
        fused_featurizer: The second one, SigLIP.
        image_token_id: An id that stands for picture tokens and that no text has.
        text_config: Configuration of the Llama, as `transformers` writes it.
    """

    model_type: str
    image_size: int
    featurizer: TowerSizes
    fused_featurizer: TowerSizes
    image_token_id: int
    text_config: dict[str, Any]


class OpenVla(nn.Module):
    """The network as a `Host` needs it: with the interface of a model of `transformers`.

    Args:
        described: `OpenVlaSizes` as plain data.
    """

    def __init__(self, described: Mapping[str, Any]) -> None:
        super().__init__()
        sizes = build(OpenVlaSizes, dict(described), "host.")
        transformers = import_transformers()
        text = transformers.AutoConfig.for_model(**sizes.text_config)
        self.vision_backbone = nn.ModuleDict(
            {
                "featurizer": Tower(sizes.featurizer, sizes.image_size),
                "fused_featurizer": Tower(sizes.fused_featurizer, sizes.image_size),
            }
        )
        width = sizes.featurizer.width + sizes.fused_featurizer.width
        self.projector = Projector(width, int(text.hidden_size))
        self.language_model = transformers.AutoModelForCausalLM.from_config(
            text, dtype=torch.float32
        )
        self.config = SimpleNamespace(
            model_type=MODEL_TYPE,
            image_token_id=sizes.image_token_id,
            vision_config=SimpleNamespace(image_size=sizes.image_size),
            prompt_format=PROMPT,
            begin_id=EMPTY_ID,
            get_text_config=lambda: text,
        )

    def get_input_embeddings(self) -> nn.Module:
        """The Llama's."""
        return self.language_model.get_input_embeddings()

    def get_output_embeddings(self) -> nn.Module:
        """The Llama's."""
        return self.language_model.get_output_embeddings()

    def get_decoder(self) -> nn.Module:
        """The Llama without its head."""
        return self.language_model.get_decoder()

    def image_tokens(self, images: Tensor) -> Tensor:
        """Tokens (B, patches, E) of pictures (B, 3, H, W) in [0, 1]."""
        towers = self.vision_backbone.values()
        return self.projector(torch.cat([tower(images) for tower in towers], dim=-1))


class Projector(nn.Module):
    """Features of both towers to the Llama's width.

    Args:
        width: Of the features.
        text_width: Of the Llama.
    """

    def __init__(self, width: int, text_width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, text_width)
        self.fc3 = nn.Linear(text_width, text_width)

    def forward(self, features: Tensor) -> Tensor:
        """Shape (..., width) to (..., text_width)."""
        hidden = functional.gelu(self.fc1(features))
        return self.fc3(functional.gelu(self.fc2(hidden)))
