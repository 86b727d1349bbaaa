"""`hotloop jacobi`: how a teacher's token decoder gets to its actions, for distillation."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..config.compose import compose
from . import ExitCode

EPILOG = """\
An interrupted collection goes on where it stopped when the same command is given again.

examples:
  hotloop jacobi outputs/teacher demonstrations.hdf5 outputs/trajectories num_execute=8
  hotloop train policy=vla task=metaworld-tabletop task.dataset=demonstrations.hdf5 \\
    distill.teacher=outputs/teacher policy.trajectories=outputs/trajectories
"""


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the `jacobi` command."""
    parser = subparsers.add_parser(
        "jacobi",
        help="collect Jacobi trajectories of a vision-language teacher",
        description=(
            "Decode the chunk of every step of a dataset with a teacher's Jacobi iteration and "
            "store all iterates; a student that is trained on them needs few forwards per chunk."
        ),
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("teacher", metavar="TEACHER", help="checkpoint, by name or path")
    parser.add_argument("dataset", help="the demonstrations that the teacher was trained on")
    parser.add_argument("out", type=Path, help="folder of the trajectories")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.set_defaults(run=run)
    return parser


def run(args: argparse.Namespace) -> int:
    """Collect, and say what came out."""
    import torch
    from tqdm import tqdm

    from ...policies.vla.model import VlaModel
    from ..config.lerobot import ANY_PERIOD, LeRobotConfig, load
    from ..data.formats.registry import read_episodes
    from ..data.windows import Windows
    from ..objectives.jacobi_trajectories import CollectionConfig, collect, read_trajectories

    config = compose("jacobi", args.overrides, CollectionConfig)
    model = load(args.teacher, LeRobotConfig(), ANY_PERIOD).model
    if not isinstance(model, VlaModel):
        raise ValueError(f"{args.teacher} is no vision-language policy; only those decode tokens")
    torch.set_num_threads(1)
    episodes = read_episodes(args.dataset, everything=True)
    absent = sorted(set(model.observation_shapes) - set(episodes.observations))
    if absent:
        raise ValueError(
            f"{args.dataset} has no {absent}, which the teacher reads; it has "
            f"{sorted(episodes.observations)}"
        )
    windows = Windows(episodes, tuple(model.observation_shapes), 1, model.config.num_actions)
    with tqdm(total=len(windows) // config.stride, unit="step", desc="trajectories") as bar:
        collect(args.out, model, windows, config, bar.update)
    found = read_trajectories(args.out)
    per_prompt = len(found.iterates) / max(len(found.index), 1)
    print(
        f"{args.out}: {len(found.index)} prompts of {len(windows)} steps, "
        f"{per_prompt:.1f} iterates each"
    )
    return ExitCode.SUCCESS
