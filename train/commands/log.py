"""`hotloop log`: look at a run of the control loop, recompute it, export it."""

from __future__ import annotations

import argparse
from pathlib import Path

from . import ExitCode

EPILOG = """\
examples:
  hotloop log outputs/control/log.mcap
  hotloop log outputs/control/log.mcap --replay
  hotloop log outputs/control/log.mcap --csv run.csv --plot run.png
  hotloop log outputs/control/log.mcap --rerun run.rrd && rerun run.rrd

The file is MCAP with JSON messages, which Foxglove opens as it is."""


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the `log` command."""
    parser = subparsers.add_parser(
        "log",
        help="look at a run of the control loop, recompute it, export it",
        description="Summarise the log of a run; with --replay, prove it bit by bit.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", type=Path)
    parser.add_argument(
        "--replay", action="store_true", help="compute all commands again, and compare"
    )
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write one row per cycle")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw joints and timing (PNG)")
    parser.add_argument("--rerun", type=Path, metavar="FILE", help="export to Rerun's viewer (RRD)")
    parser.set_defaults(run=run)
    return parser


def run(args: argparse.Namespace) -> int:
    """Read the log and do what is asked for."""
    from ...real_robot.logs.export import (
        CSV_START,
        PNG_START,
        check_target,
        plot_log,
        summary_lines,
        write_csv,
    )
    from ...real_robot.logs.reader import read_log
    from ...real_robot.logs.recompute import recompute
    from ...real_robot.logs.rerun_file import RERUN_START, write_rerun

    exports = ((args.csv, CSV_START), (args.plot, PNG_START), (args.rerun, RERUN_START))
    others = [args.file]
    for path, start in exports:
        if path:
            check_target(path, start, others)
            others.append(path)
    log = read_log(args.file)
    if len(others) > 1 and not log.cycles:
        raise ValueError(f"{args.file} holds no cycle, so there is nothing to export")
    for line in summary_lines(log):
        print(line)
    if args.csv:
        write_csv(log, args.csv)
        print(f"written: {args.csv}")
    if args.plot:
        plot_log(log, args.plot)
        print(f"written: {args.plot}")
    if args.rerun:
        write_rerun(log, args.rerun)
        print(f"written: {args.rerun}")
    if args.replay:
        result = recompute(log)
        same = result.cycles - result.different
        print(f"replay: {same} of {result.cycles} commands are the same, bit for bit")
        return ExitCode.FAILED if result.different else ExitCode.SUCCESS
    return ExitCode.SUCCESS
