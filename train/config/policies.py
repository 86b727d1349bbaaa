"""Policies to train: one dataclass per family, beside the model's and the sampler's own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ...policies.diffusion.config import DiffusionSampling, ModelConfig, StreamingSampling
from ...policies.planners.config import PlannerConfig, PlannerSampling
from ...policies.vla.decoding_config import TokenDecodingConfig
from ...policies.vla.host import TinyHost
from .checks import at_least, shares


@dataclass(frozen=True)
class DenoisingConfig:
    """What the training of all diffusion policies has in common.

    Attributes:
        model: Network, window and noise levels.
        chunkwise: Share of samples on one of the model's ladders; the rest of the samples has a
            constant level.
        independent: Share of samples with independent levels.
        cameras: Observation keys of the pictures that are read; null for all that dataset and task
            have, none for a policy that does not see.
        observation_noise: Standard deviation of the noise on normalised observations, pictures
            aside, against over-fitting to the exact states of few demonstrations.
        num_draws: Draws of level and noise for each window of a batch. Where pictures are encoded,
            which takes most of the time, further draws cost little.
        encoder_weights: File (.safetensors) of weights that the encoders start from, as far as it
            has them, such as torchvision's of a ResNet-18; empty starts from random ones.
        action_normalization: min_max, z_score or identity.
        observation_normalization: min_max, z_score or identity.
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    cameras: tuple[str, ...] | None = None
    chunkwise: float = 0.0
    independent: float = 0.0
    observation_noise: float = 0.0
    num_draws: int = 1
    encoder_weights: str = ""
    action_normalization: Literal["min_max", "z_score", "identity"] = "min_max"
    observation_normalization: Literal["min_max", "z_score", "identity"] = "min_max"

    def __post_init__(self) -> None:
        """Reject shares and noise that are none."""
        shares(policy__chunkwise=self.chunkwise, policy__independent=self.independent)
        at_least(0, policy__observation_noise=self.observation_noise)
        at_least(1, policy__num_draws=self.num_draws)


@dataclass(frozen=True)
class PolicyConfig(DenoisingConfig):
    """A Streaming Diffusion Policy to train.

    Attributes:
        kind: ``"sdp"``.
        sampling: What the checkpoint does unless it is told otherwise.
    """

    kind: Literal["sdp"] = "sdp"
    sampling: StreamingSampling = field(default_factory=StreamingSampling)


@dataclass(frozen=True)
class DiffusionPolicyConfig(DenoisingConfig):
    """A Diffusion Policy to train.

    Attributes:
        kind: ``"dp"``.
        sampling: What the checkpoint does unless it is told otherwise.
    """

    kind: Literal["dp"] = "dp"
    sampling: DiffusionSampling = field(default_factory=DiffusionSampling)


@dataclass(frozen=True)
class PlannerLosses:
    """How the parts of a planner are trained.

    Attributes:
        condition_dropout: Share of samples whose return is hidden from the denoiser.
        drafter_share: Share of each batch that the drafter is trained on; it learns from every
            token.
        drafter_noise: Standard deviation of the noise on the states that the drafter reads, in
            units of their usual change in one step; it learns to come back from there.
    """

    condition_dropout: float = 0.25
    drafter_share: float = 0.25
    drafter_noise: float = 0.3

    def __post_init__(self) -> None:
        """Reject shares and noise that are none."""
        shares(policy__condition_dropout=self.condition_dropout)
        shares(policy__drafter_share=self.drafter_share)
        at_least(0, policy__drafter_noise=self.drafter_noise)


@dataclass(frozen=True, kw_only=True)
class PlannerPolicyConfig(PlannerLosses):
    """A trajectory planner to train.

    Attributes:
        kind: Diffuser, Decision Diffuser or Trajectory Diffuser.
        model: Parts, networks and horizon.
        sampling: What the checkpoint does unless it is told otherwise.
    """

    kind: Literal["diffuser", "decision_diffuser", "trajectory_diffuser"]
    model: PlannerConfig = field(default_factory=PlannerConfig)
    sampling: PlannerSampling = field(default_factory=PlannerSampling)


@dataclass(frozen=True)
class VlaPolicyConfig:
    """A vision-language policy to train: cloned from demonstrations, or distilled.

    Attributes:
        kind: ``"vla"``.
        host: Size of a host with random weights.
        pretrained: Name or path of a pretrained host instead.
        lora_rank: Rank of the adapters that are trained instead of the host; 0 trains all of it.
        num_actions: Actions per chunk m.
        cameras: Observation keys of the pictures; null for all that dataset and task have.
        state_key: Observation key of the proprioception; empty for none.
        unscaled_actions: Dimensions that lie within [-1, 1] already and are not scaled by their
            quantiles, such as a gripper command.
        image_shift: Largest random shift of each picture in training [px]; where the camera is
            fixed, it hides where things are.
        trajectories: Folder of the teacher's Jacobi trajectories; with ``distill.teacher`` the
            policy is distilled from them.
        cloning_weight: Weight omega of the autoregressive loss in distillation.
        guess_share: Share of prompts whose student starts from a guess, as every decoding does; the
            others start from a random iterate of their trajectories.
        label_quantile: Share of chunks for which the autoregressive loss believes the teacher; the
            chunks farthest from their demonstration are labelled by it. 1 believes it always.
        sampling: What the checkpoint does unless it is told otherwise.
    """

    kind: Literal["vla"] = "vla"
    host: TinyHost = field(default_factory=TinyHost)
    pretrained: str = ""
    lora_rank: int = 0
    num_actions: int = 8
    cameras: tuple[str, ...] | None = None
    state_key: str = "observation.state"
    unscaled_actions: tuple[int, ...] = ()
    image_shift: int = 0
    trajectories: str = ""
    cloning_weight: float = 1.0
    guess_share: float = 0.0
    label_quantile: float = 0.9
    sampling: TokenDecodingConfig = field(default_factory=TokenDecodingConfig)

    def __post_init__(self) -> None:
        """Reject numbers that are none."""
        at_least(1, policy__num_actions=self.num_actions)
        at_least(0, policy__lora_rank=self.lora_rank, policy__image_shift=self.image_shift)
        at_least(0, policy__cloning_weight=self.cloning_weight)
        shares(policy__guess_share=self.guess_share, policy__label_quantile=self.label_quantile)
