"""`hotloop calibrate`: from a box of servos to a robot file of one's own."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config.compose import compose, describe_choices
from . import ExitCode

if TYPE_CHECKING:
    from ...real_robot.calibration.session import Calibration, Wishes
    from ...real_robot.config import ControlConfig, RobotConfig

OUTPUT = "my_arm.yaml"
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
        "--output", metavar="PATH", help=f"default: the robot's own file, else {OUTPUT}"
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
    """Measure, ask, write."""
    import sys

    from ...real_robot.calibration.operator import TextOperator
    from ...real_robot.calibration.session import Wishes, calibrate
    from ...real_robot.config import ControlConfig

    config: ControlConfig = compose("control", args.overrides, ControlConfig)
    wishes = Wishes(args.ids, args.middle, args.margin)
    chosen = [one.partition("=")[2] for one in args.overrides if one.startswith("robot=")]
    path = output_path(args.output, chosen[-1] if chosen else "")
    refuse_unless_free(path, args.overwrite)
    operator = TextOperator(sys.stdin, sys.stdout)
    try:
        found = calibrate(config.robot, operator, wishes)
        text = robot_file(...)
        operator.say(text)
        answer = operator.ask(f"Write this to {path}? [y/n]")
    except EOFError:
        raise ValueError(
            "the answers ended before the calibration did; no file was written"
        ) from None
    if answer.lower() not in ("y", "yes"):
        operator.say("nothing was written")
        return ExitCode.FAILED
    return ExitCode.SUCCESS
