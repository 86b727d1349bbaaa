"""LeRobot's ACT as a checkpoint of hotloop's own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..act.config import ActConfig, ActSampling
from ..act.model import ActModel
from ..checkpoint import Checkpoint
from .act_weights import VECTOR_INPUTS, act_weights
from .folder import CONFIG_FILE, WEIGHTS_FILE, Folder, read_fields, refuse_larger
from .given import Given
from .processors import Feature

KIND = "act"
# What LeRobot's configuration says beside it, of training alone.
_ONLY_TRAINING = {
    "dropout", "kl_weight", "use_vae", "n_vae_encoder_layers", "pretrained_backbone_weights",
}  # fmt: skip


@dataclass(frozen=True)
class _Fields:
    """What LeRobot's ACT computes with, by its names."""

    chunk_size: int
    n_action_steps: int
    dim_model: int
    n_heads: int
    dim_feedforward: int
    n_encoder_layers: int
    n_decoder_layers: int
    feedforward_activation: str
    pre_norm: bool
    latent_dim: int
    n_obs_steps: int = 1
    vision_backbone: str = "resnet18"
    replace_final_stride_with_dilation: bool | int = False
    temporal_ensemble_coeff: float | None = None

    @property
    def sizes(self) -> dict[str, int]:
        """What is the side of a weight, or a number of layers that have some."""
        return {
            "chunk_size": self.chunk_size,
            "dim_model": self.dim_model,
            "dim_feedforward": self.dim_feedforward,
            "latent_dim": self.latent_dim,
            "n_encoder_layers": self.n_encoder_layers,
            "n_decoder_layers": self.n_decoder_layers,
        }


def read_act(folder: Folder, given: Given) -> Checkpoint:
    """Read a folder of type ``"act"``.

    Raises:
        ValueError: If one of its choices is not supported, its weights are not what the
            configuration says, or something is not given that the folder does not hold.
    """
    action_spec = folder.processors.action_spec(given)
    try:
        fields, unknown = read_fields(_Fields, folder.config)
        _refuse(fields)
        refuse_larger(folder.weights, fields.sizes)
        config = ActConfig(
            fields.chunk_size,
            fields.dim_model,
            fields.n_heads,
            fields.dim_feedforward,
            fields.n_encoder_layers,
            fields.n_decoder_layers,
            fields.feedforward_activation,
            fields.pre_norm,
        )
        sampling = ActSampling(fields.n_action_steps, fields.temporal_ensemble_coeff)
        sampling.check(config)
    except ValueError as error:
        raise ValueError(f"{folder.path / CONFIG_FILE}: {error}") from error
    used = [one for one in folder.inputs if one.is_picture or one.name in VECTOR_INPUTS]
    vectors = [one for name in VECTOR_INPUTS for one in used if one.name == name]
    cameras = [one for one in used if one.is_picture]
    if not used:
        raise ValueError(
            f"{folder.path / CONFIG_FILE}: input_features must hold pictures, observation.state or "
            f"observation.environment_state, got {[one.name for one in folder.inputs]}"
        )
    shapes = folder.observation_shapes
    names = [folder.processors.observed(one.name) for one in (*vectors, *cameras)]
    model = ActModel(config, {name: shapes[name] for name in names}, folder.action.size)
    layers = [VECTOR_INPUTS[one.name] for one in vectors]
    weights = act_weights(
        folder.weights, model, layers, fields.latent_dim, folder.path / WEIGHTS_FILE
    )
    model.load_state_dict(weights | _normalisers(folder, vectors, cameras))
    model.eval().requires_grad_(False)
    ignored = [name for name in unknown if name not in _ONLY_TRAINING]
    ignored += [one.name for one in folder.inputs if one not in used]
    known = {"ignored": ignored, "lacking": list(folder.processors.lacking)}
    return Checkpoint(KIND, model, action_spec, sampling, {"source": "lerobot", **known})


def _refuse(fields: _Fields) -> None:
    """Raise ValueError for choices that other networks make."""
    for name, supported, found in (
        ("n_obs_steps", 1, fields.n_obs_steps),
        ("vision_backbone", "resnet18", fields.vision_backbone),
        (
            "replace_final_stride_with_dilation",
            False,
            bool(fields.replace_final_stride_with_dilation),
        ),
    ):
        if found != supported:
            raise ValueError(f"{name} must be {supported!r}, got {found!r}")


def _normalisers(
    folder: Folder, vectors: list[Feature], cameras: list[Feature]
) -> dict[str, Tensor]:
    """Weights of the model's normalisers, in the units that hotloop observes."""
    maps, action = folder.processors.inputs, folder.processors.to_network
    scales = [maps[one.name].scale for one in vectors]
    offsets = [maps[one.name].offset for one in vectors]
    arrays = {
        "observation_normalizer.scale": np.concatenate([np.zeros(0), *scales]),
        "observation_normalizer.offset": np.concatenate([np.zeros(0), *offsets]),
        # Backwards: from the network's units.
        "action_scaling.scale": 1 / action.scale,
        "action_scaling.offset": -action.offset / action.scale,
    }
    for index, one in enumerate(cameras):
        prefix, of_picture = f"picture_normalizers.{index}", maps[one.name]
        arrays[f"{prefix}.scale"] = of_picture.scale / 255  # of bytes
        arrays[f"{prefix}.offset"] = of_picture.offset
    return {name: torch.from_numpy(array).float() for name, array in arrays.items()}
