"""`hotloop data generate`: record what experts do."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

from . import ExitCode

_EPILOG = """\
examples:
  hotloop data generate pointmaze-umaze maze.hdf5 --action-noise 0.3
  hotloop data generate can can.hdf5 --pictures --num-workers 4
  hotloop data generate hopper hopper.hdf5 --level medium-expert --agents DIR --num-steps 200000
"""


def add_generate(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser of ``hotloop data``."""
    generate = actions.add_parser(
        "generate",
        help="record what scripted controllers or trained agents do in a simulator",
        description="Record demonstrations in D4RL's HDF5 layout: of a scripted controller, or "
        "of trained agents, whose files you bring. Lift, Can and Square come in robomimic's "
        "layout, solved episodes only.",
        epilog=_EPILOG,
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
    generate.add_argument(
        "--pictures", action="store_true", help="lift, can, square: what both cameras see too"
    )
    generate.add_argument(
        "--num-workers", type=int, default=0, help="processes that draw pictures; default: this one"
    )
    generate.add_argument("--overwrite", action="store_true", help="replace an existing file")


def generate(args: argparse.Namespace) -> int:
    """Run the command."""
    from ..demonstrations.generate import Collection, generate_demonstrations

    names = [field.name for field in dataclasses.fields(Collection)]
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
    if failed := facts.get("num_failed"):
        print(f"left out: {failed} that did not solve the task")
    return ExitCode.SUCCESS
