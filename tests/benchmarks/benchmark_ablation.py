"""What streaming diffusion needs on Push-T: one choice changed at a time, trained and scored.

    python tests/benchmarks/benchmark_ablation.py DATASET RUNS_DIR OUTPUT.json [--only NAME ...]

DATASET is ``pusht_lowdim.npz``. Every variant is one training with seed 42 and 50 test episodes per
setting; a variant whose run folder exists already is continued, not trained again. Rows of variants
that are not asked for stay in the file.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from benchmark_pusht import evaluate_run

from hotloop.decoding.plumbing.files import write_text
from hotloop.policies.checkpoint import load_checkpoint
from hotloop.train.measure.provenance import measurement_header

SEED = 42
BASELINE = "baseline"
# The small network of the level-conditioning rows, which are compared with each other only.
UNET = (
    "steps=2500",
    "policy.model.network.kind=unet",
    "policy.model.network.width=16",
    "policy.model.horizon=20",
    "policy.model.ladders=[2x8,4x4,8x2]",
)
VARIANTS: dict[str, tuple[str, ...]] = {
    BASELINE: (),
    "prediction epsilon": ("policy.model.prediction=epsilon",),
    "prediction velocity": ("policy.model.prediction=velocity",),
    "2500 steps": ("steps=2500",),
    "10000 steps": ("steps=10000",),
    "20000 steps": ("steps=20000",),
    "chunk-wise 1.0": ("policy.chunkwise=1.0",),
    "chunk-wise 0.5": ("policy.chunkwise=0.5",),
    "constant 1.0": ("policy.chunkwise=0.0",),
    "independent 1.0": ("policy.chunkwise=0.0", "policy.independent=1.0"),
    "ladder 8x2 alone": ("policy.model.ladders=[8x2]",),
    "ladder 4x4 alone": ("policy.model.ladders=[4x4]",),
    "observation noise 0": ("policy.observation_noise=0",),
    "level features to 60 rad": ("policy.model.network.max_angle=60",),
    "unet, concatenated levels": (*UNET, "policy.model.network.level_embedding=concatenated"),
    "unet, per-position levels": (*UNET, "policy.model.network.level_embedding=per_position"),
}
SETTINGS = [
    {"num_execute": size, "calls_per_step": calls} for size in (8, 4) for calls in (None, 2, 1)
]


def train(name: str, overrides: tuple[str, ...], dataset: Path, runs: Path) -> Path:
    """Train one variant with the command that a user would type; return its run folder."""
    run = runs / f"{name.replace(' ', '-').replace(',', '')}-{SEED}"
    command = [sys.executable, "-m", "hotloop.train.cli", "train", "policy=sdp", "task=pusht"]
    command += [f"task.dataset={dataset}", f"seed={SEED}", f"output_dir={run}", *overrides]
    if (run / "checkpoints" / "last").exists():
        command.append("resume=true")
    subprocess.run(command, check=True)
    return run


def main() -> None:
    """Train and score the variants; the file is written anew after each of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("runs_dir", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--num-episodes", type=int, default=50)
    parser.add_argument("--only", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    args = parser.parse_args()
    torch.set_num_threads(1)
    header = measurement_header(shlex.join(["python", *sys.argv]))
    rows: list[dict[str, Any]] = []
    if args.output.exists():
        rows = json.loads(args.output.read_text())["rows"]
        rows = [row for row in rows if row["variant"] not in args.only]
    for name in args.only:
        overrides = VARIANTS[name]
        run = train(name, overrides, args.dataset, args.runs_dir)
        sizes = [ladder.num_execute for ladder in load_checkpoint(run).model.ladders]
        for setting in SETTINGS:
            if setting["num_execute"] not in sizes:
                continue
            result = evaluate_run(run, setting, args.num_episodes)
            rows.append({"variant": name, "overrides": overrides, **setting, **result})
            print(
                f"{name:28} Ta {setting['num_execute']} calls {result['num_calls']:3}: "
                f"{result['mean_score']:.3f}",
                flush=True,
            )
        write_text(args.output, json.dumps({**header, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
