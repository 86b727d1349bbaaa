"""What stored configurations of older formats become, one format at a time."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

FORMAT_VERSION = 2

Config = dict[str, Any]


def _to_2(config: Config) -> None:
    """One word per thing: network calls are counted by the same key for every kind of policy.

    Of diffusion policies, the number 0, which meant "all of them", becomes null.
    """
    sampling = config["sampling"]
    _rename(sampling, "refine_steps", "calls_per_step")
    _rename(sampling, "max_forwards", "max_calls")
    if config["kind"] in ("dp", "sdp"):
        for name in ("calls_per_step", "start_calls"):
            if sampling.get(name) == 0:
                sampling[name] = None


# How a configuration of each older format is changed, in place, into one of the next.
MIGRATIONS: dict[int, Callable[[Config], None]] = {1: _to_2}


def migrated(config: Config) -> Config:
    """Return `config` as the present format writes it; the argument stays as it is.

    Raises:
        ValueError: If it is of a format that is not known.
        KeyError: If a part that every format has is missing.
    """
    version = config.get("format_version")
    if version != FORMAT_VERSION and version not in MIGRATIONS:
        raise ValueError(
            f"checkpoint format {version} cannot be read, expected "
            f"{min(MIGRATIONS)} to {FORMAT_VERSION}; it needs the hotloop version that wrote it"
        )
    result = deepcopy(config)
    while result["format_version"] in MIGRATIONS:
        MIGRATIONS[result["format_version"]](result)
        result["format_version"] += 1
    return result


def _rename(values: dict[str, Any], old: str, new: str) -> None:
    """Give an entry another name in its old place."""
    items = list(values.items())
    values.clear()
    values.update((new if name == old else name, value) for name, value in items)
