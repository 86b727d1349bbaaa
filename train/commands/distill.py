"""`hotloop distill`: a trained policy in, a faster one and its parity report out."""

from __future__ import annotations

import argparse
from pathlib import Path

from . import ExitCode

EPILOG = """\
examples:
  hotloop distill --list                    methods, what they cost and where they come from
  hotloop distill pusht-dp task.dataset=pusht_lowdim.npz
  hotloop distill pusht-dp                        without demonstrations: from what the teacher does
  hotloop distill pusht-dp calls=1,2,4 task.dataset=pusht_lowdim.npz output_dir=outputs/student
  hotloop distill outputs/train method=segment task.dataset=lift.hdf5 steps=10000
  hotloop distill outputs/train resume=true ...   go on after an interruption
  hotloop distill LEROBOT_FOLDER task=pusht task.dataset=pusht_lowdim.npz

Kind, network, sampling and task are the teacher's; every other setting of `hotloop train` may be
given. The last line of all is what was gained and lost; output_dir/report.html and report.json
have the rest: teacher and student on the same episodes, latency per engine, diversity of actions
at fixed states, smoothness. report.episodes=200 takes more episodes, report.engines=[onnx] times
fewer engines, report.undistilled=false leaves out the teacher at few calls, report=false reports
nothing.
"""


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the `distill` command."""
    parser = subparsers.add_parser(
        "distill",
        help="make a trained policy faster, and see what it costs",
        description=(
            "Distil a trained policy into one of fewer network calls, and compare both: what was "
            "gained, what was lost."
        ),
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("teacher", nargs="?", metavar="NAME_OR_PATH")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--list", action="store_true", help="list the methods")
    parser.set_defaults(run=run)
    return parser


def run(args: argparse.Namespace) -> int:
    """Distil, report, and say in one sentence what came of it."""
    if args.list:
        if args.teacher:
            raise ValueError(f"--list takes no other arguments, got {args.teacher}")
        print_methods()
        return ExitCode.SUCCESS
    # Sweeps name their folders key=value.
    if not args.teacher or ("=" in args.teacher and not Path(args.teacher).exists()):
        raise ValueError(
            "distill needs the teacher first, by name or path, e.g. hotloop distill pusht-dp "
            "task.dataset=PATH"
        )
    from ..distillation.run import compose_distillation, run_distillation
    from ..processes import is_main_process

    folder, report = run_distillation(compose_distillation(args.teacher, args.overrides))
    if is_main_process():
        print(f"checkpoint: {folder}")
    if report is not None:
        print(f"report: {folder.parents[1] / 'report.html'}")
        print(report.sentence)
    return ExitCode.SUCCESS


def print_methods() -> None:
    """One paragraph per method."""
    from ..distillation.methods import METHODS

    for name in METHODS.names:
        method = METHODS.get(name)
        calls = ", ".join(map(str, method.calls)) or "any number"
        needs = "teacher and demonstrations"
        if method.data_free:
            needs += ", or the teacher alone where its task has a simulator"
        print(f"{name}: {method.summary}")
        print(f"  calls    {calls}")
        print(f"  teachers {', '.join(method.teachers)}")
        print(f"  needs    {needs}")
        print(f"  cost     {method.cost}")
        print(f"  source   {method.source}")
