"""`hotloop emulate`: hardware in software, for any program that wants to talk to it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from ..config.compose import compose
from . import ExitCode

if TYPE_CHECKING:
    from ...real_robot.emulator.outside import Arm

PRIORITY = 40  # below a control loop on the same machine
LONGEST_DELAY = 10.0  # [s]

EPILOG = """\
examples:
  hotloop emulate servo-bus
  hotloop emulate servo-bus --protocol feetech --drop 0.01
  hotloop control robot=emulated-arm robot.options.port=/dev/pts/N   in another terminal
  hotloop emulate servo-bus robot=my_arm.yaml       protocol, IDs, baud and tracker of that robot

The bus is a pseudo-terminal: LeRobot, the makers' SDKs and any other client can open it. Ctrl-C
ends it. Lines on the input let something happen to the arm: reboot 3 (a servo loses its power),
relax 3, fail 3, trip 3; block 0 -0.1 0.1 (a joint between two obstacles), clear; move 0 0.5 (by
hand, which then holds all limp joints), drop (it lets go); plug 0 2 (the servos of these joints
alone are connected)."""


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the `emulate` command."""
    parser = subparsers.add_parser(
        "emulate",
        help="emulate hardware: a servo bus with a simulated arm behind it",
        description=(
            "Emulate Dynamixel X or Feetech STS servos on a pseudo-terminal, with a MuJoCo arm "
            "behind them, realistic timing, and faults if wanted."
        ),
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("device", choices=["servo-bus"])
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="robot whose servos to emulate"
    )
    parser.add_argument("--protocol", choices=["dynamixel", "feetech"], help="default dynamixel")
    parser.add_argument("--model", default="arm6", help="MuJoCo model: arm6, table, pick or a file")
    parser.add_argument("--position", type=float, nargs="+", help="where the joints start [rad]")
    parser.add_argument("--scene", type=float, nargs="+", help="where the scene's joints start")
    parser.add_argument("--seed", type=int, default=0, help="of the scene and of the faults")
    parser.add_argument("--baud", type=int, help="default 1000000")
    parser.add_argument("--latency", type=float, default=0.0, help="of the USB adapter [s]")
    parser.add_argument("--drop", type=float, default=0.0, help="share of answers that get lost")
    parser.add_argument("--corrupt", type=float, default=0.0, help="share with a flipped bit")
    parser.add_argument("--delay", type=float, default=0.0, help="before each answer [s]")
    parser.add_argument("--tracker", type=int, help="UDP port to send the scene to")
    parser.add_argument(
        "--new", action="store_true", help="servos from the box: one ID for all, none plugged in"
    )
    parser.add_argument("--duration", type=float, default=float("inf"), help="[s]")
    parser.add_argument(
        "--realtime", action="store_true", help="ask for real-time scheduling: servos are punctual"
    )
    parser.set_defaults(run=run)
    return parser


def run(args: argparse.Namespace) -> int:
    """Serve the bus until it is interrupted."""
    import signal
    import time

    import numpy as np

    from ...real_robot.emulator.bus import PROTOCOLS, Faults, ServoBus, Wire
    from ...real_robot.emulator.outside import happen
    from ...real_robot.emulator.plant import Plant
    from ...real_robot.emulator.scene import SceneSender
    from ...real_robot.runtime.realtime import request_realtime
    from .table import random_scene

    ended: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *received: ended.append(received[0]))
    wanted = settings(args)
    scene = random_scene(args.seed) if args.model == "table" else None
    scene = args.scene or scene
    position = None if args.position is None else np.asarray(args.position)
    plant = Plant(args.model, position, None if scene is None else np.asarray(scene))
    family = PROTOCOLS[wanted.protocol]
    ids = wanted.ids or range(1, plant.num_joints + 1)
    servos = family.from_the_box(plant) if args.new else family(plant, ids)
    faults = Faults(args.drop, args.corrupt, args.delay)
    ends_at = time.monotonic() + args.duration
    with (
        ServoBus(servos, Wire(wanted.baud, args.latency), faults, args.seed) as bus,
        SceneSender(plant, wanted.tracker) as sender,
    ):
        if args.realtime:
            print(request_realtime(PRIORITY))
        print(f"port: {bus.port}", flush=True)
        lines = Lines()
        while not ended and time.monotonic() < ends_at:
            bus.poll(0.005)
            for line in lines.new():
                print(told(happen, servos, line), flush=True)
            sender.send(time.monotonic())
        print(f"{bus.num_packets} packets answered", flush=True)
    return ExitCode.SUCCESS


