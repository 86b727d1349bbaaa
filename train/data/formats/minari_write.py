"""Writing of Minari datasets through the ``minari`` package."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ....decoding.plumbing.extras import require
from ..episodes import Episodes

# Key of the note that observations after the last action were invented.
REPEATED = "final_observations"


@contextmanager
def quiet() -> Iterator[None]:
    """Minari warns about every optional field that a dataset does not have."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


def write_minari_folder(
    path: Path, episodes: Episodes, dataset_id: str, advance: Callable[[int], object]
) -> None:
    """Write a new Minari dataset into the folder `path`; `advance` is told the number of steps.

    One observation key ``observation.state`` becomes a Box space, more keys a Dict. Where the
    observation after the last action is unknown, the last known one is repeated and the metadata
    says so; unknown rewards, which Minari has no word for, become zeros and the metadata says so.
    Images are stored as they are, without JPEG.
    """
    minari = require("minari", "minari")
    from gymnasium import spaces
    from minari.data_collector import EpisodeBuffer
    from minari.dataset.minari_dataset import parse_dataset_id
    from minari.dataset.minari_storage import MinariStorage

    parse_dataset_id(dataset_id)  # Raises ValueError for an id that Minari would not read.
    names = {key: key.removeprefix("observation.") for key in episodes.observations}
    single = list(names.values()) == ["state"]

    def box(array: np.ndarray) -> Any:
        low, high = (0, 255) if array.dtype == np.uint8 else (-np.inf, np.inf)
        return spaces.Box(low, high, array.shape[1:], array.dtype.type)

    boxes = {names[key]: box(array) for key, array in episodes.observations.items()}
    path.joinpath("data").mkdir(parents=True)
    with quiet():
        storage = MinariStorage.new(
            path / "data",
            observation_space=boxes["state"] if single else spaces.Dict(boxes),
            action_space=box(episodes.actions),
            jpeg_encoding=False,
        )
        facts = dict(episodes.metadata)
        if episodes.final_observations is None:
            facts[REPEATED] = "repeated from the last step, the source has none"
        if episodes.rewards is None:
            facts["rewards_unknown"] = True
        storage.update_metadata(
            {
                "dataset_id": dataset_id,
                "minari_version": minari.__version__,
                "hotloop": json.dumps(facts),
            }
        )
        # Minari keeps its file open for as long as this goes on.
        storage.update_episodes(_buffers(EpisodeBuffer, episodes, names, single, advance))


def _buffers(
    make: Callable[..., Any],
    episodes: Episodes,
    names: Mapping[str, str],
    single: bool,
    advance: Callable[[int], object],
) -> Iterator[Any]:
    """Yield Minari's buffer of each episode, made when the one before is written."""
    for index, rows in enumerate(episodes.episode_slices):
        num_steps = rows.stop - rows.start
        observations = {names[key]: _with_final(episodes, key, index, rows) for key in names}
        last = np.arange(num_steps) == num_steps - 1
        unknown = np.zeros(num_steps, np.float32)
        yield make(
            observations=observations["state"] if single else observations,
            actions=np.asarray(episodes.actions[rows]),
            rewards=unknown if episodes.rewards is None else np.asarray(episodes.rewards[rows]),
            terminations=last & episodes.terminated[index],
            truncations=last & ~episodes.terminated[index],
            infos={name: np.asarray(a[rows]) for name, a in episodes.infos.items()} or None,
        )
        advance(num_steps)


def _with_final(episodes: Episodes, key: str, index: int, rows: slice) -> np.ndarray:
    array = np.asarray(episodes.observations[key][rows])
    final = episodes.final_observations
    return np.concatenate([array, array[-1:] if final is None else final[key][index : index + 1]])
