"""Train LeRobot's DiffusionPolicy on Push-T, with LeRobot's classes, and save it as LeRobot does.

    hotloop data convert pusht_lowdim.npz pusht_lerobot --to lerobot --fps 10 --task "push the T" \
        --keys action=action 'observation.state=state[0:2]' observation.environment_state=keypoint
    python tests/benchmarks/train_lerobot.py pusht_lerobot FOLDER [--minutes 35]

In an environment with LeRobot 0.6 and its extras ``diffusion`` and ``dataset``; hotloop is not
imported. Policy, loss, statistics and files are LeRobot's. The loop is its `lerobot-train` in
short, but for three things that make a quarter of an hour on one core enough: frames come from
memory, the rate is three times the default, and the weights that are saved are an exponential
average.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lerobot.configs import FeatureType, NormalizationMode, PolicyFeature
from lerobot.datasets import LeRobotDataset
from lerobot.policies import make_pre_post_processors
from lerobot.policies.diffusion.configuration_diffusion import DiffusionConfig
from lerobot.policies.diffusion.modeling_diffusion import DiffusionPolicy

STATE, ENVIRONMENT, ACTION = "observation.state", "observation.environment_state", "action"
BATCH, RATE, WARM_UP, AVERAGE = 64, 3e-4, 200, 0.998


def configuration() -> DiffusionConfig:
    """U-Net 64-128-256 on noise, DDPM with 100 levels; the keypoints, too, are scaled."""
    mode = NormalizationMode.MIN_MAX
    return DiffusionConfig(
        input_features={
            STATE: PolicyFeature(FeatureType.STATE, (2,)),
            ENVIRONMENT: PolicyFeature(FeatureType.ENV, (18,)),
        },
        output_features={ACTION: PolicyFeature(FeatureType.ACTION, (2,))},
        normalization_mapping={"STATE": mode, "ENV": mode, "ACTION": mode},
        horizon=16,
        n_action_steps=8,
        down_dims=(64, 128, 256),
        device="cpu",
        push_to_hub=False,
    )


def frames(dataset: LeRobotDataset, num_last: int) -> tuple[dict[str, torch.Tensor], np.ndarray]:
    """Every column, shape (N, ...), and per frame that a window may start at (it, first, last)."""
    table = dataset.hf_dataset.with_format("numpy")
    columns = {k: torch.from_numpy(np.stack(table[k])) for k in (STATE, ENVIRONMENT, ACTION)}
    ends = np.cumsum(np.bincount(np.asarray(table["episode_index"])))
    starts = np.r_[0, ends[:-1]]
    rows = [
        np.stack(np.broadcast_arrays(np.arange(start, end - num_last), start, end - 1), axis=1)
        for start, end in zip(starts, ends, strict=True)
    ]
    return columns, np.concatenate(rows)


def window(
    columns: dict[str, torch.Tensor], rows: np.ndarray, config: DiffusionConfig
) -> dict[str, torch.Tensor]:
    """What LeRobot's loss reads: (B, 2, ...) observations, (B, 16, 2) actions, padding."""
    offsets = {ACTION: config.action_delta_indices}
    batch = {}
    for key, column in columns.items():
        wanted = rows[:, :1] + np.array(offsets.get(key, config.observation_delta_indices))
        inside = np.clip(wanted, rows[:, 1:2], rows[:, 2:])
        batch[key] = column[torch.from_numpy(inside)]
        batch[f"{key}_is_pad"] = torch.from_numpy(inside != wanted)
    return batch


def main() -> None:
    """Train and save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("dataset", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--seed", type=int, default=42)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    rng = np.random.default_rng(options.seed)
    dataset = LeRobotDataset("local/pusht", root=options.dataset)
    config = configuration()
    before, after = make_pre_post_processors(config, dataset_stats=dataset.meta.stats)
    columns, rows = frames(dataset, config.drop_n_last_frames)
    normalised = before(columns)
    columns = {key: normalised[key] for key in columns}
    policy: Any = DiffusionPolicy(config)
    average = torch.optim.swa_utils.AveragedModel(
        policy, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(AVERAGE)
    )
    optimizer = torch.optim.AdamW(policy.parameters(), RATE, betas=(0.95, 0.999), weight_decay=1e-6)
    began, step, passed = time.monotonic(), 0, 0.0
    while passed < 1:
        step, passed = step + 1, (time.monotonic() - began) / (60 * options.minutes)
        rate = RATE * min(step / WARM_UP, 1.0) * (1 + np.cos(np.pi * min(passed, 1.0))) / 2
        for group in optimizer.param_groups:
            group["lr"] = rate
        batch = window(columns, rng.choice(rows, BATCH), config)
        loss, _ = policy.forward(batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), 10.0)
        optimizer.step()
        optimizer.zero_grad()
        average.update_parameters(policy)
        if step % 100 == 0:
            print(f"step {step}, {passed:.1%} of the time, loss {loss.item():.4f}", flush=True)
    average.module.save_pretrained(options.folder)
    before.save_pretrained(options.folder)
    after.save_pretrained(options.folder)


if __name__ == "__main__":
    main()
