"""Scores against latencies of the checkpoints in the package, for the report of `hotloop demo`.

    python tests/benchmarks/demo_pareto.py

Reads the result files beside it and writes ``train/demo/pareto.json``; measures nothing.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hotloop.decoding.plumbing.files import write_text

RESULTS = Path(__file__).parent / "results"
TARGET = Path(__file__).parents[2] / "train" / "demo" / "pareto.json"
NORMAL_95 = 1.96  # standard errors on either side of a mean


def read(name: str) -> dict[str, Any]:
    """A result file."""
    return json.loads((RESULTS / name).read_text())


def point(
    series: str, label: str, score: float, interval: list[float], median_ms: float
) -> dict[str, Any]:
    """Fields of a `ParetoPoint`."""
    return {
        "series": series,
        "label": label,
        "score": round(score, 4),
        "interval": [round(bound, 4) for bound in interval],
        "median_ms": round(median_ms, 4),
    }


def push_t() -> dict[str, Any]:
    """Diffusion Policy, and streaming in chunks of four before and after distillation."""
    latency = read("latency.json")
    times = {
        (row["checkpoint"], row["num_calls"]): row["median_ms"]
        for row in latency["rows"]
        if (row["engine"], row["threads"]) == ("onnx", 1)
    }
    points = []
    for name, file, checkpoint in (
        ("Diffusion Policy", "pusht-dp.json", "pusht-dp"),
        ("Streaming", "pusht-sdp.json", "pusht-sdp"),
        ("Streaming, distilled", "pusht-student.json", "pusht-sdp"),
    ):
        for row in read(file)["rows"]:
            num_calls = row["num_calls"]
            chunk = 4 if checkpoint == "pusht-sdp" else 8
            update = "ddpm" if num_calls == 100 else "ddim"
            if row["num_execute"] != chunk or row.get("update", update) != update:
                continue
            label = f"{num_calls} call{'s' * (num_calls > 1)}"
            median_ms = times[checkpoint, num_calls]
            points.append(point(name, label, row["mean_score"], row["ci95"], median_ms))
    return {
        "title": "Push-T: score",
        "shown": [0.6, 1.0],
        "points": points,
        "source": (
            "pusht-dp (8 actions per plan), pusht-sdp (4): three trainings each, of which the "
            f"package has one, 50 episodes per training; {machine(latency)}, one thread, ONNX "
            "Runtime."
        ),
    }


def hopper() -> dict[str, Any]:
    """The planners as each is used: mean of two trainings, error over all their episodes."""
    results = read("planners.json")
    rows = [row for row in results["rows"] if row.get("dataset") == "hopper-medium-expert"]
    times = {
        (row["kind"], json.dumps(row["setting"])): row
        for row in rows
        if row["part"] == "latency" and row["threads"] == 1
    }
    points = []
    for name, label, kind, score_setting, time_setting in (
        ("Diffuser, 16 candidates", "20 steps", "diffuser", {}, {}),
        ("Decision Diffuser", "20 steps", "decision_diffuser", {"guidance": 1.2}, {}),
        ("Trajectory Diffuser, warm start", "draft, 1 step", "trajectory_diffuser", WARM, WARM),
    ):
        scores = [
            score
            for row in rows
            if row["part"] == "scores" and (row["kind"], row["setting"]) == (kind, score_setting)
            for score in row["scores"]
        ]
        mean = sum(scores) / len(scores)
        variance = sum((score - mean) ** 2 for score in scores) / (len(scores) - 1)
        error = NORMAL_95 * (variance / len(scores)) ** 0.5
        time = times[kind, json.dumps(time_setting)]
        interval = [mean - error, min(mean + error, BEST_HOPPER)]
        points.append(point(name, label, mean, interval, time["median_ms"]))
    return {
        "title": "hopper medium-expert: D4RL score",
        "shown": [0.0, BEST_HOPPER],
        "points": points,
        "source": (
            "hopper-decision-diffuser, hopper-trajectory-diffuser: two trainings each, of which "
            f"the package has one, 20 episodes per training, and Diffuser beside them; "
            f"{machine(results)}, one thread, ONNX Runtime."
        ),
    }


def tabletop() -> dict[str, Any]:
    """Token decoders: one token after the other, and distilled with an early exit."""
    success = {
        (row["checkpoint"], row["decoding"]): row
        for row in read("vla-success.json")["rows"]
        if row["task"] == "metaworld-tabletop"
    }
    chunks = read("vla-chunks.json")
    points = []
    for name, checkpoint, decodings in (
        ("Tokens one by one", "tabletop-vla-teacher", ["greedy"]),
        ("Tokens in parallel, distilled", "tabletop-vla", EXITS),
        ("The same, distilled for fewer calls", "tabletop-vla-fast", EXITS[1:]),
    ):
        for row in chunks["rows"]:
            key = row["checkpoint"], row["decoding"]
            if row["threads"] != 1 or row["checkpoint"] != checkpoint or key[1] not in decodings:
                continue
            label = f"{row['mean_forwards']:.2g} call{'s' * (row['mean_forwards'] > 1)}"
            solved = success[key]
            points.append(point(name, label, solved["success"], solved["ci95"], row["median_ms"]))
    return {
        "title": "Meta-World, six instructions: success",
        "shown": [0.5, 1.0],
        "points": points,
        "source": (
            "tabletop-vla-teacher, tabletop-vla, tabletop-vla-fast, as in the package: 120 "
            f"episodes each; {machine(chunks)}, one thread, PyTorch."
        ),
    }


WARM = {"reuse": 1000, "calls_per_step": 1}
EXITS = ["sigma 4, warm", "sigma 2, warm", "sigma 1, warm"]
BEST_HOPPER = 120.0


def machine(results: dict[str, Any]) -> str:
    """Where and when something was measured."""
    return f"{results['processor']}, {results['date']}"


if __name__ == "__main__":
    write_text(TARGET, json.dumps([push_t(), hopper(), tabletop()], indent=1) + "\n")
