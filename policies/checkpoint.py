"""Checkpoints: a folder with readable JSON and safetensors weights, nothing executable."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import nn

from ..decoding import ActionSpec
from ..decoding.exported_runtime import POLICY_FILE
from ..decoding.plumbing.devices import CPU
from ..decoding.plumbing.files import read_json_object, recover, refuse_lfs_pointer, replacing
from ..decoding.plumbing.machine import package_version
from ..decoding.plumbing.schema import build
from .fastest import fastest_policy
from .kinds import kind_of
from .lerobot.folder import INSTALLED, find_folder
from .lerobot.given import Given
from .migrations import FORMAT_VERSION, migrated
from .place import find_device, moved
from .programs.engines.engine import engine_name, is_auto
from .remembered import RememberedChoice

CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"
PICKLE_SUFFIXES = (".ckpt", ".pt", ".pth", ".pkl", ".pickle", ".bin")
INCLUDED = Path(__file__).parent / "checkpoints"


@dataclass(frozen=True)
class Stored:
    """What `CONFIG_FILE` holds; a field that is absent has its default, an unknown one is an error.

    Attributes:
        format_version: Format of this file; older ones are migrated.
        kind: Name in `KINDS`.
        model: The kind's `model_config`.
        observation_shapes: Shape of one frame per key; the order of keys is part of the model.
        action_spec: Names, bounds and period of the actions.
        sampling: The kind's `sampling`.
        provenance: Task, dataset, seed, steps and results.
        hotloop_version: Version that wrote the file; empty before 0.2.
    """

    format_version: int
    kind: str
    model: dict[str, Any]
    observation_shapes: dict[str, tuple[int, ...]]
    action_spec: ActionSpec
    sampling: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    hotloop_version: str = ""


@dataclass(frozen=True)
class Checkpoint:
    """A trained model and what is needed to use it.

    Attributes:
        kind: Name in `KINDS`.
        model: The network with its normalisers, of the kind's class.
        action_spec: Names, bounds and period of the actions.
        sampling: How the model is sampled unless the caller says otherwise.
        provenance: Task, dataset, seed, steps and results; JSON-able.
        hotloop_version: Version that wrote it; empty before 0.2.
    """

    kind: str
    model: Any
    action_spec: ActionSpec
    sampling: Any
    provenance: Mapping[str, Any]
    hotloop_version: str = ""

    def policy(
        self,
        sampling: Mapping[str, Any] | None = None,
        engine: str = "eager",
        device: str | None = None,
        precision: str = "float32",
    ) -> Any:
        """Build the policy, with `sampling` overriding single fields of the stored choices.

        Args:
            sampling: Choices that differ from the stored ones.
            engine: How the networks run; see `engines`. ``"auto"`` tries those that this machine
                has for seconds, takes the fastest and remembers it; the policy's `engine` says
                which.
            device: Where they run, ``"cpu"``, ``"cuda"`` or ``"cuda:1"``; by default where the
                weights are, which after loading is the CPU.
            precision: Of the products: ``"float32"``, ``"tf32"``, ``"bf16"`` or ``"fp16"``, as far
                as the engine has it; the others stay within stated bounds of float32.

        Raises:
            ValueError: As `choices`, or if a choice does not fit the model, there is no such
                device, or the engine does not have the precision.
        """
        model = self.model if device is None else self.to(device).model
        name, choices = engine_name(engine, precision), self.choices(sampling)
        build = partial(kind_of(self.kind).policy, model, self.action_spec, choices)
        if not is_auto(name):
            return build(name)
        return fastest_policy(build, name, RememberedChoice.of(self.kind, model, choices, name))

    def to(self, device: str) -> Checkpoint:
        """The same checkpoint with its weights on another device, see `policy`.

        Raises:
            ValueError: If there is no such device.
        """
        if device == CPU and not isinstance(self.model, nn.Module):
            return self  # LeRobot's own, which is wherever it says itself
        return replace(self, model=moved(self.model, find_device(device)))

    def choices(self, sampling: Mapping[str, Any] | None = None) -> Any:
        """The stored sampling choices with some of them replaced.

        A stored choice may have no effect beside the others, but not one that is changed here.

        Raises:
            ValueError: If a choice is unknown, or means nothing for this kind of policy or beside
                the other choices.
        """
        chosen = dict(sampling or {})
        known = [field.name for field in fields(self.sampling)]
        if unknown := sorted(set(chosen) - set(known)):
            raise ValueError(
                f"a policy of kind {self.kind!r} has no sampling choices {unknown}; choose from "
                f"{', '.join(known)}"
            )
        values = {name: getattr(self.sampling, name) for name in known}
        choices = build(type(self.sampling), {**values, **chosen}, "sampling.")
        for name, reason in kind_of(self.kind).idle(self.model, choices).items():
            value = getattr(choices, name)
            if value != values[name]:
                raise ValueError(f"sampling.{name} {value!r} has no effect {reason}; leave it out")
        return choices


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint folder; it appears under its name only when it is complete."""
    with replacing(Path(path)) as folder:
        folder.mkdir()
        write_checkpoint(folder, checkpoint)


