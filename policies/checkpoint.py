"""Checkpoints: a folder with readable JSON and safetensors weights, nothing executable."""

from __future__ import annotations

import difflib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from glob import escape
from pathlib import Path
from typing import Any, get_args, get_type_hints

import safetensors.torch
from safetensors import SafetensorError

from ..decoding import ActionSpec
from .kinds import KINDS
from .migrations import FORMAT_VERSION, migrated

CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"
PICKLE_SUFFIXES = (".ckpt", ".pt", ".pth", ".pkl", ".pickle", ".bin")
INCLUDED = Path(__file__).parent / "checkpoints"


@dataclass(frozen=True)
class Checkpoint:
    """A trained model and what is needed to use it.

    Attributes:
        kind: One of `KINDS`.
        model: The network with its normalisers, of the kind's class.
        action_spec: Names, bounds and period of the actions.
        sampling: How the model is sampled unless the caller says otherwise.
        provenance: Task, dataset, seed, steps and results; JSON-able.
    """

    kind: str
    model: Any
    action_spec: ActionSpec
    sampling: Any
    provenance: Mapping[str, Any]

    def policy(self, sampling: Mapping[str, Any] | None = None, engine: str = "eager") -> Any:
        """Build the policy, with `sampling` overriding single fields of the stored choices.

        Raises:
            ValueError: If a choice is unknown or does not fit the model.
        """
        chosen = dict(sampling or {})
        known = [field.name for field in fields(self.sampling)]
        if unknown := sorted(set(chosen) - set(known)):
            raise ValueError(
                f"a policy of kind {self.kind!r} has no sampling choices {unknown}; known are "
                f"{known}"
            )
        policy = KINDS[self.kind].policy
        return policy(self.model, self.action_spec, replace(self.sampling, **chosen), engine)


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint folder; it appears under its name only when it is complete."""
    with replacing_folder(Path(path)) as folder:
        write_checkpoint(folder, checkpoint)


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint's files into an existing folder that nobody reads yet."""
    config = {
        "format_version": FORMAT_VERSION,
        "kind": checkpoint.kind,
        "model": checkpoint.model.config_dict(),
        "observation_shapes": checkpoint.model.observation_shapes,
        "action_spec": asdict(checkpoint.action_spec),
        "sampling": asdict(checkpoint.sampling),
        "provenance": dict(checkpoint.provenance),
    }
    (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n")
    state = {key: value.contiguous() for key, value in checkpoint.model.state_dict().items()}
    safetensors.torch.save_file(state, folder / WEIGHTS_FILE)


def load_checkpoint(name_or_path: str | Path) -> Checkpoint:
    """Load a checkpoint folder, or one that comes with hotloop, by name.

    Raises:
        FileNotFoundError: If there is no such checkpoint.
        ValueError: If it is a pickle, of another format version, or damaged.
    """
    folder = find_checkpoint(name_or_path)
    config_path, weights_path = folder / CONFIG_FILE, folder / WEIGHTS_FILE
    try:
        config = json.loads(config_path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{config_path} is not valid JSON: {error}") from error
    if not isinstance(config, dict):
        raise ValueError(f"{config_path} holds no checkpoint: expected a JSON object")
    try:
        config = migrated(config)
        if config["kind"] not in KINDS:
            raise ValueError(f"kind must be one of {sorted(KINDS)}, got {config['kind']!r}")
        kind = KINDS[config["kind"]]
        action_spec = _build(ActionSpec, config["action_spec"])
        shapes = {key: tuple(shape) for key, shape in config["observation_shapes"].items()}
        model = kind.model(_build(kind.model_config, config["model"]), shapes, action_spec.size)
        sampling = _build(kind.sampling, config["sampling"])
        provenance = config["provenance"]
    except KeyError as error:
        raise ValueError(f"{config_path}: key {error} is missing") from error
    except ValueError as error:
        raise ValueError(f"{config_path}: {error}") from error
    try:
        model.load_state_dict(safetensors.torch.load_file(weights_path))
    except (SafetensorError, RuntimeError) as error:
        raise ValueError(f"{weights_path} does not hold the weights it should: {error}") from error
    model.eval().requires_grad_(False)
    return Checkpoint(config["kind"], model, action_spec, sampling, provenance)


def find_checkpoint(name_or_path: str | Path) -> Path:
    """Folder of a checkpoint given by path, by run folder, or by the name of an included one."""
    path = Path(name_or_path)
    if path.suffix in PICKLE_SUFFIXES:
        raise ValueError(
            f"{path} looks like a pickle, which can run any code when opened; hotloop only reads "
            f"folders with {CONFIG_FILE} and {WEIGHTS_FILE}"
        )
    for folder in (path, path / "checkpoints" / "last", INCLUDED / str(name_or_path)):
        if (folder / CONFIG_FILE).is_file():
            return folder
    names = sorted(entry.name for entry in INCLUDED.iterdir()) if INCLUDED.is_dir() else []
    near = difflib.get_close_matches(str(name_or_path), names, n=3, cutoff=0.4)
    raise FileNotFoundError(
        f"no checkpoint at {path} (a folder with {CONFIG_FILE}); included checkpoints: "
        f"{', '.join(near or names) or 'none'}"
    )


def _build(cls: type[Any], values: Mapping[str, Any]) -> Any:
    """Build a dataclass, and those inside it, from JSON values that must name every field."""
    hints = get_type_hints(cls)
    known = {field.name for field in fields(cls)}
    if unknown := sorted(set(values) - known):
        raise ValueError(f"unknown {cls.__name__} keys {unknown}; known are {sorted(known)}")
    if missing := sorted(known - set(values)):
        raise ValueError(f"{cls.__name__} keys {missing} are missing")
    arguments: dict[str, Any] = {}
    for name, value in values.items():
        parts = [one for one in (hints[name], *get_args(hints[name])) if is_dataclass(one)]
        if parts and isinstance(value, Mapping):
            assert isinstance(parts[0], type)
            value = _build(parts[0], value)
        arguments[name] = tuple(value) if isinstance(value, list) else value
    return cls(**arguments)


def _is_running(pid: str) -> bool:
    """Whether another process of that number is alive; one's own folders are never left over."""
    if not pid.isdigit() or int(pid) == os.getpid():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


class replacing_folder:
    """Context in which a folder is written under a temporary name, then put in place."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")

    def __enter__(self) -> Path:
        """Create the temporary folder, and remove those that killed processes have left."""
        for leftover in self.path.parent.glob(f".{escape(self.path.name)}.*.tmp"):
            if not _is_running(leftover.name.split(".")[-2]):
                shutil.rmtree(leftover, ignore_errors=True)
        self.temporary.mkdir(parents=True)
        return self.temporary

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Put the folder in place, or drop it if the block failed."""
        if kind is not None:
            shutil.rmtree(self.temporary, ignore_errors=True)
            return
        if self.path.exists():
            # Two renames: a reader finds the old folder, for an instant none, or the new one.
            old = self.path.with_name(f".{self.path.name}.{os.getpid()}.old")
            self.path.rename(old)
            self.temporary.rename(self.path)
            shutil.rmtree(old)
        else:
            self.temporary.rename(self.path)
