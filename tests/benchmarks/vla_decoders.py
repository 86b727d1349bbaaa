"""Decoders that benchmarks of vision-language policies compare, and what they decode."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from hotloop.decoding import Observation
from hotloop.decoding.token_model import TokenModel
from hotloop.policies.vla import VlaModel
from hotloop.policies.vla.session import Prompt
from hotloop.train.data.formats.registry import read_episodes

WAIT: dict[str, Any] = {"max_calls": 0, "max_move": -1.0}  # whatever a checkpoint has stored
WARM: dict[str, Any] = {"method": "committed", "guess": "previous", **WAIT}
DECODINGS: dict[str, dict[str, Any]] = {
    "greedy": {"method": "greedy", **WAIT},
    "jacobi": {"method": "jacobi", "guess": "random", **WAIT},
    "committed": {"method": "committed", "guess": "random", **WAIT},
    "committed, warm": WARM,
    "sigma 4, warm": {**WARM, "max_calls": 4},
    "sigma 3, warm": {**WARM, "max_calls": 3},
    "sigma 2, warm": {**WARM, "max_calls": 2},
    "sigma 1, warm": {**WARM, "max_calls": 1},
    "epsilon 0.05, warm": {**WARM, "max_move": 0.05},
    # A chunk's first actions alone: the next one's guess is right for longer.
    **{
        f"sigma {calls}, warm, first {num} actions": {
            **WARM,
            "max_calls": calls,
            "num_execute": num,
        }
        for calls in (1, 2)
        for num in (7, 6, 5, 4)
    },
}
LIMIT = "one fused forward"


def observations(
    dataset: str, model: VlaModel, num_episodes: int, num_actions: int | None = None
) -> list[list[Observation]]:
    """Observations of the last episodes, one per chunk of so many actions."""
    stride = num_actions or model.config.num_actions
    episodes = read_episodes(dataset, everything=True)
    bounds = list(zip(episodes.episode_starts, episodes.episode_ends, strict=True))
    return [
        [
            Observation(
                {
                    # As from an executor, whose history is float32.
                    key: np.float32(episodes.observations[key][step : step + 1])[None]
                    for key in model.observation_shapes
                },
                np.array([step - start]),
                np.array([0]),
            )
            for step in range(start, end, stride)
        ]
        for start, end in bounds[-num_episodes:]
    ]


@torch.inference_mode()
def fused_forward(
    model: VlaModel,
    token_model: Callable[[Prompt], TokenModel],
    observation: Observation,
    num_tokens: int | None = None,
) -> float:
    """Duration of one forward that reads a prompt that is ready and a block of tokens [s].

    Args:
        model: Makes the prompt.
        token_model: The host behind it, on some engine.
        observation: What is read.
        num_tokens: Tokens of the block, all by default.
    """
    num_tokens = num_tokens or model.action_tokenizer.num_tokens
    prompt = model.prompt({key: values[:, 0] for key, values in observation.frames.items()})
    begin = model.begin(1)
    tokens = torch.cat([begin, begin.new_zeros(1, num_tokens - 1)], dim=1)
    began = time.perf_counter()
    token_model(prompt).feed(tokens).argmax(dim=-1).cpu()  # which waits for a GPU
    return time.perf_counter() - began
