"""A host's passes on one engine of the CPU, on memory that never moves."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import torch
from torch import Tensor

from ..programs.engines.engine import Engine, make_engine
from ..programs.engines.memory import Memory
from ..programs.program import Program
from .host import Host
from .passes import Layout, prompt_program, window_program
from .session import Prompt


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
    """The forwards of `Passes`, by one engine's programs.

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
        memory = self._take("read", prompt)
        memory.run()
        self._keep(memory)

    def read_block(self, prompt: Prompt, tokens: Tensor) -> Tensor:
        """See `Passes`."""
        memory = self._take("read_block", prompt)
        memory.inputs["tokens"][...] = tokens.numpy()
        memory.run()
        self._keep(memory)
        return torch.from_numpy(memory.outputs["logits"])

    def block(self, tokens: Tensor) -> Tensor:
        """See `Passes`."""
        memory = self._behind("block")
        memory.inputs["tokens"][...] = tokens.numpy()
        memory.run()
        return torch.from_numpy(memory.outputs["logits"])

    def append(self, tokens: Tensor, num_fed: int) -> Tensor:
        """See `Passes`."""
        memory, place = self._behind("append"), self._size + num_fed
        memory.inputs["tokens"][...] = tokens.numpy()
        memory.inputs["visible"][:, self._size :] = np.arange(self._num_tokens) < num_fed
        memory.run()
        memory.inputs["past"][..., place, :] = memory.outputs["new"][..., 0, :]
        return torch.from_numpy(memory.outputs["logits"])

    def _take(self, name: str, prompt: Prompt) -> Memory:
        """Memory of a pass that reads the prompt, which lies in it."""
        memory = self._programs.memory(name, self._rows)
        self._attended = prompt.attended.numpy()
        memory.inputs["ids"][...] = prompt.ids.numpy()
        memory.inputs["attended"][...] = self._attended
        memory.inputs["pixel_values"][...] = prompt.pixel_values.numpy()
        return memory

    def _keep(self, memory: Memory) -> None:
        """Remember what was read, for passes behind it."""
        self._past = memory.outputs["past"]
        self._given.clear()

    def _behind(self, name: str) -> Memory:
        """Memory of a pass that stands behind the prompt, which it is given once."""
        memory = self._programs.memory(name, self._rows)
        if name not in self._given:
            memory.inputs["past"][..., : self._size, :] = self._past
            memory.inputs["visible"][:, : self._size] = self._attended
            self._given.add(name)
        return memory
