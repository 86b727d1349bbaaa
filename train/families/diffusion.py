"""Training and timing of Diffusion Policy and Streaming Diffusion Policy."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ...decoding.fitted import FITTED
from ...decoding.interface import is_picture
from ...decoding.rolling import LevelMixture
from ...policies.checkpoint import Checkpoint
from ...policies.diffusion.encoding import frame_program
from ...policies.diffusion.model import DiffusionModel, ModelConfig, seeded_model
from ...policies.diffusion.real_time_chunking import RealTimeChunkingPolicy
from ...policies.diffusion.reverse import bare_forward
from ...policies.normalizer import Normalizer
from ...policies.programs.engines.engine import make_engine
from ..config.policies import DenoisingConfig, DiffusionPolicyConfig, PolicyConfig
from ..data.episodes import Episodes
from ..data.features import check_seen
from ..data.windows import Windows
from ..distillation.methods import prepare_student, unread
from ..distillation.student import diffusion_teacher, load_teacher
from ..measure.latency import ControlStepTimer, Frames
from ..objectives.denoising import DenoisingObjective
from .encoders import check_encoders, load_encoder_weights, refuse_encoder
from .family import BenchRow, Costs, Family, Training, observation_scale
from .turns import check_turns

if TYPE_CHECKING:
    from ..config.training import TrainConfig

_LOG = logging.getLogger(__name__)


class DiffusionFamily(Family):
    """Diffusion Policy and Streaming Diffusion Policy."""

    pictures = True

    def __init__(self, config: type[DenoisingConfig], method: str) -> None:
        self.config, self.method = config, method

    def cameras(self, config: TrainConfig) -> tuple[str, ...] | None:
        """A student's are its teacher's."""
        if not config.distill.teacher:
            return super().cameras(config)
        shapes = diffusion_teacher(config.distill.teacher).observation_shapes
        return tuple(key for key, shape in shapes.items() if is_picture(shape))

    def check_pictures(self, config: TrainConfig, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """By building the encoders; a student's are its teacher's."""
        policy = config.policy
        assert isinstance(policy, DenoisingConfig)
        if not config.distill.teacher:
            check_encoders(policy, shapes)
        elif (vision := diffusion_teacher(config.distill.teacher).vision) is not None:
            check_seen(vision, shapes)

    def prepare(self, config: TrainConfig, episodes: Episodes) -> Training:
        """Denoising of demonstrations, or what a method distils from a teacher."""
        policy = config.policy
        assert isinstance(policy, DenoisingConfig)
        if config.distill.teacher:
            return prepare_student(config, load_teacher(config.distill.teacher), episodes)
        model = initial_model(policy, episodes, config.seed)
        if model.vision is None:
            refuse_encoder(policy)
        elif policy.encoder_weights:
            load_encoder_weights(model.vision, Path(policy.encoder_weights))
        windows = make_windows(model.config, episodes)
        mixture = level_mixture(policy, model)
        noise = policy.observation_noise
        return Training(DenoisingObjective(model, mixture, noise, policy.num_draws), windows)

    def unread(self, config: TrainConfig) -> Iterable[tuple[str, str]]:
        """Without a teacher there is no student; of one, its method knows."""
        return unread(config)

    def rows(self, checkpoint: Checkpoint, calls: Sequence[int]) -> list[BenchRow]:
        """Streaming by all levels and few calls; DP by DDPM's hundred calls and DDIM's few."""
        if checkpoint.kind == "sdp":
            return [
                BenchRow("sdp-*", {"calls_per_step": num or None, "update": "ddim"})
                for num in calls or (0, 2, 1)
            ]
        rows = [] if calls else [BenchRow("dp-ddpm-*", {"calls_per_step": 100, "update": "ddpm"})]
        rows += [
            BenchRow("dp-ddim-*", {"calls_per_step": num or None, "update": "ddim"})
            for num in calls or (10, 4, 2, 1)
        ]
        rows += [
            BenchRow("dp-fitted-*", {"calls_per_step": num, "update": FITTED})
            for num in checkpoint.model.config.fitted_calls
            if not calls or num in calls
        ]
        num_levels = checkpoint.model.config.num_levels
        return [row for row in rows if (row.sampling["calls_per_step"] or 0) <= num_levels]

    def timer(self, policy: Any, engine: str, episodes: Sequence[Frames]) -> ControlStepTimer:
        """Plans, calls of the network alone, and the encoder of pictures alone."""
        del episodes
        if isinstance(policy, RealTimeChunkingPolicy):
            raise ValueError(
                "plans are compared with forwards of the network, and real-time chunking needs its "
                "gradient too; leave sampling.prefix_guidance out"
            )
        scale = observation_scale(policy.model) if policy.model.vector_keys else 1.0
        forward, encode = forward_call(policy, engine), encode_call(policy, engine)
        return ControlStepTimer(policy, forward, scale, encode=encode)

    def costs(self, policy: Any, timer: ControlStepTimer) -> Costs:
        """As many calls in every plan."""
        del timer
        num_calls = policy.program.num_calls
        return Costs(num_calls, num_calls, parity=policy.parity)


DIFFUSION = DiffusionFamily(DiffusionPolicyConfig, method="flow-map")
STREAMING = DiffusionFamily(PolicyConfig, method="segment")


def forward_call(policy: Any, engine: str) -> Callable[[], object]:
    """One call of the network, by the same engine, on a fixed observation."""
    level = np.full(policy.model.config.horizon, policy.model.config.num_levels)
    return make_engine(engine, bare_forward(policy.model, level)).memory(1).run


def encode_call(policy: Any, engine: str) -> Callable[[], object] | None:
    """The pictures of one frame to features, by the same engine; None without pictures."""
    if policy.model.vision is None:
        return None
    return make_engine(engine, frame_program(policy.model)).memory(1).run


def initial_model(config: DenoisingConfig, episodes: Episodes, seed: int) -> DiffusionModel:
    """Build a model with random weights and the data's normalisation."""
    shapes = {key: value.shape[1:] for key, value in episodes.observations.items()}
    model = seeded_model(config.model, shapes, episodes.actions.shape[1], seed)
    # Key by key: side by side, memory-mapped arrays would be read into memory.
    arrays = [episodes.observations[key] for key in model.vector_keys]
    mode = config.observation_normalization
    fits = [Normalizer.fit(array.reshape(len(array), -1), mode).state_dict() for array in arrays]
    if fits:
        joined = {key: torch.cat([fit[key] for fit in fits]) for key in fits[0]}
        model.observation_normalizer.load_state_dict(joined)
    check_turns(episodes, config.model.rotations)
    model.action_normalizer.scale_like(
        Normalizer.fit(episodes.actions, config.action_normalization)
    )
    return model


def level_mixture(config: DenoisingConfig, model: DiffusionModel) -> LevelMixture:
    """How training of this policy draws noise levels."""
    sizes = model.config
    return LevelMixture(
        sizes.horizon,
        sizes.num_levels,
        model.delayed_ladders,
        config.chunkwise,
        config.independent,
    )


def make_windows(
    config: ModelConfig, episodes: Episodes, features: np.ndarray | None = None
) -> Windows:
    """Training windows of the model's size; logs how many episodes are shorter than one.

    Args:
        config: Sizes.
        episodes: Demonstrations.
        features: What windows hold instead of pictures, see `Windows`.
    """
    keys = tuple(
        key
        for key, array in episodes.observations.items()
        if features is None or not is_picture(array.shape[1:])
    )
    windows = Windows(episodes, keys, config.num_obs_steps, config.horizon, features)
    if windows.num_short:
        _LOG.warning(
            "%d of %d episodes are shorter than the horizon of %d steps; their windows repeat the "
            "first and last step",
            windows.num_short,
            episodes.num_episodes,
            config.horizon,
        )
    return windows
