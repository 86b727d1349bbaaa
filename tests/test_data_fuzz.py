"""Damaged datasets of every format: the right result, or one sentence that names the dataset.

100 inputs of each format; nightly runs set HOTLOOP_FUZZ_INPUTS=10000.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rlds_example import write_rlds

from hotloop.train.data import Episodes, read_episodes, write_episodes
from hotloop.train.data.conformance import example_episodes
from hotloop.train.data.inspect import inspect_dataset

NUM_INPUTS = int(os.environ.get("HOTLOOP_FUZZ_INPUTS", "100"))
NAMES = {
    "d4rl": "a.hdf5",
    "robomimic": "a.h5",
    "zarr": "a.zarr",
    "npz": "a.npz",
    "lerobot": "a",
    "minari": "a-v0",
    "rlds": "rlds",
}
ODD = [None, -1, 0, 1.5, 10**18, "", "x", [], {}, [None], {"a": None}, True, "NaN", [[1]], "1e400"]


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One good dataset of each format."""
    root = tmp_path_factory.mktemp("originals")
    for layout in ("d4rl", "robomimic", "zarr", "lerobot", "minari"):
        episodes = example_episodes(pictures=layout != "d4rl")
        write_episodes(root / NAMES[layout], episodes, layout)
    whole = example_episodes()
    arrays = {"action": whole.actions, "state": whole.observations["observation.state"]}
    np.savez(root / NAMES["npz"], episode_ends=whole.episode_ends, **arrays)
    write_rlds(root / NAMES["rlds"])
    return root


def damage(path: Path, seed: int) -> str:
    """Change one file of a dataset; say how."""
    rng = random.Random(seed)
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    file = rng.choice(files)
    content = bytearray(file.read_bytes())
    kind = rng.choice(["flip", "flips", "cut", "empty", "zeros", "odd", "odd", "gone"])
    if (kind == "odd" and file.suffix == ".json") or file.name in (".zattrs", ".zarray"):
        file.write_text(json.dumps(with_odd_value(json.loads(content), rng)))
        return f"{file.name}: odd value"
    if kind == "gone" and path.is_dir():
        file.unlink()
        return f"{file.name}: gone"
    if kind == "empty" or not content:
        content = bytearray()
    elif kind == "cut":
        del content[rng.randrange(len(content)) :]
    elif kind == "zeros":
        start = rng.randrange(len(content))
        stop = min(len(content), start + rng.randrange(1, 64))
        content[start:stop] = bytes(stop - start)
    else:
        for _ in range(1 if kind == "flip" else rng.randrange(2, 20)):
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    file.write_bytes(bytes(content))
    return f"{file.name}: {kind}"


def with_odd_value(value: object, rng: random.Random) -> object:
    """The same JSON with one value replaced, anywhere in it."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(sorted(value))
        return {**value, key: with_odd_value(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.5:
        index = rng.randrange(len(value))
        return [*value[:index], with_odd_value(value[index], rng), *value[index + 1 :]]
    return rng.choice(ODD)


def attempt(source: Path, path: Path, seed: int) -> None:
    """Damage a copy of a dataset and read it: a result, or one sentence that names it."""
    if path.is_dir():
        shutil.rmtree(path)
    copy = shutil.copytree if source.is_dir() else shutil.copy
    copy(source, path)
    how = damage(path, seed)
    for read in (lambda: read_episodes(path, everything=True), lambda: inspect_dataset(path)):
        try:
            found = read()
        except (ValueError, OSError) as error:
            assert str(path) in str(error), f"{how}: does not name the dataset: {error}"
            assert "\n" not in str(error), f"{how}: more than one line: {error}"
        else:
            lines = [] if isinstance(found, Episodes) else found.problems
            assert all("\n" not in line for line in lines), how


@pytest.mark.parametrize("layout", ["zarr", "npz", "lerobot", "rlds"])
def test_damage_is_told_in_one_sentence(
    layout: str, originals: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp(layout) / NAMES[layout]

    @settings(
        max_examples=NUM_INPUTS,
        deadline=None,
        database=None,
        derandomize=NUM_INPUTS == 100,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.integers(0, 2**62))
    def damaged(seed: int) -> None:
        attempt(originals / NAMES[layout], path, seed)

    damaged()


@pytest.mark.parametrize("layout", ["d4rl", "robomimic", "minari"])
def test_damage_of_hdf5_is_told_too_unless_the_library_does_not_return(
    layout: str, originals: Path, tmp_path: Path
) -> None:
    """HDF5's own code follows some flipped addresses into nowhere, or for ever: few of them."""
    first, deaths = 0, 0
    while first < NUM_INPUTS:
        paths = [originals / NAMES[layout], tmp_path / NAMES[layout]]
        words = [sys.executable, __file__, *map(str, paths), str(first), str(NUM_INPUTS)]
        child = subprocess.run(words, capture_output=True, text=True)
        assert child.returncode <= 0, child.stderr[-3000:]
        if child.returncode == 0:
            break
        first, deaths = int(child.stdout.split()[-1]) + 1, deaths + 1
    assert deaths <= 2 + NUM_INPUTS // 100


if __name__ == "__main__":
    for number in range(int(sys.argv[3]), int(sys.argv[4])):
        print(number, flush=True)
        # Ends the process after so many seconds of computing, which the parent counts.
        signal.setitimer(signal.ITIMER_PROF, 2.0)
        attempt(Path(sys.argv[1]), Path(sys.argv[2]), number)
