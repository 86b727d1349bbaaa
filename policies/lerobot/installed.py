"""A policy as an installed LeRobot makes it of a folder; nothing else here imports LeRobot."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError

from ...decoding.instruction import INSTRUCTION_BYTES, INSTRUCTION_KEY, decode_instruction
from ...decoding.plumbing.files import read_json_object
from .folder import CONFIG_FILE, INSTALLED, WEIGHTS_FILE
from .statistics import PREPROCESSOR

ACTION, _PICTURES = "action", "observation.images"


class InstalledModel:
    """A policy and its processors, as an installed LeRobot makes them of a folder.

    Args:
        path: Folder with `CONFIG_FILE`, weights and processor files.

    Attributes:
        config: LeRobot's configuration.
        policy: LeRobot's policy.
        before: What LeRobot makes of an observation for it.
        after: What LeRobot makes of its actions.
        observation_shapes: Shape of one frame per key that it reads; its instruction is one.

    Raises:
        ImportError: If LeRobot, or what it needs for this type of policy, is not installed.
        OSError: If a file is missing.
        ValueError: If LeRobot cannot read the folder.
    """

    def __init__(self, path: Path) -> None:
        if find_spec("lerobot") is None:
            raise ImportError(
                f"{INSTALLED}{path} is run by LeRobot itself, and lerobot is missing: pip install "
                "lerobot, on Python 3.12 or later"
            )
        for name in (CONFIG_FILE, WEIGHTS_FILE):
            if not (path / name).is_file():
                raise FileNotFoundError(f"{path} has no {name}; copy the whole folder")
        # LeRobot tells of its progress where a command's result is expected.
        with contextlib.redirect_stdout(sys.stderr):
            self.config, self.policy, self.before, self.after = _load(path)
        self._device = torch.device(self.config.device)
        renamed = {
            inner: outer
            for step in self.before.steps
            for outer, inner in getattr(step, "rename_map", {}).items()
        }
        self.observation_shapes: dict[str, tuple[int, ...]] = {}
        for name, feature in self.config.input_features.items():
            shape = tuple(feature.shape)
            picture = len(shape) == 3
            key = renamed.get(name, name)
            self.observation_shapes[key] = (*shape[1:], shape[0]) if picture else shape
        if any(hasattr(step, "task_key") for step in self.before.steps):
            self.observation_shapes[INSTRUCTION_KEY] = (INSTRUCTION_BYTES,)

    @property
    def num_obs_steps(self) -> int:
        """Frames that it sees."""
        return max(int(getattr(self.config, "n_obs_steps", 1)), 1)

    @property
    def num_execute(self) -> int:
        """Actions that it executes per chunk in LeRobot's own loop."""
        return int(getattr(self.config, "n_action_steps", 1))

    def statistics(self) -> Mapping[str, np.ndarray]:
        """Statistics of the training data's actions, by name; empty if the folder has none."""
        stored: dict[str, Any] = {}
        for step in self.after.steps:
            if hasattr(step, "state_dict"):
                stored |= step.state_dict()
        prefix = f"{ACTION}."
        return {
            name.removeprefix(prefix): value.double().numpy().ravel()
            for name, value in stored.items()
            if name.startswith(prefix)
        }

    @torch.inference_mode()
    def chunk(self, frames: Sequence[Mapping[str, np.ndarray]], seed: int) -> np.ndarray:
        """Actions from the newest frame on, physical, shape (T, D).

        Args:
            frames: The `num_obs_steps` newest frames of one robot, oldest first.
            seed: Of the noise, which LeRobot draws from PyTorch's global generator.
        """
        devices = [self._device] if self._device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            # Each chunk from its own frames: the history is the executor's, not LeRobot's.
            self.policy.reset()
            queues = getattr(self.policy, "_queues", None) or {}
            batch: dict[str, Any] = {}
            for frame in frames:
                batch = self._batch(frame)
                for name, queue in queues.items():
                    if name in batch:
                        queue.append(batch[name])
            chunk = self.after(self.policy.predict_action_chunk(batch))
        return chunk[0].float().cpu().numpy()

    def _batch(self, frame: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """One frame as LeRobot's policies read it, a batch of one."""
        values: dict[str, Any] = {"task": "", "robot_type": ""}
        for key, array in frame.items():
            if key == INSTRUCTION_KEY:
                values["task"] = decode_instruction(array)
                continue
            value = torch.tensor(array)[None].to(self._device)
            if value.dtype == torch.uint8:
                value = value.permute(0, 3, 1, 2).contiguous().float() / 255
            values[key] = value.float()
        batch = self.before(values)
        batch.pop(ACTION, None)  # there is none, and some policies would look for its history
        cameras = list(getattr(self.config, "image_features", {}))
        if _PICTURES in (getattr(self.policy, "_queues", None) or {}) and cameras:
            batch[_PICTURES] = torch.stack([batch[name] for name in cameras], dim=-4)
        return batch

    def config_dict(self) -> dict[str, Any]:
        """There is none of hotloop's own.

        Raises:
            ValueError: Always.
        """
        raise ValueError(
            f"a policy that LeRobot runs ({INSTALLED}…) is LeRobot's own and cannot be stored in "
            f"another form; what hotloop reads itself is opened without {INSTALLED}"
        )


def _load(path: Path) -> tuple[Any, Any, Any, Any]:
    """LeRobot's configuration, policy, preprocessor and postprocessor."""
    policies = import_module("lerobot.policies.factory")
    configs = import_module("lerobot.configs.policies")
    draccus = import_module("draccus.utils")
    pipeline = import_module("lerobot.processor.pipeline")
    try:
        config = configs.PreTrainedConfig.from_pretrained(path)
        # Weights of pictures are in the folder; without this, others are downloaded first.
        if hasattr(config, "pretrained_backbone_weights"):
            config.pretrained_backbone_weights = None
        policy = policies.get_policy_class(config.type).from_pretrained(path, config=config)
        before, after = policies.make_pre_post_processors(
            config, pretrained_path=str(path), preprocessor_overrides=_here(path, config)
        )
    except (
        draccus.DraccusException,
        pipeline.ProcessorMigrationError,
        SafetensorError,
        RuntimeError,
    ) as error:
        line = " ".join(str(error).split())
        raise ValueError(f"LeRobot cannot read {path}: {line}") from error
    return config, policy.eval(), before, after


def _here(path: Path, config: Any) -> dict[str, Any]:
    """What differs from the machine that the policy was trained on."""
    steps = json.dumps(read_json_object(path / PREPROCESSOR).get("steps"))
    return {"device_processor": {"device": config.device}} if "device_processor" in steps else {}
