"""Training throughput of students: from cached features, from pictures, and of a vector policy.

    python tests/benchmarks/benchmark_features.py OUTPUT.json [--rounds 9] [--steps 4]

Random data in Push-T's shapes: 96 x 96 pictures of which the encoder sees 84 x 84, and the agent's
position; ``policy=sdp`` as it comes, batch 256, one thread. The vector policy has the same network,
the same distillation, and as many numbers to read as the encoder makes of a picture. The loops take
turns; each ratio is the median over the rounds. How long the features take is measured once.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hotloop.decoding import ActionSpec
from hotloop.decoding.plumbing.files import write_text
from hotloop.policies.checkpoint import Checkpoint, save_checkpoint
from hotloop.policies.networks.config import EncoderConfig
from hotloop.train.config.compose import compose
from hotloop.train.config.distill import JumpDistillConfig
from hotloop.train.config.policies import PolicyConfig
from hotloop.train.config.training import TrainConfig
from hotloop.train.data.episodes import Episodes
from hotloop.train.families.diffusion import STREAMING, initial_model
from hotloop.train.loop import Trainer
from hotloop.train.measure.provenance import measurement_header

NUM_EPISODES, LENGTH = 2, 125
SPEC = ActionSpec(("x [px]", "y [px]"), (0.0, 0.0), (512.0, 512.0), dt=0.1)
KINDS = ("conv", "resnet18")


def random_episodes(kind: str) -> Episodes:
    """Two demonstrations, with pictures or with as many numbers instead."""
    rng, num = np.random.default_rng(0), NUM_EPISODES * LENGTH
    seen = {
        "observation.image": rng.integers(0, 256, (num, 96, 96, 3), np.uint8),
        "observation.environment_state": rng.uniform(0, 512, (num, 64)).astype(np.float32),
    }
    key = "observation.environment_state" if kind == "vectors" else "observation.image"
    state, actions = (rng.uniform(0, 512, (num, 2)).astype(np.float32) for _ in range(2))
    observations = {key: seen[key], "observation.state": state}
    return Episodes(observations, actions, np.arange(1, NUM_EPISODES + 1) * LENGTH)


def teacher_and_data(folder: Path, kind: str) -> tuple[TrainConfig, Episodes]:
    """A run of a student, from a teacher with random weights."""
    episodes = random_episodes(kind)
    config = compose("train", ["policy=sdp", "task=pusht"], TrainConfig)
    assert isinstance(config.policy, PolicyConfig)
    encoder = EncoderConfig(kind if kind in KINDS else "conv", crop=(84, 84))
    policy = replace(config.policy, model=replace(config.policy.model, encoder=encoder))
    teacher = initial_model(policy, episodes, seed=0)
    save_checkpoint(folder / kind, Checkpoint("sdp", teacher, SPEC, policy.sampling, {}))
    distill = JumpDistillConfig(str(folder / kind), num_visits=8, refresh_every=10**6)
    output = str(folder / "run")
    return replace(
        config, policy=policy, distill=distill, output_dir=output, save_every=0
    ), episodes


def student_step(config: TrainConfig, episodes: Episodes) -> Callable[[], object]:
    """One optimisation step of the student."""
    training = STREAMING.prepare(config, episodes)
    trainer = Trainer(config, training.objective, training.samples, lambda *_: None)  # type: ignore[arg-type, return-value]
    return trainer._optimise


def main() -> None:
    """Time all loops in turns and write the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=4)
    args = parser.parse_args()
    torch.set_num_threads(1)
    loops: dict[str, Callable[[], object]] = {}
    encoding: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HOTLOOP_CACHE"] = folder
        for kind in ("vectors", *KINDS):
            config, episodes = teacher_and_data(Path(folder), kind)
            start = time.process_time()
            loops[kind] = student_step(config, episodes)
            if kind in KINDS:
                encoding[kind] = episodes.num_steps / (time.process_time() - start)
        config, episodes = teacher_and_data(Path(folder), "conv")
        from_pictures = replace(config.distill, train_encoder=True)
        config = replace(config, distill=from_pictures)
        loops["conv, from pictures"] = student_step(config, episodes)
        rows = measured(loops, args.rounds, args.steps, config.batch_size)
    for row in rows:
        row["frames_encoded_per_second"] = encoding.get(row["student"])
        print(row)
    facts = {"threads": 1, "batch_size": 256, "clock": "CPU time of the process", "crops": 4}
    header = measurement_header(shlex.join(["python", *sys.argv]))
    result = {**header, **facts, "rounds": args.rounds, "steps": args.steps, "rows": rows}
    write_text(args.output, json.dumps(result, indent=1) + "\n")


def measured(
    loops: dict[str, Callable[[], object]], rounds: int, steps: int, batch_size: int
) -> list[dict[str, Any]]:
    """Samples per second of each loop, and its share of the vector policy's."""
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    for index in range(rounds + 1):
        for name, step in loops.items():
            start = time.process_time()
            for _ in range(steps):
                step()
            if index:  # the first round warms up
                seconds[name].append(time.process_time() - start)
    rows = []
    for name, values in seconds.items():
        share = float(np.median(np.array(seconds["vectors"]) / np.array(values)))
        rate = steps * batch_size / float(np.median(values))
        rows.append({"student": name, "samples_per_second": rate, "share_of_vectors": share})
    return rows


if __name__ == "__main__":
    main()
