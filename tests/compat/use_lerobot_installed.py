"""Policies that LeRobot 0.6 itself runs, through hotloop's contract and through LeRobot's loop.

    python use_lerobot_installed.py FOLDERS...

Of golden folders; it prints, as one JSON object, the largest difference of their actions.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from lerobot_folders import golden_folder

from hotloop.decoding import Executor
from hotloop.decoding.conformance import check_policy
from hotloop.policies.checkpoint import load_checkpoint
from hotloop.policies.lerobot.given import Given

SEED = 7
GIVEN = Given(dt=0.1, action_low=(-1e4, -1e4), action_high=(1e4, 1e4))


def difference(folder: Path) -> float:
    checkpoint = load_checkpoint(f"lerobot:{folder}", GIVEN)
    policy, trace = checkpoint.policy(), np.load(folder / "trace.npz")
    check_policy(policy, num_plans=2)
    executor = Executor(policy)
    executor.reset([SEED])
    ours, theirs, model = [], [], checkpoint.model
    frames = [
        {key: pixels(trace[key][step]) for key in model.observation_shapes}
        for step in range(len(trace["actions"]))
    ]
    for frame in frames:
        ours.append(executor.act({key: value[None] for key, value in frame.items()})[0])
    theirs = loop(model, frames, checkpoint.sampling.num_execute)
    return float(np.abs(np.array(ours) - theirs).max())


def pixels(values: np.ndarray) -> np.ndarray:
    return values.transpose(1, 2, 0) if values.ndim == 3 else values


def loop(model: Any, frames: list[dict[str, np.ndarray]], num_execute: int) -> np.ndarray:
    """LeRobot's own: `select_action` at every step, with the same noise."""
    from lerobot.policies.utils import prepare_observation_for_inference

    model.policy.reset()
    actions = []
    for step, frame in enumerate(frames):
        copies = {key: value.copy() for key, value in frame.items()}
        batch = model.before(prepare_observation_for_inference(copies, torch.device("cpu")))
        if step % num_execute == 0:
            drawn = np.random.SeedSequence([SEED, step // num_execute]).generate_state(1)
            torch.manual_seed(int(drawn[0]))
        with torch.inference_mode():
            actions.append(model.after(model.policy.select_action(batch))[0].numpy())
    return np.array(actions)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        found = {
            Path(name).name: difference(golden_folder(Path(name).name, Path(place)))
            for name in sys.argv[1:]
        }
    print(json.dumps(found))
