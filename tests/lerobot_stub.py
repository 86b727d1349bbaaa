"""The few names of LeRobot 0.6 that the plugin uses, behaving as there; LeRobot needs Python 3.12.

The real one runs the same things in `test_compat_lerobot.py`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import safetensors.torch
from torch import nn

Mode = Enum("Mode", {"IDENTITY": "IDENTITY", "MIN_MAX": "MIN_MAX"})


@dataclass
class PolicyFeature:
    type: str
    shape: tuple[int, ...]


@dataclass
class PreTrainedConfig:
    n_obs_steps: int = 1
    input_features: dict[str, PolicyFeature] | None = field(default_factory=dict)
    output_features: dict[str, PolicyFeature] | None = field(default_factory=dict)
    device: str | None = "cpu"

    def __post_init__(self) -> None:
        self.device = self.device or "cpu"

    @classmethod
    def register_subclass(cls, name: str) -> Any:
        def register(subclass: type) -> type:
            subclass.type = name  # pyright: ignore[reportAttributeAccessIssue]
            return subclass

        return register

    @property
    def action_feature(self) -> PolicyFeature | None:
        return (self.output_features or {}).get("action")

    def save(self, folder: Path) -> None:
        values = json.dumps({"type": self.type, **asdict(self)}, default=lambda one: one.value)  # pyright: ignore[reportAttributeAccessIssue]
        (folder / "config.json").write_text(values)

    @classmethod
    def load(cls, folder: Path, **changes: Any) -> Any:
        values = json.loads((folder / "config.json").read_text())
        del values["type"]
        for part in ("input_features", "output_features"):
            values[part] = {key: PolicyFeature(**one) for key, one in values[part].items()}
        modes = values["normalization_mapping"]
        values["normalization_mapping"] = {key: Mode(mode) for key, mode in modes.items()}
        return cls(**{**values, **changes})


class PreTrainedPolicy(nn.Module):
    config_class: Any = None

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__()
        self.config = config

    def save_pretrained(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._save_pretrained(folder)

    def _save_pretrained(self, save_directory: Path, state_dict: Any = None) -> None:
        self.config.save(save_directory)
        safetensors.torch.save_model(self, str(save_directory / "model.safetensors"))
        (save_directory / "model.safetensors").chmod(0o600)

    @classmethod
    def from_pretrained(cls, folder: Path, **changes: Any) -> Any:
        policy = cls(cls.config_class.load(folder, **changes))
        policy = cls._load_as_safetensor(policy, str(folder / "model.safetensors"), "cpu", False)
        return policy.to("cpu").eval()

    @classmethod
    def _load_as_safetensor(cls, model: Any, model_file: str, map_location: str, strict: bool):
        safetensors.torch.load_model(model, model_file, strict=strict, device=map_location)
        return model


class Steps(NamedTuple):
    rename_observations: str = "rename"
    add_batch_dim: str = "batch"
    to_device: str = "device"
    normalize: str = "normalize"
    unnormalize: str = "unnormalize"
    to_cpu: str = "to_cpu"


class Registry:
    @staticmethod
    def register(name: str) -> Any:
        return lambda step: step


@dataclass
class AdamW:
    lr: float
    betas: tuple[float, float]
    weight_decay: float
    grad_clip_norm: float


@dataclass(kw_only=True)
class Cosine:
    name: str
    num_warmup_steps: int


def modules() -> dict[str, ModuleType]:
    """LeRobot's modules by name."""
    contents: dict[str, dict[str, Any]] = {
        "lerobot": {},
        "lerobot.configs": {
            "NormalizationMode": Mode,
            "PipelineFeatureType": str,
            "PolicyFeature": PolicyFeature,
            "PreTrainedConfig": PreTrainedConfig,
        },
        "lerobot.optim": {"AdamWConfig": AdamW, "DiffuserSchedulerConfig": Cosine},
        "lerobot.policies": {"PreTrainedPolicy": PreTrainedPolicy},
        "lerobot.processor": {
            "ObservationProcessorStep": object,
            "PolicyAction": dict,
            "PolicyProcessorPipeline": dict,
            "ProcessorStepRegistry": Registry,
            "make_default_policy_processor_steps": lambda config, stats: Steps(),
            "make_policy_processor_pipelines": lambda before, after: (before, after),
        },
    }
    found = {name: ModuleType(name) for name in contents}
    for name, module in found.items():
        vars(module).update(contents[name])
    return found
