"""`hotloop export`: a checkpoint as graphs that need no PyTorch, compared with it first."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from ..config.compose import compose
from . import ExitCode

# What may be in a folder that is replaced: files of every format, and what running them leaves.
GRAPHS = (".onnx", ".bin", ".xml", ".pt2", ".plan")
WRITTEN = (
    "policy.json", "golden.json", "PARITY.json", "hotloop_runtime.py", "hotloop_openvino.py",
    "build_tensorrt.sh", "__pycache__",
)  # fmt: skip

EPILOG = """\
examples:
  hotloop export pusht-sdp outputs/exported
  hotloop export outputs/run outputs/exported sampling.calls_per_step=1 format=openvino
  hotloop export PRETRAINED_MODEL outputs/exported lerobot.dt=0.1    of LeRobot, unimported
  hotloop control robot=mujoco policy=table checkpoint=outputs/exported
  python -c 'from hotloop_runtime import Runtime; …'    in outputs/exported: numpy + onnxruntime

formats:
  onnx          for ONNX Runtime, and whatever else reads ONNX
  openvino      for OpenVINO; real_robot/integrations/cpp runs it from C++
  torch-export  .pt2 files for AOTInductor and ExecuTorch
  tensorrt      onnx, and build_tensorrt.sh, which runs trtexec where TensorRT is installed
"""


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the `export` command."""
    parser = subparsers.add_parser(
        "export",
        help="write a policy as graphs that run without PyTorch",
        description=(
            "Write a checkpoint as graphs of observation, state and noise, with a runtime of one "
            "file. They are compared with the checkpoint; where they differ, nothing is written."
        ),
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkpoint", metavar="NAME_OR_PATH")
    parser.add_argument("folder", metavar="OUT", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.set_defaults(run=run)
    return parser


def run(args: argparse.Namespace) -> int:
    """Export, compare, and say what was found."""
    from ..config.exporting import ExportConfig

    config = compose("export", args.overrides, ExportConfig)
    _check_folder(args.folder, config.overwrite)
    from ...policies.export.write import export_policy
    from ..config.lerobot import load, refuse_unread
    from .recorded_positions import recorded

    refuse_unread([args.checkpoint], config.lerobot)
    checkpoint = load(args.checkpoint, config.lerobot)
    found = recorded(checkpoint)
    notes = {} if found is None else {"recorded": found.to_json()}
    parity = export_policy(
        checkpoint, args.folder, config.format, config.sampling, notes, config.steps
    )
    size = sum(path.stat().st_size for path in args.folder.iterdir()) / 1e6
    print(f"written: {args.folder} ({config.format}, {size:.1f} MB)")
    for name, difference in parity["graphs"]["max_difference"].items():
        print(f"  {name}: differs from the checkpoint by {difference:.1g}")
    if loop := parity.get("closed_loop"):
        print(f"  {loop['steps']} control steps: by {loop['max_difference']:.1g}")
    print(f"  (in units of each output's scale; at most {parity['tolerance']:g} is accepted)")
    return ExitCode.SUCCESS


def _check_folder(folder: Path, overwrite: bool) -> None:
    """Look before anything is computed.

    Raises:
        FileExistsError: If something is there that is not to be replaced.
    """
    from ...decoding.exported import is_exported

    if not os.path.lexists(folder) or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not is_exported(folder):
        raise FileExistsError(f"{folder} exists and was not exported; choose another folder")
    if not overwrite:
        raise FileExistsError(f"{folder} exists; overwrite=true replaces it")
    for path in sorted(folder.iterdir()):
        if not (path.name in WRITTEN or path.suffix in GRAPHS):
            raise FileExistsError(f"{path} was not exported and would be lost; move it elsewhere")
