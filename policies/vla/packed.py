"""Several action blocks behind one prompt in one forward, for training.

``[x | a | b]`` with a mask that lets block b see the prompt and itself but not a, and with the
positions of a: every block gets the logits that it would get alone, and the prompt, images
included, is read once.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from einops import repeat
from torch import Tensor

from .host import Host
from .session import Prompt, additive, begin_tokens


def packed_logits(host: Host, prompt: Prompt, blocks: Sequence[Tensor]) -> list[Tensor]:
    """Logits of every token of every block, given the prompt and the tokens before it.

    Args:
        host: The model.
        prompt: Prompts of B rows.
        blocks: Local token ids, each of shape (B, n).

    Returns:
        One tensor (B, n, V) per block.
    """
    num_rows, num_tokens = blocks[0].shape
    begin = begin_tokens(host, num_rows, blocks[0].device)
    # The last token of a block predicts nothing that is wanted, so it is not fed.
    fed = torch.cat([begin, *(block[:, :-1] for block in blocks)], dim=1)  # (b, q)
    embeddings = torch.cat(
        [host.embed(prompt.ids, prompt.pixel_values), host.embed(host.vocabulary_ids(fed))], dim=1
    )
    order = torch.arange(1, num_tokens, device=fed.device)
    order = repeat(order, "n -> (blocks n)", blocks=len(blocks))
    order = torch.cat([order.new_zeros(1), order])  # (q,)
    position_ids = torch.cat([prompt.position_ids, prompt.lengths[:, None] + order], dim=1)
    mask = packed_mask(prompt.attended, num_tokens - 1, len(blocks), embeddings.dtype)
    hidden = host.hidden(embeddings, position_ids, mask)[:, prompt.ids.shape[1] :]  # (b, q, e)
    logits = host.action_logits(hidden)  # (b, q, v)
    first = logits[:, :1]  # the token that opens the block predicts the first of every block
    parts = logits[:, 1:].split(num_tokens - 1, dim=1)  # each (b, n - 1, v)
    return [torch.cat([first, part], dim=1) for part in parts]


def packed_mask(attended: Tensor, block_size: int, num_blocks: int, dtype: torch.dtype) -> Tensor:
    """Additive mask (B, 1, S, S) over prompt, opening token and blocks.

    Args:
        attended: False for the prompt's padding, shape (B, L).
        block_size: Fed tokens per block.
        num_blocks: Number of blocks.
        dtype: Type of the embeddings.
    """
    num_rows, length = attended.shape
    shared = length + 1
    size = shared + block_size * num_blocks
    index = torch.arange(size, device=attended.device)
    # Block 0 is the prompt with the opening token, which everything behind it may see.
    block = torch.where(index < shared, 0, (index - shared) // max(block_size, 1) + 1)
    causal = index[:, None] >= index[None, :]  # (s, s)
    visible = causal & ((block[None, :] == 0) | (block[None, :] == block[:, None]))
    real = torch.cat([attended, attended.new_ones(num_rows, size - length)], dim=1)  # (b, s)
    itself = torch.eye(size, dtype=torch.bool, device=attended.device)
    return additive((visible[None] & real[:, None, :]) | itself, dtype)
