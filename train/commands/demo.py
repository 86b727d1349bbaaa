"""`hotloop demo`: the whole way once, with a report to look at."""

from __future__ import annotations

import argparse
from pathlib import Path

from . import ExitCode

SUCCESS_GOAL = 0.9


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the `demo` command."""
    parser = subparsers.add_parser(
        "demo",
        help="generate, train, evaluate, time and report on this machine, in minutes",
        description=(
            "Drive a puck past two pillars, on either side of each: generate demonstrations, train "
            "a Diffusion Policy and, beside it, a streaming one and its student, evaluate and time "
            "them, and write a report that shows where one network call is enough and where not. "
            "Needs no download; under 8 minutes on two CPU cores."
        ),
    )
    parser.add_argument("--output-dir", type=Path, default=Path("outputs/demo"), metavar="DIR")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--num-episodes", type=int, default=50, help="evaluation episodes a row")
    parser.set_defaults(run=run)
    return parser


def run(args: argparse.Namespace) -> int:
    """Run the demo; fail if the streaming policy misses its goal."""
    from ..demo.run import run_demo

    report = run_demo(args.output_dir, args.seed, args.num_episodes)
    for row in report.rows:
        print(f"{row.name:34} success {row.success:4.0%}   {row.numbers()['median_ms']:8.3f} ms")
    print(f"report: {args.output_dir / 'report.html'}")
    return ExitCode.SUCCESS if report.rows[-1].success >= SUCCESS_GOAL else ExitCode.FAILED
