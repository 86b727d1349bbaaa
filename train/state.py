"""Training state on disk: everything a killed run needs to go on bit for bit, without pickle."""

from __future__ import annotations

import json
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from ..policies.checkpoint import WEIGHTS_FILE

STATE_FOLDER, AVERAGE_FILE = "training_state", "average.safetensors"


def save_state(
    folder: Path,
    step: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    averaged: nn.Module | None = None,
) -> None:
    """Write raw weights and optimiser moments; batch order and noise are functions of the step.

    Args:
        folder: Checkpoint to write beside.
        step: Steps done.
        model: What is trained.
        optimizer: Its optimiser.
        averaged: The averaged model, where the checkpoint does not hold it as it is: adapters are
            merged into a checkpoint's weights, and cannot be told from them again.
    """
    folder = folder / STATE_FOLDER
    folder.mkdir()
    if averaged is not None:
        average = {key: value.contiguous() for key, value in averaged.state_dict().items()}
        safetensors.torch.save_file(average, folder / AVERAGE_FILE)
    weights = {key: value.contiguous() for key, value in model.state_dict().items()}
    safetensors.torch.save_file(weights, folder / "weights.safetensors")
    moments = {
        f"{index}.{name}": value
        for index, entries in optimizer.state_dict()["state"].items()
        for name, value in entries.items()
    }
    safetensors.torch.save_file(moments, folder / "optimizer.safetensors")
    (folder / "state.json").write_text(json.dumps({"step": step}) + "\n")


def load_state(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Restore what `save_state` wrote but for the average; return the number of steps done.

    Raises:
        FileNotFoundError: If there is no training state.
        ValueError: If it belongs to another model, or is damaged.
    """
    folder = folder / STATE_FOLDER
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder.parent} holds no training state, so it cannot be resumed")
    _load_weights(model, folder / "weights.safetensors")
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in _load_file(folder / "optimizer.safetensors").items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    return steps_done(folder.parent)


def steps_done(folder: Path) -> int:
    """Steps after which a checkpoint was saved.

    Raises:
        ValueError: If the file that says so is damaged.
    """
    path = folder / STATE_FOLDER / "state.json"
    try:
        return int(json.loads(path.read_text())["step"])
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(path, error) from None


def load_average(folder: Path, averaged: nn.Module) -> None:
    """Restore the averaged model, from the checkpoint itself or from beside it."""
    beside = folder / STATE_FOLDER / AVERAGE_FILE
    _load_weights(averaged, beside if beside.exists() else folder / WEIGHTS_FILE)


def _load_weights(model: nn.Module, path: Path) -> None:
    weights, expected = _load_file(path), model.state_dict()
    shapes = {key: tuple(value.shape) for key, value in weights.items()}
    differing = sorted(
        {key for key, value in expected.items() if shapes.get(key) != tuple(value.shape)}
        | (shapes.keys() - expected.keys())
    )
    if differing:
        raise ValueError(
            f"{path} holds another model: {len(differing)} weights differ in name or shape, first "
            f"{differing[0]!r}; resume a run with the policy that began it"
        )
    model.load_state_dict(weights)


def _load_file(path: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load_file(path)
    except SafetensorError as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> ValueError:
    return ValueError(
        f"{path} is damaged ({type(error).__name__}: {error}), so the run cannot go on from there; "
        "let the link checkpoints/last point to an earlier checkpoint, or begin a new run in "
        "another output_dir"
    )
