"""The host: a causal vision-language model of `transformers`, reduced to what decoding needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .prompt_format import PromptFormat
from .text import IMAGE_ID, PAD_ID, import_transformers

# Whether a model type is its vision encoder and a connector that merges neighbouring patches.
RESAMPLES = {"idefics3": True, "smolvlm": True, "llava": False}
OPENVLA = "openvla"  # not of transformers, see `openvla.network`
_QWEN = "it counts the positions of pictures on several axes, a host here counts on one"
_GEMMA = (
    "it reads its prompt in both directions, a host here reads from left to right, so keys and "
    "values would be others than in its training"
)
_REASONS = {
    "qwen2_vl": _QWEN,
    "qwen2_5_vl": _QWEN,
    "qwen3_vl": _QWEN,
    "paligemma": _GEMMA,
    "gemma3": f"{_GEMMA}, and its layers attend to sliding windows, whose cache cannot be cropped",
}
HALF = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class TinyHost:
    """Sizes of a host with random weights that trains on a CPU.

    Attributes:
        family: ``"idefics3"``, ``"smolvlm"`` or ``"llava"``.
        image_size: Side of a square image [px].
        patch_size: Side of a patch [px].
        merge: Patches per image token along one side (Idefics3's pixel shuffle).
        vision_width: Width of the vision encoder.
        vision_layers: Layers of the vision encoder.
        width: Width of the language model.
        layers: Layers of the language model.
        heads: Attention heads of both.
        context: Longest sequence, prompt and action block together.
    """

    family: str = "idefics3"
    image_size: int = 64
    patch_size: int = 8
    merge: int = 2
    vision_width: int = 96
    vision_layers: int = 3
    width: int = 128
    layers: int = 4
    heads: int = 4
    context: int = 256

    def config(self, vocabulary_size: int) -> dict[str, Any]:
        """Configuration of `transformers` for so many token ids, JSON-able."""
        if self.family == OPENVLA:
            raise ValueError(
                "an OpenVLA host is read from a folder with its weights, policy.pretrained=FOLDER; "
                f"a tiny one is one of {sorted(RESAMPLES)}"
            )
        check_family(self.family)
        vision: dict[str, Any] = {
            "hidden_size": self.vision_width,
            "intermediate_size": 4 * self.vision_width,
            "num_hidden_layers": self.vision_layers,
            "num_attention_heads": self.heads,
            "image_size": self.image_size,
            "patch_size": self.patch_size,
        }
        text = {
            "model_type": "llama",
            "vocab_size": vocabulary_size,
            "hidden_size": self.width,
            "intermediate_size": 3 * self.width,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.heads,
            "max_position_embeddings": self.context,
            "pad_token_id": PAD_ID,
            "bos_token_id": None,
            "eos_token_id": None,
            "tie_word_embeddings": False,
        }
        config: dict[str, Any] = {"model_type": self.family, "tie_word_embeddings": False}
        if self.family == "llava":
            vision["model_type"] = "siglip_vision_model"
            config |= {"image_token_index": IMAGE_ID, "vision_feature_layer": -1}
            config |= {"vision_feature_select_strategy": "full"}
        else:
            config |= {"image_token_id": IMAGE_ID, "scale_factor": self.merge}
            config |= {"pad_token_id": PAD_ID}
        return {**config, "vision_config": vision, "text_config": text}


class Host(nn.Module):
    """A vision-language model with one block of action ids in its vocabulary.

    The block holds V action tokens and, behind them, the token that opens a block of actions,
    unless the family has that elsewhere (`begin_id`).

    Args:
        model: A model of `transformers`, as `AutoModelForImageTextToText` returns it, or `OpenVla`.
        first_action_id: Where the block begins.
        num_action_ids: Number of action tokens V.

    Raises:
        ValueError: If the family is unknown, or the vocabulary has no room for the block.

    Attributes:
        image_size: Side of the images that the vision encoder takes [px].
    """

    def __init__(self, model: Any, first_action_id: int, num_action_ids: int) -> None:
        super().__init__()
        check_family(model.config.model_type)
        num_ids = model.get_input_embeddings().num_embeddings
        behind = first_action_id + num_action_ids
        if first_action_id < 0 or behind + 1 > num_ids:
            raise ValueError(
                f"the host's vocabulary of {num_ids} ids has no room for {num_action_ids} action "
                f"tokens and one to open a block from id {first_action_id} on; leave "
                "first_action_id out to have the vocabulary extended"
            )
        self.model = model
        self.first_action_id, self.num_action_ids = first_action_id, num_action_ids
        self.image_token_id: int = getattr(model.config, "image_token_id", None) or int(
            model.config.image_token_index
        )
        self.begin_id: int = getattr(model.config, "begin_id", behind)
        self.prompt_format: PromptFormat = getattr(model.config, "prompt_format", PromptFormat())
        self.image_size = int(model.config.vision_config.image_size)
        # In a list, as a module may have one name only; to ask for it each time is slow.
        self._embeddings = [model.get_input_embeddings()]
        self._family = str(model.config.model_type)

    @property
    def text_config(self) -> Any:
        """Configuration of the language model."""
        return self.model.config.get_text_config()

    @property
    def weight(self) -> Tensor:
        """A weight, for where the host is and what type it computes in."""
        return self._embeddings[0].weight

    @property
    def shares_ids(self) -> bool:
        """Whether the action block lies on ids that text has, too."""
        return self.begin_id != self.first_action_id + self.num_action_ids

    def vocabulary_ids(self, tokens: Tensor) -> Tensor:
        """Ids in the vocabulary of local tokens: actions 0 to V - 1, V opens a block of them."""
        ids = tokens + self.first_action_id
        if not self.shares_ids:
            return ids
        return ids.masked_fill(tokens == self.num_action_ids, self.begin_id)

    @torch.no_grad()
    def num_image_tokens(self) -> int:
        """Tokens that one image becomes, found by encoding a blank one."""
        blank = torch.ones(1, 1, 3, self.image_size, self.image_size).to(self.weight)
        return self._image_features(blank).shape[0]

    def embed(self, ids: Tensor, pixel_values: Tensor | None = None) -> Tensor:
        """Embeddings (B, L, E) of token ids (B, L), images in place of their tokens.

        Args:
            ids: Token ids of the host.
            pixel_values: Normalised images, shape (B, C, 3, H, W); None if `ids` has none.
        """
        embeddings = self.model.get_input_embeddings()(ids)
        if pixel_values is None:
            return embeddings
        features = self._image_features(pixel_values).to(embeddings)  # (b * c * tokens, e)
        return embeddings.masked_scatter((ids == self.image_token_id)[..., None], features)

    def image_tokens(self, pixel_values: Tensor) -> Tensor:
        """Tokens of every picture (B, C, 3, H, W), shape (B C, tokens, E)."""
        images = pixel_values.flatten(0, 1).contiguous()  # (b * c, 3, h, w)
        if self._family == OPENVLA:
            return self.model.image_tokens(images)
        # What `get_image_features` does beside this looks for padding among pictures and pixels,
        # which takes a sixth more time at every call, or makes a list of them; here there is none.
        parts = self.model.model
        if RESAMPLES[self._family]:
            return parts.connector(_encoded(parts.vision_model, images))
        found = parts.vision_tower(images, output_hidden_states=True).hidden_states
        config = self.model.config
        kept = slice(1 if config.vision_feature_select_strategy == "default" else 0, None)
        layers = config.vision_feature_layer
        layers = [layers] if isinstance(layers, int) else layers
        return parts.multi_modal_projector(
            torch.cat([found[layer][:, kept] for layer in layers], dim=-1)
        )

    def _image_features(self, pixel_values: Tensor) -> Tensor:
        """Image tokens of all rows and cameras in order, shape (B C tokens, E)."""
        return self.image_tokens(pixel_values).flatten(0, 1)

    def hidden(
        self,
        embeddings: Tensor,
        position_ids: Tensor,
        attention_mask: Tensor | None = None,
        cache: Any = None,
    ) -> Tensor:
        """Last hidden states (B, q, E) of the language model.

        Args:
            embeddings: Shape (B, q, E).
            position_ids: Shape (B, q).
            attention_mask: Additive mask of shape (B, 1, q, past + q); None attends causally to
                everything.
            cache: Keys and values of the past, extended in place.
        """
        return self.model.get_decoder()(
            inputs_embeds=embeddings,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=cache,
            use_cache=cache is not None,
        ).last_hidden_state

    def action_logits(self, hidden: Tensor) -> Tensor:
        """Logits of the action tokens alone, shape (..., V), of hidden states (..., E)."""
        head = self.model.get_output_embeddings()
        block = slice(self.first_action_id, self.first_action_id + self.num_action_ids)
        bias = None if head.bias is None else head.bias[block]
        return functional.linear(hidden, head.weight[block], bias)


def _encoded(vision: Any, images: Tensor) -> Tensor:
    """What the vision encoder of Idefics3 or SmolVLM makes of whole pictures (N, 3, H, W).

    Its own forward makes a mask of patches on the CPU and reads back whether any is padding, which
    a CUDA graph cannot hold.
    """
    side = images.shape[-1] // vision.patch_size
    whole = torch.ones(images.shape[0], side, side, dtype=torch.bool, device=images.device)
    hidden = vision.embeddings(pixel_values=images, patch_attention_mask=whole)
    hidden = vision.encoder(inputs_embeds=hidden, attention_mask=None).last_hidden_state
    return vision.post_layernorm(hidden)


def check_family(model_type: str) -> None:
    """Raise ValueError unless hosts of this type are supported."""
    families = sorted({*RESAMPLES, OPENVLA})
    if model_type not in families:
        reason = _REASONS.get(
            model_type,
            "others attend to their prompt in both directions, or number positions in a way that "
            "is not supported",
        )
        raise ValueError(f"a host must be one of {families}, got {model_type!r}: {reason}")


def host_from_config(config: dict[str, Any], first_action_id: int, num_action_ids: int) -> Host:
    """Build a host with random weights from a configuration of `transformers`, or of `OpenVla`."""
    transformers = import_transformers()
    check_family(str(config.get("model_type")))
    if config["model_type"] == OPENVLA:
        from .openvla.network import OpenVla

        return Host(OpenVla(config), first_action_id, num_action_ids)
    plain = {key: value for key, value in config.items() if key != "model_type"}
    parsed = transformers.AutoConfig.for_model(config["model_type"], **plain)
    model = transformers.AutoModelForImageTextToText.from_config(parsed)
    return Host(model, first_action_id, num_action_ids)
