"""Training throughput: hotloop's loop beside a bare PyTorch loop on the same network.

    python tests/benchmarks/benchmark_training.py OUTPUT.json [--rounds 15] [--steps 10]

Random data of Push-T's sizes, ``policy=sdp`` as it comes, batch 256, one thread. The bare loop
takes ready-made windows from memory, draws one level per sample, and does nothing else than
optimise: no normalisation, no level mixture, no observation noise, no log. The loops take turns;
each ratio is the median over the rounds.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import mse_loss

from hotloop.decoding.plumbing.files import write_text
from hotloop.policies.diffusion.model import DiffusionModel
from hotloop.train.config.compose import compose
from hotloop.train.config.policies import DenoisingConfig
from hotloop.train.config.training import TrainConfig
from hotloop.train.data.episodes import Episodes
from hotloop.train.families.diffusion import initial_model, level_mixture, make_windows
from hotloop.train.loop import Trainer
from hotloop.train.measure.provenance import measurement_header
from hotloop.train.objectives.denoising import DenoisingObjective

NUM_EPISODES, LENGTH = 206, 125
CPU = torch.device("cpu")


def random_episodes(num_episodes: int = NUM_EPISODES) -> Episodes:
    """As many steps as Push-T's demonstrations have, or fewer episodes."""
    rng = np.random.default_rng(0)
    sizes = {"observation.state": 2, "observation.environment_state": 18}
    num = num_episodes * LENGTH
    observations = {k: rng.uniform(0, 512, (num, n)).astype(np.float32) for k, n in sizes.items()}
    actions = rng.uniform(0, 512, (num, 2)).astype(np.float32)
    return Episodes(observations, actions, np.arange(1, num_episodes + 1) * LENGTH)


def trainer_of(config: TrainConfig, episodes: Episodes) -> Trainer:
    """The trainer of a run on these demonstrations, before its first step."""
    assert isinstance(config.policy, DenoisingConfig)
    model = initial_model(config.policy, episodes, config.seed)
    windows = make_windows(model.config, episodes)
    mixture = level_mixture(config.policy, model)
    objective = DenoisingObjective(model, mixture, config.policy.observation_noise)
    return Trainer(config, objective, windows, lambda *_: None)  # type: ignore[arg-type]


def bare_step(
    config: TrainConfig, episodes: Episodes, *, ema: bool, device: torch.device = CPU
) -> Callable[[], object]:
    """One optimisation step of a loop without anything around it, its data on the device."""
    assert isinstance(config.policy, DenoisingConfig)
    model = initial_model(config.policy, episodes, config.seed).to(device)
    windows = make_windows(model.config, episodes)
    batch = windows.gather(torch.arange(len(windows))).to(device)
    observation, clean = model.flatten(batch.observation), model.action_normalizer(batch.actions)
    optim = config.optim
    optimizer = torch.optim.AdamW(
        model.parameters(), optim.lr, optim.betas, weight_decay=optim.weight_decay, fused=True
    )
    averaged = [parameter.detach().clone() for parameter in model.parameters()]

    def step() -> None:
        index = torch.randint(len(clean), (config.batch_size,), device=device)
        loss = bare_loss(model, observation[index], clean[index])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if ema:
            with torch.no_grad():
                torch._foreach_lerp_(averaged, list(model.parameters()), 0.001)

    return step


def bare_loss(
    model: DiffusionModel, observation: torch.Tensor, clean: torch.Tensor
) -> torch.Tensor:
    """Denoising at one level per sample."""
    size, top = (len(clean), 1), model.config.num_levels + 1
    level = torch.randint(1, top, size, device=clean.device).expand(clean.shape[:2])
    x = model.schedule.add_noise(clean, torch.randn_like(clean), level)
    return mse_loss(model.predict(x, level, observation), clean)


def main() -> None:
    """Time all loops in turns and write the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=10)
    args = parser.parse_args()
    torch.set_num_threads(1)
    episodes = random_episodes()
    with tempfile.TemporaryDirectory() as folder:
        config = compose("train", ["policy=sdp", "task=pusht"], TrainConfig)
        config = replace(config, output_dir=folder)
        loops = {
            "hotloop": trainer_of(config, episodes)._optimise,
            "bare": bare_step(config, episodes, ema=False),
            "bare with EMA": bare_step(config, episodes, ema=True),
        }
        seconds: dict[str, list[float]] = {name: [] for name in loops}
        for index in range(args.rounds + 1):
            for name, step in loops.items():
                start = time.process_time()
                for _ in range(args.steps):
                    step()
                if index:  # the first round warms up
                    seconds[name].append(time.process_time() - start)
    rows = []
    for name, values in seconds.items():
        ratio = np.median(np.array(values) / np.array(seconds["hotloop"]))
        rate = args.steps * config.batch_size / float(np.median(values))
        rows.append({"loop": name, "samples_per_second": rate, "hotloop_over_it": float(ratio)})
        print(f"{name:14} {rate:8.0f} samples/s, hotloop / it {ratio:.3f}")
    facts = {"threads": 1, "batch_size": config.batch_size, "clock": "CPU time of the process"}
    header = measurement_header(shlex.join(["python", *sys.argv]))
    result = {**header, **facts, "rounds": args.rounds, "steps": args.steps, "rows": rows}
    write_text(args.output, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
