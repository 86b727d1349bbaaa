"""The trained part that Diffusion Policy and Streaming Diffusion Policy share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from ...decoding.fitted import ddim_scalars
from ...decoding.interface import is_picture
from ...decoding.rolling import Ladder
from ...decoding.samplers import prediction_target, spaced_levels
from ..networks.build import build_network
from ..networks.config import WindowSizes
from ..networks.vision import Vision
from ..normalizer import Normalizer
from .actions import ActionNormalizer
from .config import ModelConfig, parse_ladder


@dataclass(frozen=True)
class Batch:
    """A training batch in physical units.

    Attributes:
        observation: Per key a tensor of shape (B, To, *shape); pictures are uint8.
        actions: Shape (B, H, D); position To - 1 belongs to the newest observation.
        features: Features of K crops of the pictures, the first from the middle, shape
            (B, To, K, F), where they are known; then `observation` has no pictures.
    """

    observation: Mapping[str, Tensor]
    actions: Tensor
    features: Tensor | None = None

    def to(self, device: torch.device, non_blocking: bool = False) -> Batch:
        """Return the batch on `device`; `non_blocking` as in `torch.Tensor.to`."""

        def move(one: Tensor) -> Tensor:
            return one.to(device, non_blocking=non_blocking)

        observation = {key: move(value) for key, value in self.observation.items()}
        features = None if self.features is None else move(self.features)
        return Batch(observation, move(self.actions), features)


class DiffusionModel(nn.Module):
    """Normalisers, encoder of pictures, noise schedule and denoising network.

    Args:
        config: Sizes and choices.
        observation_shapes: Shape of one frame per key; the order of keys is part of the model.
        action_dim: Action size D.
    """

    def __init__(
        self,
        config: ModelConfig,
        observation_shapes: Mapping[str, tuple[int, ...]],
        action_dim: int,
    ) -> None:
        super().__init__()
        self.config = config
        self.observation_shapes = dict(observation_shapes)
        self.schedule = config.schedule
        self.ladders = tuple(parse_ladder(text, config) for text in config.ladders)
        # What training visits: every ladder at every latency.
        self.delayed_ladders = tuple(
            ladder.delayed(latency)
            for ladder in self.ladders
            for latency in range(config.max_latency + 1)
        )
        pictures = {key: shape for key, shape in observation_shapes.items() if is_picture(shape)}
        self.vector_keys = tuple(key for key in observation_shapes if key not in pictures)
        self.vision = Vision(config.encoder, pictures) if pictures else None
        frame_dim = sum(
            int(torch.Size(observation_shapes[key]).numel()) for key in self.vector_keys
        )
        self.observation_normalizer = Normalizer(frame_dim)
        if self.vision is not None:
            frame_dim += self.vision.num_features
        # Level, gain and memory of each call, by the number of calls; see `decoding.fitted`.
        self.solver = nn.Module()
        for num_calls in config.fitted_calls:
            start = ddim_scalars(spaced_levels(config.num_levels, 0, num_calls))
            self.solver.register_buffer(str(num_calls), start.float())
        self.action_normalizer = ActionNormalizer(action_dim, config.rotations)
        self.network = build_network(
            config.network,
            WindowSizes(
                *self.window_shape,
                config.num_obs_steps * frame_dim,
                config.jump,
                config.num_levels,
            ),
        )

    @property
    def action_dim(self) -> int:
        """Action size D."""
        return self.action_normalizer.action_dim

    @property
    def window_shape(self) -> tuple[int, int]:
        """Horizon H and size N of an action as the network sees it.

        Without rotations N is D; where normalised actions are said to have D numbers, N is meant.
        """
        return self.config.horizon, self.action_normalizer.scale.shape[0]

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.action_normalizer.scale.device

    @property
    def num_past(self) -> int:
        """Window slots before the current action, To - 1."""
        return self.config.num_past

    def vectors(self, observation: Mapping[str, Tensor]) -> Tensor:
        """Join the frames of all keys but pictures, (B, To, *shape), normalised: (B, To, V)."""
        if not self.vector_keys:
            assert self.vision is not None
            frames = observation[next(iter(self.vision.shapes))]
            return torch.zeros(*frames.shape[:2], 0, device=frames.device)
        frames = [rearrange(observation[key], "b to ... -> b to (...)") for key in self.vector_keys]
        return self.observation_normalizer(torch.cat(frames, dim=-1))

    def flatten(self, observation: Mapping[str, Tensor]) -> Tensor:
        """Join the frames of all keys, shapes (B, To, *shape), into normalised (B, To * O).

        Pictures are encoded as at run time.
        """
        vectors = self.vectors(observation)
        if self.vision is None:
            return join(vectors)
        return join(vectors, self.vision.encode(self.vision.crop(observation, None)))

    def predict(
        self, x: Tensor, level: Tensor, observation: Tensor, jump: Tensor | None = None
    ) -> Tensor:
        """Network output for noisy normalised actions.

        Args:
            x: Noisy actions, shape (B, H, D).
            level: Integer levels, shape (B, H).
            observation: Output of `flatten`, shape (B, To * O).
            jump: Levels that one call is meant to descend, integer, shape (B,). One level counts
                as an infinitesimal step: it is what ordinary denoising takes.
        """
        scaled_jump = None
        if jump is not None:
            scaled_jump = torch.where(jump > 1, jump, 0).float() / self.config.num_levels
        return self.network(x, level.float() / self.config.num_levels, observation, scaled_jump)

    def target(self, clean: Tensor, noise: Tensor, level: Tensor) -> Tensor:
        """What the network should predict for ``add_noise(clean, noise, level)``."""
        return prediction_target(self.schedule, self.config.prediction, clean, noise, level)

    def ladder(self, num_execute: int) -> Ladder:
        """The rolling buffer of chunk size `num_execute`.

        Raises:
            ValueError: If the model is not trained for it.
        """
        for ladder in self.ladders:
            if ladder.num_execute == num_execute:
                return ladder
        raise ValueError(
            f"this model streams in chunks of {[ladder.num_execute for ladder in self.ladders]} "
            f"actions, got num_execute {num_execute}"
        )

    def fitted_scalars(self, num_calls: int | None) -> Tensor:
        """Scalars of fitted steps, shape (3, `num_calls`); see `decoding.fitted`.

        Raises:
            ValueError: If none were fitted for so many calls.
        """
        fitted = self.config.fitted_calls
        if not fitted:
            raise ValueError(
                "update 'fitted' needs steps that were fitted to the network, and this model has "
                "none; fit them with `hotloop distill CHECKPOINT method=sampler`, or choose "
                "update=ddim"
            )
        if num_calls not in fitted:
            raise ValueError(
                f"this model's steps were fitted for calls_per_step {', '.join(map(str, fitted))}, "
                f"got {num_calls}; choose one of them, or update=ddim"
            )
        return self.solver.get_buffer(str(num_calls))

    def config_dict(self) -> dict[str, Any]:
        """The configuration as JSON-able values."""
        return asdict(self.config)


def seeded_model(
    config: ModelConfig, shapes: Mapping[str, tuple[int, ...]], action_dim: int, seed: int
) -> DiffusionModel:
    """Initialise a model from `seed` without touching the global generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return DiffusionModel(config, shapes, action_dim)


def join(vectors: Tensor, features: Tensor | None = None) -> Tensor:
    """Frames (B, To, V) and features of their pictures (B, To, F) as one row, (B, To * O)."""
    joined = vectors if features is None else torch.cat([vectors, features], dim=-1)
    return rearrange(joined, "b to o -> b (to o)")


def denoising_loss(
    model: DiffusionModel,
    observation: Tensor,
    clean: Tensor,
    level: Tensor,
    noise: Tensor,
) -> Tensor:
    """Unweighted squared error of the prediction over all noisy positions.

    Ho et al. 2020, eq. 14, with actions for images and a level of its own for each of them. Clean
    positions are what the network is given, not what it should find.

    Args:
        model: The model in training.
        observation: Normalised observations, shape (B, To * O).
        clean: Normalised actions, shape (B, H, D).
        level: Integer levels, shape (B, H).
        noise: Standard normal, shape (B, H, D).
    """
    x = model.schedule.add_noise(clean, noise, level)  # (b, h, d)
    output = model.predict(x, level, observation)  # (b, h, d)
    error = (output - model.target(clean, noise, level)) ** 2
    noisy = (level > 0)[..., None]  # (b, h, 1)
    return (noisy * error).mean()
