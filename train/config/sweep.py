"""Many runs from one command line: ``seed=42,43 policy=dp,sdp`` in Hydra's grammar."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from .compose import compose
from .groups import is_file
from .training import TrainConfig

LAUNCHER = "hydra/launcher"


@dataclass(frozen=True)
class Job:
    """One run of a sweep.

    Attributes:
        name: What makes it differ from the others, e.g. ``"policy-dp_seed-42"``.
        overrides: What would be typed to train it alone, but for the folder.
        output_dir: Its folder, inside the sweep's.
    """

    name: str
    overrides: tuple[str, ...]
    output_dir: str

    def config(self) -> TrainConfig:
        """Its configuration, see `compose`."""
        return replace(compose("train", self.overrides, TrainConfig), output_dir=self.output_dir)


@dataclass(frozen=True)
class Sweep:
    """Runs that are started by one launcher.

    Attributes:
        folder: Folder of the sweep.
        jobs: Every combination of the values, the last key's the fastest.
        launcher: Hydra's settings of what starts them.
    """

    folder: str
    jobs: tuple[Job, ...]
    launcher: tuple[str, ...] = ()


def expand(overrides: Sequence[str]) -> Sweep:
    """Find the runs that a command line stands for.

    Args:
        overrides: ``key=value`` as for one run; ``key=a,b`` and ``key=range(1,4)`` are several.
            ``hydra/launcher=NAME`` and ``hydra.launcher.KEY=value`` say what starts them, and
            ``output_dir`` the folder that all of theirs are in.

    Raises:
        ValueError: If a value is no list of choices, a setting of Hydra has no effect here, two
            runs would share a folder, or ``output_dir`` is to be varied.
    """
    launcher = [one for one in overrides if re.match(rf"{LAUNCHER}=|hydra\.launcher\.", one)]
    for override in overrides:
        if override not in launcher and re.match(r"[+~]*hydra[./]", override):
            raise ValueError(
                f"{override!r} has no effect here; of Hydra's own settings {LAUNCHER}=… and "
                "hydra.launcher.…=… are read, and output_dir=… is the folder of the sweep"
            )
    values: dict[str, list[str]] = {}
    for override in overrides:
        if override not in launcher:
            key = override.partition("=")[0]
            values.pop(key, None)  # the last wins
            values[key] = _values(override)
    folder = values.pop("output_dir", [f"output_dir={TrainConfig.output_dir}"])
    if len(folder) > 1:
        raise ValueError("output_dir is the folder of the whole sweep, so it can have one value")
    root = folder[0].partition("=")[2].strip("\"'")
    varied = [key for key, choices in values.items() if len(choices) > 1]
    jobs: list[Job] = []
    for chosen in itertools.product(*values.values()):
        by_key = dict(zip(values, chosen, strict=True))
        name = "_".join(_label(by_key[key], varied) for key in varied)
        jobs.append(Job(name, chosen, str(Path(root) / name)))
    _check_names(jobs)
    return Sweep(root, tuple(jobs), tuple(launcher))


def _values(override: str) -> list[str]:
    """One override for each value that is asked for."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        parsed = OverridesParser.create().parse_override(override)
    except HydraException:
        return [override]  # composing it says what is wrong with it
    if not parsed.is_sweep_override():
        return [override]
    if not parsed.is_discrete_sweep():
        raise ValueError(f"{override!r}: expected values to choose from, key=a,b or key=range(1,4)")
    key = parsed.get_key_element()
    return [f"{key}={value}" for value in parsed.sweep_string_iterator()]


def _label(override: str, varied: Sequence[str]) -> str:
    """A key's short name and its value, such that shells and Hydra leave it alone."""
    key, _, value = override.partition("=")
    short = key.rpartition(".")[2]
    if sum(other.rpartition(".")[2] == short for other in varied) > 1:
        short = key
    text = Path(value).stem if is_file(value) else value
    return f"{short}-{re.sub(r'[^A-Za-z0-9.+-]+', '-', text).strip('-')}"


def _check_names(jobs: Sequence[Job]) -> None:
    seen: dict[str, Job] = {}
    for job in jobs:
        other = seen.setdefault(job.name, job)
        if other is not job:
            raise ValueError(
                f"two runs of the sweep would share the folder {job.output_dir}: "
                f"{' '.join(other.overrides)} and {' '.join(job.overrides)}"
            )
