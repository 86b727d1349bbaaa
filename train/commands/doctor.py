"""`hotloop doctor`: can this machine control a robot, and does the robot answer?"""

from __future__ import annotations

import argparse

from ..config.compose import compose, describe_choices
from . import ExitCode

EPILOG = """\
choices:
{choices}

examples:
  hotloop doctor
  hotloop doctor robot=my_arm.yaml
  hotloop doctor robot=dynamixel robot.options.port=/dev/ttyUSB0"""


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the `doctor` command."""
    parser = subparsers.add_parser(
        "doctor",
        help="check this machine's punctuality, and a robot without touching it",
        description=(
            "Check scheduling rights, packages and punctuality; with a robot, compare its file "
            "with its servos, read their health, time the bus, and compare the pose with the "
            "limits. Nothing is written to a servo, switched or moved."
        ),
        epilog=EPILOG.format(choices=describe_choices(["robot"])),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--rate", type=float, default=500.0, help="of the jitter test [Hz]")
    parser.add_argument("--seconds", type=float, default=2.0, help="of the jitter test")
    parser.set_defaults(run=run)
    return parser


def run(args: argparse.Namespace) -> int:
    """Print one line per check; fail if one of them did."""
    from ...real_robot.config import ControlConfig
    from ...real_robot.doctor import check_jitter, check_packages, check_robot

    findings = [*check_packages(), *check_jitter(args.rate, args.seconds)]
    if args.overrides:
        config: ControlConfig = compose("control", args.overrides, ControlConfig)
        findings += check_robot(config.robot)
    for finding in findings:
        print(f"{'ok  ' if finding.good else 'FAIL'} {finding.text}")
    return ExitCode.SUCCESS if all(one.good for one in findings) else ExitCode.FAILED
