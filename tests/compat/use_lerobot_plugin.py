"""What an environment with LeRobot 0.6 does; prints one line of JSON.

save FOLDER CHECKPOINT: the checkpoint as a policy that LeRobot saved, for gym-pusht.
golden FOLDERS...: LeRobot's actions on golden folders, whose weights follow from their names.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import zlib
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import lerobot_policy_hotloop  # noqa: F401 - registers the policy
import numpy as np
import torch
from lerobot.configs import PreTrainedConfig
from lerobot.envs.configs import PushtEnv
from lerobot.policies import make_policy, make_pre_post_processors
from lerobot.policies.factory import get_policy_class
from safetensors.torch import save_file


def save(folder: str, checkpoint: str) -> dict[str, Any]:
    config = PreTrainedConfig.get_choice_class("hotloop")(checkpoint=checkpoint, device="cpu")
    policy = make_policy(config, env_cfg=PushtEnv(obs_type="environment_state_agent_pos"))
    policy.save_pretrained(folder)
    for pipeline in make_pre_post_processors(config):
        pipeline.save_pretrained(folder)
    return {"files": sorted(path.name for path in Path(folder).iterdir())}


def weight(name: str, shape: list[int]) -> torch.Tensor:
    """The weight that golden folders have under this name."""
    generator = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    z = torch.from_numpy(generator.standard_normal(shape, np.float32))
    if name.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.long)
    if name.endswith("running_var"):
        return 1 + 0.1 * z.abs()
    if name.endswith(("running_mean", "bias")):
        return 0.1 * z
    return 1 + 0.1 * z if len(shape) == 1 else z / np.sqrt(np.prod(shape[1:]))


def golden(*folders: str) -> dict[str, float]:
    """Largest difference of LeRobot's actions from the recorded ones, per folder."""
    return {Path(folder).name: difference(Path(folder)) for folder in folders}


def difference(folder: Path) -> float:
    config = PreTrainedConfig.from_pretrained(folder)
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name) / "policy"
        shutil.copytree(folder, copy)
        computed = ("pool.pos_grid", "vae_encoder_pos_enc")
        shapes = json.loads((folder / "shapes.json").read_text())
        policy_class = get_policy_class(config.type)
        own = policy_class(config).state_dict()
        weights = {
            key: own[key].contiguous() if key.endswith(computed) else weight(key, shape)
            for key, shape in shapes.items()
        }
        save_file(weights, copy / "model.safetensors")
        policy = policy_class.from_pretrained(copy, config=config)
        before, after = make_pre_post_processors(config, pretrained_path=str(copy))
    trace = np.load(folder / "trace.npz")
    noise = Recorded(trace["noise"])
    policy.reset()
    found = []
    for step in range(len(trace["actions"])):
        batch = {key: frame(trace[key][step]) for key in trace if key.startswith("observation")}
        with torch.inference_mode(), noise.instead_of_random():
            found.append(after(policy.select_action(before(batch))).numpy()[0])
    return float(np.abs(np.array(found) - trace["actions"]).max())


def frame(values: np.ndarray) -> torch.Tensor:
    if values.dtype == np.uint8:
        return torch.from_numpy(values).float()[None] / 255
    return torch.from_numpy(values)[None]


class Recorded:
    """Hands out recorded noise wherever LeRobot and diffusers draw some."""

    def __init__(self, noise: np.ndarray) -> None:
        self._left = list(noise)

    def draw(self, *_: object, **__: object) -> torch.Tensor:
        return torch.from_numpy(self._left.pop(0))[None]

    def instead_of_random(self) -> ExitStack:
        stack = ExitStack()
        stack.enter_context(mock.patch("torch.randn", self.draw))
        stack.enter_context(
            mock.patch("diffusers.schedulers.scheduling_ddpm.randn_tensor", self.draw)
        )
        return stack


if __name__ == "__main__":
    print(json.dumps({"save": save, "golden": golden}[sys.argv[1]](*sys.argv[2:])))
