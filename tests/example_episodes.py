"""Small episodes that the tests of data formats share, and how two of them are compared."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import h5py
import numpy as np

from hotloop.train.data import Episodes

LENGTHS = (3, 4, 5)


def make_episodes(*, images: bool = False, final: bool = True, infos: bool = True) -> Episodes:
    """Three episodes of 3, 4 and 5 steps; the first and last terminated."""
    rng = np.random.default_rng(0)
    num_steps, num_episodes = sum(LENGTHS), len(LENGTHS)

    def observe(num_rows: int) -> dict[str, np.ndarray]:
        observations = {
            "observation.state": rng.normal(size=(num_rows, 4)).astype(np.float32),
            "observation.goal": rng.normal(size=(num_rows, 2)).astype(np.float32),
        }
        if images:
            pixels = rng.integers(0, 256, (num_rows, 10, 12, 3), dtype=np.uint8)
            observations["observation.images.top"] = pixels
        return observations

    return Episodes(
        observations=observe(num_steps),
        actions=rng.uniform(-1, 1, (num_steps, 2)).astype(np.float32),
        episode_ends=np.cumsum(LENGTHS),
        rewards=rng.normal(size=num_steps).astype(np.float32),
        terminated=np.array([True, False, True]),
        final_observations=observe(num_episodes) if final else None,
        infos={"qpos": rng.normal(size=(num_steps, 3))} if infos else {},
        metadata={"task": "reach", "dt": 0.1, "seed": 7},
    )


def assert_same(found: Episodes, written: Episodes, lost: Collection[str] = ()) -> None:
    """Every array is equal, of the same type and under the same key; `lost` parts are absent."""
    for part in ("observations", "final_observations", "infos"):
        expected = getattr(written, part) or {}
        arrays = getattr(found, part) or {}
        assert set(arrays) == (set() if part in lost else set(expected)), part
        for key, array in arrays.items():
            assert_equal(array, expected[key])
    for part in ("actions", "rewards", "terminated", "episode_ends"):
        assert_equal(getattr(found, part), getattr(written, part))
    shared = {key: found.metadata.get(key) for key in written.metadata}
    assert shared == dict(written.metadata)


def assert_equal(found: np.ndarray, expected: np.ndarray) -> None:
    """Equal shape, values and type, byte order aside."""
    assert found.dtype.newbyteorder("=") == expected.dtype.newbyteorder("=")
    np.testing.assert_array_equal(found, expected)


def d4rl_columns() -> dict[str, np.ndarray]:
    """What a D4RL file from elsewhere holds: 8 steps, cut after 3 (terminal) and 7 (timeout)."""
    rng = np.random.default_rng(0)
    return {
        "observations": rng.normal(size=(8, 4)),
        "actions": rng.normal(size=(8, 2)).astype(np.float32),
        "rewards": rng.normal(size=8),
        "terminals": np.arange(8) == 2,
        "timeouts": np.arange(8) == 6,
        "infos/goal": rng.normal(size=(8, 2)),
    }


def write_d4rl_columns(path: Path, **changes: object) -> Path:
    """Write a D4RL file; changed columns are replaced, and left out if None."""
    with h5py.File(path, "w") as file:
        for name, array in (d4rl_columns() | changes).items():
            if array is not None:
                file[name] = array
    return path
