"""A policy that reads images and an instruction and writes its actions as tokens."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ...decoding import ActionSpec, ActionTrajectory, Observation, ObservationSpec
from ...decoding.jacobi import jacobi, jacobi_committed
from ...decoding.token_guesses import random_tokens, repeated_action, shifted_chunk
from ...decoding.token_model import DecodedTokens, TokenModel, greedy_tokens
from ..programs.engines.arithmetic import arithmetic
from ..programs.rows import check_reset
from .decoding_config import TokenDecodingConfig
from .model import VlaModel
from .precision import TokenComparison, in_precision, split_engine
from .session import CachedModel, Prompt
from .static import StaticModel
from .token_engine import make_token_engine

NOT_STARTED = -1


class VlaPolicy:
    """Vision-language-action policy with greedy or Jacobi decoding of whole chunks.

    Without consistency distillation Jacobi decoding gives the same actions as greedy decoding and
    saves little; a distilled model (CEED-VLA) needs a few forwards per chunk.

    Args:
        model: Trained model.
        action_spec: Names, bounds and period of the actions.
        decoding: Decoder, guess and exit rule.
        engine: What runs the host: ``"eager"`` is `transformers` with its cache, every other engine
            passes of fixed shapes (see `static`), which decode the same tokens. Both ``"eager"``
            and ``"cuda-graph"`` have other precisions, see `precision`.

    Attributes:
        model: What runs, in its precision.
        stored: The model that was given.
        decoded: What the decoder did at the newest plan.
        comparison: Looks at every plan, if set.
    """

    def __init__(
        self,
        model: VlaModel,
        action_spec: ActionSpec,
        decoding: TokenDecodingConfig,
        engine: str = "eager",
    ) -> None:
        runner, self.precision = split_engine(engine)
        if runner != "eager" and not decoding.cached:
            raise ValueError(
                f"cached=False recomputes the prompt, which engine {engine!r} never does; use "
                "engine 'eager'"
            )
        if not 1 <= decoding.num_execute <= model.config.num_actions:
            raise ValueError(
                f"num_execute must be between 1 and {model.config.num_actions}, the chunk's size, "
                f"got {decoding.num_execute}"
            )
        if model.action_tokenizer.size != action_spec.size:
            raise ValueError(
                f"the model's actions have {model.action_tokenizer.size} dimensions, the action "
                f"spec's {action_spec.size}"
            )
        self.stored, self.action_spec, self.decoding = model, action_spec, decoding
        self.model, self._parity = in_precision(model, engine)
        self.observation_spec = ObservationSpec(model.observation_shapes, num_steps=1)
        self.num_execute, self.engine = decoding.num_execute, engine
        self.decoded: DecodedTokens | None = None
        self.comparison: TokenComparison | None = None
        self._engine = (
            None if runner == "eager" else make_token_engine(self.model, engine, decoding.passes)
        )
        self._values = model.action_values.to(model.device)
        self._generators: list[np.random.Generator] = []
        self._chunks = np.zeros((0, model.action_tokenizer.num_tokens), np.int64)
        self._first_steps = np.zeros(0, np.int64)

    @property
    def parity(self) -> float:
        """Largest difference of logits, keys and values from eager PyTorch with stored weights.

        Of the passes that were prepared so far, or of an example that `in_precision` reads.
        """
        return self._parity if self._engine is None else max(self._parity, self._engine.parity)

    def reference(self) -> VlaPolicy:
        """The policy on eager PyTorch with its stored weights."""
        return VlaPolicy(self.stored, self.action_spec, self.decoding)

    def token_model(self, prompt: Prompt) -> TokenModel:
        """The host behind `prompt` on the policy's engine."""
        if self._engine is not None:
            return self._engine.token_model(prompt)
        return self.model.token_model(prompt, self.decoding.needs_cache)

    def reset(self, seeds: np.ndarray, rows: np.ndarray | None = None) -> None:
        """Start an episode in each of `rows`: their last chunk is forgotten; see `Policy.reset`."""
        generators = [np.random.default_rng(int(seed)) for seed in seeds]
        if rows is None:
            self._generators = generators
            self._chunks = np.zeros((len(seeds), self._chunks.shape[1]), np.int64)
            self._first_steps = np.full(len(seeds), NOT_STARTED)
            return
        self._first_steps[rows] = NOT_STARTED
        for row, generator in zip(rows, generators, strict=True):
            self._generators[row] = generator

    def plan(self, observation: Observation, step: np.ndarray) -> ActionTrajectory:
        """Decode the chunk that begins at the observed step; see `Policy.plan`.

        What the decoder did is left in `decoded`.
        """
        check_reset(observation.rows, len(self._generators))
        frames = {key: values[:, -1] for key, values in observation.frames.items()}
        tokenizer = self.model.action_tokenizer
        rows, first_step = observation.rows, observation.step
        holds = self.decoding.unverified == "hold"
        num_needed = step - first_step + 1 if holds else np.zeros_like(step)
        minimum = tokenizer.tokens_for(num_needed)
        guess = self._guesses(rows, first_step)
        self.decoded = decoded = self.decode(frames, guess, minimum)
        if self.comparison is not None:
            self.comparison.take(frames, guess, minimum, decoded)
        tokens = decoded.tokens.cpu().numpy()
        self._chunks[rows], self._first_steps[rows] = tokens, first_step
        low, high = self.action_spec.low, self.action_spec.high
        actions = np.minimum(np.maximum(tokenizer.decode(tokens), low), high)
        valid = np.ones(actions.shape[:2], bool)
        if holds:
            num_valid = tokenizer.num_actions(decoded.num_verified.cpu().numpy())
            valid = np.arange(actions.shape[1]) < num_valid[:, None]
        noise_level = np.zeros(valid.shape, np.float32)
        dt = self.action_spec.dt
        return ActionTrajectory(actions, first_step, first_step, dt, noise_level, valid)

    @torch.inference_mode()
    def decode(
        self, frames: dict[str, np.ndarray], guess: np.ndarray, min_verified: np.ndarray
    ) -> DecodedTokens:
        """Decode a block for each of B rows, whatever is remembered of them.

        Args:
            frames: One frame per row, shape (B, *shape) each.
            guess: Start of the iteration, shape (B, n); greedy decoding takes none.
            min_verified: Leading tokens that an exit has to wait for, shape (B,).
        """
        with arithmetic(self.model.device, self.precision == "tf32"):
            token_model = self.token_model(self.model.prompt(frames))
            if not self.decoding.fused and isinstance(token_model, CachedModel | StaticModel):
                token_model.read_prompt()
            start, needed = torch.from_numpy(guess), torch.from_numpy(min_verified)
            if isinstance(token_model, StaticModel):
                return self._decode_by_itself(token_model, start, needed)
            device = self.model.device
            return self._decode_step_by_step(token_model, start.to(device), needed.to(device))

    def _decode_by_itself(
        self, token_model: StaticModel, guess: Tensor, min_verified: Tensor
    ) -> DecodedTokens:
        choices = self.decoding
        if choices.method == "greedy":
            return token_model.greedy()
        committed = choices.method == "committed"
        return token_model.jacobi(guess, choices.exit_rule, min_verified, committed=committed)

    def _decode_step_by_step(
        self, token_model: TokenModel, guess: Tensor, min_verified: Tensor
    ) -> DecodedTokens:
        choices, begin = self.decoding, self.model.begin(len(guess))
        if choices.method == "greedy":
            return greedy_tokens(token_model, begin, guess.shape[1])
        return (jacobi_committed if choices.method == "committed" else jacobi)(
            token_model,
            begin,
            guess,
            choices.exit_rule,
            decode=lambda tokens: self._values[tokens],
            min_verified=min_verified,
        )

    def _guesses(self, rows: np.ndarray, first_step: np.ndarray) -> np.ndarray:
        """Where decoding starts, shape (B, n)."""
        if self.decoding.method == "greedy":
            return np.zeros((len(rows), self._chunks.shape[1]), np.int64)
        return np.stack([self._guess(*entry) for entry in zip(rows, first_step, strict=True)])

    def _guess(self, row: int, first_step: int) -> np.ndarray:
        """Start of the iteration for one row, shape (n,)."""
        tokenizer, chunk = self.model.action_tokenizer, self._chunks[row]
        # Drawn at every plan, so that the generator's state does not depend on the guess.
        drawn = random_tokens(self._generators[row], len(chunk), tokenizer.vocabulary_size)
        if self.decoding.guess == "random" or self._first_steps[row] == NOT_STARTED:
            return drawn
        num_executed = int(first_step - self._first_steps[row])
        move = shifted_chunk if self.decoding.guess == "previous" else repeated_action
        return move(chunk, num_executed, tokenizer.size)
