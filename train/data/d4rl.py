"""D4RL's flat HDF5 layout, read and written.

``observations``, ``actions``, ``rewards``, ``terminals`` and ``timeouts`` have one row per step;
an episode ends where ``terminals`` or ``timeouts`` is set (Fu et al. 2020). Files that hotloop
writes add two things: ``observations`` is the concatenation of several observation keys, whose
order and shapes are its JSON attribute ``keys``, and the file's JSON attribute ``metadata`` says
where the data comes from. Any D4RL reader can ignore both.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from .columns import DECODE_ERRORS, ColumnFile, build_episodes, require_path, select_columns
from .episodes import Episodes

D4RL_SUFFIXES = (".hdf5", ".h5")


def read_d4rl(path: Path | str, keys: Mapping[str, str] | None = None) -> Episodes:
    """Read a D4RL file, cut into episodes at ``terminals`` or ``timeouts``.

    Steps after the last cut are kept as one more episode; ``metadata["num_unfinished"]`` is then
    1. ``metadata["num_terminated"]`` counts the episodes that ended in a terminal state.

    Args:
        path: HDF5 file.
        keys: From ``action``, ``reward`` and ``observation.*`` to columns of the file, e.g.
            ``{"observation.goal": "infos/goal", "action": "actions"}``. Default: the observation
            keys that the file declares, else ``observations`` as ``observation.state``.

    Raises:
        FileNotFoundError: If `path` does not exist; names the nearest file names.
        ValueError: If the file or a column is damaged, absent or inconsistent.
    """
    with open_d4rl(path) as file:
        episode_ends, num_terminated, num_unfinished = read_episode_ends(file)
        metadata = read_metadata(file) | {
            "source": file.path.name,
            "num_terminated": num_terminated,
            "num_unfinished": num_unfinished,
        }
        shapes = {} if keys else observation_shapes(file)
        arrays = select_columns(file, keys or _default_keys(file, shapes))
        arrays |= {key: arrays[key].reshape(-1, *shape) for key, shape in shapes.items()}
        return build_episodes(file.path, arrays, episode_ends, metadata)


def read_episode_ends(file: ColumnFile) -> tuple[np.ndarray, int, int]:
    """Read the exclusive ends, shape (E,), and how many episodes terminated and are unfinished."""
    if "timeouts" not in file.names and "terminals" in file.names:
        raise ValueError(
            f"{file.path}: no column 'timeouts'; without it, episodes that ran out of time would "
            "be joined to the next one (take the v1 or v2 release of the dataset)"
        )
    terminals, timeouts = (_read_flags(file, name) for name in ("terminals", "timeouts"))
    if len(terminals) != len(timeouts):
        raise ValueError(
            f"{file.path}: 'terminals' has {len(terminals)} steps, but 'timeouts' has "
            f"{len(timeouts)}"
        )
    ends = np.flatnonzero(terminals | timeouts) + 1
    num_unfinished = int(len(terminals) > (ends[-1] if len(ends) else 0))
    if num_unfinished:
        ends = np.append(ends, len(terminals))
    return ends.astype(np.int64), int(terminals.sum()), num_unfinished


def observation_shapes(file: ColumnFile) -> dict[str, tuple[int, ...]]:
    """Observation keys in the order in which ``observations`` holds them, with their shapes."""
    num_features = int(np.prod(file.column("observations").shape))
    declared = _json_attribute(file, "keys")
    if declared is None:
        return {"observation.state": (num_features,)}
    shapes = {key: tuple(shape) for key, shape in declared.items()}
    expected = sum(int(np.prod(shape)) for shape in shapes.values())
    if expected != num_features:
        raise ValueError(
            f"{file.path}: 'observations' has {num_features} features, but its attribute 'keys' "
            f"declares {expected}: {declared}"
        )
    return shapes


def read_metadata(file: ColumnFile) -> dict[str, Any]:
    """Provenance that hotloop wrote into the file, empty in other files."""
    return _json_attribute(file, "metadata") or {}


def write_d4rl(
    path: Path | str,
    episodes: Episodes,
    *,
    terminated: np.ndarray | None = None,
    overwrite: bool = False,
) -> None:
    """Write `episodes` completely or, when interrupted, not at all.

    Args:
        path: HDF5 file to create.
        episodes: What to write; ``episodes.metadata`` becomes the file's provenance.
        terminated: Which episodes ended in a terminal state and not by time, shape (E,).
            Default: none.
        overwrite: Replace an existing file.

    Raises:
        FileExistsError: If `path` exists and `overwrite` is false.
        ValueError: If `path` has no HDF5 suffix, or `terminated` another length than there are
            episodes.
    """
    path = check_destination(path, overwrite=overwrite)
    columns = _flat_columns(episodes, terminated)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        _write_hdf5(partial, columns, episodes)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def check_destination(path: Path | str, *, overwrite: bool) -> Path:
    """Return `path`, or raise as `write_d4rl` does if nothing may be written there."""
    path = Path(path)
    if path.suffix not in D4RL_SUFFIXES:
        raise ValueError(
            f"{path}: a D4RL file must end in {' or '.join(D4RL_SUFFIXES)}, got {path.suffix!r}"
        )
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path}: exists already; choose another name or overwrite it")
    return path


@contextmanager
def open_d4rl(path: Path | str) -> Iterator[ColumnFile]:
    """Open a D4RL file without decoding it; errors as in `read_d4rl`."""
    path = require_path(path)
    with ExitStack() as resources:
        try:
            file = _open_hdf5(path, resources)
        except DECODE_ERRORS as error:
            raise ValueError(f"{path}: cannot be opened: {error}") from error
        yield file


def _open_hdf5(path: Path, resources: ExitStack) -> ColumnFile:
    import h5py

    file = resources.enter_context(h5py.File(path, "r"))
    datasets = {name: item for name, item in file.items() if isinstance(item, h5py.Dataset)}
    if isinstance(infos := file.get("infos"), h5py.Group):
        columns = {f"infos/{name}": item for name, item in infos.items()}
        datasets |= {name: item for name, item in columns.items() if isinstance(item, h5py.Dataset)}
    if not {"observations", "actions"} & set(datasets):
        raise ValueError(
            "not D4RL's flat layout; expected observations, actions, terminals and timeouts at "
            f"the top, found {', '.join(file) or 'nothing'}"
        )
    attributes = {"metadata": file.attrs.get("metadata")}
    if "observations" in datasets:
        attributes["keys"] = datasets["observations"].attrs.get("keys")
    return ColumnFile(path, "d4rl", tuple(datasets), datasets.__getitem__, attributes)


def _default_keys(file: ColumnFile, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, str]:
    keys = {"action": "actions"}
    if "rewards" in file.names:
        keys["reward"] = "rewards"
    start = 0
    for key, shape in shapes.items():
        stop = start + int(np.prod(shape))
        keys[key] = f"observations[{start}:{stop}]"
        start = stop
    return keys


def _read_flags(file: ColumnFile, name: str) -> np.ndarray:
    flags = file.column(name).read().reshape(-1)
    if not np.isin(flags, (0, 1)).all():
        raise ValueError(
            f"{file.path}: column {name!r} must be 0 or 1, found {np.unique(flags)[:8]}"
        )
    return flags.astype(bool)


def _json_attribute(file: ColumnFile, name: str) -> dict[str, Any] | None:
    text = file.attributes.get(name)
    if text is None:
        return None
    try:
        value = json.loads(text)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{file.path}: attribute {name!r} is not JSON: {text!r}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{file.path}: attribute {name!r} must be a JSON object, found {value}")
    return value


def _flat_columns(episodes: Episodes, terminated: np.ndarray | None) -> dict[str, np.ndarray]:
    num_steps, num_episodes = len(episodes.actions), episodes.num_episodes
    if terminated is None:
        terminated = np.zeros(num_episodes, bool)
    if terminated.shape != (num_episodes,):
        raise ValueError(
            f"'terminated' must have one entry for each of {num_episodes} episodes, "
            f"got shape {terminated.shape}"
        )
    terminals, timeouts = np.zeros((2, num_steps), bool)
    terminals[episodes.episode_ends - 1] = terminated
    timeouts[episodes.episode_ends - 1] = ~terminated
    features = [array.reshape(num_steps, -1) for array in episodes.observations.values()]
    columns = {"observations": np.concatenate(features, axis=1), "actions": episodes.actions}
    if episodes.rewards is not None:
        columns["rewards"] = episodes.rewards
    return columns | {"terminals": terminals, "timeouts": timeouts}


def _write_hdf5(path: Path, columns: Mapping[str, np.ndarray], episodes: Episodes) -> None:
    import h5py

    shapes = {key: array.shape[1:] for key, array in episodes.observations.items()}
    with h5py.File(path, "w") as file:
        file.attrs["format"] = "D4RL-style flat HDF5, written by hotloop"
        file.attrs["metadata"] = json.dumps(dict(episodes.metadata))
        for name, array in columns.items():
            # The checksum turns a flipped bit into an error instead of a wrong number.
            file.create_dataset(name, data=array, compression="gzip", fletcher32=True)
        file["observations"].attrs["keys"] = json.dumps(shapes)
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
