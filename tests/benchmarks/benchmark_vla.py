"""Vision-language policies: success and speed of every decoder, and speed against chunk length.

    python tests/benchmarks/benchmark_vla.py success OUT.json TEACHER [STUDENT ...]
    python tests/benchmarks/benchmark_vla.py chunks OUT.json TEACHER [STUDENT ...] --dataset DATASET
    python tests/benchmarks/benchmark_vla.py length OUT.json STUDENT --dataset DATASET
    python tests/benchmarks/benchmark_vla.py precision OUT.json CHECKPOINT [CHECKPOINT ...]
    python tests/benchmarks/benchmark_vla.py paired OUT.json CHECKPOINT --engines openvino

`success` runs the same episodes, 20 per instruction, with every decoder of every checkpoint, and
the first one's greedy decoder also with shuffled instructions. `chunks` decodes the same
observations, of the dataset's last episodes, with every decoder of every checkpoint, in turns
within one process per thread count, so that a machine's drift meets all of them alike. Warm starts
take the chunk that the same decoder gave out one chunk earlier in the episode. `length` decodes the
first 1, 3, 5 and 8 actions of a chunk: under the causal mask they do not depend on those behind
them, so a model of long chunks decodes short ones as if it had no others. A plot is written beside
its rows. `paired` plays a few episodes with each decoder in turn, then the next few, so that
success and times are of the same episodes and the same minutes, and can be stopped at any time.

`precision` runs the same episodes with fewer digits, `--precisions`, and decodes each block again
in float32 from the same observation and guess; with `--dataset` recorded ones instead of its own.

`--engines` says what runs the model: `chunks` compares every decoder with greedy decoding on the
same engine, `success` takes the first one.

Rows are written as they are measured, and rows that OUT.json has already are not measured again.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fixed_tokens import num_fixed_tokens
from result_rows import Results
from vla_chunk_length import run_length
from vla_decoders import DECODINGS, LIMIT, fused_forward, observations
from vla_paired import run_paired
from vla_precision import run_precision
from vla_success import run_success

from hotloop.decoding.jacobi import jacobi
from hotloop.decoding.token_guesses import random_tokens
from hotloop.policies.checkpoint import load_checkpoint
from hotloop.policies.programs.engines.engine import PRECISIONS


def run_chunks(results: Results, args: argparse.Namespace) -> None:
    """One row per checkpoint, decoder and thread count."""
    keys = {
        (Path(name).name, engine, label, threads): {
            "part": "chunks", "checkpoint": Path(name).name, "engine": engine, "decoding": label,
            "threads": threads,
        }
        for name in args.checkpoints
        for engine in args.engines
        for label in (*DECODINGS, LIMIT)
        for threads in args.threads
    }  # fmt: skip
    missing = [threads for (*_, threads), key in keys.items() if not results.has(key)]
    if len(args.threads) > 1:
        for threads in sorted(set(missing)):
            # Thread counts are fixed when the libraries are loaded.
            environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
            command = [*sys.orig_argv, "--threads", str(threads)]
            subprocess.run(command, env=environment, check=True)
    elif missing:
        for engine in args.engines:
            measured = measure_chunks(args.dataset, args.checkpoints, args.episodes, engine)
            for (name, label), values in measured.items():
                key = keys[name, engine, label, args.threads[0]]
                if not results.has(key):
                    results.add(key, values)


def measure_chunks(
    dataset: str, names: list[str], num_episodes: int, engine: str
) -> dict[tuple[str, str], dict[str, Any]]:
    """What each decoder of each checkpoint does with the same observations."""
    rows: dict[tuple[str, str], dict[str, list[Any]]] = {}
    checkpoints = {Path(name).name: load_checkpoint(name) for name in names}
    episodes = observations(dataset, next(iter(checkpoints.values())).model, num_episodes)
    policies = {
        (name, label): checkpoint.policy(choices, engine)
        for name, checkpoint in checkpoints.items()
        for label, choices in DECODINGS.items()
    }
    for policy in policies.values():  # what is prepared at the first plan is not timed
        policy.reset(np.array([0]))
        policy.plan(episodes[0][0], episodes[0][0].step)
    for number, episode in enumerate(episodes):
        for policy in policies.values():
            policy.reset(np.array([number]))
        for observation in episode:
            for key, policy in policies.items():
                began = time.perf_counter()
                plan = policy.plan(observation, observation.step)
                seconds = time.perf_counter() - began
                row = rows.setdefault(key, {"ms": [], "forwards": [], "actions": []})
                row["ms"].append(1e3 * seconds)
                row["forwards"].append(int(policy.decoded.num_calls[0]))
                row["actions"].append(plan.actions[0])
            for name, checkpoint in checkpoints.items():
                token_model = policies[name, "sigma 1, warm"].token_model
                seconds = fused_forward(checkpoint.model, token_model, observation)
                rows.setdefault((name, LIMIT), {"ms": []})["ms"].append(1e3 * seconds)
    found = {}
    for (name, label), row in rows.items():
        if label == LIMIT:
            found[name, label] = times(row, rows[name, "greedy"]["ms"], row["ms"])
        else:
            found[name, label] = decoder_row(row, rows[name, "greedy"], rows[name, LIMIT]["ms"])
    for name, checkpoint in checkpoints.items():
        found[name, "jacobi"]["mean_fixed_tokens"] = mean_fixed_tokens(checkpoint.model, episodes)
    return found


def times(row: dict[str, list[Any]], greedy: list[float], limit: list[float]) -> dict[str, Any]:
    median = float(np.median(row["ms"]))
    return {
        "n": len(row["ms"]),
        "median_ms": median,
        "p99_ms": float(np.quantile(row["ms"], 0.99)),
        "speed_up": float(np.median(greedy)) / median,
        "ratio_to_one_fused_forward": median / float(np.median(limit)),
    }


def decoder_row(
    row: dict[str, list[Any]], greedy: dict[str, list[Any]], limit: list[float]
) -> dict[str, Any]:
    actions, reference = np.stack(row["actions"]), np.stack(greedy["actions"])
    timed = times(row, greedy["ms"], limit)
    return {
        **timed,
        "mean_forwards": float(np.mean(row["forwards"])),
        "tokens_per_second": 1e3 * actions[0].size / timed["median_ms"],
        "actions_per_second": 1e3 * actions.shape[1] / timed["median_ms"],
        "chunks_equal_to_greedy": float((actions == reference).all(axis=(1, 2)).mean()),
        "mean_distance_to_greedy": float(np.abs(actions - reference).mean()),
    }


@torch.inference_mode()
def mean_fixed_tokens(model: Any, episodes: list[list[Any]]) -> float:
    """Tokens per chunk that Jacobi decoding settles before those in front of them."""
    generator, counts = np.random.default_rng(0), []
    for observation in (one for episode in episodes for one in episode):
        prompt = model.prompt({key: values[:, 0] for key, values in observation.frames.items()})
        tokenizer = model.action_tokenizer
        guess = random_tokens(generator, tokenizer.num_tokens, tokenizer.vocabulary_size)
        decoded = jacobi(
            model.token_model(prompt), model.begin(1), torch.from_numpy(guess)[None], record=True
        )
        counts.append(int(num_fixed_tokens(torch.stack(decoded.iterates))))
    return float(np.mean(counts))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("output", type=Path)
    parser.add_argument("checkpoints", nargs="+")
    parser.add_argument("--dataset", default="", help="demonstrations, for chunks and length")
    parser.add_argument("--episodes", type=int, default=None, help="120; 12 for chunks and length")
    parser.add_argument("--first-seed", type=int, default=100_000)
    parser.add_argument("--batch-size", type=int, default=12, help="environments side by side")
    parser.add_argument("--decodings", nargs="+", default=list(DECODINGS), choices=list(DECODINGS))
    parser.add_argument("--engines", nargs="+", default=["eager"])
    parser.add_argument("--precisions", nargs="+", default=["float32", "bf16"], choices=PRECISIONS)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    args = parser.parse_args()
    if args.part != "chunks":
        args.threads = args.threads[:1]
    played = args.part in ("success", "paired", "precision")
    if not played and not args.dataset:
        parser.error(f"{args.part} needs --dataset")
    if args.episodes is None:
        args.episodes = 120 if played else 12
    torch.set_num_threads(args.threads[0])
    PARTS[args.part](Results(args.output, silent=("successes", "plans")), args)


PARTS = {
    "success": run_success,
    "chunks": run_chunks,
    "length": run_length,
    "paired": run_paired,
    "precision": run_precision,
}


if __name__ == "__main__":
    main()
