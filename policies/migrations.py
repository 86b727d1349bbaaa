"""What stored configurations of older formats become, one format at a time."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

FORMAT_VERSION = 2

Config = dict[str, Any]


# What the sampling choices of one kind meant nothing for.
_UNREAD = {"dp": ("start", "start_calls", "start_key"), "sdp": ("prefix_guidance",)}


def _to_2(config: Config) -> None:
    """One word per thing, and only choices that mean something for the kind of policy.

    Network calls are counted by the same key for every kind. Of diffusion policies, the number 0,
    which meant "all of them", becomes null. `level_embedding` is a choice of the U-Net alone.
    """
    sampling, network = _part(config, "sampling"), _part(_part(config, "model"), "network")
    _rename(sampling, "refine_steps", "calls_per_step")
    _rename(sampling, "max_forwards", "max_calls")
    for name in _UNREAD.get(config.get("kind", ""), ()):
        sampling.pop(name, None)
    if config.get("kind") in _UNREAD:
        for name in ("calls_per_step", "start_calls"):
            if sampling.get(name) == 0:
                sampling[name] = None
    if sampling.get("start") in ("zero", "constant"):
        sampling["start_calls"] = None
    if sampling.get("start") in ("zero", "denoise"):
        sampling["start_key"] = ""
    if network.get("kind") != "unet":
        network.pop("level_embedding", None)


# How a configuration of each older format is changed, in place, into one of the next.
MIGRATIONS: dict[int, Callable[[Config], None]] = {1: _to_2}


def migrated(config: Config) -> Config:
    """Return `config` as the present format writes it; the argument stays as it is.

    Raises:
        ValueError: If it is of a format that is not known, or a part of it is no mapping.
    """
    version = config.get("format_version")
    if version not in (*MIGRATIONS, FORMAT_VERSION):
        raise ValueError(
            f"checkpoint format {version!r} cannot be read, expected {min(MIGRATIONS)} to "
            f"{FORMAT_VERSION}; it needs the hotloop version that wrote it"
        )
    result = deepcopy(config)
    while result["format_version"] in MIGRATIONS:
        MIGRATIONS[result["format_version"]](result)
        result["format_version"] += 1
    return result


def _part(values: Config, name: str) -> dict[str, Any]:
    """A nested mapping; an empty one if it is not there."""
    part = values.get(name, {})
    if not isinstance(part, dict):
        raise ValueError(f"{name}: expected a JSON object, got {part!r}")
    return part


def _rename(values: dict[str, Any], old: str, new: str) -> None:
    """Give an entry another name in its old place."""
    items = list(values.items())
    values.clear()
    values.update((new if name == old else name, value) for name, value in items)
