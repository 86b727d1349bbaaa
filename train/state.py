"""Training state on disk: everything a killed run needs to go on bit for bit, without pickle."""

from __future__ import annotations

import json
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

STATE_FOLDER = "training_state"


def save_state(folder: Path, step: int, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Write raw weights and optimiser moments; batch order and noise are functions of the step."""
    folder = folder / STATE_FOLDER
    folder.mkdir()
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
    """Restore what `save_state` wrote; return the number of steps done."""
    folder = folder / STATE_FOLDER
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder.parent} holds no training state, so it cannot be resumed")
    model.load_state_dict(safetensors.torch.load_file(folder / "weights.safetensors"))
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in safetensors.torch.load_file(folder / "optimizer.safetensors").items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    return int(json.loads((folder / "state.json").read_text())["step"])
