"""A policy of hotloop's own that LeRobot trained and saved, by ``lerobot_policy_hotloop``."""

from __future__ import annotations

from typing import Any

from ..checkpoint import Checkpoint, rebuilt
from .folder import CONFIG_FILE, WEIGHTS_FILE, Folder, load_weights
from .given import Given

# The running average of the weights is what is run, where there is one.
_PREFIXES = {True: "average.module.", False: "model."}


def read_plugin(folder: Folder, given: Given) -> Checkpoint:
    """Read a folder of type ``"hotloop"``; it describes itself, so nothing has to be given.

    Raises:
        ValueError: If it does not, or its weights are not what it describes.
    """
    del given
    stored: Any = folder.config.get("stored")
    if not isinstance(stored, dict):
        raise ValueError(
            f"{folder.path / CONFIG_FILE}: stored must describe the policy, got {stored!r}; was "
            "the folder written by LeRobot's save_pretrained?"
        )
    try:
        checkpoint = rebuilt(stored)
    except ValueError as error:
        raise ValueError(f"{folder.path / CONFIG_FILE}: stored: {error}") from error
    prefix = _PREFIXES[bool(folder.config.get("averaged"))]
    weights = {
        name.removeprefix(prefix): value
        for name, value in folder.weights.items()
        if name.startswith(prefix)
    }
    load_weights(checkpoint.model, weights, folder.path / WEIGHTS_FILE)
    checkpoint.model.eval().requires_grad_(False)
    return checkpoint
