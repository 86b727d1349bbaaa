"""What ``engine=auto`` found before, one JSON file per machine, checkpoint and choice."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from ..decoding.plumbing.cache import cache_root
from ..decoding.plumbing.files import read_json_object, write_text
from ..decoding.plumbing.machine import package_version, processor_name
from ..decoding.plumbing.schema import build
from .fastest import Choice
from .place import place_of
from .programs.engines.engine import ENGINES

VERSION = 1
PACKAGES = ("hotloop", "torch", "transformers", "onnx", "onnxscript", "onnxruntime", "openvino")
# Training moves all weights, so a few of each tell two models apart; all may be gigabytes.
_NUM_SAMPLED = 32
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Stored:
    """Content of a file."""

    version: int
    asked: dict[str, Any]
    found: Choice


class RememberedChoice:
    """The file of one question: which engine is fastest, for what and where.

    Args:
        device: Where the weights are, e.g. ``"cuda:0"``.
        question: All that the answer depends on, JSON-able.
    """

    def __init__(self, device: str, question: Mapping[str, Any]) -> None:
        self.device = device
        self._question = json.loads(json.dumps(question, sort_keys=True, default=str))
        digest = hashlib.sha256(json.dumps(self._question, sort_keys=True).encode()).hexdigest()
        self.path = cache_root() / "engines" / f"{digest[:32]}.json"

    @classmethod
    def of(cls, kind: str, model: Any, sampling: Any, asked: str) -> RememberedChoice | None:
        """The file of a policy; None for a model that is not PyTorch's, which no engine runs.

        Args:
            kind: Kind of policy.
            model: Its network, where it is to run.
            sampling: Its sampling choices.
            asked: ``"auto"``, or that with a precision.
        """
        if not isinstance(model, nn.Module):
            return None
        device = place_of(model)
        question = {
            "asked": asked,
            "engines": ENGINES.names,
            "kind": kind,
            "model": fingerprint(model),
            "sampling": asdict(sampling),
            "device": device.type,
            "processor": processor_name(),
            "cores": os.cpu_count(),
            "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
            "threads": torch.get_num_threads(),
            "versions": {name: package_version(name) for name in PACKAGES},
        }
        return cls(str(device), question)

    def read(self) -> Choice | None:
        """What was found before; None if nothing was, or if the file is damaged."""
        try:
            stored = build(_Stored, read_json_object(self.path))
        except (OSError, ValueError):
            return None
        same = stored.version == VERSION and stored.asked == self._question
        return stored.found if same and stored.found.engine in ENGINES else None

    def write(self, choice: Choice) -> None:
        """Keep what was found; where that is not possible it is found again next time."""
        content = asdict(_Stored(VERSION, self._question, choice))
        try:
            write_text(self.path, json.dumps(content, indent=1) + "\n")
        except (OSError, ValueError) as error:
            _LOG.info("%s: the choice of the engine is not remembered: %s", self.path, error)


def fingerprint(model: nn.Module) -> str:
    """Digest of a model's configuration and weights, of each tensor some values."""
    digest = hashlib.sha256()
    if (config_dict := getattr(model, "config_dict", None)) is not None:
        digest.update(json.dumps(config_dict(), sort_keys=True, default=str).encode())
    for name, value in model.state_dict().items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        flat = value.detach().reshape(-1)
        sample = flat[:: max(1, len(flat) // _NUM_SAMPLED)].cpu().contiguous()
        digest.update(sample.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
