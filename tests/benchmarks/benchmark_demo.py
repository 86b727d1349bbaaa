"""`hotloop demo` over several training seeds: does it show what it claims, and how long it takes.

    python tests/benchmarks/benchmark_demo.py RUNS OUTPUT.json [--seeds 0 1 2] [--episodes 100]

Each demo writes its report to ``RUNS/SEED`` and lends OUTPUT a row; runs whose row exists are left
out. The last row pools the episodes of all seeds.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from result_rows import Results

from hotloop.envs import wilson_interval

KEPT = ("success", "ci95", "num_episodes", "median_ms", "p99_ms", "calls_per_step", "num_execute")


def run_demo(folder: Path, seed: int, episodes: int) -> dict[str, Any]:
    """One demo in a process of its own, as its processor time is counted; what the report says."""
    command = [sys.executable, "-m", "hotloop.train.cli", "demo", "--output-dir", str(folder)]
    command += ["--seed", str(seed), "--num-episodes", str(episodes)]
    subprocess.run(command, check=False)  # exit code 1 means that a goal was missed: a result too
    return json.loads((folder / "report.json").read_text())


def pooled(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Success of each policy over the episodes of all seeds."""
    result = {}
    for name in rows[0]["policies"]:
        numbers = [row["policies"][name] for row in rows]
        total = sum(one["num_episodes"] for one in numbers)
        solved = sum(round(one["success"] * one["num_episodes"]) for one in numbers)
        interval = wilson_interval(solved, total)
        result[name] = {
            "success": solved / total,
            "ci95": [interval.low, interval.high],
            "num_episodes": total,
            "of_seeds": [one["success"] for one in numbers],
        }
    return result


def main() -> None:
    """Run what is missing, then pool."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--episodes", type=int, default=100)
    args = parser.parse_args()
    results = Results(args.output, silent=("policies",))
    for seed in args.seeds:
        key = {"part": "demo", "seed": seed}
        if results.has(key):
            continue
        report = run_demo(args.runs / str(seed), seed, args.episodes)
        policies = {row["name"]: {name: row[name] for name in KEPT} for row in report["rows"]}
        values = {"headline": report["headline"], "seconds": report["seconds"]}
        results.add(key, {**values, "first_seed": report["rows"][0]["seeds"][0]})
        results.update(key, {"policies": policies})
    rows = [row for row in results.rows if row["part"] == "demo"]
    key = {"part": "pooled"}
    values = {"seeds": [row["seed"] for row in rows], "policies": pooled(rows)}
    (results.update if results.has(key) else results.add)(key, values)


if __name__ == "__main__":
    main()