def told(happen: Callable[[Arm, str], str], servos: Arm, line: str) -> str:
    """Let happen what a line says, and what to answer."""
    try:
        return happen(servos, line)
    except ValueError as error:
        return str(error)


class Lines:
    """Lines of the input as they come, without waiting for them."""

    def __init__(self) -> None:
        self._open, self._rest = True, b""

    def new(self) -> list[str]:
        """Complete lines since the last call; none any more once the input has ended."""
        import os
        import select

        if not self._open or not select.select([0], [], [], 0)[0]:
            return []
        try:
            came = os.read(0, 4096)
        except OSError:  # in the background, or without an input
            came = b""
        self._open = bool(came)
        *lines, self._rest = (self._rest + came).split(b"\n")
        return [line.decode(errors="replace") for line in lines]


class Settings(NamedTuple):
    """What a robot's configuration and the flags say about the servos.

    Attributes:
        protocol: Name of the servo family.
        ids: ID of each joint's servo; empty for 1, 2, 3 and so on.
        baud: Bits per second.
        tracker: UDP port to send the scene to, 0 for none.
    """

    protocol: str
    ids: tuple[int, ...]
    baud: int
    tracker: int


def settings(args: argparse.Namespace) -> Settings:
    """Read them; a flag counts more than the robot.

    Raises:
        ValueError: If the robot is none of servos, or its options cannot be true of them.
    """
    found = Settings("dynamixel", (), 1_000_000, 0)
    if args.overrides:
        from dataclasses import replace

        from ...real_robot.config import ControlConfig
        from ...real_robot.drivers.servo_options import FAMILIES, servo_options

        robot = compose("control", args.overrides, ControlConfig).robot
        if robot.driver not in FAMILIES:
            raise ValueError(
                f"robot {robot.name} has the driver {robot.driver!r}; a servo bus is emulated for "
                f"{' and '.join(FAMILIES)}"
            )
        # The port is what this command is about to make.
        options = servo_options(replace(robot, options={**robot.options, "port": "emulated"}))
        found = Settings(robot.driver, options.ids, options.baud, options.tracker)
    given = {name: getattr(args, name) for name in ("protocol", "baud", "tracker")}
    found = found._replace(**{name: value for name, value in given.items() if value is not None})
    _check_flags(args, found)
    return found


def _check_flags(args: argparse.Namespace, found: Settings) -> None:
    """Raise ValueError for numbers that mean nothing."""
    shares, times = (args.drop, args.corrupt), (args.latency, args.delay)
    if found.baud <= 0 or not all(0 <= share <= 1 for share in shares):
        raise ValueError(
            f"baud must be positive, drop and corrupt shares from 0 to 1, got {found.baud} and "
            f"{shares}"
        )
    if not all(0 <= one <= LONGEST_DELAY for one in times):
        raise ValueError(f"latency and delay must be from 0 to {LONGEST_DELAY} s, got {times}")
    if not args.duration > 0:
        raise ValueError(f"duration must be a positive time in s, got {args.duration}")
    if not 0 <= found.tracker < 1 << 16 or args.seed < 0:
        raise ValueError(
            "tracker must be a UDP port from 1 to 65535, or 0 for none, and seed 0 or more, got "
            f"{found.tracker} and {args.seed}"
        )
