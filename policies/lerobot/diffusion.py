"""LeRobot's Diffusion Policy as a checkpoint of hotloop's own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ...decoding.samplers import sampling_levels
from ...decoding.schedules import SQUARED_COSINE
from ..checkpoint import Checkpoint
from ..diffusion.config import DiffusionSampling, ModelConfig
from ..diffusion.model import DiffusionModel
from ..diffusion.policy import check_num_execute
from ..networks.config import EncoderConfig, NetworkConfig
from .diffusion_weights import Inputs, diffusion_weights
from .folder import CONFIG_FILE, Folder, read_fields, refuse_larger
from .given import Given
from .processors import Affine

KIND = "dp"
STATE, ENVIRONMENT = "observation.state", "observation.environment_state"
# What the configuration says besides, of training alone.
_ONLY_TRAINING = {
    "drop_n_last_frames", "crop_is_random", "pretrained_backbone_weights", "compile_model",
    "compile_mode", "do_mask_loss_for_padding",
}  # fmt: skip


@dataclass(frozen=True)
class _Fields:
    """What LeRobot's Diffusion Policy computes with, by its names.

    Those without default changed theirs between versions; every version writes them.
    """

    horizon: int
    n_action_steps: int
    n_obs_steps: int
    down_dims: tuple[int, ...]
    kernel_size: int
    n_groups: int
    diffusion_step_embed_dim: int
    use_film_scale_modulation: bool
    noise_scheduler_type: Literal["DDPM", "DDIM"]
    num_train_timesteps: int
    beta_schedule: str
    beta_start: float
    beta_end: float
    prediction_type: Literal["epsilon", "sample"]
    clip_sample: bool
    clip_sample_range: float
    num_inference_steps: int | None
    use_group_norm: bool
    use_separate_rgb_encoder_per_camera: bool
    spatial_softmax_num_keypoints: int
    vision_backbone: Literal["resnet18"]
    crop_shape: tuple[int, int] | None = None
    resize_shape: tuple[int, int] | None = None
    crop_ratio: float = 1.0

    @property
    def crop(self) -> tuple[int, int] | None:
        """Height and width of what the encoder sees; null is all of it."""
        if self.resize_shape is None:
            return self.crop_shape
        if self.crop_ratio >= 1:
            return None
        height, width = (int(side * self.crop_ratio) for side in self.resize_shape)
        return height, width

    @property
    def sizes(self) -> dict[str, int]:
        """What is the side of a weight."""
        return {
            "n_obs_steps": self.n_obs_steps,
            "down_dims": max(self.down_dims, default=0),
            "kernel_size": self.kernel_size,
            "diffusion_step_embed_dim": self.diffusion_step_embed_dim,
        }


def read_diffusion(folder: Folder, given: Given) -> Checkpoint:
    """Read a folder of type ``"diffusion"``.

    Raises:
        ValueError: If one of its choices is not supported, its weights are not what the
            configuration says, or something is not given that the folder does not hold.
    """
    action_spec = folder.processors.action_spec(given)
    try:
        fields, unknown = read_fields(_Fields, folder.config)
        refuse_larger(folder.weights, fields.sizes)
        inputs = _inputs(folder)
        config = _model_config(fields, inputs)
        sampling = _sampling(fields)
        shapes = folder.observation_shapes
        names = [folder.processors.observed(one.name) for one in inputs.in_our_order]
        model = DiffusionModel(config, {name: shapes[name] for name in names}, folder.action.size)
        check_num_execute(sampling.num_execute, model)
        # Raises for more calls than there are levels.
        sampling_levels(config.num_levels, sampling.calls_per_step or 1, sampling.spacing)
    except ValueError as error:
        raise ValueError(f"{folder.path / CONFIG_FILE}: {error}") from error
    weights = diffusion_weights(folder, model, inputs, fields.use_film_scale_modulation)
    model.load_state_dict(weights | _normalisers(folder, model, inputs))
    model.eval().requires_grad_(False)
    ignored = [name for name in unknown if name not in _ONLY_TRAINING]
    ignored += [one.name for one in folder.inputs if one not in inputs.in_our_order]
    known = {"ignored": ignored, "lacking": list(folder.processors.lacking)}
    return Checkpoint(KIND, model, action_spec, sampling, {"source": "lerobot", **known})


def _inputs(folder: Folder) -> Inputs:
    """What the network is given, each part in its place."""
    by_name = {one.name: one for one in folder.inputs}
    cameras = tuple(one for one in folder.inputs if one.is_picture)
    if STATE not in by_name:
        raise ValueError(
            f"input_features must hold {STATE}, without which LeRobot's Diffusion Policy cannot "
            f"be built, got {list(by_name)}"
        )
    return Inputs(by_name[STATE], cameras, by_name.get(ENVIRONMENT))


def _model_config(fields: _Fields, inputs: Inputs) -> ModelConfig:
    linear = fields.beta_schedule != SQUARED_COSINE
    network = NetworkConfig(
        "unet",
        level_embedding="per_position",
        level_features="timesteps",
        level_dim=fields.diffusion_step_embed_dim,
        dims=fields.down_dims,
        kernel_size=fields.kernel_size,
        num_groups=fields.n_groups,
    )
    return ModelConfig(
        horizon=fields.horizon,
        num_obs_steps=fields.n_obs_steps,
        num_levels=fields.num_train_timesteps,
        prediction=fields.prediction_type,
        network=network,
        encoder=_encoder(fields, inputs) if inputs.cameras else EncoderConfig(),
        betas=fields.beta_schedule,
        first_beta=fields.beta_start if linear else None,
        last_beta=fields.beta_end if linear else None,
        clip=fields.clip_sample_range if fields.clip_sample else None,
    )


def _encoder(fields: _Fields, inputs: Inputs) -> EncoderConfig:
    crop, crop_at = fields.crop, None
    if crop is not None:
        height, width = fields.resize_shape or inputs.cameras[0].shape[1:]
        corner = round((height - crop[0]) / 2), round((width - crop[1]) / 2)
        # The middle of an odd number of pixels is rounded otherwise than ours.
        if corner != ((height - crop[0]) // 2, (width - crop[1]) // 2):
            crop_at = corner
    return EncoderConfig(
        "resnet18_relu" if fields.use_group_norm else "resnet18_folded",
        resize=fields.resize_shape,
        crop=crop,
        crop_at=crop_at,
        standardize=True,
        shared=not fields.use_separate_rgb_encoder_per_camera,
        num_features=2 * fields.spatial_softmax_num_keypoints,
        num_keypoints=fields.spatial_softmax_num_keypoints,
    )


def _sampling(fields: _Fields) -> DiffusionSampling:
    return DiffusionSampling(
        num_execute=fields.n_action_steps,
        calls_per_step=fields.num_inference_steps,
        update=fields.noise_scheduler_type.lower(),
        spacing="leading",
    )


def _normalisers(folder: Folder, model: DiffusionModel, inputs: Inputs) -> dict[str, Tensor]:
    """Weights of the model's normalisers, in the units that hotloop observes."""
    maps, action = folder.processors.inputs, folder.processors.to_network
    vectors = [maps[one.name] for one in inputs.vectors]
    arrays = {
        "observation_normalizer.scale": np.concatenate([one.scale for one in vectors]),
        "observation_normalizer.offset": np.concatenate([one.offset for one in vectors]),
        "action_normalizer.scale": action.scale,
        "action_normalizer.offset": action.offset,
    }
    for index, camera in enumerate(inputs.cameras):
        colours = _from_signed(maps[camera.name])
        arrays[f"vision.colours.{index}.scale"] = colours.scale[:, None, None]
        arrays[f"vision.colours.{index}.offset"] = colours.offset[:, None, None]
    return {name: torch.from_numpy(array).float() for name, array in arrays.items()}


def _from_signed(colours: Affine) -> Affine:
    """A map of colours from 0 to 1 as one of colours from -1 to 1."""
    return replace(colours, scale=colours.scale / 2, offset=colours.offset + colours.scale / 2)
