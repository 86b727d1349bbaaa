"""An exported Push-T policy: its environment, start, memory, latency, actions; writes export.json.

    python tests/benchmarks/benchmark_export.py OUTPUT.json [--episodes 5]

Makes an environment of numpy and ONNX Runtime alone (pip needs a package index), exports pusht-sdp,
and runs the folder there: size of the environment without pip, import and load, memory. Latency is
that of control steps that plan, in this process, the engine and the exported folder taking turns
step by step; their actions over 60 steps must be equal bit for bit. One thread, batch 1.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path
from typing import Any

import numpy as np
import torch
from result_rows import Results

from hotloop.decoding import Executor
from hotloop.decoding.exported_runtime import Runtime
from hotloop.policies.checkpoint import load_checkpoint
from hotloop.policies.export.write import export_policy

CHECKPOINT, NUM_STEPS, NUM_STARTS = "pusht-sdp", 60, 5
START = """\
import time
begin = time.perf_counter()
import sys
sys.path.insert(0, sys.argv[1])
import numpy as np
from hotloop_runtime import Runtime
robot = Runtime(sys.argv[1])
loaded = time.perf_counter() - begin
robot.reset(0)
frame = {one["key"]: np.zeros(one["shape"]) for one in robot.about["observation"]}
for _ in range(60):
    robot.act(frame)
pages = {line.split(":")[0]: line.split()[1] for line in open("/proc/self/status") if "kB" in line}
print(loaded, int(pages["VmRSS"]) / 1024, "torch" in sys.modules)
"""


def environment(folder: Path) -> tuple[Path, float]:
    """The interpreter of an environment that holds the runtime alone, and its size [MB]."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "numpy", "onnxruntime"], check=True)
    subprocess.run([python, "-m", "pip", "uninstall", "-q", "-y", "pip", "setuptools"], check=True)
    used = subprocess.run(["du", "-sm", folder], capture_output=True, text=True, check=True)
    return python, float(used.stdout.split()[0])


def starts(python: Path, exported: Path) -> dict[str, Any]:
    """Import and load [s], and memory after 60 steps [MB]; medians over processes."""
    found = []
    for _ in range(NUM_STARTS):
        command = [python, "-I", "-c", START, exported]
        words = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        assert words[2] == "False"
        found.append([float(word) for word in words[:2]])
    seconds, memory = np.median(found, axis=0)
    return {"import_and_load_s": round(seconds, 3), "resident_mb": round(memory, 1)}


def compare(exported: Path, num_episodes: int) -> dict[str, Any]:
    """Latency of the engine and of the exported folder, step by step in turns, and difference."""
    policy = load_checkpoint(CHECKPOINT).policy(engine="onnx")
    executor, robot = Executor(policy), Runtime(exported)
    generator, largest = np.random.default_rng(0), 0.0
    times: dict[str, list[float]] = {"engine": [], "exported": []}
    for episode in range(num_episodes):
        executor.reset([episode])
        robot.reset(episode)
        for step in range(NUM_STEPS):
            frame = {
                key: generator.uniform(0, 512, shape).astype(np.float32)
                for key, shape in policy.observation_spec.shapes.items()
            }
            begin = time.perf_counter()
            expected = executor.act({key: value[None] for key, value in frame.items()})[0]
            between = time.perf_counter()
            found = robot.act(frame)
            end = time.perf_counter()
            largest = max(largest, float(np.abs(found - expected).max()))
            if step and step % policy.num_execute == 0:
                times["engine"].append(1e3 * (between - begin))
                times["exported"].append(1e3 * (end - between))
    rows: dict[str, Any] = {"max_action_difference": largest}
    for name, values in times.items():
        rows[f"{name}_median_ms"] = round(float(np.median(values)), 4)
        rows[f"{name}_p99_ms"] = round(float(np.percentile(values, 99)), 4)
    rows["relative_latency"] = round(rows["exported_median_ms"] / rows["engine_median_ms"], 3)
    return rows


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--episodes", type=int, default=20)
    args = parser.parse_args()
    torch.set_num_threads(1)
    results = Results(args.output)
    with tempfile.TemporaryDirectory() as scratch:
        exported = Path(scratch) / "exported"
        parity = export_policy(load_checkpoint(CHECKPOINT), exported)
        size = sum(path.stat().st_size for path in exported.iterdir()) / 1e6
        python, megabytes = environment(Path(scratch) / "environment")
        values = {
            "exported_mb": round(size, 1),
            "environment_mb": megabytes,
            **starts(python, exported),
            **compare(exported, args.episodes),
            "closed_loop_difference": parity["closed_loop"]["max_difference"],
        }
    results.add({"checkpoint": CHECKPOINT, "format": "onnx"}, values)
    print(json.dumps(values, indent=1))


if __name__ == "__main__":
    sys.exit(main())
