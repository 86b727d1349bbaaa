"""`hotloop calibrate`: from a box of servos to a robot file of one's own."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..config.compose import choices, compose, describe_choices
from . import ExitCode
from .own_robot import OwnRobot

if TYPE_CHECKING:
    from ...real_robot.calibration.session import Calibration, Wishes
    from ...real_robot.config import ControlConfig, RobotConfig

BY_ID = Path("/dev/serial/by-id")

EPILOG = """\
choices:
{choices}

examples:
  hotloop calibrate robot=feetech robot.options.port=/dev/ttyACM0 robot.name=my-arm
  hotloop calibrate robot=dynamixel robot.options.port=/dev/ttyUSB0 --output koch.yaml
  hotloop calibrate robot=my_arm.yaml --overwrite    measure again; the old file is kept

Then `hotloop doctor robot=my_arm.yaml`, and `hotloop control robot=my_arm.yaml`."""


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the `calibrate` command."""
    parser = subparsers.add_parser(
        "calibrate",
        help="measure an arm of servos by hand, and write its robot file",
        description=(
            "Give servos their IDs, one at a time, and measure zeros, directions and ranges of an "
            "arm that you move by hand; write a robot file with limits. The servos are limp: "
            "nothing moves by itself. Questions are lines, so that a script can answer them too."
        ),
        epilog=EPILOG.format(choices=describe_choices(["robot"])),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument(
        "--output", metavar="PATH", help="default: the robot's own file, else my_arm.yaml"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace the file; the old one is kept beside it"
    )
    parser.add_argument("--ids", action="store_true", help="give IDs even though all servos answer")
    parser.add_argument(
        "--middle",
        action="store_true",
        help="0 rad is the middle of each joint's range, as LeRobot has it",
    )
    parser.add_argument(
        "--margin", type=float, default=0.05, help="of the limits, inside of the range [rad]"
    )
    parser.set_defaults(run=run)
    return parser


def run(args: argparse.Namespace) -> int:
    """Measure, show, ask, write."""
    import sys

    from ...real_robot.calibration.operator import YES, TextOperator
    from ...real_robot.calibration.session import Wishes, calibrate
    from ...real_robot.config import ControlConfig
    from ...real_robot.drivers import make_driver

    config: ControlConfig = compose("control", args.overrides, ControlConfig)
    wishes = Wishes(args.ids, args.middle, args.margin)
    target = OwnRobot.at(args.output, args.overrides)
    target.refuse_unless_free(args.overwrite)
    operator = TextOperator(sys.stdin, sys.stdout)
    try:
        found = calibrate(config.robot, operator, wishes)
        mine = replace(config, robot=found.applied(named(config.robot, target.path)))
        make_driver(mine.robot)
        text = robot_file(mine, target, found, wishes)
        operator.say(f"\n{text}")
        answer = operator.ask(f"Write this to {target.path}? [y/n]")
    except EOFError:
        raise ValueError("the answers ended before the calibration; no file was written") from None
    if answer.lower() not in YES:
        operator.say("no file was written")
        return ExitCode.FAILED
    if kept := target.write(text, mine):
        operator.say(f"kept: {kept}")
    operator.say(f"written: {target.path}; next: hotloop doctor robot={target.path}")
    return ExitCode.SUCCESS


def named(robot: RobotConfig, path: Path) -> RobotConfig:
    """The robot as its own file is to have it: with its name, and a port that stays the same."""
    port = Path(str(robot.options["port"]))
    links = BY_ID.iterdir() if BY_ID.is_dir() else ()
    lasting = next((str(link) for link in links if link.resolve() == port.resolve()), str(port))
    is_template = robot.name in choices("robot")
    return replace(
        robot,
        name=path.stem if is_template else robot.name,
        options={**robot.options, "port": lasting},
    )


def robot_file(config: ControlConfig, target: OwnRobot, found: Calibration, wishes: Wishes) -> str:
    """The file's text: what differs from its base, and how it was measured."""
    from datetime import datetime

    from ...real_robot.calibration.robot_file import notes, render

    now = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    head = f"Measured with `hotloop calibrate`, {now}."
    if target.base:
        head += f" Velocity, acceleration and jerk are those of {target.base}."
    values = target.differing(config)
    return render(head, values, notes(found, wishes, config.robot.joint_names))
