"""`hotloop train`: demonstrations in, a checkpoint out."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..config.compose import describe_choices
from . import ExitCode

EPILOG = """\
examples:
  hotloop train policy=sdp task=pusht task.dataset=pusht_lowdim.npz
  hotloop train policy=dp task=pointmaze-umaze task.dataset=umaze.hdf5 steps=10000 seed=1
  hotloop train policy=sdp task=lift-image task.dataset=lift.hdf5 policy.model.encoder.crop=[76,76]
  hotloop train policy=my_policy.yaml task=my_task.yaml   files of one's own
  hotloop train resume=true output_dir=outputs/train ...   go on after an interruption
  hotloop train policy=sdp distill.teacher=outputs/train   distil to one call per control step
  torchrun --nproc-per-node 4 $(which hotloop) train policy=sdp ...       four processes

choices:
"""


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the `train` command."""
    parser = subparsers.add_parser(
        "train",
        help="train a policy on demonstrations",
        description="Train a policy; every setting is a key=value pair, see the YAML files.",
        epilog=EPILOG + describe_choices(("policy", "task")),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.set_defaults(run=run)
    return parser


def run(args: argparse.Namespace) -> int:
    """Compose the configuration and train."""
    from .. import compose_training
    from ..training import RECORDED, train

    config = compose_training(args.overrides)
    folder = train(config)
    print(f"checkpoint: {folder}")
    print(f"next: {next_command(folder, config.task.name == RECORDED)}")
    return ExitCode.SUCCESS


def next_command(folder: Path, recorded: bool) -> str:
    """What can be done with a new checkpoint; where no simulator belongs to it, on the robot."""
    if recorded:
        return f"hotloop control robot=MY_ROBOT.yaml checkpoint={folder}"
    return f"hotloop eval {folder}"
