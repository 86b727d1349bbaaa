"""Passes on static tensors where the host is, each recorded once: CUDA graphs on a GPU."""

from __future__ import annotations

import torch
from torch import Tensor

from ..programs.engines.recording import Record, Step, record_graph
from .host import Host
from .passes import ImageTokens, Layout, PromptPass, WindowPass, past_shape
from .session import Prompt


class GraphPasses:
    """`Passes` on tensors that never move, for one number of rows and one prompt size.

    Keys and values of prompt and block lie in one tensor that all passes share; a token's are
    written where it stands. Everything that changes from run to run is in a tensor.

    Args:
        host: Runs where its weights are, in their type.
        layout: Sizes.
        rows: Number of rows.
        record: Turns a step into a call that repeats it on the same memory of a device.
    """

    parity = 0.0  # PyTorch's own operations, recorded

    def __init__(
        self,
        host: Host,
        layout: Layout,
        rows: int,
        record: Record = record_graph,
    ) -> None:
        self.reader: object = None
        self._layout, self._record = layout, record
        self._recorded: dict[str, Step] = {}
        self._images, self._window = ImageTokens(host), WindowPass(host, keeping=True)
        self._prompt = PromptPass(host, layout, with_block=False)
        # Tensors of inference mode could not be written outside of it.
        with torch.inference_mode(mode=False):
            self._allocate(host, layout, rows)

    def _allocate(self, host: Host, layout: Layout, rows: int) -> None:
        size, block, like = layout.size, layout.num_tokens, host.weight.detach()
        self._ids = torch.zeros(rows, size, dtype=torch.int64, device=like.device)
        self._attended = torch.zeros(rows, size, dtype=torch.uint8, device=like.device)
        self._pixels = like.new_zeros(rows, *layout.pixels)
        self._tokens = torch.zeros(rows, block, dtype=torch.int64, device=like.device)
        self._token = torch.zeros(rows, 1, dtype=torch.int64, device=like.device)
        self._order = torch.arange(block, device=like.device)
        self._num_fed = torch.zeros(1, dtype=torch.int64, device=like.device)
        self._past = like.new_zeros(rows, *past_shape(host, size + block))
        self._logits = like.new_zeros(rows, block, host.num_action_ids)
        self._one = like.new_zeros(rows, 1, host.num_action_ids)

    def read(self, prompt: Prompt) -> None:
        """See `Passes`."""
        self._take(prompt)
        self._run("read", self._read)

    def read_block(self, prompt: Prompt, tokens: Tensor) -> Tensor:
        """See `Passes`."""
        self._take(prompt)
        self._tokens.copy_(tokens)
        self._run("read_block", self._read_block)
        return self._logits

    def block(self, tokens: Tensor) -> Tensor:
        """See `Passes`."""
        self._tokens.copy_(tokens)
        self._run("block", self._block)
        return self._logits

    def append(self, tokens: Tensor, num_fed: int) -> Tensor:
        """See `Passes`."""
        self._token.copy_(tokens)
        self._num_fed.fill_(num_fed)
        self._run("append", self._append)
        return self._one

    def _take(self, prompt: Prompt) -> None:
        self._ids.copy_(prompt.ids)
        self._attended.copy_(prompt.attended)
        self._pixels.copy_(prompt.pixel_values)

    @torch.no_grad()
    def _run(self, name: str, step: Step) -> None:
        if name not in self._recorded:
            self._recorded[name] = self._record(step, self._past.device)
        self._recorded[name]()

    def _read(self) -> None:
        past = self._prompt(self._ids, self._attended, self._images(self._pixels))
        self._past[..., : self._layout.size, :] = past

    def _read_block(self) -> None:
        images = self._images(self._pixels)
        logits, past = self._prompt(self._ids, self._attended, images, self._tokens)
        self._past[..., : self._layout.size, :] = past
        self._logits.copy_(logits)

    def _block(self) -> None:
        past = self._past[..., : self._layout.size, :]
        logits, _ = self._window(self._tokens, self._attended, past)
        self._logits.copy_(logits)

    def _append(self) -> None:
        fed = (self._order < self._num_fed).to(torch.uint8).expand(len(self._ids), -1)
        visible = torch.cat([self._attended, fed], dim=1)
        logits, new = self._window(self._token, visible, self._past)
        self._past.index_copy_(3, self._layout.size + self._num_fed, new)
        self._one.copy_(logits)
