"""Passes on static tensors where the host is, each recorded once: CUDA graphs on a GPU."""

from __future__ import annotations

import torch
from torch import Tensor

from ..programs.engines.arithmetic import arithmetic
from ..programs.engines.recording import Record, Step, record_graph
from .host import Host
from .passes import ImageTokens, Layout, PromptPass, WindowPass, past_shape
from .session import Prompt


class GraphPasses:
    """The forwards of `Passes` on tensors that never move, for a number of rows and a prompt size.

    Keys and values of prompt and block lie in one tensor that all passes share; a token's are
    written where it stands. Everything that changes from run to run is in a tensor.

    Args:
        host: Runs where its weights are, in their type.
        layout: Sizes.
        rows: Number of rows.
        tf32: Whether a GPU's products of float32 may be TensorFloat-32's.
        record: Turns a step into a call that repeats it on the same memory of a device.
    """

    parity = 0.0  # PyTorch's own operations, recorded

    def __init__(
        self,
        host: Host,
        layout: Layout,
        rows: int,
        tf32: bool = False,
        record: Record = record_graph,
    ) -> None:
        self.reader: object = None
        self._layout, self._tf32, self._record = layout, tf32, record
        self._recorded: dict[str, Step] = {}
        self._images, self._window = ImageTokens(host), WindowPass(host, keeping=True)
        self._prompt = PromptPass(host, layout, with_block=False)
        # Tensors of inference mode could not be written outside of it.
        with torch.inference_mode(mode=False):
            self._allocate(host, layout, rows)

    def _allocate(self, host: Host, layout: Layout, rows: int) -> None:
        size, block, like = layout.size, layout.num_tokens, host.weight.detach()
        self.device = like.device
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
        self.take(prompt)
        self.prepare("read", self._read)
        self.run("read")

    def read_block(self, prompt: Prompt, tokens: Tensor) -> Tensor:
        """See `Passes`."""
        self.take(prompt)
        self._tokens.copy_(tokens)
        self.prepare("read_block", self._read_block)
        self.run("read_block")
        return self._logits

    def block(self, tokens: Tensor) -> Tensor:
        """See `Passes`."""
        self._tokens.copy_(tokens)
        self.prepare("block", self._block)
        self.run("block")
        return self._logits

    def append(self, tokens: Tensor, num_fed: int) -> Tensor:
        """See `Passes`."""
        self._token.copy_(tokens)
        self._num_fed.fill_(num_fed)
        self.prepare("append", self._append)
        self.run("append")
        return self._one

    def take(self, prompt: Prompt) -> None:
        """Put a prompt of the prepared size where passes find it."""
        self._ids.copy_(prompt.ids)
        self._attended.copy_(prompt.attended)
        self._pixels.copy_(prompt.pixel_values)

    @torch.no_grad()
    def prepare(self, name: str, step: Step) -> None:
        """Record a step that reads nothing back, unless it is; that may run it on what there is."""
        if name not in self._recorded:
            with arithmetic(self.device, self._tf32):
                self._recorded[name] = self._record(step, self.device)

    @torch.no_grad()
    def run(self, name: str) -> None:
        """Run a step that was recorded."""
        self._recorded[name]()

    def prompt_logits(self, tokens: Tensor) -> Tensor:
        """Read the prompt and a block (B, n) behind it, to be recorded; logits (B, n, V)."""
        images = self._images(self._pixels)
        logits, past = self._prompt(self._ids, self._attended, images, tokens)
        self._past[..., : self._layout.size, :] = past
        return logits

    def block_logits(self, tokens: Tensor) -> Tensor:
        """Logits (B, n, V) of a block (B, n) behind the prompt, to be recorded."""
        past = self._past[..., : self._layout.size, :]
        return self._window(tokens, self._attended, past)[0]

    def token_logits(self, token: Tensor, num_fed: Tensor) -> Tensor:
        """Logits (B, 1, V) of a token (B, 1) behind others, shape (1,), to be recorded."""
        fed = (self._order < num_fed).to(torch.uint8).expand(len(self._ids), -1)
        visible = torch.cat([self._attended, fed], dim=1)
        logits, new = self._window(token, visible, self._past)
        self._past.index_copy_(3, self._layout.size + num_fed, new)
        return logits

    def _read_block(self) -> None:
        self._logits.copy_(self.prompt_logits(self._tokens))

    def _block(self) -> None:
        self._logits.copy_(self.block_logits(self._tokens))

    def _append(self) -> None:
        self._one.copy_(self.token_logits(self._token, self._num_fed))

    def _read(self) -> None:
        past = self._prompt(self._ids, self._attended, self._images(self._pixels))
        self._past[..., : self._layout.size, :] = past
