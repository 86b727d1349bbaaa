"""Push-T with a policy whose plans come late; writes results/latency_strategies.json and a plot.

    python tests/benchmarks/benchmark_latency.py --episodes 50

Four ways to live with it: stand still during inference, plan ahead while moving, real-time
chunking, and streaming diffusion. Latency is in control steps of 0.1 s, all in virtual time. Jerk
is the root mean square of the third difference of the action targets, per episode.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hotloop.decoding import Executor, Policy
from hotloop.envs.registry import make_task
from hotloop.envs.statistics import bootstrap_interval
from hotloop.policies.checkpoint import load_checkpoint
from hotloop.policies.real_time_chunking import RealTimeChunkingPolicy
from hotloop.policies.sampling import SamplingConfig
from hotloop.real_robot.strategies import SynchronousPolicy
from hotloop.train.files import write_text
from hotloop.train.provenance import measurement_header

RESULTS = Path(__file__).parent / "results"
DP_CALLS, NUM_EXECUTE = 10, 8


def diffusion() -> Policy:
    """The Diffusion Policy checkpoint."""
    return load_checkpoint("pusht-dp").policy(
        {"calls_per_step": DP_CALLS, "num_execute": NUM_EXECUTE}
    )


def chunking(guidance: str) -> Policy:
    """The same network with real-time chunking."""
    checkpoint = load_checkpoint("pusht-dp")
    sampling = SamplingConfig(num_execute=NUM_EXECUTE, calls_per_step=DP_CALLS)
    return RealTimeChunkingPolicy(checkpoint.model, checkpoint.action_spec, sampling, guidance)


def streaming() -> Policy:
    """The Streaming Diffusion Policy checkpoint, one network call per plan."""
    return load_checkpoint("pusht-sdp").policy({})


STRATEGIES: dict[str, Callable[[int], Executor]] = {
    "synchronous DP": lambda steps: Executor(SynchronousPolicy(diffusion(), steps)),
    "asynchronous DP": lambda steps: Executor(diffusion(), latency=steps),
    "RTC DP, identity": lambda steps: Executor(chunking("identity"), latency=steps),
    "RTC DP, vjp": lambda steps: Executor(chunking("vjp"), latency=steps),
    "streaming SDP": lambda steps: Executor(streaming(), latency=steps),
}


def run(executor: Executor, seeds: list[int]) -> tuple[list[float], list[float]]:
    """Score and jerk [px/s3] of one episode per seed, side by side."""
    task = make_task("pusht")
    envs = [task.make() for _ in seeds]
    frames = [env.reset(seed) for env, seed in zip(envs, seeds, strict=True)]
    executor.reset(seeds)
    active, actions = np.arange(len(seeds)), [[] for _ in seeds]
    while active.size:
        frame = {key: np.stack([frames[i][key] for i in active]) for key in frames[0]}
        chosen = executor.act(frame, active)
        going = []
        for index, action in zip(active.tolist(), chosen, strict=True):
            actions[index].append(action)
            frames[index], _, done = envs[index].step(action)
            if not done:
                going.append(index)
        active = np.array(going, np.int64)
    scores = [env.score for env in envs]
    for env in envs:
        env.close()
    dt = task.action_spec.dt
    thirds = [np.diff(np.stack(row), 3, axis=0) / dt**3 for row in actions]
    return scores, [float(np.sqrt((third**2).mean())) for third in thirds]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=50)
    parser.add_argument("--latencies", type=int, nargs="+", default=[0, 1, 2, 3])
    parser.add_argument("--output", type=Path, default=RESULTS / "latency_strategies.json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    seeds = list(range(100_000, 100_000 + args.episodes))
    result: dict[str, Any] = measurement_header(" ".join(sys.argv))
    result |= {"seeds": [seeds[0], seeds[-1]], "load": os.getloadavg(), "rows": []}
    for name, make in STRATEGIES.items():
        for latency in args.latencies:
            scores, jerks = run(make(latency), seeds)
            low, high = bootstrap_interval(scores)
            row = {
                "strategy": name,
                "latency_s": latency / 10,
                "score": float(np.mean(scores)),
                "ci95": [low, high],
                "jerk": float(np.mean(jerks)),
                "scores": scores,
                "jerks": jerks,
            }
            result["rows"].append(row)
            print(
                f"{name:18} {latency * 100:4} ms  score {row['score']:.3f} [{low:.3f}, {high:.3f}]"
                f"  jerk {row['jerk']:.3g} px/s3",
                flush=True,
            )
            write_text(args.output, json.dumps(result, indent=1) + "\n")
    plot(result["rows"], args.output.with_suffix(".png"))


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Score and jerk against latency."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for name in STRATEGIES:
        mine = [row for row in rows if row["strategy"] == name]
        latency = [1e3 * row["latency_s"] for row in mine]
        for axis, key in zip(axes, ("score", "jerk"), strict=True):
            axis.plot(latency, [row[key] for row in mine], marker="o", label=name)
    for axis, label in zip(axes, ("Push-T score", "jerk of the targets [px/s³]"), strict=True):
        axis.set_xlabel("latency [ms]")
        axis.set_ylabel(label)
    axes[0].legend(fontsize="small")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
