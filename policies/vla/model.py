"""The trained part of a vision-language policy: host, vocabularies and prompts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...decoding.instruction import INSTRUCTION_BYTES, INSTRUCTION_KEY, decode_instruction
from ...decoding.placed import placed
from ...decoding.token_model import TokenModel
from .host import HALF, Host, host_from_config
from .session import CachedModel, Prompt, begin_tokens, uncached_model
from .text import PAD_ID, load_text_tokenizer
from .tokenizer import NUM_BINS, BinStatistics, UniformBins


@dataclass(frozen=True)
class VlaConfig:
    """Everything needed to rebuild a `VlaModel` before its weights are loaded.

    Attributes:
        host: Configuration of the vision-language model, as `transformers` writes it.
        text_tokenizer: The text tokenizer, as the `tokenizers` library writes it.
        num_actions: Actions per chunk m.
        actions: Quantiles of the actions.
        cameras: Observation keys of the images, one or more.
        state_key: Observation key of the proprioception; empty for none.
        state: Quantiles of the proprioception; None without it.
        max_text_tokens: Longest instruction, in tokens.
        first_action_id: Where the action block begins in the host's vocabulary.
        image_mean: What images in [0, 1] are shifted by, per colour.
        image_std: What they are divided by.
        pad_id: Id of the host's padding token.
    """

    host: dict[str, Any]
    text_tokenizer: dict[str, Any]
    num_actions: int
    actions: BinStatistics
    cameras: tuple[str, ...]
    state_key: str
    state: BinStatistics | None
    max_text_tokens: int
    first_action_id: int
    image_mean: tuple[float, float, float] = HALF
    image_std: tuple[float, float, float] = HALF
    pad_id: int = PAD_ID

    def __post_init__(self) -> None:
        """Reject configurations that fit nothing."""
        if not self.cameras:
            raise ValueError("a vision-language policy needs at least one camera key, got none")
        if bool(self.state_key) != (self.state is not None):
            raise ValueError("state_key and state must be given together, or neither")
        if self.max_text_tokens < 1:
            raise ValueError(f"max_text_tokens must be at least 1, got {self.max_text_tokens}")


class VlaModel(nn.Module):
    """Images, an instruction and proprioception in; logits of action tokens out.

    A prompt is the instruction, then each camera's image tokens, then the proprioception in the
    vocabulary of the actions, one token per dimension. Padding stands in front. Hosts that were
    trained otherwise have their own `PromptFormat`.

    Args:
        config: Host, vocabularies and prompt.
        weights: A model of `transformers` of ``config.host``; random weights by default.

    Raises:
        ValueError: If prompt and block do not fit the host's context, the host has no room for
            the action block, or text tokens reach into it.
    """

    _image_mean: Tensor
    _image_std: Tensor

    def __init__(self, config: VlaConfig, weights: Any = None) -> None:
        super().__init__()
        first_action_id = config.first_action_id
        if weights is None:
            host = host_from_config(config.host, first_action_id, NUM_BINS)
        else:
            host = Host(weights, first_action_id, NUM_BINS)
        self.config, self.host = config, host
        self.action_tokenizer = UniformBins(config.actions, config.num_actions)
        self.state_tokenizer = None if config.state is None else UniformBins(config.state)
        self._tokenizer = load_text_tokenizer(config.text_tokenizer)
        highest = max(self._tokenizer.get_vocab(with_added_tokens=True).values())
        if host.shares_ids:
            if not highest < host.image_token_id:
                raise ValueError(
                    f"the text tokenizer uses ids up to {highest}, id {host.image_token_id} stands "
                    "for pictures: they belong to different checkpoints"
                )
        elif first_action_id <= highest < first_action_id + NUM_BINS + 1:
            raise ValueError(
                f"the text tokenizer uses ids up to {highest}, the action block begins at "
                f"{first_action_id}: they belong to different checkpoints"
            )
        self._text_ids = lru_cache(maxsize=4096)(self._encode_text)
        self._told = lru_cache(maxsize=64)(self._told_ids)
        image_ids = [host.image_token_id] * host.num_image_tokens() * len(config.cameras)
        self._image_ids = torch.tensor(image_ids)
        self._head = torch.tensor(host.prompt_format.head, dtype=torch.long)
        for name, values in (("image_mean", config.image_mean), ("image_std", config.image_std)):
            self.register_buffer(f"_{name}", torch.tensor(values).view(3, 1, 1), persistent=False)
        longest = config.max_text_tokens + len(image_ids) + len(self._head) + self.state_size + 1
        longest += self.action_tokenizer.num_tokens
        if longest > host.text_config.max_position_embeddings:
            raise ValueError(
                f"prompt and actions take up to {longest} tokens, the host's context is "
                f"{host.text_config.max_position_embeddings}"
            )

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self._image_mean.device

    @property
    def num_image_tokens(self) -> int:
        """Image tokens of a prompt, all cameras together."""
        return len(self._image_ids)

    @property
    def text_start(self) -> int:
        """Where a prompt's text begins, padding included: behind pictures that come first."""
        first = self.host.prompt_format.pictures_first
        return len(self._head) + self.num_image_tokens if first else 0

    @property
    def num_behind_text(self) -> int:
        """Tokens of a prompt behind its text."""
        return self.state_size + (0 if self.text_start else self.num_image_tokens)

    @property
    def state_size(self) -> int:
        """Dimensions of the proprioception, 0 without it."""
        return 0 if self.state_tokenizer is None else self.state_tokenizer.size

    @property
    def observation_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of one frame per key that the policy reads; images are uint8 in value."""
        size = self.host.image_size
        shapes: dict[str, tuple[int, ...]] = {key: (size, size, 3) for key in self.config.cameras}
        if self.state_size:
            shapes[self.config.state_key] = (self.state_size,)
        return shapes | {INSTRUCTION_KEY: (INSTRUCTION_BYTES,)}

    def prompt(self, frames: Mapping[str, np.ndarray], check: bool = True) -> Prompt:
        """Prompts of B rows from one frame each.

        Args:
            frames: Per key an array of shape (B, *shape).
            check: Verify that images hold whole numbers from 0 to 255.

        Raises:
            ValueError: If an image has another size or other values, or an instruction is empty
                or too long.
        """
        told = np.ascontiguousarray(frames[INSTRUCTION_KEY])
        ids, attended = self._told(told.tobytes(), told.dtype.str, told.shape)
        device = self.device
        if self.state_tokenizer is not None:
            tokens, _ = self.state_tokenizer.encode(frames[self.config.state_key][:, None])
            tokens = torch.from_numpy(tokens) + self.host.first_action_id
            ids = torch.cat([ids, tokens], dim=1)
        images = [self._image(key, frames[key], check) for key in self.config.cameras]
        pixel_values = torch.stack(images, dim=1)
        return Prompt(placed(ids, device), placed(attended, device), pixel_values)

    @torch.inference_mode(mode=False)  # what is remembered may be trained on later
    def _told_ids(self, told: bytes, dtype: str, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Ids of instructions and pictures, (B, L - D), and what of the prompt is real, (B, L).

        Only the state differs from plan to plan of an episode, so this is remembered.

        Args:
            told: Instructions (B, bytes) as memory.
            dtype: Its type.
            shape: Its shape.
        """
        rows = np.frombuffer(told, dtype).reshape(shape)
        text_ids = [torch.tensor(self._text_ids(decode_instruction(row))) for row in rows]
        length = max(len(ids) for ids in text_ids)
        padded = torch.full((len(rows), length), self.config.pad_id)
        attended = torch.zeros(len(rows), length, dtype=torch.bool)
        for row, ids in enumerate(text_ids):
            padded[row, length - len(ids) :] = ids
            attended[row, length - len(ids) :] = True
        pictures = torch.cat([self._head, self._image_ids]).expand(len(rows), -1)
        start = self.text_start
        ids = torch.cat([pictures, padded] if start else [padded, pictures], dim=1)
        real = torch.ones(len(rows), pictures.shape[1] + self.state_size, dtype=torch.bool)
        return ids, torch.cat([real[:, :start], attended, real[:, start:]], dim=1)

    @property
    def action_values(self) -> Tensor:
        """Value in [-1, 1] of every action token, shape (V,), float64, on the CPU."""
        return torch.from_numpy(self.action_tokenizer.normalised(np.arange(NUM_BINS)))

    def token_model(self, prompt: Prompt, cached: bool = True) -> TokenModel:
        """The host behind `prompt`, for decoders; the cache is refused if it cannot be cropped."""
        return CachedModel(self.host, prompt) if cached else uncached_model(self.host, prompt)

    def begin(self, num_rows: int) -> Tensor:
        """The token that opens the block, shape (B, 1)."""
        return begin_tokens(self.host, num_rows, self.device)

    def _encode_text(self, text: str) -> list[int]:
        asked = self.host.prompt_format.text(text)
        ids = self._tokenizer.encode(asked, add_special_tokens=False).ids
        if len(ids) > self.config.max_text_tokens:
            raise ValueError(
                f"the instruction takes {len(ids)} tokens, the policy reads at most "
                f"{self.config.max_text_tokens}: {text!r}"
            )
        return ids

    def _image(self, key: str, image: np.ndarray, check: bool) -> Tensor:
        """Normalised images (B, 3, H, W) of whole numbers 0 to 255, shape (B, H, W, 3)."""
        size = self.host.image_size
        if image.shape[1:] != (size, size, 3):
            raise ValueError(
                f"{key!r}: images must have shape (rows, {size}, {size}, 3), got {image.shape}"
            )
        if check and image.dtype != np.uint8:
            # NaN is neither above nor below: it fails.
            valid = image.min() >= 0 and image.max() <= 255 and (image == np.rint(image)).all()
            if not valid:
                raise ValueError(
                    f"{key!r}: images must hold whole numbers from 0 to 255, found values from "
                    f"{image.min()} to {image.max()}; do not scale them"
                )
        dtype = self.host.weight.dtype
        whole = torch.from_numpy(np.ascontiguousarray(image))
        pixels = placed(whole, self.device).to(dtype).permute(0, 3, 1, 2).contiguous()
        mean, std = (buffer.to(dtype) for buffer in (self._image_mean, self._image_std))
        return pixels.div(255).sub_(mean).div_(std)

    def config_dict(self) -> dict[str, Any]:
        """Configuration as JSON-able values."""
        return asdict(self.config)
