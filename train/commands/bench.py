"""`hotloop bench`: latency of whole control steps, every engine side by side."""

from __future__ import annotations

import argparse

from ..config.compose import compose
from . import ExitCode

EPILOG = """\
examples:
  hotloop bench pusht-dp pusht-sdp
  hotloop bench pusht-sdp engines=[eager,onnx] threads=[1,2] output=latency.json
  hotloop bench pusht-sdp engines=[auto]                        the engine that is fastest here
  hotloop bench outputs/teacher outputs/student threads=[1,2]   decoders of action tokens
  hotloop bench outputs/student calls=[1,2,4] sampling.guess=random

Vision-language policies are timed on frames of their own task, whose simulator must be installed:
episodes in which the checkpoint acts by its own choices. Their overhead is the time beyond one
forward that reads pictures, instruction and a block of tokens. "/ base" is the time relative to
one-call streaming, or to the first checkpoint's greedy decoding.
"""


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the `bench` command."""
    parser = subparsers.add_parser(
        "bench",
        help="time policies per control step",
        description=(
            "Time whole control steps, from observation to action, for one robot, warm; policies "
            "take turns, so that a machine's drift meets all of them alike."
        ),
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkpoints", nargs="+", metavar="NAME_OR_PATH or key=value")
    parser.set_defaults(run=run)
    return parser


def run(args: argparse.Namespace) -> int:
    """Measure, print a table, and write JSON if asked to."""
    names = [argument for argument in args.checkpoints if "=" not in argument]
    overrides = [argument for argument in args.checkpoints if "=" in argument]
    if not names:
        raise ValueError("bench needs at least one checkpoint, e.g. hotloop bench pusht-sdp")
    from ...decoding.plumbing.files import write_text
    from ..config.evaluation import BenchConfig
    from ..measure.bench import bench, format_rows

    config = compose("bench", overrides, BenchConfig)
    result = bench(names, config)
    print(format_rows(result["rows"]))
    if config.output:
        import json
        from pathlib import Path

        write_text(Path(config.output), json.dumps(result, indent=1) + "\n")
        print(f"written: {config.output}")
    return ExitCode.SUCCESS