def described(checkpoint: Checkpoint) -> dict[str, Any]:
    """What `CONFIG_FILE` says: all of a checkpoint but its weights, JSON-able; see `rebuilt`."""
    return {
        "format_version": FORMAT_VERSION,
        "kind": checkpoint.kind,
        "model": checkpoint.model.config_dict(),
        "observation_shapes": checkpoint.model.observation_shapes,
        "action_spec": asdict(checkpoint.action_spec),
        "sampling": asdict(checkpoint.sampling),
        "provenance": dict(checkpoint.provenance),
        "hotloop_version": package_version("hotloop") or "",
    }


def rebuilt(description: Mapping[str, Any]) -> Checkpoint:
    """The checkpoint that `described` has, with random weights.

    Raises:
        ValueError: If it is of an unknown format version, or describes no model.
    """
    stored = build(Stored, migrated(dict(description)))
    kind = kind_of(stored.kind)
    model_config = build(kind.model_config, stored.model, "model.")
    sampling = build(kind.sampling, stored.sampling, "sampling.")
    model = kind.model(model_config, stored.observation_shapes, stored.action_spec.size)
    return Checkpoint(
        stored.kind, model, stored.action_spec, sampling, stored.provenance, stored.hotloop_version
    )


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint's files into an existing folder that nobody reads yet."""
    (folder / CONFIG_FILE).write_text(json.dumps(described(checkpoint), indent=2) + "\n")
    state = {key: value.contiguous() for key, value in checkpoint.model.state_dict().items()}
    safetensors.torch.save_file(state, folder / WEIGHTS_FILE)


def load_checkpoint(name_or_path: str | Path, given: Given | None = None) -> Checkpoint:
    """Load a checkpoint folder, hotloop's or LeRobot's, or one that comes with hotloop, by name.

    Args:
        name_or_path: A folder, a run's folder, or the name of an included checkpoint; after
            ``lerobot:``, a LeRobot folder whose network an installed LeRobot is to run.
        given: What a LeRobot folder does not hold; hotloop's hold everything.

    Raises:
        FileNotFoundError: If there is no such checkpoint.
        ValueError: If it is a pickle, of an unknown format version, damaged, or not downloaded; or
            LeRobot's, and not supported.
    """
    if str(name_or_path).startswith(INSTALLED):
        from .lerobot.installed_policy import open_installed

        return open_installed(Path(str(name_or_path)[len(INSTALLED) :]), given or Given())
    if lerobot := find_folder(Path(name_or_path)):
        from .lerobot.types import read_lerobot

        return read_lerobot(lerobot, given or Given())
    folder = find_checkpoint(name_or_path)
    config_path, weights_path = folder / CONFIG_FILE, folder / WEIGHTS_FILE
    values = read_json_object(config_path)
    try:
        checkpoint = rebuilt(values)
    except ValueError as error:
        raise ValueError(f"{config_path}: {error}") from error
    _load_weights(checkpoint.model, weights_path)
    checkpoint.model.eval().requires_grad_(False)
    return checkpoint


def _load_weights(model: Any, path: Path) -> None:
    """Fill a model; raise ValueError, in one sentence, if the file holds other weights or NaN."""
    refuse_lfs_pointer(path)
    try:
        weights = safetensors.torch.load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} does not hold the weights it should: {error}") from error
    expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in weights.items()}
    wrong = sorted(name for name in {*expected, *found} if expected.get(name) != found.get(name))
    if wrong:
        name = wrong[0]
        raise ValueError(
            f"{path} does not hold the weights it should: {name} has shape "
            f"{found.get(name, 'none')}, but by {CONFIG_FILE} it is {expected.get(name, 'none')}, "
            f"and {len(wrong) - 1} more differ; the two files belong to different models"
        )
    for name, value in weights.items():
        if value.is_floating_point() and not value.isfinite().all():
            raise ValueError(
                f"{path}: {name} holds NaN or infinite values; the file is damaged or its training "
                "failed"
            )
    model.load_state_dict(weights)


def find_checkpoint(name_or_path: str | Path) -> Path:
    """Folder of a checkpoint given by path, by run folder, or by the name of an included one."""
    path = Path(name_or_path)
    if path.suffix in PICKLE_SUFFIXES:
        raise ValueError(
            f"{path} looks like a pickle, which can run any code when opened; hotloop only reads "
            f"folders with {CONFIG_FILE} and {WEIGHTS_FILE}; Diffusion Policy's are converted "
            "in its own environment, see real_robot/integrations/diffusion_policy"
        )
    for folder in (path, path / "checkpoints" / "last", INCLUDED / str(name_or_path)):
        if (recover(folder) / CONFIG_FILE).is_file():
            return folder
    if (path / POLICY_FILE).is_file():
        raise ValueError(
            f"{path} is an exported policy, which `hotloop control` and `hotloop serve` run; name "
            "the checkpoint that it was exported from"
        )
    names = sorted(entry.name for entry in INCLUDED.iterdir()) if INCLUDED.is_dir() else []
    near = difflib.get_close_matches(str(name_or_path), names, n=3, cutoff=0.4)
    raise FileNotFoundError(
        f"no checkpoint at {path} (a folder with {CONFIG_FILE}); included checkpoints: "
        f"{', '.join(near or names) or 'none'}"
    )
