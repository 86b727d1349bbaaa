"""`hotloop control`: run a policy on a robot, real or simulated."""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from ..config.compose import compose, describe_choices
from . import ExitCode

if TYPE_CHECKING:
    from ...real_robot.config import ControlConfig, RobotConfig
    from ...real_robot.runtime.supervisor import RunConfig

EPILOG = """\
choices:
{choices}

examples:
  hotloop control robot=mujoco duration=10 inject=nan output_dir=outputs/control
  hotloop control robot=mujoco-arm robot.control.speed=0.3
  hotloop control robot=dynamixel robot.options.port=/dev/ttyUSB0 --dry-run
  hotloop control robot=feetech robot.options.port=/dev/ttyACM0 checkpoint=outputs/run \\
      units.scale=[0.0174533] instruction='pick up the cube' latency=2 \\
      robot.cameras.front.driver=opencv robot.cameras.front.size=[480,640] \\
      robot.cameras.front.options.source=0

faults for inject=…: nan, empty, reversed, far-future, jump, step, silence, kill

On a terminal: space stops at once and stays stopped, r resets, a arms again, q ends.
A run ends with a braked stop, after `duration` as well as after Ctrl-C or SIGTERM."""


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the `control` command."""
    parser = subparsers.add_parser(
        "control",
        help="run a policy on a robot, real or simulated",
        description=(
            "Run a policy on a robot at a high, fixed rate. Every command keeps the limits of the "
            "robot's configuration, whatever the policy sends."
        ),
        epilog=EPILOG.format(choices=describe_choices(["robot"])),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument(
        "--dry-run", action="store_true", help="run everything, but write to no device"
    )
    parser.set_defaults(run=run)
    return parser


def run(args: argparse.Namespace) -> int:
    """Compose the configuration, run, print and write the summary."""
    from pathlib import Path

    from ...real_robot.config import ControlConfig
    from ...real_robot.runtime.keyboard import Keyboard
    from ...real_robot.runtime.supervisor import supervise

    config: ControlConfig = compose("control", args.overrides, ControlConfig)
    robot, job = prepare(config, args.dry_run)
    with Keyboard() as keyboard:
        summary = supervise(robot, job, say, keyboard)
    summary["score"] = table_score(job.log) if config.policy == "table" else None
    if config.output_dir:
        import json

        from ...decoding.plumbing.files import write_text
        from ..measure.provenance import measurement_header

        header = measurement_header(" ".join(["hotloop control", *args.overrides]))
        path = Path(config.output_dir) / "summary.json"
        write_text(path, json.dumps({**header, **summary}, indent=1) + "\n")
        say(f"written: {path}")
    say(last_line(summary))
    return exit_code(summary)


def exit_code(summary: dict[str, Any]) -> ExitCode:
    """Success is a run that ended as it was meant to, with every limit kept."""
    if not summary["clean_end"] or summary["limit_violations"]:
        return ExitCode.FAILED
    if summary["ended_by"] in ("duration", "operator"):
        return ExitCode.SUCCESS
    interrupted = str(summary["ended_by"]).startswith("SIG")
    return ExitCode.INTERRUPTED if interrupted else ExitCode.FAILED


def prepare(config: ControlConfig, dry_run: bool) -> tuple[RobotConfig, RunConfig]:
    """Turn the configuration into what the runtime takes.

    Raises:
        ValueError: If the policy is unknown or its checkpoint is not given.
    """
    from pathlib import Path

    from ...real_robot.runtime.supervisor import RunConfig

    robot, (factory, options) = config.robot, policy_of(config)
    if factory.endswith(":make_table_policy") and (dry_run or robot.driver == "mujoco"):
        from ..table import random_scene

        robot = replace(robot, options={"scene": random_scene(config.seed), **robot.options})
    if dry_run:
        kept = {
            name: robot.options[name] for name in ("position", "scene") if name in robot.options
        }
        robot = replace(robot, driver="dry-run", options=kept)
    if robot.cameras:
        from ...envs.rendering import choose_backend

        choose_backend()
    job = RunConfig(
        policy=factory,
        options=options,
        duration=config.duration,
        seed=config.seed,
        inject=str(config.inject),
        log=Path(config.output_dir) / "log.mcap" if config.output_dir else None,
    )
    return robot, job


def policy_of(config: ControlConfig) -> tuple[str, dict[str, Any]]:
    """Function that builds the policy, ``module:function``, and its options.

    Raises:
        ValueError: If the policy is unknown or its checkpoint is not given.
    """
    root = str(__package__).removesuffix(".train.commands")
    factories = {
        "joints": f"{root}.train.joint_policy:make_joint_policy",
        "reach": f"{root}.real_robot.inference:make_reach_policy",
        "table": f"{root}.train.table_policy:make_table_policy",
    }
    name = config.policy or ("joints" if config.checkpoint else "reach")
    if name not in factories:
        raise ValueError(f"policy must be one of {sorted(factories)}, got {name!r}")
    if (name == "reach") == bool(config.checkpoint):
        raise ValueError(
            "policy reach runs no checkpoint; leave policy=reach out"
            if config.checkpoint
            else f"the {name} policy needs a checkpoint, e.g. checkpoint=outputs/run"
        )
    if name == "reach":
        return factories[name], {}
    latency = (name == "joints") if config.latency is None else config.latency
    options = {
        "checkpoint": config.checkpoint,
        "sampling": config.sampling,
        "latency": int(latency),
    }
    if name == "joints":
        options |= {"instruction": config.instruction, "given": config.given}
        options["units"] = asdict(config.units)
    return factories[name], options


def table_score(log: Any) -> float | None:
    """Largest share of Push-T's mark that the block covered, over 0.95; None without a log."""
    if log is None:
        return None
    from ...real_robot.logs.reader import read_log
    from ..table import block_poses, coverage

    sensors = read_log(log).column("state.sensors")
    covered = coverage(block_poses(sensors[::25])).max() if len(sensors) else 0.0
    return min(float(covered) / 0.95, 1.0)


def say(text: str) -> None:
    """Print a line at once: an operator is watching."""
    print(text, flush=True)


def last_line(summary: dict[str, Any]) -> str:
    """The run in one line."""
    score = "" if summary["score"] is None else f", Push-T score {summary['score']:.2f}"
    return (
        f"{summary['robot']}: {summary['cycles']} cycles, {summary['skipped_cycles']} skipped, "
        f"{summary['late_cycles']} late, chunks {summary['accepted_chunks']} accepted and "
        f"{summary['rejected_chunks']} rejected, limit violations {summary['limit_violations']}, "
        f"ended by {summary['ended_by']}{score}"
    )
