"""A host that has read prompts: the token models that decoders run on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...decoding.token_model import RecomputingModel
from .host import Host
from .text import import_transformers


@dataclass(frozen=True)
class Prompt:
    """Prompts of B rows without their last token, the one that opens the action block.

    Attributes:
        ids: Token ids of the host, padded on the left, shape (B, L).
        attended: False for padding, shape (B, L).
        pixel_values: Normalised images, shape (B, C, 3, H, W).
    """

    ids: Tensor
    attended: Tensor
    pixel_values: Tensor

    @property
    def lengths(self) -> Tensor:
        """Number of tokens of each row, padding left out, shape (B,)."""
        return self.attended.sum(dim=1)

    @property
    def position_ids(self) -> Tensor:
        """Positions that count real tokens only, shape (B, L)."""
        return (self.attended.long().cumsum(dim=1) - 1).clamp(min=0)

    def mask(self, num_tokens: int, num_queries: int, dtype: torch.dtype) -> Tensor | None:
        """Causal mask of the last `num_queries` of the prompt and `num_tokens` behind it.

        Returns:
            None if nothing is padded, else an additive mask (B, 1, q, L + k). Additive, and never
            all of a row: eager attention of transformers misreads booleans, and makes NaN of a
            padded position that may see nothing.
        """
        if bool(self.attended.all()):
            return None
        length = self.attended.shape[1] + num_tokens
        index = torch.arange(length, device=self.attended.device)
        causal = index[-num_queries:, None] >= index[None, :]  # (q, l + k)
        tail = self.attended.new_ones(len(self.attended), num_tokens)
        real = torch.cat([self.attended, tail], dim=1)  # (b, l + k)
        itself = index[-num_queries:, None] == index[None, :]
        return additive(causal & real[:, None, :] | itself, dtype)


def additive(allowed: Tensor, dtype: torch.dtype) -> Tensor:
    """Additive mask (B, 1, q, S) of booleans (B, q, S) that say what is attended to."""
    mask = torch.zeros(allowed.shape, dtype=dtype, device=allowed.device)
    return mask.masked_fill(~allowed, torch.finfo(dtype).min)[:, None]


class CachedModel:
    """A `TokenModel` of a host with a key/value cache.

    The prompt is read with the first tokens that are fed, in the same forward, unless it is read
    before. Tokens are local: 0 to V - 1 are actions, V opens the block.

    Args:
        host: The model.
        prompt: What it reads first.
        cache: Where keys and values go; a new one by default.

    Raises:
        ValueError: If the cache cannot be cropped.
    """

    def __init__(self, host: Host, prompt: Prompt, cache: Any = None) -> None:
        self._host, self._prompt = host, prompt
        self._cache = new_cache(host) if cache is None else cache
        check_croppable(self._cache)
        self._num_fed = 0
        self._prompt_read = False

    @property
    def num_fed(self) -> int:
        """Tokens that are remembered behind the prompt."""
        return self._num_fed

    def read_prompt(self) -> None:
        """Read the prompt in a forward of its own."""
        if not self._prompt_read:
            embeddings = self._host.embed(self._prompt.ids, self._prompt.pixel_values)
            self._forward(embeddings, self._prompt.position_ids, num_fed=0)
            self._prompt_read = True

    def feed(self, tokens: Tensor) -> Tensor:
        """Read tokens (B, q) and return logits (B, q, V); see `TokenModel.feed`."""
        num_new = tokens.shape[1]
        embeddings = self._host.embed(self._host.vocabulary_ids(tokens))
        order = self._num_fed + torch.arange(num_new, device=tokens.device)
        position_ids = self._prompt.lengths[:, None] + order  # (b, q)
        if not self._prompt_read:
            prompt = self._host.embed(self._prompt.ids, self._prompt.pixel_values)
            embeddings = torch.cat([prompt, embeddings], dim=1)
            position_ids = torch.cat([self._prompt.position_ids, position_ids], dim=1)
            self._prompt_read = True
        self._num_fed += num_new
        hidden = self._forward(embeddings, position_ids, self._num_fed)  # (b, l + q or q, e)
        return self._host.action_logits(hidden[:, -num_new:])

    def crop(self, num_fed: int) -> None:
        """Forget all but the first `num_fed` tokens behind the prompt."""
        surplus = self._num_fed - num_fed
        if surplus > 0:
            # A negative number is understood by every transformers 5 release.
            self._cache.crop(-surplus)
            self._num_fed = num_fed

    def _forward(self, embeddings: Tensor, position_ids: Tensor, num_fed: int) -> Tensor:
        mask = self._prompt.mask(num_fed, embeddings.shape[1], embeddings.dtype)
        return self._host.hidden(embeddings, position_ids, mask, self._cache)


def uncached_model(host: Host, prompt: Prompt) -> RecomputingModel:
    """A `TokenModel` of a host that starts from the prompt in every forward."""

    def forward(tokens: Tensor) -> Tensor:
        return block_logits(host, prompt, tokens)

    return RecomputingModel(forward)


def block_logits(host: Host, prompt: Prompt, tokens: Tensor) -> Tensor:
    """Logits (B, k, V) of the tokens after each of `tokens`, local ids (B, k), in one forward."""
    num_tokens = tokens.shape[1]
    embeddings = torch.cat(
        [host.embed(prompt.ids, prompt.pixel_values), host.embed(host.vocabulary_ids(tokens))],
        dim=1,
    )
    order = torch.arange(num_tokens, device=tokens.device)
    position_ids = torch.cat([prompt.position_ids, prompt.lengths[:, None] + order], dim=1)
    mask = prompt.mask(num_tokens, embeddings.shape[1], embeddings.dtype)
    hidden = host.hidden(embeddings, position_ids, mask)  # (b, l + k, e)
    return host.action_logits(hidden[:, -num_tokens:])


def begin_tokens(host: Host, num_rows: int, device: torch.device) -> Tensor:
    """The token that opens the block, local id V, shape (B, 1)."""
    return torch.full((num_rows, 1), host.num_action_ids, device=device)


def new_cache(host: Host) -> Any:
    """An empty cache for the host's language model."""
    return import_transformers().DynamicCache(config=host.text_config)


def check_croppable(cache: Any) -> None:
    """Raise ValueError unless the last positions of a cache can be forgotten without a trace.

    A layer that attends to a sliding window or keeps a running state has overwritten what it held
    before; a static cache has no crop at all.
    """
    kinds = sorted({type(layer).__name__ for layer in cache.layers} - {"DynamicLayer"})
    if kinds or not hasattr(cache, "crop"):
        raise ValueError(
            f"{type(cache).__name__} with layers {kinds or 'without crop'} cannot be cropped, so "
            "guessed tokens would stay in it and change the result; decode with cached=False, "
            "which recomputes the prompt in every forward"
        )
