"""`hotloop data`: look into a dataset, convert it, or generate one."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import ExitCode
from .data_generate import add_generate, generate

if TYPE_CHECKING:
    from ..data.formats.format import Format, Option
    from ..data.inspect import DatasetReport

_LONGEST_VALUE = 200  # characters of one entry of the metadata


def add_parser(
    subparsers: argparse._SubParsersAction[argparse.ArgumentParser],
) -> argparse.ArgumentParser:
    """Add the ``data`` command to the ``hotloop`` parser."""
    parser = subparsers.add_parser("data", help="inspect, convert or generate demonstrations")
    parser.set_defaults(run=run, complete=complete)
    return parser


def complete(parser: argparse.ArgumentParser) -> None:
    """Add what only this command's own help needs: it asks every format of datasets."""
    actions = parser.add_subparsers(dest="data_command", required=True, metavar="COMMAND")

    inspect = actions.add_parser(
        "inspect",
        help="print what a dataset holds and everything that is wrong with it",
        description="Print episodes, columns, ranges and NaNs of a dataset, and everything that is "
        "wrong with it. The exit code is 1 if there are problems.",
    )
    inspect.add_argument("source", help=_source_help())
    inspect.add_argument("--json", action="store_true", help="print the report as JSON")
    inspect.add_argument(
        "--task", default="", help="task to hold it against; default: what the dataset says"
    )
    _add_read_options(inspect)
    _add_convert(actions)
    add_generate(actions)
    replay = actions.add_parser(
        "replay",
        help="repeat demonstrations in the simulator",
        description="Repeat the recorded actions from the recorded first states. The exit code is "
        "1 if they do not do again what they did.",
    )
    replay.add_argument("source", help=_source_help() + "; or demonstrations of robosuite")
    replay.add_argument("--task", default="", help="default: what the dataset says")
    replay.add_argument("--num-episodes", type=int, default=0, help="from the first; default: all")


def _source_help() -> str:
    from ..data.formats.registry import all_formats

    return "; ".join(kind.description for kind in all_formats().values())


def _add_convert(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    convert = actions.add_parser(
        "convert",
        help="write a dataset in another format",
        description="Write a dataset in another format, completely or not at all.",
    )
    from ..data.write import writable_formats

    formats = writable_formats()
    suffixes = (
        f"{' and '.join(kind.suffixes)} are {name}"
        for name, kind in formats.items()
        if kind.suffixes and name != "robomimic"
    )
    convert.add_argument("source", help=_source_help())
    convert.add_argument("target", type=Path, help="file or folder to create, or a Minari id")
    convert.add_argument(
        "--to",
        default="",
        metavar="FORMAT",
        help=f"{', '.join(formats)}, or module:Name of your own; by default {', '.join(suffixes)}",
    )
    convert.add_argument(
        "--keys",
        nargs="+",
        default=[],
        metavar="KEY=COLUMN",
        help="columns to keep, or some of their numbers, e.g. 'action=actions[0:3,5]' "
        "observation.state=obs/object; default: all",
    )
    convert.add_argument(
        "--fps",
        type=float,
        default=0.0,
        help="control frequency in Hz, which the source does not say or says wrong",
    )
    convert.add_argument("--task", default="", help="what the robot was asked to do")
    convert.add_argument("--overwrite", action="store_true", help="replace an existing dataset")
    _add_read_options(convert)


def _add_read_options(parser: argparse.ArgumentParser) -> None:
    from ..data.formats.registry import all_formats

    group = parser.add_argument_group("what the source does not say itself")
    for name, (option, formats) in _read_options_by_name(all_formats()).items():
        flag, text = f"--{name.replace('_', '-')}", f"{', '.join(formats)}: {option.help}"
        if isinstance(option.default, bool):
            group.add_argument(flag, action="store_true", help=text)
        else:
            group.add_argument(flag, type=type(option.default), default=option.default, help=text)


def _read_options_by_name(formats: Mapping[str, Format]) -> dict[str, tuple[Option, list[str]]]:
    """Options of all formats, and which formats take them."""
    found: dict[str, tuple[Option, list[str]]] = {}
    for kind in formats.values():
        for option in kind.options:
            found.setdefault(option.name, (option, []))[1].append(kind.name)
    return found


def run(args: argparse.Namespace) -> int:
    """Run the command; the answer is no if a dataset has problems."""
    commands = {"inspect": _inspect, "convert": _convert, "generate": generate, "replay": _replay}
    return commands[args.data_command](args)


def _replay(args: argparse.Namespace) -> int:
    from ..demonstrations.replay import replay_dataset

    replay = replay_dataset(args.source, args.task, args.num_episodes)
    for one in replay.episodes:
        line = f"{one.name}: {one.num_steps} steps, state error {one.state_error:.3g}"
        if one.return_error is not None:
            line += f", return difference {one.return_error:.3g}"
        print(f"{line}, {'solved' if one.success else 'not solved'}")
    solved = sum(one.success for one in replay.episodes)
    same = sum(one.reproduced for one in replay.episodes)
    print(
        f"{replay.task}: {solved} of {len(replay.episodes)} solved, {same} with the recorded states"
    )
    for note in replay.notes:
        print(f"note: {note}")
    print("reproduced" if replay.reproduced else "NOT reproduced")
    return ExitCode.SUCCESS if replay.reproduced else ExitCode.FAILED


def _read_options(args: argparse.Namespace) -> dict[str, Any]:
    """Options that were given."""
    from ..data.formats.registry import all_formats

    options = _read_options_by_name(all_formats())
    given = {name: (getattr(args, name), option.default) for name, (option, _) in options.items()}
    return {name: value for name, (value, default) in given.items() if value != default}


def _convert(args: argparse.Namespace) -> int:
    from ..data.convert import Target, convert_dataset
    from ..data.write import WriteOptions

    pairs = [text.partition("=") for text in args.keys]
    if wrong := [key for key, _, column in pairs if not column]:
        raise ValueError(f"--keys takes KEY=COLUMN, e.g. action=actions, got {wrong[0]!r}")
    keys = {key: column for key, _, column in pairs}
    if len(keys) < len(pairs):
        raise ValueError(f"--keys names a key twice, give each once, got {' '.join(args.keys)}")
    result = convert_dataset(
        args.source,
        Target(args.target, args.to, WriteOptions(args.fps, args.task), args.overwrite),
        keys,
        _read_options(args),
        progress=sys.stderr.isatty(),
    )
    print(
        f"{result.path} ({result.layout}): {result.num_episodes} episodes, {result.num_steps} steps"
    )
    for text in result.dropped:
        print(f"not kept: {text}")
    for text in result.notes:
        print(f"note: {text}")
    return ExitCode.SUCCESS


def _inspect(args: argparse.Namespace) -> int:
    import json
    from dataclasses import asdict

    from ..data.inspect import inspect_dataset

    report = inspect_dataset(
        args.source, _read_options(args), task=args.task, progress=sys.stderr.isatty()
    )
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
    lines += [f"{key}: {_short(value)}" for key, value in report.metadata.items()]
    lines += [f"note: {note}" for note in report.notes]
    lines.append("")
    if report.problems:
        lines.append(f"{len(report.problems)} problem(s):")
        lines += [f"  - {problem}" for problem in report.problems]
    else:
        lines.append("no problems found")
    return "\n".join(lines)


def _short(value: object) -> str:
    """A value in one line; `--json` has all of it."""
    text = " ".join(str(value).split())
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}... (see --json)"
