"""Which engine runs a host's passes, and the sizes that they are prepared for."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from functools import cache, partial
from typing import TYPE_CHECKING

import torch

from ..programs.engines.engine import find_obstacle
from .engine_decoder import EngineDecoder
from .engine_passes import EnginePrograms
from .graph_decoder import GraphDecoder
from .llama import StaticLlama
from .passes import Layout
from .precision import split_engine
from .session import Prompt
from .static import Passes, StaticModel

if TYPE_CHECKING:
    from .model import VlaModel

# Instructions are padded to a multiple of so many tokens. Each size is prepared when it is first
# met, which takes seconds; a padded token costs what every other token of a prompt does.
BUCKET = 8
GRAPH_ENGINE = "cuda-graph"


class TokenEngine:
    """Makes token models whose passes have fixed shapes, and keeps what was prepared.

    Args:
        model: Its host must have a language model of type Llama.
        make_passes: Prepares passes for prompts of a layout and a number of rows.

    Raises:
        ValueError: If it has another.
    """

    def __init__(self, model: VlaModel, make_passes: Callable[[Layout, int], Passes]) -> None:
        StaticLlama(model.host.model.get_decoder())  # refuses what it cannot compute
        self._model, self._make_passes = model, make_passes
        self._num_tokens = model.action_tokenizer.num_tokens
        self._start = model.text_start
        self._fixed = model.text_start + model.num_behind_text  # tokens of a prompt beside the text
        self._passes: dict[tuple[int, int], Passes] = {}

    @property
    def parity(self) -> float:
        """Largest difference from eager PyTorch of what was prepared: logits, keys and values."""
        return max((one.parity for one in self._passes.values()), default=0.0)

    def token_model(self, prompt: Prompt) -> StaticModel:
        """The host behind `prompt`, for decoders."""
        padded = self._padded(prompt)
        rows, size = padded.ids.shape
        if (rows, size) not in self._passes:
            self._passes[rows, size] = self._make_passes(self._layout(size), rows)
        return StaticModel(self._passes[rows, size], padded, self._num_tokens)

    def _layout(self, size: int) -> Layout:
        model = self._model
        pixels = len(model.config.cameras), 3, model.host.image_size, model.host.image_size
        num_images = model.num_image_tokens
        first = size - model.num_behind_text if not self._start else self._start - num_images
        return Layout(size, first, num_images, self._num_tokens, pixels)

    def _padded(self, prompt: Prompt) -> Prompt:
        """The prompt, padded to the next size that passes are prepared for."""
        length, start = prompt.ids.shape[1], self._start
        size = -(-(length - self._fixed) // BUCKET) * BUCKET + self._fixed
        if size == length:
            return prompt
        behind = start + size - length
        ids = prompt.ids.new_full((len(prompt.ids), size), self._model.config.pad_id)
        attended = torch.zeros_like(ids, dtype=torch.bool)
        for padded, given in ((ids, prompt.ids), (attended, prompt.attended)):
            padded[:, :start], padded[:, behind:] = given[:, :start], given[:, start:]
        return replace(prompt, ids=ids, attended=attended)


def make_token_engine(model: VlaModel, engine: str, needed: Collection[str] = ()) -> TokenEngine:
    """The token engine that runs its passes on the engine of this name.

    Args:
        model: What it computes, in its precision.
        engine: ``"cuda-graph"`` for a model on a GPU, any other engine for one on the CPU.
        needed: Passes that are prepared when a prompt size is first met, and not later.

    Raises:
        ValueError: If engine, machine and host do not fit each other.
        ImportError: If the engine needs a package that is missing.
    """
    if obstacle := find_obstacle(engine):
        raise obstacle
    runner, precision = split_engine(engine)
    check_place(runner, model.device, model.host.weight.dtype)
    if runner == GRAPH_ENGINE:
        tf32 = precision == "tf32"
        return TokenEngine(model, partial(GraphDecoder, model.host, model.action_values, tf32=tf32))
    prepared = cache(partial(EnginePrograms, model.host, engine, needed))
    return TokenEngine(
        model, lambda layout, rows: EngineDecoder(prepared(layout), rows, model.action_values)
    )


def check_place(engine: str, device: torch.device, dtype: torch.dtype) -> None:
    """Raise ValueError unless an engine can run weights of this type where they are."""
    if engine == GRAPH_ENGINE and device.type != "cuda":
        raise ValueError(
            f"engine {engine!r} runs token policies whose weights are on a GPU, these are on "
            f"{str(device)!r}; choose device=cuda, or another engine"
        )
    if engine != GRAPH_ENGINE and (device.type != "cpu" or dtype != torch.float32):
        raise ValueError(
            f"engine {engine!r} runs token policies in float32 on the CPU, these weights are "
            f"{dtype} on {str(device)!r}; use 'eager' or {GRAPH_ENGINE!r}"
        )
