"""Which engine runs a host's passes, and the sizes that they are prepared for."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from functools import cache, partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..programs.engines.engine import Engine, find_obstacle, make_engine
from ..programs.engines.memory import Memory
from ..programs.program import Program
from .graph_model import GraphDecoder, GraphModel
from .host import Host
from .llama import StaticLlama
from .passes import Layout, prompt_program, window_program
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
        passes = self._passes[rows, size]
        if isinstance(passes, GraphDecoder):
            return GraphModel(passes, padded, self._num_tokens)
        return StaticModel(passes, padded, self._num_tokens)

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
    return TokenEngine(model, lambda layout, rows: EnginePasses(prepared(layout), rows))


class EnginePrograms:
    """Programs of one prompt size on one engine; those not needed are prepared if wanted.

    Args:
        host: What they compute.
        engine: Name of an engine.
        needed: Those that are prepared at once.
        layout: Sizes.
    """

    def __init__(self, host: Host, engine: str, needed: Collection[str], layout: Layout) -> None:
        size, block = layout.size, layout.num_tokens
        self.layout, self._engine = layout, engine
        self._programs: dict[str, Program] = {
            "read": prompt_program(host, layout, with_block=False),
            "read_block": prompt_program(host, layout, with_block=True),
            "block": window_program(host, size, block, keeping=False),
            "append": window_program(host, size + block, 1, keeping=True),
        }
        self._engines: dict[str, Engine] = {}
        for name in needed:
            self._prepare(name)

    @property
    def parity(self) -> float:
        """Largest difference from eager PyTorch of what has been prepared."""
        return max((engine.parity for engine in self._engines.values()), default=0.0)

    def memory(self, name: str, rows: int) -> Memory:
        """Memory of a pass for so many rows."""
        if name not in self._engines:
            self._prepare(name)
        return self._engines[name].memory(rows)

    def _prepare(self, name: str) -> None:
        self._engines[name] = make_engine(self._engine, self._programs[name])


class EnginePasses:
    """`Passes` by one engine's programs.

    Args:
        programs: Programs of a prompt size.
        rows: Number of rows.
    """

    def __init__(self, programs: EnginePrograms, rows: int) -> None:
        self._programs, self._rows = programs, rows
        self.reader: object = None
        self._size, self._num_tokens = programs.layout.size, programs.layout.num_tokens
        self._past = np.empty(0, np.float32)
        self._attended = np.empty(0, np.uint8)
        self._given: set[str] = set()  # passes that have been given the past

    @property
    def parity(self) -> float:
        """See `Passes`."""
        return self._programs.parity

    def read(self, prompt: Prompt) -> None:
        """See `Passes`."""
        self._read("read", prompt)

    def read_block(self, prompt: Prompt, tokens: Tensor) -> Tensor:
        """See `Passes`."""
        return _tensor(self._read("read_block", prompt, tokens).outputs["logits"])

    def block(self, tokens: Tensor) -> Tensor:
        """See `Passes`."""
        memory = self._behind("block")
        memory.inputs["tokens"][...] = tokens.numpy()
        memory.run()
        return _tensor(memory.outputs["logits"])

    def append(self, tokens: Tensor, num_fed: int) -> Tensor:
        """See `Passes`."""
        memory, place = self._behind("append"), self._size + num_fed
        memory.inputs["tokens"][...] = tokens.numpy()
        memory.inputs["visible"][:, self._size :] = np.arange(self._num_tokens) < num_fed
        memory.run()
        memory.inputs["past"][..., place, :] = memory.outputs["new"][..., 0, :]
        return _tensor(memory.outputs["logits"])

    def _read(self, name: str, prompt: Prompt, tokens: Tensor | None = None) -> Memory:
        memory = self._programs.memory(name, self._rows)
        self._attended = prompt.attended.numpy()
        memory.inputs["ids"][...] = prompt.ids.numpy()
        memory.inputs["attended"][...] = self._attended
        memory.inputs["pixel_values"][...] = prompt.pixel_values.numpy()
        if tokens is not None:
            memory.inputs["tokens"][...] = tokens.numpy()
        memory.run()
        self._past = memory.outputs["past"]
        self._given.clear()
        return memory

    def _behind(self, name: str) -> Memory:
        """Memory of a pass that stands behind the prompt, which it is given once."""
        memory = self._programs.memory(name, self._rows)
        if name not in self._given:
            memory.inputs["past"][..., : self._size, :] = self._past
            memory.inputs["visible"][:, : self._size] = self._attended
            self._given.add(name)
        return memory


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


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array)
