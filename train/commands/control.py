"""`hotloop control`: run a policy on a robot, real or simulated."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..config.compose import compose, describe_choices
from . import ExitCode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from ...real_robot.config import ControlConfig, RobotConfig
    from ...real_robot.policies.protocol import PolicyKind
    from ...real_robot.runtime.supervisor import RunConfig

SUMMARY = "summary.json"
KEYS = "space stops, r resets, a arms again, q ends, L twice lets all joints go limp"
EPILOG = """\
choices:
{choices}

examples:
  hotloop control robot=mujoco duration=10 inject=nan output_dir=outputs/control
  hotloop control robot=mujoco-arm robot.control.speed=0.3
  hotloop control robot=dynamixel robot.options.port=/dev/ttyUSB0 --dry-run
  hotloop control robot=my_arm.yaml release=true   # limp; for one that may not start where it is
  hotloop control robot=my_arm.yaml robot.options.port=/dev/ttyACM0 checkpoint=outputs/run \\
      units.scale=[0.0174533] instruction='pick up the cube' latency=2 \\
      robot.cameras.front.driver=opencv robot.cameras.front.size=[480,640] \\
      robot.cameras.front.options.source=0
  hotloop control robot=mujoco-arm record=outputs/data task='wave' duration=10

faults for inject=…: nan, empty, reversed, far-future, jump, step, silence, kill

On a terminal: space stops at once and stays stopped, r resets, a arms again, q ends, L pressed
twice lets all joints go limp. A run ends with a braked stop, after `duration` as well as after
Ctrl-C or SIGTERM, and holds the robot there; release=true lets it go limp. Its exit code is 0 only
if it went as it was meant to; the last lines say why not.

more settings: policy=, duration=10, latency= (raise it if plans are STARVED), sampling.…=, seed=0,
engine=auto (or onnx, …; by default eager), given.…=, output_dir= (keeps log.mcap and summary.json;
without it nothing is kept); with record=: task=, leader=, teleop.…=, episodes=, episode_time=,
reset=[…], pictures=video, and the keys of `hotloop record`; with leader= or teleop.…= i takes over
from the policy and gives back

