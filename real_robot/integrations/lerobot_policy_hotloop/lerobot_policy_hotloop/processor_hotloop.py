"""What happens to observations and actions on the way: nothing, but for Push-T's block.

A saved preprocessor always has the steps that lerobot's commands override.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from lerobot.configs import PipelineFeatureType, PolicyFeature
from lerobot.processor import (
    ObservationProcessorStep,
    PolicyAction,
    PolicyProcessorPipeline,
    ProcessorStepRegistry,
    make_default_policy_processor_steps,
    make_policy_processor_pipelines,
)

from .configuration_hotloop import HotloopConfig
from .pusht import KEY, NUM_CORNERS, NUM_KEYPOINTS, keypoints_of

Features = dict[PipelineFeatureType, dict[str, PolicyFeature]]


@ProcessorStepRegistry.register(name="hotloop_pusht_keypoints")
@dataclass
class PushTKeypointsStep(ObservationProcessorStep):
    """Replaces the corners of gym-pusht's block by the points that hotloop's policies know."""

    def observation(self, observation: dict[str, Any]) -> dict[str, Any]:
        """Corners (..., 16) to keypoints (..., 18)."""
        return {**observation, KEY: keypoints_of(observation[KEY])}

    def transform_features(self, features: Features) -> Features:
        """The same for the declared shape."""
        for kind in features.values():
            if KEY in kind:
                kind[KEY] = replace(kind[KEY], shape=(2 * NUM_KEYPOINTS,))
        return features


def sees_corners(config: HotloopConfig) -> bool:
    """Whether the environment tells gym-pusht's corners to a policy that wants keypoints."""
    offered, description = (config.input_features or {}).get(KEY), config.description()
    if offered is None or description is None or tuple(offered.shape) != (2 * NUM_CORNERS,):
        return False
    return tuple(description["observation_shapes"].get(KEY, ())) == (2 * NUM_KEYPOINTS,)


def make_hotloop_pre_post_processors(
    config: HotloopConfig,
    dataset_stats: dict[str, dict[str, torch.Tensor]] | None = None,
) -> tuple[
    PolicyProcessorPipeline[dict[str, Any], dict[str, Any]],
    PolicyProcessorPipeline[PolicyAction, PolicyAction],
]:
    """LeRobot's default steps; they normalise nothing."""
    steps = make_default_policy_processor_steps(config, dataset_stats)
    corners = [PushTKeypointsStep()] if sees_corners(config) else []
    return make_policy_processor_pipelines(
        [
            steps.rename_observations,
            *corners,
            steps.add_batch_dim,
            steps.to_device,
            steps.normalize,
        ],
        [steps.unnormalize, steps.to_cpu],
    )
