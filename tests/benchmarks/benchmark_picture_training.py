"""Training throughput from pictures: hotloop's loop beside a bare one with frames in memory.

    python tests/benchmarks/benchmark_picture_training.py OUTPUT.json [--rounds 9] [--steps 2]

Random frames of Push-T's size (96 x 96, crop 84), ``policy=sdp`` with each encoder, one thread.
hotloop's loop reads frames from a memory-mapped file, as `hotloop train` does, and makes the next
batches ready in a thread of its own. The bare loop indexes a tensor of bytes in memory, cuts out
one place per batch, draws one level per sample, and does nothing else than optimise. The loops
take turns; each ratio is the median over the rounds, by the wall's clock and by the process's.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hotloop.decoding.plumbing.files import write_text
from hotloop.policies.diffusion.model import DiffusionModel, denoising_loss, join
from hotloop.train.config.compose import compose
from hotloop.train.config.policies import DenoisingConfig
from hotloop.train.config.training import TrainConfig
from hotloop.train.data.episodes import Episodes
from hotloop.train.families.diffusion import initial_model, level_mixture, make_windows
from hotloop.train.loop import Trainer
from hotloop.train.measure.provenance import measurement_header
from hotloop.train.objectives.denoising import DenoisingObjective

CAMERA, STATE = "observation.image", "observation.state"
SIZE, CROP, LENGTH = 96, 84, 125


def mapped_episodes(path: Path, num_frames: int) -> Episodes:
    """Episodes whose frames lie in a memory-mapped file."""
    rng = np.random.default_rng(0)
    shape = (num_frames, SIZE, SIZE, 3)
    frames = np.lib.format.open_memmap(path, "w+", np.uint8, shape)
    for begin in range(0, num_frames, 500):
        block = frames[begin : begin + 500]
        block[...] = rng.integers(0, 256, block.shape, np.uint8)
    frames.flush()
    states, actions = (rng.uniform(0, 512, (num_frames, 2)).astype(np.float32) for _ in range(2))
    mapped = np.load(path, mmap_mode="c")
    ends = np.append(np.arange(LENGTH, num_frames, LENGTH), num_frames)
    return Episodes({CAMERA: mapped, STATE: states}, actions, ends)


def hotloop_step(
    config: TrainConfig, episodes: Episodes, resources: ExitStack
) -> Callable[[], object]:
    """One optimisation step of the trainer."""
    assert isinstance(config.policy, DenoisingConfig)
    model = initial_model(config.policy, episodes, config.seed)
    windows = make_windows(model.config, episodes)
    mixture = level_mixture(config.policy, model)
    objective = DenoisingObjective(model, mixture, config.policy.observation_noise)
    trainer = Trainer(config, objective, windows, lambda *_: None)  # type: ignore[arg-type]
    resources.enter_context(trainer._batches.running())
    return trainer._optimise


def bare_step(config: TrainConfig, episodes: Episodes) -> Callable[[], object]:
    """One optimisation step of a loop without anything around it, but for the average."""
    assert isinstance(config.policy, DenoisingConfig)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = initial_model(config.policy, episodes, config.seed).to(device)
    frames = torch.from_numpy(np.array(episodes.observations[CAMERA]))
    states = torch.from_numpy(episodes.observations[STATE]).to(device)
    vectors = model.vectors({STATE: states[None]})[0]
    actions = model.action_normalizer(torch.from_numpy(episodes.actions).to(device))
    optim, sizes = config.optim, model.config
    optimizer = torch.optim.AdamW(
        model.parameters(), optim.lr, optim.betas, weight_decay=optim.weight_decay, fused=True
    )
    averaged = [parameter.detach().clone() for parameter in model.parameters()]
    observed, window = torch.arange(sizes.num_obs_steps), torch.arange(sizes.horizon)

    def step() -> None:
        start = torch.randint(len(actions) - sizes.horizon, (config.batch_size, 1))
        top, left = torch.randint(SIZE - CROP + 1, (2,)).tolist()
        seen = frames[start + observed].to(device)
        seen = seen[:, :, top : top + CROP, left : left + CROP].flatten(2)
        clean = actions[(start + window).to(device)]
        context = join(vectors[(start + observed).to(device)], encoded(model, seen))
        level = torch.randint(1, sizes.num_levels + 1, (len(clean), 1), device=device)
        noise = torch.randn(clean.shape, device=device)
        loss = denoising_loss(model, context, clean, level.expand(clean.shape[:2]), noise)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(averaged, list(model.parameters()), 0.001)

    return step


def encoded(model: DiffusionModel, seen: torch.Tensor) -> torch.Tensor:
    """Features of cut pictures."""
    assert model.vision is not None
    return model.vision.encode(seen)


def measure(config: TrainConfig, episodes: Episodes, rounds: int, steps: int) -> dict[str, Any]:
    """Both loops in turns."""
    with ExitStack() as resources:
        loops = {
            "hotloop": hotloop_step(config, episodes, resources),
            "bare": bare_step(config, episodes),
        }
        seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in loops}
        for index in range(rounds + 1):
            for name, step in loops.items():
                wall, process = time.perf_counter(), time.process_time()
                for _ in range(steps):
                    step()
                if torch.cuda.is_available():
                    torch.cuda.synchronize()
                if index:  # the first round warms up
                    now = time.perf_counter() - wall, time.process_time() - process
                    seconds[name].append(now)
    ratio = np.median(np.array(seconds["bare"]) / np.array(seconds["hotloop"]), axis=0)
    count = steps * config.batch_size
    rates = {name: count / float(np.median([w for w, _ in v])) for name, v in seconds.items()}
    return {
        "samples_per_second": rates,
        "hotloop_over_bare": {"wall": float(ratio[0]), "process": float(ratio[1])},
    }


def main() -> None:
    """Time both loops with each encoder and write the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--frames", type=int, default=6000)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--encoders", nargs="+", default=["conv", "resnet18"])
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        episodes = mapped_episodes(Path(folder) / "frames.npy", args.frames)
        for encoder in args.encoders:
            overrides = [
                "policy=sdp",
                "task=pusht-image",
                f"policy.model.encoder.kind={encoder}",
                f"policy.model.encoder.crop=[{CROP},{CROP}]",
                f"batch_size={args.batch_size}",
            ]
            config = compose("train", overrides, TrainConfig)
            config = replace(config, output_dir=f"{folder}/{encoder}")
            rows.append({"encoder": encoder, **measure(config, episodes, args.rounds, args.steps)})
            print(json.dumps(rows[-1]), flush=True)
    facts = {"threads": 1, "batch_size": args.batch_size, "frames": args.frames}
    header = measurement_header(shlex.join(["python", *sys.argv]))
    result = {**header, **facts, "rounds": args.rounds, "steps": args.steps, "rows": rows}
    write_text(args.output, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
