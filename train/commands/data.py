"""`hotloop data`: look into a dataset file, or generate one."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from . import ExitCode

if TYPE_CHECKING:
    from ..data.inspect import DatasetReport


def add_parser(
    subparsers: argparse._SubParsersAction[argparse.ArgumentParser],
) -> argparse.ArgumentParser:
    """Add the ``data`` command to the ``hotloop`` parser."""
    parser = subparsers.add_parser("data", help="inspect or generate demonstrations")
    actions = parser.add_subparsers(dest="data_command", required=True, metavar="COMMAND")

    inspect = actions.add_parser(
        "inspect",
        help="print what a dataset file holds and everything that is wrong with it",
        description="Print episodes, columns, ranges and NaNs of a dataset file, and everything "
        "that is wrong with it. The exit code is 1 if there are problems.",
    )
    inspect.add_argument("path", type=Path, help=".zarr folder, .zarr.zip, .npz or .hdf5")
    inspect.add_argument("--json", action="store_true", help="print the report as JSON")

    generate = actions.add_parser(
        "generate",
        help="record demonstrations of a scripted controller",
        description="Record demonstrations of a scripted controller in D4RL's HDF5 layout.",
    )
    generate.add_argument("task", help="a PointMaze task, e.g. pointmaze-umaze")
    generate.add_argument("out", type=Path, help="HDF5 file to create")
    generate.add_argument("--num-episodes", type=int, default=200, help="default: %(default)s")
    generate.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    generate.add_argument(
        "--action-noise",
        type=float,
        default=0.0,
        help="standard deviation of the noise on each executed action, in units of the largest "
        "force; the recorded actions stay free of it; default: %(default)s",
    )
    generate.add_argument("--overwrite", action="store_true", help="replace an existing file")
    parser.set_defaults(run=run)
    return parser


def run(args: argparse.Namespace) -> int:
    """Run the command; the answer is no if a dataset has problems."""
    return _inspect(args) if args.data_command == "inspect" else _generate(args)


def _inspect(args: argparse.Namespace) -> int:
    import json
    from dataclasses import asdict

    from ..data.inspect import inspect_dataset

    report = inspect_dataset(args.path, progress=sys.stderr.isatty())
    print(json.dumps(asdict(report), indent=2) if args.json else _format(report))
    return ExitCode.FAILED if report.problems else ExitCode.SUCCESS


def _format(report: DatasetReport) -> str:
    lines = [f"{report.path} ({report.layout})"]
    if report.num_episodes is not None:
        lines.append(f"episodes  {report.num_episodes}")
    if report.num_steps is not None:
        lines.append(f"steps     {report.num_steps}")
    if report.episode_length is not None:
        low, median, high = report.episode_length
        lines.append(f"length    min {low}, median {median:g}, max {high} steps")
    rows: list[tuple[str, ...]] = [
        ("column", "step shape", "dtype", "min", "max", "mean", "NaN", "inf")
    ]
    for column in report.columns:
        numbers = (column.minimum, column.maximum, column.mean)
        formatted = ["-" if number is None else f"{number:.6g}" for number in numbers]
        counts = (str(column.num_nan), str(column.num_inf))
        rows.append((column.name, str(column.shape), column.dtype, *formatted, *counts))
    if report.columns:
        widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
        lines.append("")
        for row in rows:
            cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
            lines.append("  ".join(cells).rstrip())
    lines += [f"{key}: {value}" for key, value in report.metadata.items()]
    lines.append("")
    if report.problems:
        lines.append(f"{len(report.problems)} problem(s):")
        lines += [f"  - {problem}" for problem in report.problems]
    else:
        lines.append("no problems found")
    return "\n".join(lines)


def _generate(args: argparse.Namespace) -> int:
    from ..data.demonstrations import generate_demonstrations

    episodes = generate_demonstrations(
        args.out,
        args.task,
        args.num_episodes,
        seed=args.seed,
        action_noise=args.action_noise,
        overwrite=args.overwrite,
        progress=sys.stderr.isatty(),
    )
    print(
        f"{args.out}: {episodes.num_episodes} episodes, {len(episodes.actions)} steps, "
        f"{episodes.metadata['num_success']} reached the goal"
    )
    return ExitCode.SUCCESS
