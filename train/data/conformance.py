"""What every format of datasets must do, for formats of one's own too.

from hotloop.train.data.conformance import check_format

def test_my_format(tmp_path):
check_format(FORMAT, tmp_path / "name.suffix")
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from .decode import Decoding
from .episodes import Episodes
from .formats.format import Format
from .formats.registry import open_with
from .inspect import inspect_opened
from .selection import Wanted


def example_episodes(*, pictures: bool = False) -> Episodes:
    """Three episodes of 3, 4 and 5 steps with all that episodes can have; two terminated."""
    rng, ends = np.random.default_rng(0), np.array([3, 7, 12])

    def observe(num_rows: int) -> dict[str, np.ndarray]:
        found: dict[str, np.ndarray] = {
            "observation.state": rng.normal(size=(num_rows, 4)).astype(np.float32),
            "observation.goal": rng.normal(size=(num_rows, 2)).astype(np.float32),
        }
        if pictures:
            shape = (num_rows, 10, 12, 3)
            found["observation.images.top"] = rng.integers(0, 256, shape, dtype=np.uint8)
        return found

    return Episodes(
        observations=observe(12),
        actions=rng.uniform(-1, 1, (12, 2)).astype(np.float32),
        episode_ends=ends,
        rewards=rng.normal(size=12).astype(np.float32),
        terminated=np.array([True, False, True]),
        final_observations=observe(3),
        infos={"qpos": rng.normal(size=(12, 3)), "task_index": np.repeat([1, 0, 1], [3, 4, 5])},
        texts={"model_file": ["<a/>", "<b/>", "<c/>"]},
        metadata={
            "fps": 10,
            "tasks": ["reach", "push the red block"],
            "action_names": ["pan.pos", "grip.pos"],
            "subsets": {"train": [0, 1], "valid": [2]},
        },
    )


def check_format(kind: Format, path: Path) -> None:
    """Prove a format that can be written: what it keeps comes back, and mistakes are told.

    Args:
        kind: The format.
        path: Where to write a dataset, in a folder of its own; the name must fit the format.

    Raises:
        AssertionError: If it breaks the contract; the message says which part.
        ValueError: If it refuses what it must take.
    """
    written = example_episodes(pictures="pictures" in kind.keeps)
    path = kind.target(path)
    advanced: list[int] = []
    path.parent.mkdir(parents=True, exist_ok=True)
    kind.write(path, written, path, advanced.append)
    assert kind.recognise(path), "a dataset that was written is not recognised"
    check_equal(read_with(kind, path), written, kind.keeps)
    with open_with(kind, path) as file:
        problems = inspect_opened(file).problems
    assert not problems, f"problems in a dataset that was written: {problems}"
    if path.is_dir():
        files = [file for file in path.rglob("*") if file.is_file()]
        foreign = [f for f in files if not kind.parts.fullmatch(f.relative_to(path).as_posix())]
        assert not foreign, f"files that Format.parts does not match: {foreign}"
    _check_options(kind)
    _check_damage(kind, path)


def read_with(kind: Format, path: Path) -> Episodes:
    """Read all that a dataset of a known format has."""
    with open_with(kind, path) as file:
        return Decoding(file, file.select(None, Wanted(everything=True))).run({})


def check_equal(found: Episodes, expected: Episodes, keeps: frozenset[str]) -> None:
    """Raise AssertionError unless all that a format keeps came back bit for bit."""
    kept = {
        "observations": (found.observations, expected.observations),
        "infos": (found.infos, expected.infos),
    }
    if "final_observations" in keeps:
        assert expected.final_observations is not None
        kept["final_observations"] = (found.final_observations or {}, expected.final_observations)
    for part, (arrays, originals) in kept.items():
        _check_arrays(part, arrays, originals)
    single = {"actions": expected.actions, "episode_ends": expected.episode_ends}
    if expected.rewards is not None:
        single["rewards"] = expected.rewards
    if "terminated" in keeps:
        single["terminated"] = expected.terminated
    _check_arrays("arrays", {name: getattr(found, name) for name in single}, single)
    if "texts" in keeps:
        texts = {name: list(values) for name, values in found.texts.items()}
        assert texts == {name: list(values) for name, values in expected.texts.items()}, "texts"
    for name, value in expected.metadata.items():
        stored = found.metadata.get(name)
        assert stored == value, f"metadata {name!r}: wrote {value}, read {stored}"


def _check_arrays(
    part: str, found: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]
) -> None:
    assert set(found) == set(expected), f"{part}: wrote {sorted(expected)}, read {sorted(found)}"
    for name, array in expected.items():
        same = found[name].dtype == array.dtype and np.array_equal(found[name], array)
        assert same, f"{part}: {name!r} comes back with other values or another type"


def _check_options(kind: Format) -> None:
    try:
        kind.complete_options({"no_such_option": 1})
    except ValueError as error:
        assert "no_such_option" in str(error), "an unknown option is not named"
    else:
        raise AssertionError("an unknown option is accepted")


def _check_damage(kind: Format, path: Path) -> None:
    """Cut the largest file in half; the reader must refuse it in a sentence that names the path."""
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    largest = max(files, key=lambda file: file.stat().st_size)
    largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])
    try:
        read_with(kind, path)
    except ValueError as error:
        assert str(path) in str(error), f"an error does not name the dataset: {error}"
    else:
        raise AssertionError(f"{largest.name} was cut in half, and nobody noticed")
