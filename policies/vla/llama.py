"""The forward of a Llama over fixed memory: what a token costs without what `transformers` does.

`transformers` calls a dozen Python functions per layer and grows a cache; a policy of 4 layers
spends a millisecond per forward on that. Here a forward is a pure function of tensors of fixed
shapes, over the weights of the host's own layers, so that a graph can be made of it once. It
computes what `LlamaModel` does: RMSNorm (Zhang & Sennrich 2019), rotary positions (Su et al. 2021),
grouped queries (Ainslie et al. 2023), SwiGLU (Shazeer 2020).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

# Rotary positions whose frequencies are the same at every length.
_FIXED_ROTATIONS = ("default", "linear", "llama3", "yarn")


class StaticLlama(nn.Module):
    """The layers of a host's language model as a function of embeddings and past keys and values.

    Past positions that a query must not see are masked, so the past may be padded anywhere.

    Args:
        decoder: `LlamaModel` of `transformers`; its weights are used where they are.

    Raises:
        ValueError: If it is another model, or its rotary frequencies depend on the length.
    """

    def __init__(self, decoder: Any) -> None:
        super().__init__()
        config = decoder.config
        kind, rotation = config.model_type, decoder.rotary_emb.rope_type
        if kind != "llama" or rotation not in _FIXED_ROTATIONS:
            raise ValueError(
                "this engine computes language models of type 'llama' with rotary positions of "
                f"type {_FIXED_ROTATIONS}, got {kind!r} and {rotation!r}; use engine 'eager'"
            )
        self.layers, self.norm, self.rotary = decoder.layers, decoder.norm, decoder.rotary_emb
        self.num_layers = len(decoder.layers)
        self.num_heads = int(config.num_key_value_heads)
        self.num_groups = int(config.num_attention_heads) // self.num_heads
        self.head_size = int(decoder.layers[0].self_attn.head_dim)

    def forward(
        self,
        embeddings: Tensor,
        positions: Tensor,
        mask: Tensor,
        past: Sequence[Tensor],
        num_wanted: int | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """Last hidden states, and the keys and values of the new positions.

        Args:
            embeddings: Shape (B, q, E).
            positions: Shape (B, q).
            mask: Additive mask over past and new positions, shape (B, q, S + q).
            past: Keys and values of S earlier positions, two per layer, shape (B, h, S, d) each;
                none if there is no past.
            num_wanted: Positions, the last ones, whose hidden states are wanted, w; all by default.
                Of the others the last layer computes keys and values only.

        Returns:
            Shape (B, w, E), and two tensors (B, h, q, d) per layer.
        """
        angles = positions[..., None].float() * self.rotary.inv_freq.float()  # (b, q, d / 2)
        angles = torch.cat([angles, angles], dim=-1)[:, None]  # (b, 1, q, d)
        scaling = self.rotary.attention_scaling
        turn = [(one * scaling).to(embeddings.dtype) for one in (angles.cos(), angles.sin())]
        hidden, new, num_new = embeddings, [], embeddings.shape[1]
        for index, layer in enumerate(self.layers):
            states = _normed(layer.input_layernorm, hidden)
            is_last = index + 1 == self.num_layers
            first = num_new - num_wanted if is_last and num_wanted is not None else 0
            key, value, attended = self._attend(
                layer.self_attn, states, turn, mask, past[2 * index : 2 * index + 2], first
            )
            new += [key, value]
            hidden = hidden[:, first:] + attended
            states = _normed(layer.post_attention_layernorm, hidden)
            mlp = layer.mlp
            gated = mlp.act_fn(mlp.gate_proj(states)) * mlp.up_proj(states)
            hidden = hidden + mlp.down_proj(gated)
        return _normed(self.norm, hidden), new

    def _attend(
        self,
        attention: Any,
        states: Tensor,
        turn: Sequence[Tensor],
        mask: Tensor,
        past: Sequence[Tensor],
        first: int,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """New keys and values (B, h, q, d), and what the layer adds from the first query on."""
        behind, num_new = mask.shape[-1] - states.shape[1], states.shape[1] - first
        mask, turn_query = mask[:, first:], [one[:, :, first:] for one in turn]
        query = self._heads(attention.q_proj(states[:, first:]), self.num_heads * self.num_groups)
        query = _turned(query, turn_query) * attention.scaling
        key = _turned(self._heads(attention.k_proj(states), self.num_heads), turn)
        value = self._heads(attention.v_proj(states), self.num_heads)
        # All queries that share a key stand in one matrix, so that no key is ever repeated.
        query = query.reshape(-1, self.num_heads, self.num_groups * num_new, self.head_size)
        keys, values = [*past[:1], key], [*past[1:], value]
        # The past is multiplied where it lies: joining it with the new would copy all of it.
        scores = torch.cat([query @ one.transpose(2, 3) for one in keys], dim=-1)
        scores = scores.view(-1, self.num_heads, self.num_groups, num_new, mask.shape[-1])
        weights = (scores + mask[:, None, None]).softmax(dim=-1, dtype=_wide(scores.dtype))
        weights = weights.to(value.dtype).view(
            -1, self.num_heads, self.num_groups * num_new, mask.shape[-1]
        )
        parts = [weights[..., :behind], weights[..., behind:]][-len(values) :]
        mixed = parts[0] @ values[0]  # (b, h, g * q, d)
        for part, one in zip(parts[1:], values[1:], strict=True):
            mixed = mixed + part @ one
        mixed = mixed.view(-1, self.num_heads * self.num_groups, num_new, self.head_size)
        return key, value, attention.o_proj(mixed.transpose(1, 2).flatten(2))

    def _heads(self, states: Tensor, num_heads: int) -> Tensor:
        """States (B, q, heads d) per head, shape (B, heads, q, d)."""
        return states.unflatten(-1, (num_heads, self.head_size)).transpose(1, 2)


def visible_mask(visible: Tensor, num_new: int, dtype: torch.dtype) -> Tensor:
    """Additive mask (B, q, S + q) of new positions behind a past of which some is visible.

    Args:
        visible: Which of S past positions are attended to, shape (B, S), bool.
        num_new: New positions q, each of which sees itself and the new ones before it.
        dtype: Type of the mask.
    """
    past = _additive(visible, dtype)[:, None].expand(-1, num_new, -1)  # (b, q, s)
    causal = torch.ones(num_new, num_new, dtype=torch.bool, device=visible.device).tril()
    new = _additive(causal, dtype)[None].expand(visible.shape[0], -1, -1)
    return torch.cat([past, new], dim=-1)


def prompt_mask(attended: Tensor, dtype: torch.dtype) -> Tensor:
    """Causal additive mask (B, S, S) that leaves padding out; padding sees itself alone.

    Args:
        attended: False for padding, shape (B, S).
        dtype: Type of the mask.
    """
    size = attended.shape[1]
    causal = torch.ones(size, size, dtype=torch.bool, device=attended.device).tril()
    itself = torch.eye(size, dtype=torch.bool, device=attended.device)
    return _additive((causal & attended[:, None]) | itself, dtype)


def _additive(allowed: Tensor, dtype: torch.dtype) -> Tensor:
    hidden = torch.full((), torch.finfo(dtype).min, dtype=dtype, device=allowed.device)
    return torch.where(allowed, torch.zeros_like(hidden), hidden)


def _normed(norm: Any, hidden: Tensor) -> Tensor:
    wide = hidden.to(_wide(hidden.dtype))
    scaled = wide * torch.rsqrt(wide.square().mean(dim=-1, keepdim=True) + norm.variance_epsilon)
    return norm.weight * scaled.to(hidden.dtype)


def _turned(states: Tensor, turn: Sequence[Tensor]) -> Tensor:
    """States (B, heads, q, d) turned by their positions, halves of d being the pairs."""
    cosine, sine = turn
    one, other = states.chunk(2, dim=-1)
    return states * cosine + torch.cat([-other, one], dim=-1) * sine


def _wide(dtype: torch.dtype) -> torch.dtype:
    """What sums are taken in."""
    return torch.float64 if dtype == torch.float64 else torch.float32
