"""What a token engine runs: a prompt pass and a pass over a window of tokens, of fixed shapes.

The past is one tensor of fixed size: a prompt that is padded on the left to P positions, then the n
tokens of a block. Where a token stands is thereby known in advance, what is remembered is a number,
and forgetting is setting it back. Positions and masks follow from which entries count, an input.

- `PromptPass`: pictures and text to keys and values, with a block behind them to its logits too.
- `WindowPass`: tokens behind the past to logits. A window of the whole block keeps nothing, it
  reads the block anew from its first token; a window of one token hands on its keys and values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..programs.program import Call, Port, Program
from ..programs.shared import shared
from .host import Host
from .llama import StaticLlama, prompt_mask, visible_mask


@dataclass(frozen=True)
class Layout:
    """Fixed sizes of a prompt and the block behind it.

    Attributes:
        size: Positions of the prompt P, padding included.
        first_image: Where its image tokens begin.
        num_images: How many there are.
        num_tokens: Tokens of a block n.
        pixels: Shape of one row's pictures (C, 3, H, W).
    """

    size: int
    first_image: int
    num_images: int
    num_tokens: int
    pixels: tuple[int, ...]


class ImageTokens(nn.Module):
    """Pictures (B, C, 3, H, W) to their tokens (B, T, E).

    Args:
        host: Its vision encoder and connector are used.
    """

    def __init__(self, host: Host) -> None:
        super().__init__()
        self.host = host

    def forward(self, pixel_values: Tensor) -> Tensor:
        """See the class."""
        tokens = self.host.image_tokens(pixel_values)  # (b * c, t, e)
        return tokens.reshape(pixel_values.shape[0], -1, tokens.shape[-1])


class PromptPass(nn.Module):
    """A whole prompt, and the block behind it if there is one, in one forward.

    Args:
        host: The model.
        layout: Sizes.
        with_block: Whether a block follows.
    """

    def __init__(self, host: Host, layout: Layout, with_block: bool) -> None:
        super().__init__()
        self.host, self.layout, self.with_block = host, layout, with_block
        self.llama = StaticLlama(host.model.get_decoder())

    def forward(
        self, ids: Tensor, attended: Tensor, images: Tensor, tokens: Tensor | None = None
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Keys and values of the prompt, shape (B, 2 layers, h, P, d); logits (B, n, V) before.

        Args:
            ids: Token ids, shape (B, P).
            attended: 0 for padding, shape (B, P), uint8.
            images: Image tokens, shape (B, T, E).
            tokens: Local ids of the block, the one that opens it first, shape (B, n).
        """
        first, behind = self.layout.first_image, self.layout.first_image + self.layout.num_images
        embed = self.host.model.get_input_embeddings()
        parts = [embed(ids[:, :first]), images, embed(ids[:, behind:])]
        real = attended > 0  # (b, p)
        if tokens is not None:
            parts.append(embed(self.host.vocabulary_ids(tokens)))
            real = torch.cat([real, torch.ones_like(tokens, dtype=torch.bool)], dim=1)
        embeddings = torch.cat(parts, dim=1)  # (b, p or p + n, e)
        positions = (real.long().cumsum(dim=1) - 1).clamp(min=0)
        mask, num_wanted = prompt_mask(real, embeddings.dtype), embeddings.shape[1] - ids.shape[1]
        hidden, new = self.llama(embeddings, positions, mask, [], num_wanted or None)
        past = torch.stack([one[:, :, : self.layout.size] for one in new], dim=1)
        if tokens is None:
            return past
        return self.host.action_logits(hidden), past


class WindowPass(nn.Module):
    """A window of tokens behind a past of fixed size.

    Args:
        host: The model.
        keeping: Whether the window's keys and values are handed on.
    """

    def __init__(self, host: Host, keeping: bool) -> None:
        super().__init__()
        self.host, self.keeping = host, keeping
        self.llama = StaticLlama(host.model.get_decoder())

    def forward(
        self, tokens: Tensor, visible: Tensor, past: Tensor
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Logits (B, w, V), and keys and values (B, 2 layers, h, w, d) if they are handed on.

        Args:
            tokens: Local ids, shape (B, w).
            visible: 0 for entries of the past that do not count, shape (B, S), uint8.
            past: Keys and values, shape (B, 2 layers, h, S, d).
        """
        num_new = tokens.shape[1]
        embeddings = self.host.model.get_input_embeddings()(self.host.vocabulary_ids(tokens))
        known = visible > 0
        # Entries that count are the prompt's real tokens and what was fed, so their number is the
        # position that comes next.
        order = torch.arange(num_new, device=tokens.device)
        positions = known.long().sum(dim=1, keepdim=True) + order  # (b, w)
        mask = visible_mask(known, num_new, embeddings.dtype)
        hidden, new = self.llama(embeddings, positions, mask, past.unbind(dim=1))
        logits = self.host.action_logits(hidden)
        return (logits, torch.stack(new, dim=1)) if self.keeping else logits


def prompt_program(host: Host, layout: Layout, with_block: bool) -> Program:
    """Pictures, text and perhaps a block of tokens, as a program."""
    vision = _image_tokens(host)
    module = shared(
        PromptPass, host, lambda: PromptPass(host, layout, with_block), layout, with_block
    )
    num_ids = host.model.get_input_embeddings().num_embeddings
    ports = {
        "pixel_values": Port(layout.pixels, scale=0.5),
        "ids": Port((layout.size,), scale=num_ids, dtype=np.int64),
        "attended": Port((layout.size,), dtype=np.uint8),
    }
    outputs = {"past": _past(host, layout.size)}
    if with_block:
        ports["tokens"] = _tokens(host, layout.num_tokens)
        outputs = {"logits": _logits(host, layout.num_tokens), **outputs}
    arguments = {name: name for name in ports if name != "pixel_values"} | {"images": "images"}
    calls = [
        Call(vision, {"pixel_values": "pixel_values"}, ("images",)),
        Call(module, arguments, tuple(outputs)),
    ]
    return Program(ports, outputs, calls)


def window_program(host: Host, size: int, num_tokens: int, keeping: bool) -> Program:
    """A window of tokens behind a past of so many entries, as a program."""
    module = shared(WindowPass, host, lambda: WindowPass(host, keeping), size, num_tokens, keeping)
    ports = {
        "tokens": _tokens(host, num_tokens),
        "visible": Port((size,), dtype=np.uint8),
        "past": _past(host, size),
    }
    outputs = {"logits": _logits(host, num_tokens)}
    if keeping:
        outputs["new"] = _past(host, num_tokens)
    call = Call(module, {name: name for name in ports}, tuple(outputs))
    return Program(ports, outputs, [call])


def past_shape(host: Host, size: int) -> tuple[int, int, int, int]:
    """Shape of one row's keys and values of so many positions (2 layers, h, S, d)."""
    decoder: Any = host.model.get_decoder()
    attention = decoder.layers[0].self_attn
    heads = int(decoder.config.num_key_value_heads)
    return 2 * len(decoder.layers), heads, size, int(attention.head_dim)


def _image_tokens(host: Host) -> nn.Module:
    return shared(ImageTokens, host, lambda: ImageTokens(host))


def _past(host: Host, size: int) -> Port:
    return Port(past_shape(host, size))


def _tokens(host: Host, num_tokens: int) -> Port:
    return Port((num_tokens,), scale=host.num_action_ids + 1, dtype=np.int64)


def _logits(host: Host, num_tokens: int) -> Port:
    return Port((num_tokens, host.num_action_ids))
