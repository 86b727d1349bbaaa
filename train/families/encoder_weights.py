"""Picture encoders that start from weights in a file."""

from __future__ import annotations

import logging
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError
from torch import nn

from ...decoding.plumbing.files import refuse_lfs_pointer
from ...policies.checkpoint import PICKLE_SUFFIXES
from ...policies.networks.vision import Vision

_LOG = logging.getLogger(__name__)
_OWN = "vision.encoders."  # how a checkpoint's encoders are called


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
        own = {name[len(prefix) :]: value for name, value in weights.items() if prefix in name}
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
