"""A policy that reads images and an instruction and writes its actions as tokens."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ...decoding import ActionSpec, ActionTrajectory, Observation, ObservationSpec
from ...decoding.acceptance import jacobi_accepting
from ...decoding.jacobi import jacobi, jacobi_committed
from ...decoding.token_guesses import random_tokens, repeated_action, shifted_chunk
from ...decoding.token_model import DecodedTokens, TokenModel, greedy_tokens
from ..programs.rows import check_reset
from .decoding_config import TokenDecodingConfig
from .model import VlaModel
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
            passes of fixed shapes (see `static`), which decode the same tokens.
    """

    def __init__(
        self,
        model: VlaModel,
        action_spec: ActionSpec,
        decoding: TokenDecodingConfig,
        engine: str = "eager",
    ) -> None:
        if engine.startswith(("eager-", "cuda-graph-")):
            raise ValueError(
                f"engine {engine!r}: token policies compute in the precision of their stored "
                "weights; leave precision out"
            )
        if engine != "eager" and not decoding.cached:
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
        self.model, self.action_spec, self.decoding = model, action_spec, decoding
        self.observation_spec = ObservationSpec(model.observation_shapes, num_steps=1)
        self.num_execute, self.engine = decoding.num_execute, engine
        self.decoded: DecodedTokens | None = None
        self._engine = (
            None if engine == "eager" else make_token_engine(model, engine, decoding.passes)
        )
        self._generators: list[np.random.Generator] = []
        self._chunks = np.zeros((0, model.action_tokenizer.num_tokens), np.int64)
        self._first_steps = np.zeros(0, np.int64)

    @property
    def parity(self) -> float:
        """Largest difference from eager PyTorch of the passes that were prepared so far."""
        return 0.0 if self._engine is None else self._engine.parity

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
        needed = np.array([tokenizer.tokens_for(int(skip) + 1) for skip in step - first_step])
        decoded = self._decode(frames, rows, first_step, needed)
        tokens = decoded.tokens.cpu().numpy()
        self.decoded = decoded
        self._chunks[rows], self._first_steps[rows] = tokens, first_step
        low, high = self.action_spec.low, self.action_spec.high
        actions = np.clip(tokenizer.decode(tokens), low, high)
        valid = np.ones(actions.shape[:2], bool)
        if self.decoding.unverified == "hold":
            num_valid = tokenizer.num_actions(decoded.num_verified.cpu().numpy())
            valid = np.arange(actions.shape[1]) < num_valid[:, None]
        noise_level = np.zeros(valid.shape, np.float32)
        dt = self.action_spec.dt
        return ActionTrajectory(actions, first_step, first_step, dt, noise_level, valid)

    @torch.inference_mode()
    def _decode(
        self,
        frames: dict[str, np.ndarray],
        rows: np.ndarray,
        first_step: np.ndarray,
        needed: np.ndarray,
    ) -> DecodedTokens:
        prompt = self.model.prompt(frames)
        token_model = self.token_model(prompt)
        if not self.decoding.fused and isinstance(token_model, CachedModel | StaticModel):
            token_model.read_prompt()
        begin = self.model.begin(len(rows))
        if self.decoding.method == "greedy":
            return greedy_tokens(token_model, begin, self._chunks.shape[1])
        guess = np.stack([self._guess(*entry) for entry in zip(rows, first_step, strict=True)])
        minimum = needed if self.decoding.unverified == "hold" else np.zeros_like(needed)
        verified = torch.from_numpy(minimum).to(begin.device)
        started = torch.from_numpy(guess).to(begin.device)
        if acceptance := self.decoding.acceptance:
            limit = self.decoding.exit_rule.max_calls
            return jacobi_accepting(
                token_model, begin, started, acceptance, max_calls=limit, min_verified=verified
            )
        decoder: Callable[..., DecodedTokens] = jacobi
        if self.decoding.method == "committed":
            decoder = jacobi_committed
        return decoder(
            token_model,
            begin,
            started,
            self.decoding.exit_rule,
            decode=self._normalised,
            min_verified=verified,
        )

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

    def _normalised(self, tokens: Tensor) -> Tensor:
        """Action values in [-1, 1] of blocks (B, n), for the exit rule."""
        values = self.model.action_tokenizer.normalised(tokens.cpu().numpy())
        return torch.from_numpy(values).to(tokens.device)
