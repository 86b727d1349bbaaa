"""How fast training windows are cut, against a bare numpy loop and a bare HDF5 loop.

    python tests/benchmarks/benchmark_windows.py OUTPUT.json [--megabytes 2000 64]

For each size a D4RL-style file of Hopper's widths (11 observations, 3 actions, 1000 steps per
episode) is written to a temporary folder and read as `hotloop train` reads it: small files into
memory, large ones into a memory-mapped cache. All loops give the same batches of 256 windows of two
observations and 16 actions as torch tensors, in the same random order:

- bare h5py: per window one slice of each HDF5 dataset (not compressed, contiguous), stacked;
- bare numpy: the same on arrays in memory, which a file of that size has to fit into;
- numpy index: one fancy index per array instead of a loop, the best that numpy does.

They take turns within one process; numbers are medians of windows per second.
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
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from hotloop.decoding.plumbing.files import write_text
from hotloop.train.data import Episodes, read_episodes
from hotloop.train.data.windows import Windows
from hotloop.train.measure.provenance import measurement_header

NUM_OBSERVATIONS, NUM_ACTIONS, EPISODE = 11, 3, 1000
OBSERVED, HORIZON, BATCH = 2, 16, 256
Loop = Callable[[np.ndarray], tuple[torch.Tensor, torch.Tensor]]


def write_file(path: Path, megabytes: int) -> None:
    """Random walks; whole episodes of about the given size in float32."""
    num_steps = megabytes * 2**20 // (4 * (NUM_OBSERVATIONS + NUM_ACTIONS)) // EPISODE * EPISODE
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        for name, size in {"observations": NUM_OBSERVATIONS, "actions": NUM_ACTIONS}.items():
            stored = file.create_dataset(name, (num_steps, size), np.float32)
            for start in range(0, num_steps, 100 * EPISODE):
                count = min(100 * EPISODE, num_steps - start)
                stored[start : start + count] = rng.standard_normal((count, size), np.float32)
        file["rewards"] = np.zeros(num_steps, np.float32)
        file["terminals"] = np.zeros(num_steps, bool)
        file["timeouts"] = np.arange(num_steps) % EPISODE == EPISODE - 1


def sliced(observations: Any, actions: Any) -> Loop:
    """One slice per window and array; `current` is away from the borders of its episode."""

    def loop(current: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        starts = (current - OBSERVED + 1).tolist()
        seen = np.stack([observations[start : start + OBSERVED] for start in starts])
        done = np.stack([actions[start : start + HORIZON] for start in starts])
        return torch.from_numpy(seen), torch.from_numpy(done)

    return loop


def indexed(observations: np.ndarray, actions: np.ndarray) -> Loop:
    """One fancy index per array."""

    def loop(current: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        starts = current[:, None] - OBSERVED + 1
        seen, done = (
            observations[starts + np.arange(OBSERVED)],
            actions[starts + np.arange(HORIZON)],
        )
        return torch.from_numpy(seen), torch.from_numpy(done)

    return loop


def ours(windows: Windows) -> Loop:
    """`Windows.gather`, which also handles the borders of episodes."""

    def loop(current: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        batch = windows.gather(torch.from_numpy(current))
        return batch.observation["observation.state"], batch.actions

    return loop


def timed_read(path: Path) -> tuple[Episodes, float]:
    """Episodes, and how long they took to read [s]."""
    began = time.perf_counter()
    return read_episodes(path), time.perf_counter() - began


def rates_of(
    path: Path, episodes: Episodes, num_rounds: int, batches_per_round: int
) -> dict[str, list[float]]:
    """Windows per second of every loop, after checking that they give the same batches."""
    rng = np.random.default_rng(1)
    with h5py.File(path) as file:
        observations, actions = file["observations"][:], file["actions"][:]
        loops = {
            "hotloop": ours(Windows(episodes, ("observation.state",), OBSERVED, HORIZON)),
            "bare h5py": sliced(file["observations"], file["actions"]),
            "bare numpy": sliced(observations, actions),
            "numpy index": indexed(observations, actions),
        }

        def draw() -> np.ndarray:
            inside = rng.integers(OBSERVED - 1, EPISODE - HORIZON + OBSERVED - 1, BATCH)
            return rng.integers(0, episodes.num_episodes, BATCH) * EPISODE + inside

        current = draw()
        expected = loops["bare h5py"](current)
        for name, loop in loops.items():
            assert all(map(torch.equal, loop(current), expected)), name
        rates: dict[str, list[float]] = {name: [] for name in loops}
        for _ in range(num_rounds):
            orders = [draw() for _ in range(batches_per_round)]
            for name, loop in loops.items():
                began = time.perf_counter()
                for order in orders:
                    loop(order)
                rates[name].append(batches_per_round * BATCH / (time.perf_counter() - began))
    return rates


def measure(path: Path, num_rounds: int, batches_per_round: int) -> dict[str, Any]:
    """What is written of one file."""
    episodes, first_read = timed_read(path)
    _, second_read = timed_read(path)
    rates = rates_of(path, episodes, num_rounds, batches_per_round)
    medians = {name: float(np.median(values)) for name, values in rates.items()}
    return {
        "megabytes": path.stat().st_size / 2**20,
        "num_steps": episodes.num_steps,
        "memory_mapped": isinstance(episodes.actions, np.memmap),
        "first_read_s": first_read,
        "second_read_s": second_read,
        "windows_per_second": medians,
        "ratio": {name: medians["hotloop"] / rate for name, rate in medians.items()},
        "rounds": num_rounds,
        "batches_per_round": batches_per_round,
    }


def main() -> None:
    """Write the file of results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--megabytes", type=int, nargs="+", default=[2000, 64])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--batches", type=int, default=20)
    args = parser.parse_args()
    torch.set_num_threads(1)
    header = measurement_header(shlex.join(["python", *sys.argv]))
    rows = []
    for megabytes in args.megabytes:
        with tempfile.TemporaryDirectory() as folder:
            os.environ["HOTLOOP_CACHE"] = folder
            write_file(Path(folder) / "hopper.hdf5", megabytes)
            rows.append(measure(Path(folder) / "hopper.hdf5", args.rounds, args.batches))
        print(json.dumps(rows[-1], indent=1), flush=True)
    write_text(args.output, json.dumps({**header, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
