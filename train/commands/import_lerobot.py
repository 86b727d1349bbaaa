"""`hotloop import`: a LeRobot checkpoint or an OpenVLA folder becomes one of hotloop's own."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..config.compose import compose
from . import ExitCode

if TYPE_CHECKING:
    from ...policies.checkpoint import Checkpoint
    from ..config.importing import ImportConfig

EPILOG = """\
examples:
  hotloop import outputs/train/checkpoints/last outputs/dp dt=0.1
  hotloop import PRETRAINED_MODEL outputs/act dataset=FOLDER    its period, names and bounds
  hotloop import PRETRAINED_MODEL outputs/dp task=pusht         for hotloop eval outputs/dp
  hotloop import PRETRAINED_MODEL outputs/dp dt=0.1 check=true  compare with an installed LeRobot
  hotloop import openvla-7b outputs/vla dt=0.2 openvla.norm_key=bridge_orig
  hotloop bench PRETRAINED_MODEL              every command takes the folder itself, too

Types diffusion and act, of LeRobot 0.6 and of before 0.4. Neither LeRobot nor diffusers is needed.
OpenVLA's folders are read without their code; pictures come in the size that it reads, 224 px.
LeRobot clips no action; here, those beyond the bounds are clipped, and the bounds are printed.
"""


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the `import` command."""
    parser = subparsers.add_parser(
        "import",
        help="make a LeRobot or OpenVLA checkpoint hotloop's own",
        description="Read a checkpoint of LeRobot's or OpenVLA's, network and normalisation, and "
        "store it.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, help="a pretrained_model folder, its step's or run's")
    parser.add_argument("out", type=Path, help="folder of the new checkpoint")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.set_defaults(run=run)
    return parser


def run(args: argparse.Namespace) -> int:
    """Read, store, and print what it is."""
    from ...policies.checkpoint import save_checkpoint
    from ...policies.lerobot.folder import find_folder
    from ...policies.vla.openvla.folder import is_openvla
    from ..config.importing import ImportConfig

    config = compose("import", args.overrides, ImportConfig)
    is_vla = is_openvla(args.folder)
    folder = args.folder if is_vla else find_folder(args.folder)
    if folder is None and not args.folder.exists():
        raise FileNotFoundError(
            f"there is no {args.folder}; a policy on the Hub is downloaded first: hf download "
            f"{args.folder} --local-dir FOLDER"
        )
    if folder is None:
        raise ValueError(
            f"{args.folder} is no LeRobot checkpoint, a folder whose config.json names a type of "
            "policy, nor OpenVLA's; name its pretrained_model folder"
        )
    _refuse_existing(args.out, folder, config.overwrite)
    checkpoint = _read_openvla(folder, config) if is_vla else _read(folder, config)
    if config.check:
        _check(folder, checkpoint)
    save_checkpoint(args.out, checkpoint)
    print(describe(checkpoint))
    print(f"written: {args.out}")
    return ExitCode.SUCCESS


def _read(folder: Path, config: ImportConfig) -> Checkpoint:
    """The folder as a checkpoint; settings stand without ``lerobot.`` here."""
    from dataclasses import replace

    from ...envs.registry import make_task
    from ..config.lerobot import load, load_for_task

    if not (config.task or config.dt or config.dataset):
        raise ValueError(
            "a LeRobot folder does not say how often actions are sent; give dt=0.1 (1 / fps of its "
            "recordings), dataset=FOLDER or task=NAME"
        )
    try:
        if not config.task:
            return load(folder, config)
        checkpoint = load_for_task(folder, config, make_task(config.task).action_spec)
    except ValueError as error:
        raise ValueError(str(error).replace("lerobot.", "")) from error
    return replace(checkpoint, provenance={**checkpoint.provenance, "task": config.task})


def _read_openvla(folder: Path, config: ImportConfig) -> Checkpoint:
    """An OpenVLA folder as a checkpoint."""
    from dataclasses import replace

    from ...envs.registry import make_task
    from ...policies.vla.openvla.reading import read_openvla

    given = [name for name in ("dataset", "action_low", "action_high") if getattr(config, name)]
    if config.check or given:
        raise ValueError(
            f"{', '.join(given) or 'check'} is of LeRobot's folders; an OpenVLA folder says its "
            "bounds by openvla.norm_key; leave it out"
        )
    spec = make_task(config.task).action_spec if config.task else None
    dt = config.dt or (spec.dt if spec else None)
    if dt is None:
        raise ValueError(
            "an OpenVLA folder does not say how often actions are sent; give dt=0.2 (1 / Hz of its "
            "robot) or task=NAME"
        )
    checkpoint = read_openvla(folder, config.openvla, dt, spec.names if spec else ())
    task = {"task": config.task} if config.task else {}
    return replace(checkpoint, provenance={**checkpoint.provenance, **task})


def _refuse_existing(out: Path, folder: Path, overwrite: bool) -> None:
    """Raise FileExistsError for what is not to be replaced, whatever the settings say."""
    if out.resolve() == folder.resolve() or out.resolve() in folder.resolve().parents:
        raise FileExistsError(f"{out} holds the checkpoint that is read; choose another name")
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    files = {one.name for one in out.iterdir()} if out.is_dir() else set()
    if files != {"config.json", "model.safetensors"}:
        raise FileExistsError(
            f"{out} is there, and is not a checkpoint and nothing else; choose another name, or "
            "remove it yourself"
        )
    if not overwrite:
        raise FileExistsError(f"{out} is there; choose another name, or add overwrite=true")


def _check(folder: Path, checkpoint: Checkpoint) -> None:
    """Print how far the actions are from LeRobot's, and raise ValueError if that is far."""
    from ...policies.lerobot.compare import TOLERANCE, largest_difference

    difference = largest_difference(folder, checkpoint)
    if not difference <= TOLERANCE:
        raise ValueError(
            f"actions differ from LeRobot's by {difference:.2g} of half their range, more than "
            f"{TOLERANCE:g}; nothing was written"
        )
    print(f"checked: at most {difference:.1e} of half the range from LeRobot's actions")


def describe(checkpoint: Checkpoint) -> str:
    """A checkpoint as a table."""
    model, spec = checkpoint.model, checkpoint.action_spec
    size = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    sampling = {name: value for name, value in vars(checkpoint.sampling).items() if value}
    rows = [
        ("type", f"{checkpoint.kind}, {size:.2f} M parameters"),
        ("reads", ", ".join(f"{key} {shape}" for key, shape in model.observation_shapes.items())),
        ("sampling", ", ".join(f"{name}={value}" for name, value in sampling.items())),
        ("period", f"{spec.dt:g} s"),
    ]
    bounds = zip(spec.names, spec.low, spec.high, strict=True)
    rows += [(name, f"clipped to {low:g} .. {high:g}") for name, low, high in bounds]
    if ignored := checkpoint.provenance.get("ignored"):
        rows.append(("ignored", ", ".join(ignored)))
    if lacking := checkpoint.provenance.get("lacking"):
        rows.append(("not normalised", f"{', '.join(lacking)}: the folder has no statistics of it"))
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {text}" for name, text in rows)
