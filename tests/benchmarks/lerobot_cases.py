"""What `benchmark_lerobot` compares: LeRobot's policies at sizes that its users have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lerobot.configs import FeatureType, PolicyFeature

STATE, ENVIRONMENT, PICTURE = (
    "observation.state",
    "observation.environment_state",
    "observation.images.top",
)
ENGINES = ("eager", "onnx", "openvino")


@dataclass(frozen=True)
class Case:
    """One policy of LeRobot.

    Attributes:
        type: LeRobot's name of its kind.
        settings: Its configuration, where it is not LeRobot's default.
        inputs: Shape of each feature that it reads.
        action_size: D.
        engines: hotloop's engines that are timed.
        bounds: What actions keep without being clipped: a sampler's are clipped by itself.
        share: Of the rounds that are asked for: slow cases take fewer.
        distilled: Hotloop's is a student of one call with LeRobot's network, untrained: how fast
            it is does not depend on what it learns, and its actions are not compared.
    """

    type: str
    settings: Mapping[str, Any]
    inputs: Mapping[str, tuple[int, ...]]
    action_size: int = 2
    engines: tuple[str, ...] = ENGINES
    bounds: tuple[float, float] = (0.0, 512.0)
    share: float = 1.0
    distilled: bool = False

    def features(self) -> dict[str, dict[str, PolicyFeature]]:
        """What goes in and out, as LeRobot declares it."""
        kinds = {
            STATE: FeatureType.STATE,
            ENVIRONMENT: FeatureType.ENV,
            PICTURE: FeatureType.VISUAL,
        }
        inputs = {key: PolicyFeature(kinds[key], shape) for key, shape in self.inputs.items()}
        action = PolicyFeature(FeatureType.ACTION, (self.action_size,))
        return {"input_features": inputs, "output_features": {"action": action}}


SMALL = {"horizon": 16, "n_action_steps": 8, "down_dims": (64, 128, 256)}
LARGE = {**SMALL, "down_dims": (512, 1024, 2048)}
DDIM = {"noise_scheduler_type": "DDIM", "num_inference_steps": 10}
LARGE_ENGINES = ("openvino", "openvino-bf16")
PUSHT = {STATE: (2,), ENVIRONMENT: (16,)}
CASES = {
    "unet-64-128-256-ddpm-100": Case("diffusion", SMALL, PUSHT, share=0.5),
    "unet-64-128-256-ddim-10": Case("diffusion", {**SMALL, **DDIM}, PUSHT),
    "unet-64-128-256-distilled-1-to-ddim-10": Case(
        "diffusion", {**SMALL, **DDIM}, PUSHT, engines=("openvino",), distilled=True
    ),
    "unet-64-128-256-distilled-1-to-ddpm-100": Case(
        "diffusion", SMALL, PUSHT, engines=("openvino",), share=0.5, distilled=True
    ),
    "unet-512-1024-2048-ddim-10": Case(
        "diffusion", {**LARGE, **DDIM}, PUSHT, engines=LARGE_ENGINES, share=0.5
    ),
    "unet-512-1024-2048-distilled-1-to-ddim-10": Case(
        "diffusion", {**LARGE, **DDIM}, PUSHT, engines=LARGE_ENGINES, share=0.5, distilled=True
    ),
    "unet-512-1024-2048-distilled-1-to-ddpm-100": Case(
        "diffusion", LARGE, PUSHT, engines=LARGE_ENGINES, share=0.2, distilled=True
    ),
    "act-480x640": Case(
        "act",
        {"pretrained_backbone_weights": None},
        {STATE: (14,), PICTURE: (3, 480, 640)},
        action_size=14,
        bounds=(-4864.0, 5376.0),
    ),
}
