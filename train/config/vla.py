"""Configuration of a vision-language policy's training."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ...policies.vla.decoding_config import TokenDecodingConfig
from ...policies.vla.host import TinyHost


@dataclass(frozen=True)
class VlaPolicyConfig:
    """A vision-language policy to train: cloned from demonstrations, or distilled.

    Attributes:
        kind: ``"vla"``.
        host: Size of a host with random weights.
        pretrained: Name or path of a pretrained host instead.
        lora_rank: Rank of the adapters that are trained instead of the host; 0 trains all of it.
        num_actions: Actions per chunk m.
        cameras: Observation keys of the pictures; by default all ``observation.images.*``.
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

    kind: Literal["vla"]
    host: TinyHost = field(default_factory=TinyHost)
    pretrained: str = ""
    lora_rank: int = 0
    num_actions: int = 8
    cameras: tuple[str, ...] = ()
    state_key: str = "observation.state"
    unscaled_actions: tuple[int, ...] = ()
    image_shift: int = 0
    trajectories: str = ""
    cloning_weight: float = 1.0
    guess_share: float = 0.0
    label_quantile: float = 0.9
    sampling: TokenDecodingConfig = field(default_factory=TokenDecodingConfig)