A stop that needs no terminal, for example a button of a gamepad that has to be held:
  robot.stop_inputs.pad.driver=joystick robot.stop_inputs.pad.options.hold=4"""


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the `control` command."""
    parser = subparsers.add_parser(
        "control",
        help="run a policy on a robot, real or simulated",
        description=(
            "Run a policy on a robot at a high, fixed rate. Every command keeps the limits of the "
            "robot's configuration, whatever the policy sends."
        ),
        epilog=EPILOG.format(choices=describe_choices(["robot", "actions"])),
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
    from .recording import RecordedControlConfig, recorded, with_leader

    overrides, leader = with_leader(args.overrides)
    config = compose("control", overrides, RecordedControlConfig)
    if config.release:
        from ...real_robot.runtime.release import release

        release(config.robot, print)
        return ExitCode.SUCCESS
    kind, robot, job = prepare(config, args.dry_run)
    job = recorded(config, job, leader)
    command = " ".join(["hotloop control", *args.overrides])
    return exit_code(conduct(robot, job, command, config.output_dir, kind))


def conduct(
    robot: RobotConfig,
    job: RunConfig,
    command: str,
    output_dir: str,
    kind: PolicyKind | None = None,
) -> dict[str, Any]:
    """Run, print and write the summary, and return it.

    Args:
        robot: The robot.
        job: What to run on it.
        command: What was typed.
        output_dir: Folder for the summary, empty for none.
        kind: Knows how good a run was, None if nobody does.
    """
    from ...real_robot.runtime.keyboard import Keyboard
    from ...real_robot.runtime.operator import Printer, Signals
    from ...real_robot.runtime.supervisor import supervise

    # Whatever the terminal does, and however often Ctrl-C is pressed, there is a summary.
    with Signals(), Printer() as tell, Keyboard() as keyboard:
        if keyboard.active:
            tell(KEYS)
        summary = supervise(robot, job, tell, keyboard)
        summary["score"] = None if kind is None else score(kind, job, tell)
        if output_dir:
            tell(f"written: {write_summary(output_dir, command, summary)}")
        for reason in summary["failures"]:
            tell(f"failed: {reason}")
        tell(last_line(summary))
    return summary


def write_summary(folder: str, command: str, summary: Mapping[str, Any]) -> Path:
    """Write a run's summary beside its log, and return the file."""
    import json
    from pathlib import Path

    from ...decoding.plumbing.files import write_text
    from ..measure.provenance import measurement_header

    path = Path(folder) / SUMMARY
    write_text(path, json.dumps({**measurement_header(command), **summary}, indent=1) + "\n")
    return path


def exit_code(summary: Mapping[str, Any]) -> ExitCode:
    """Success is a run that ended as it was meant to, every limit kept and all of it logged."""
    if summary["failures"]:
        return ExitCode.FAILED
    # What a policy says when it is done is its own business.
    interrupted = not summary["finished"] and str(summary["ended_by"]).startswith("SIG")
    return ExitCode.INTERRUPTED if interrupted else ExitCode.SUCCESS


def prepare(config: ControlConfig, dry_run: bool) -> tuple[PolicyKind, RobotConfig, RunConfig]:
    """Turn the configuration into the policy's kind and what the runtime takes.

    Raises:
        ValueError: If the policy is unknown or its settings do not fit it, if nothing would notice
            that the robot does not follow, or if the output folder holds an earlier run.
    """
    from ...real_robot.runtime.supervisor import RunConfig
    from .robot_policies import policy_kind

    kind, robot = policy_kind(config), config.robot
    if dry_run:
        robot = without_device(robot)
    check_robot(robot)
    if kind.prepare is not None:
        robot = kind.prepare(robot, config.seed)
    if dry_run and (num_tracked := config.robot.options.get("tracker_size", 0)):
        robot = replace(robot, options={"scene": [0.0] * num_tracked, **robot.options})
    job = RunConfig(
        policy=kind.path,
        options=config.policy_options,
        duration=config.duration,
        seed=config.seed,
        inject=str(config.inject),
        log=check_folder(config.output_dir),
    )
    return kind, robot, job


def check_robot(robot: RobotConfig) -> None:
    """Look at a robot before it is run, and make its rendered cameras possible.

    Raises:
        ValueError: If its file leaves out what nobody can guess.
    """
    from ...real_robot.readiness import check_stated

    if warning := check_stated(robot):
        print(f"note: {warning}", flush=True)
    if robot.cameras:
        from ...envs.rendering import choose_backend

        choose_backend()


def check_folder(output_dir: str) -> Path | None:
    """Where to log to, None for no log.

    Raises:
        ValueError: If the folder is none, or holds an earlier run.
    """
    import os
    from pathlib import Path

    folder = Path(output_dir)
    if os.path.lexists(folder) and not folder.is_dir():
        raise ValueError(
            f"output_dir={folder} is there and no folder; give a folder, which may be a new one"
        )
    if output_dir and os.path.lexists(folder / SUMMARY):
        raise ValueError(
            f"{folder} holds an earlier run, which is never overwritten; choose another output_dir"
        )
    return folder / "log.mcap" if output_dir else None


def without_device(robot: RobotConfig) -> RobotConfig:
    """The same robot for a dry run; what its servos could not do is refused all the same."""
    from ...real_robot.drivers.servo_options import FAMILIES, servo_options

    if robot.driver in FAMILIES:
        servo_options(replace(robot, options={"port": "none", **robot.options}))
    kept = {name: robot.options[name] for name in ("position", "scene") if name in robot.options}
    return replace(robot, driver="dry-run", options=kept, template=False)


def score(kind: PolicyKind, job: RunConfig, say: Callable[[str], None]) -> float | None:
    """How good the run was, None if nobody can tell."""
    from ...real_robot.logs.reader import read_log

    if kind.score is None or job.log is None:
        return None
    try:
        return kind.score(read_log(job.log))
    except (ValueError, OSError) as error:
        say(f"no score: {error}")
        return None


def last_line(summary: dict[str, Any]) -> str:
    """The run in one line."""
    score = "" if summary["score"] is None else f", score {summary['score']:.2f}"
    return (
        f"{summary['robot']}: {summary['cycles']} cycles, {summary['skipped_cycles']} skipped, "
        f"{summary['late_cycles']} late, chunks {summary['accepted_chunks']} accepted and "
        f"{summary['rejected_chunks']} rejected, limit violations {summary['limit_violations']}, "
        f"ended by {summary['ended_by']}{score}"
    )
