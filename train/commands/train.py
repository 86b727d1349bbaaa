"""`hotloop train`: demonstrations in, a checkpoint out."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ..config.compose import compose, describe_choices

if TYPE_CHECKING:
    from ..config.training import TrainConfig

EPILOG = """\
examples:
  hotloop train policy=sdp task=pusht task.dataset=pusht_lowdim.npz
  hotloop train policy=dp task=pointmaze-umaze task.dataset=umaze.hdf5 steps=10000 seed=1
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
    from ..config.training import TrainConfig
    from ..families.diffusion import train

    config: TrainConfig = compose("train", args.overrides, TrainConfig)
    folder = train(config)
    print(f"checkpoint: {folder}")
    print(f"next: hotloop eval {folder}")
    return 0
