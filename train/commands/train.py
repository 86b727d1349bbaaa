"""`hotloop train`: demonstrations in, a checkpoint out."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
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
  torchrun --nproc-per-node 4 $(which hotloop) train policy=sdp ...       four GPUs
  hotloop train -m seed=42,43,44 policy=dp,sdp ...         six runs, one after another
  hotloop train -m seed=42,43,44 hydra/launcher=submitit_slurm ...        three jobs of a cluster

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
    parser.add_argument(
        "-m", "--multirun", action="store_true", help="train every combination of key=a,b values"
    )
    parser.set_defaults(run=run)
    return parser


def run(args: argparse.Namespace) -> int:
    """Compose the configuration and train."""
    if args.multirun:
        return run_all(args.overrides)
    from .. import compose_training
    from ..processes import is_main_process
    from ..training import RECORDED, train

    config = compose_training(args.overrides)
    folder = train(config)
    if is_main_process():
        print(f"checkpoint: {folder}")
        print(f"next: {next_command(folder, config.task.name == RECORDED)}")
    return ExitCode.SUCCESS


def run_all(overrides: Sequence[str]) -> int:
    """Train every run of a sweep and say what became of each."""
    from ..config.sweep import expand
    from ..processes import num_processes
    from ..sweep import run_sweep

    if num_processes() > 1:
        raise ValueError(
            "-m starts its runs itself; leave torchrun out, and give each run several processes "
            "with hydra/launcher=submitit_slurm hydra.launcher.tasks_per_node=…"
        )
    sweep = expand(overrides)
    print(f"{len(sweep.jobs)} runs in {sweep.folder}", flush=True)
    outcomes = run_sweep(sweep)
    for one in outcomes:
        ending = "finished" if one.finished else one.error or "ended early, or still runs"
        print(f"{one.job.output_dir}: {one.num_done} of {one.num_steps} steps, {ending}")
    if all(one.finished for one in outcomes):
        return ExitCode.SUCCESS
    print("next: the same command with resume=true goes on with what is not finished")
    return ExitCode.FAILED


def next_command(folder: Path, recorded: bool) -> str:
    """What can be done with a new checkpoint; where no simulator belongs to it, on the robot."""
    if recorded:
        return f"hotloop control robot=MY_ROBOT.yaml checkpoint={folder}"
    return f"hotloop eval {folder}"
