"""Picture encoders before training: settings held against pictures, and weights from a file."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import nn

from ...decoding.plumbing.files import refuse_lfs_pointer
from ...policies.checkpoint import PICKLE_SUFFIXES, WEIGHTS_FILE
from ...policies.networks.config import EncoderConfig
from ...policies.networks.vision import Vision
from ..config.policies import DenoisingConfig

_LOG = logging.getLogger(__name__)
_OWN = "vision.encoders."  # how a checkpoint's encoders are called


def check_encoders(policy: DenoisingConfig, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise ValueError if a policy's encoders do not fit pictures of these shapes, by key."""
    if not shapes:
        refuse_encoder(policy)
        return
    with torch.random.fork_rng(devices=[]):
        vision = Vision(policy.model.encoder, shapes)
    if policy.encoder_weights:
        load_encoder_weights(vision, Path(policy.encoder_weights))


def refuse_encoder(policy: DenoisingConfig) -> None:
    """Raise ValueError if something was chosen about pictures, of which none are read."""
    encoder, default = policy.model.encoder, EncoderConfig()
    chosen = [
        f"policy.model.encoder.{one.name}"
        for one in fields(encoder)
        if getattr(encoder, one.name) != getattr(default, one.name)
    ]
    if policy.encoder_weights:
        chosen.append("policy.encoder_weights")
    if chosen:
        raise ValueError(
            f"{chosen[0]} has no effect here: no pictures are read of this dataset for this task; "
            "choose a task and policy.cameras that have some, or leave it out"
        )


def load_encoder_weights(vision: Vision, path: Path) -> None:
    """Give every encoder the weights that a file has for it.

    The file may be a checkpoint's, or one of the encoder alone, such as torchvision's weights of a
    ResNet-18: its classifier and the statistics of batch normalisation are left out.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is a pickle or damaged, or of another encoder.
    """
    if path.suffix in PICKLE_SUFFIXES:
        raise ValueError(
            f"policy.encoder_weights={path} looks like a pickle, which can run any code when "
            "opened; convert it with safetensors.torch.save_file(state_dict, 'weights.safetensors')"
        )
    if path.is_dir():
        raise ValueError(
            f"policy.encoder_weights={path} is a folder; name a file of weights, of a checkpoint "
            f"its {WEIGHTS_FILE}"
        )
    if not path.is_file():
        raise FileNotFoundError(f"policy.encoder_weights={path}: there is no such file")
    refuse_lfs_pointer(path)
    try:
        weights = safetensors.torch.load_file(path)
    except SafetensorError as error:
        raise ValueError(
            f"policy.encoder_weights={path} is no safetensors file: {error}"
        ) from error
    for index, encoder in enumerate(vision.encoders):
        prefix = f"{_OWN}{index}."
        own = {
            name[len(prefix) :]: value for name, value in weights.items() if name.startswith(prefix)
        }
        _load(encoder, own or weights, path)


def _load(encoder: nn.Module, weights: dict, path: Path) -> None:
    wanted = encoder.state_dict()
    usable = {
        name: value
        for name, value in weights.items()
        if name in wanted and wanted[name].shape == value.shape
    }
    missing = [name for name in wanted if name not in usable and name.endswith("weight")]
    kept = sum(wanted[name].numel() for name in usable)
    # What follows the last feature map is the policy's own; of the rest nothing may be missing.
    own = ("keypoints.", "features.")
    if lacking := [name for name in missing if not name.startswith(own)]:
        raise ValueError(
            f"policy.encoder_weights={path} is of another encoder than {type(encoder).__name__}: "
            f"it has no {lacking[0]!r} of shape {tuple(wanted[lacking[0]].shape)}, and "
            f"{len(lacking) - 1} more are missing"
        )
    encoder.load_state_dict({**wanted, **usable})
    _LOG.info("%s: %d of %d weights are taken from it", path, kept, _size(wanted))


def _size(state: dict) -> int:
    return sum(value.numel() for value in state.values())
