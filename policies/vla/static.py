"""The token engine: a host behind prompts, on passes of fixed shapes instead of a growing cache.

    CachedModel   grows and crops a cache of `transformers`; any shapes; the reference
    StaticModel   the same tokens by one prepared pass per (rows, prompt size, window), and whole
                  decoders on the passes' own memory, which look at nothing but tokens:
                  `engine_decoder` on a CPU, `graph_decoder` on a GPU

Windows have two sizes: one token, for greedy decoding, and the whole block. A block is always read
from its first token on, together with what was fed before, which costs what plain Jacobi decoding
does and needs no keys and values of guesses: nothing has to be forgotten but a number.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from ...decoding.jacobi import ExitRule
from ...decoding.token_model import DecodedTokens
from .session import Prompt


class Passes(Protocol):
    """What runs passes and decoders for a number of rows and a prompt size, on memory of its own.

    Logits are valid until the next pass.

    Attributes:
        reader: Whose prompt was read last.
    """

    reader: object

    @property
    def parity(self) -> float:
        """Largest difference from eager PyTorch of what was compared with it when prepared."""
        ...

    def read(self, prompt: Prompt) -> None:
        """Read prompts of the prepared size."""
        ...

    def read_block(self, prompt: Prompt, tokens: Tensor) -> Tensor:
        """The same with a block (B, n) behind them, in one pass; logits (B, n, V)."""
        ...

    def block(self, tokens: Tensor) -> Tensor:
        """Logits (B, n, V) of a block (B, n) behind the prompts."""
        ...

    def append(self, tokens: Tensor, num_fed: int) -> Tensor:
        """Logits (B, 1, V) of one token behind `num_fed` others, which were appended before."""
        ...

    def greedy(self) -> DecodedTokens:
        """One forward per token behind the prompt that was read, each fed by the one before."""
        ...

    def jacobi(
        self,
        guess: Tensor,
        exit_rule: ExitRule,
        min_verified: Tensor,
        num_confirming: int,
        prompt: Prompt | None,
    ) -> DecodedTokens:
        """Refine a guess until every row is finished.

        Args:
            guess: Start of the iteration, shape (B, n).
            exit_rule: When to stop early.
            min_verified: See `decoding.jacobi.jacobi`, shape (B,), on the CPU.
            num_confirming: See `decoding.jacobi.advanced`.
            prompt: What is read in the first forward; None if it was read before.
        """
        ...


class StaticModel:
    """A `TokenModel` of prompts and one block behind them, which also decodes by itself.

    The tokens are those of `greedy_tokens` and `decoding.jacobi` on any other `TokenModel`.

    Args:
        passes: What runs; several models of a size may share them, the prompt is read again then.
        prompt: What is read first, of the prepared size.
        num_tokens: Tokens of a block n.
    """

    def __init__(self, passes: Passes, prompt: Prompt, num_tokens: int) -> None:
        self._passes, self._prompt = passes, prompt
        self._tokens = prompt.ids.new_zeros(len(prompt.ids), num_tokens)
        self._num_fed = 0
        self._num_appended = 0  # leading tokens whose keys and values lie in memory

    @property
    def num_fed(self) -> int:
        """Tokens that are remembered behind the prompt."""
        return self._num_fed

    def read_prompt(self) -> None:
        """Read the prompt in a pass of its own."""
        if self._passes.reader is not self:
            self._passes.read(self._prompt)
            self._passes.reader, self._num_appended = self, 0

    def feed(self, tokens: Tensor) -> Tensor:
        """Read tokens (B, q) and return logits (B, q, V); see `TokenModel.feed`.

        Raises:
            ValueError: If they do not fit into the block.
        """
        before, behind = self._num_fed, self._num_fed + tokens.shape[1]
        if behind > self._tokens.shape[1]:
            raise ValueError(
                f"the token engine was prepared for blocks of {self._tokens.shape[1]} tokens, and "
                f"{behind} were fed"
            )
        self._tokens[:, before:behind] = tokens
        self._num_fed = behind
        if self._passes.reader is not self:
            self._num_appended = 0
        if behind == before + 1 and self._num_appended == before:
            self.read_prompt()
            self._num_appended = behind
            return self._passes.append(tokens, before).clone()
        # Tokens behind those that were fed are whatever they were: nothing before them sees them.
        if self._passes.reader is self:
            logits = self._passes.block(self._tokens)
        else:
            logits = self._passes.read_block(self._prompt, self._tokens)
            self._passes.reader = self
        return logits[:, before:behind].clone()

    def crop(self, num_fed: int) -> None:
        """Forget all but the first `num_fed` tokens behind the prompt."""
        self._num_fed = min(self._num_fed, num_fed)
        self._num_appended = min(self._num_appended, num_fed)

    def greedy(self) -> DecodedTokens:
        """What `greedy_tokens` decodes."""
        self.crop(0)
        self.read_prompt()
        return self._passes.greedy()

    def jacobi(
        self, guess: Tensor, exit_rule: ExitRule, min_verified: Tensor, *, committed: bool
    ) -> DecodedTokens:
        """What `decoding.jacobi` decodes.

        Args:
            guess: Start of the iteration, shape (B, n), anywhere.
            exit_rule: When to stop early.
            min_verified: Leading tokens that must be verified before that, shape (B,), on the CPU.
            committed: Whether as `jacobi_committed` does: a row is finished when all of its tokens
                but the last one agree.
        """
        self.crop(0)
        prompt = None if self._passes.reader is self else self._prompt
        self._passes.reader = self
        num_confirming = guess.shape[1] - committed
        return self._passes.jacobi(guess, exit_rule, min_verified, num_confirming, prompt)
