"""`hotloop data`: look into a dataset, convert it, or generate one."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from . import ExitCode

if TYPE_CHECKING:
    from ..data.inspect import DatasetReport
    from ..data.source import ReadOptions

SOURCE_HELP = (
    ".zarr folder, .zarr.zip, .npz, .hdf5 of D4RL or robomimic, folder of a LeRobotDataset or of a "
    "Minari dataset, or a D4RL or Minari id"
)

GENERATE_EPILOG = """\
examples:
  hotloop data generate pointmaze-umaze maze.hdf5 --action-noise 0.3
  hotloop data generate hopper hopper.hdf5 --level medium-expert --agents DIR --num-steps 200000
"""


def add_parser(
    subparsers: argparse._SubParsersAction[argparse.ArgumentParser],
) -> argparse.ArgumentParser:
    """Add the ``data`` command to the ``hotloop`` parser."""
    parser = subparsers.add_parser("data", help="inspect, convert or generate demonstrations")
    actions = parser.add_subparsers(dest="data_command", required=True, metavar="COMMAND")

    inspect = actions.add_parser(
        "inspect",
        help="print what a dataset holds and everything that is wrong with it",
        description="Print episodes, columns, ranges and NaNs of a dataset, and everything that is "
        "wrong with it. The exit code is 1 if there are problems.",
    )
    inspect.add_argument("source", help=SOURCE_HELP)
    inspect.add_argument("--json", action="store_true", help="print the report as JSON")
    _add_read_options(inspect)
    _add_convert(actions)

    generate = actions.add_parser(
        "generate",
        help="record what scripted controllers or trained agents do in a simulator",
        description="Record demonstrations in D4RL's HDF5 layout: of a scripted controller, or "
        "of trained agents, whose files you bring.",
        epilog=GENERATE_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    generate.add_argument("task", help="name of a task, e.g. pointmaze-umaze or hopper")
    generate.add_argument("out", type=Path, help="HDF5 file to create")
    generate.add_argument("--num-episodes", type=int, default=200, help="default: %(default)s")
    generate.add_argument(
        "--num-steps",
        type=int,
        default=0,
        help="instead of a number of episodes: record whole ones up to this many steps",
    )
    generate.add_argument(
        "--level",
        default="",
        help="which trained agents: medium, expert, medium-expert (half each) or medium-replay "
        "(several weak ones)",
    )
    generate.add_argument("--agents", type=Path, help="folder with the trained agents' .npz files")
    generate.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    generate.add_argument(
        "--action-noise",
        type=float,
        help="standard deviation of the noise on each executed action, in half widths of its "
        "range; default: the level's own, 0 without one",
    )
    generate.add_argument("--overwrite", action="store_true", help="replace an existing file")
    replay = actions.add_parser(
        "replay",
        help="repeat demonstrations in the simulator",
        description="Repeat the recorded actions from the recorded first states. The exit code is "
        "1 if they do not do again what they did.",
    )
    replay.add_argument("source", help=SOURCE_HELP + ", or demonstrations of robosuite")
    replay.add_argument("--task", default="", help="default: what the dataset says")
    replay.add_argument("--num-episodes", type=int, default=0, help="from the first; default: all")
    parser.set_defaults(run=run)
    return parser


def _add_convert(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    convert = actions.add_parser(
        "convert",
        help="write a dataset in another format",
        description="Write a dataset in another format, completely or not at all.",
    )
    convert.add_argument("source", help=SOURCE_HELP)
    convert.add_argument("target", type=Path, help="file or folder to create, or a Minari id")
    convert.add_argument(
        "--to",
        default="",
        choices=("d4rl", "robomimic", "replay", "lerobot", "minari"),
        help="format; by default .hdf5 is d4rl, and .zarr and .zarr.zip are replay",
    )
    convert.add_argument(
        "--keys",
        nargs="+",
        default=[],
        metavar="KEY=COLUMN",
        help="columns to keep, e.g. action=actions observation.state=obs/object; default: all",
    )
    convert.add_argument("--fps", type=float, default=0.0, help="lerobot: control frequency in Hz")
    convert.add_argument("--task", default="", help="lerobot: what the robot was asked to do")
    convert.add_argument("--overwrite", action="store_true", help="replace an existing dataset")
    _add_read_options(convert)


def _add_read_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what the source does not say itself")
    group.add_argument(
        "--max-episode-steps", type=int, default=0, help="D4RL files without timeouts: time limit"
    )
    group.add_argument(
        "--shift-rewards",
        action="store_true",
        help="maze2d: rewards one step earlier, see the README",
    )
    group.add_argument("--subset", default="", help="robomimic: demonstrations of mask/SUBSET only")
    group.add_argument(
        "--absolute-actions", action="store_true", help="robomimic: actions_abs as actions"
    )


def run(args: argparse.Namespace) -> int:
    """Run the command; the answer is no if a dataset has problems."""
    commands = {"inspect": _inspect, "convert": _convert, "generate": _generate, "replay": _replay}
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


def _read_options(args: argparse.Namespace) -> ReadOptions:
    from ..data.source import ReadOptions

    return ReadOptions(
        max_episode_steps=args.max_episode_steps,
        shift_rewards=args.shift_rewards,
        subset=args.subset,
        absolute_actions=args.absolute_actions,
    )


def _convert(args: argparse.Namespace) -> int:
    from ..data.convert import Target, convert_dataset
    from ..data.write import WriteOptions

    pairs = [text.partition("=") for text in args.keys]
    if wrong := [key for key, _, column in pairs if not column]:
        raise ValueError(f"--keys takes KEY=COLUMN, e.g. action=actions, got {wrong[0]!r}")
    result = convert_dataset(
        args.source,
        Target(args.target, args.to, WriteOptions(args.fps, args.task), args.overwrite),
        {key: column for key, _, column in pairs},
        _read_options(args),
        progress=sys.stderr.isatty(),
    )
    print(
        f"{result.path} ({result.layout}): {result.num_episodes} episodes, {result.num_steps} steps"
    )
    if result.dropped:
        print(f"not kept, {result.layout} has no place for it: {', '.join(result.dropped)}")
    return ExitCode.SUCCESS


def _inspect(args: argparse.Namespace) -> int:
    import json
    from dataclasses import asdict

    from ..data.inspect import inspect_dataset

    report = inspect_dataset(args.source, _read_options(args), progress=sys.stderr.isatty())
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
    from ..demonstrations.generate import Collection, generate_demonstrations

    names = ("task", "num_episodes", "num_steps", "level", "agents", "action_noise", "seed")
    collection = Collection(**{name: getattr(args, name) for name in names})
    episodes = generate_demonstrations(
        args.out, collection, overwrite=args.overwrite, progress=sys.stderr.isatty()
    )
    facts = episodes.metadata
    score = f", normalised score {facts['mean_score']:.1f}" if "mean_score" in facts else ""
    print(
        f"{args.out}: {episodes.num_episodes} episodes, {episodes.num_steps} steps, "
        f"{facts['num_success']} successful, {int(episodes.terminated.sum())} ended in a terminal "
        f"state, mean return {facts['mean_return']:.1f}{score}"
    )
    return ExitCode.SUCCESS
