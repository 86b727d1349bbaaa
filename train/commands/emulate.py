"""`hotloop emulate`: hardware in software, for any program that wants to talk to it."""

from __future__ import annotations

import argparse

from . import ExitCode

PRIORITY = 40  # below a control loop on the same machine

EPILOG = """\
examples:
  hotloop emulate servo-bus
  hotloop emulate servo-bus --protocol feetech --drop 0.01
  hotloop control robot=dynamixel robot.options.port=/dev/pts/N   in another terminal

The bus is a pseudo-terminal: LeRobot, the makers' SDKs and any other client can open it. Ctrl-C
ends it."""


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
    parser.add_argument("--protocol", choices=["dynamixel", "feetech"], default="dynamixel")
    parser.add_argument("--model", default="arm6", help="MuJoCo model: arm6, table or a file")
    parser.add_argument("--position", type=float, nargs="+", help="where the joints start [rad]")
    parser.add_argument("--seed", type=int, default=0, help="of the scene and of the faults")
    parser.add_argument("--baud", type=int, default=1_000_000)
    parser.add_argument("--latency", type=float, default=0.0, help="of the USB adapter [s]")
    parser.add_argument("--drop", type=float, default=0.0, help="share of answers that get lost")
    parser.add_argument("--corrupt", type=float, default=0.0, help="share with a flipped bit")
    parser.add_argument("--delay", type=float, default=0.0, help="before each answer [s]")
    parser.add_argument("--tracker", type=int, default=0, help="UDP port to send the scene to")
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
    from ...real_robot.emulator.plant import Plant
    from ...real_robot.emulator.scene import SceneSender
    from ...real_robot.runtime.realtime import request_realtime
    from ..table import random_scene

    ended: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *received: ended.append(received[0]))
    scene = np.asarray(random_scene(args.seed)) if args.model == "table" else None
    position = None if args.position is None else np.asarray(args.position)
    plant = Plant(args.model, position, scene)
    servos = PROTOCOLS[args.protocol](plant, range(1, plant.num_joints + 1))
    faults = Faults(args.drop, args.corrupt, args.delay)
    ends_at = time.monotonic() + args.duration
    with (
        ServoBus(servos, Wire(args.baud, args.latency), faults, args.seed) as bus,
        SceneSender(plant, args.tracker) as sender,
    ):
        if args.realtime:
            print(request_realtime(PRIORITY))
        print(f"port: {bus.port}", flush=True)
        while not ended and time.monotonic() < ends_at:
            bus.poll(0.005)
            sender.send(time.monotonic())
        print(f"{bus.num_packets} packets answered", flush=True)
    return ExitCode.SUCCESS
