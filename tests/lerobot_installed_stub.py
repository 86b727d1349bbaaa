"""The few names of LeRobot that run one of its policies, with a policy that can be predicted."""

from __future__ import annotations

import json
import sys
from collections import deque
from collections.abc import Callable, Mapping
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

STATE, TOP, CHUNK = "observation.state", "observation.images.top", 5
PREPROCESSOR, POSTPROCESSOR = "policy_preprocessor.json", "policy_postprocessor.json"


class DraccusException(Exception):
    """A configuration that cannot be read."""


class ProcessorMigrationError(Exception):
    """A folder from before the processors."""


class Pipeline:
    """Steps, which what is stated here does in one go."""

    def __init__(self, steps: list[Any], apply: Callable[[Any], Any]) -> None:
        self.steps, self._apply = steps, apply

    def __call__(self, value: Any) -> Any:
        return self._apply(value)


class Config:
    """A configuration, as a namespace of what the file holds."""

    @staticmethod
    def from_pretrained(path: Path) -> SimpleNamespace:
        values = json.loads((path / "config.json").read_text())
        if not isinstance(values.get("n_obs_steps"), int):
            raise DraccusException("n_obs_steps:\n  no number")
        for part in ("input_features", "output_features"):
            values[part] = {k: SimpleNamespace(**v) for k, v in values[part].items()}
        cameras = {k: v for k, v in values["input_features"].items() if v.type == "VISUAL"}
        return SimpleNamespace(**values, image_features=cameras)


class Policy:
    """Actions from the sum of its history: of states, of a picture's red, and of the task's length.

    The first number grows by one per step, the second is noise.
    """

    def __init__(self, config: SimpleNamespace) -> None:
        self.config, self._queues = config, {}

    @classmethod
    def from_pretrained(cls, path: Path, config: SimpleNamespace) -> Policy:
        if config.pretrained_backbone_weights is not None:
            raise RuntimeError("weights are downloaded")
        return cls(config)

    def eval(self) -> Policy:
        return self

    def reset(self) -> None:
        names = [STATE, "action", *(["observation.images"] if self.config.image_features else [])]
        self._queues = {name: deque(maxlen=self.config.n_obs_steps) for name in names}

    def predict_action_chunk(self, batch: Mapping[str, Any]) -> Tensor:
        stacked = {k: torch.stack([*self._queues[k]], dim=1) for k in batch if k in self._queues}
        first = stacked[STATE].sum() + 0.5 * len(batch["task"])
        if "observation.images" in stacked:  # (1, to, cameras, 3, h, w)
            first = first + stacked["observation.images"][:, :, 0, 0].mean(dim=(-1, -2)).sum()
        rising = first + torch.arange(self.config.num_steps)
        return torch.stack([rising, torch.randn(len(rising))], dim=-1)[None]


def make_pre_post_processors(
    config: SimpleNamespace, pretrained_path: str, preprocessor_overrides: Mapping[str, Any]
) -> tuple[Pipeline, Pipeline]:
    file = Path(pretrained_path) / PREPROCESSOR
    steps = [SimpleNamespace(**step) for step in json.loads(file.read_text())["steps"]]
    if preprocessor_overrides != {"device_processor": {"device": config.device}}:
        raise KeyError(preprocessor_overrides)
    renames = next((step.rename_map for step in steps if hasattr(step, "rename_map")), {})
    statistics = {
        "action.min": torch.tensor([-20.0, -9.0]),
        "action.max": torch.tensor([20.0, 9.0]),
    }
    after = SimpleNamespace(state_dict=lambda: {**statistics, "index.min": torch.zeros(1)})
    return (
        Pipeline(
            steps, lambda batch: {renames.get(k, k): v for k, v in batch.items()} | {"action": None}
        ),
        Pipeline([after, SimpleNamespace()], lambda chunk: chunk * 2),
    )


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ``import lerobot`` find what is here."""
    contents = {
        "lerobot": {},
        "lerobot.configs": {},
        "lerobot.configs.policies": {"PreTrainedConfig": Config},
        "lerobot.policies": {},
        "lerobot.policies.factory": {
            "get_policy_class": lambda name: Policy,
            "make_pre_post_processors": make_pre_post_processors,
        },
        "lerobot.processor": {},
        "lerobot.processor.pipeline": {"ProcessorMigrationError": ProcessorMigrationError},
        "draccus": {},
        "draccus.utils": {"DraccusException": DraccusException},
    }
    for name, members in contents.items():
        module = ModuleType(name)
        module.__spec__ = ModuleSpec(name, None)
        module.__dict__.update(members)
        monkeypatch.setitem(sys.modules, name, module)


def write_folder(path: Path, *, cameras: bool = False, task: bool = False, **choices: Any) -> Path:
    """A folder that LeRobot could have written."""
    path.mkdir(parents=True)
    inputs: dict[str, Any] = {STATE: {"type": "STATE", "shape": [3]}}
    if cameras:
        inputs[TOP] = {"type": "VISUAL", "shape": [3, 4, 6]}
    config = {
        "type": "imagined",
        "input_features": inputs,
        "output_features": {"action": {"type": "ACTION", "shape": [2]}},
        "device": "cpu",
        "n_obs_steps": 2,
        "n_action_steps": 3,
        "num_steps": CHUNK,
        "pretrained_backbone_weights": "IMAGENET",
        **choices,
    }
    steps: list[dict[str, Any]] = [{"rename_map": {"robot.joints": STATE}}]
    steps += [{"registry_name": "device_processor"}, *([{"task_key": "task"}] if task else [])]
    (path / "config.json").write_text(json.dumps(config))
    (path / PREPROCESSOR).write_text(json.dumps({"steps": steps}))
    save_file({"weight": torch.zeros(1)}, path / "model.safetensors")
    return path
