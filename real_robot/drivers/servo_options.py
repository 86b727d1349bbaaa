"""What may be asked of a bus of servos: options that cannot be true of the hardware are refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..config import RobotConfig
from ..core.limits import Vector
from .driver import check_options, numbers

COUNTS = 4096  # per turn, of the encoders of both families
TICKS = COUNTS / (2 * np.pi)  # per radian
BITS_PER_BYTE = 10  # with start and stop bit
KNOWN: dict[str, type] = {
    "port": str, "ids": list, "baud": int, "zero": list, "direction": list,
    "reply_timeout": float, "watchdog": float, "tracker": int, "tracker_size": int,
    "tracker_timeout": float,
}  # fmt: skip


@dataclass(frozen=True)
class ServoFamily:
    """What is true of a family of servos, from its manual.

    Attributes:
        name: Who makes it.
        last_id: Largest ID that a servo can have; the smallest is 0.
        bauds: Rates that it can be set to [bit/s].
        longest_watchdog: Longest setting of its bus watchdog [s]; 0 if it has none.
        cycle_bytes: Bytes on the wire in each control cycle, for the bus and for each servo.
    """

    name: str
    last_id: int
    bauds: tuple[int, ...]
    longest_watchdog: float
    cycle_bytes: tuple[int, int]


FAMILIES = {
    # Sync read: 14 and 1 bytes are asked, 19 answered; sync write: 14, and 5 for each servo.
    "dynamixel": ServoFamily(
        "Dynamixel X",
        252,
        (9600, 57600, 115200, 1_000_000, 2_000_000, 3_000_000, 4_000_000, 4_500_000),
        127 * 0.02,
        (28, 25),
    ),
    # Sync read: 8 and 1 bytes are asked, 10 answered; sync write: 8, and 3 for each servo.
    "feetech": ServoFamily(
        "Feetech STS",
        253,
        (38400, 57600, 76800, 115200, 128_000, 250_000, 500_000, 1_000_000),
        0.0,
        (16, 14),
    ),
}


@dataclass(frozen=True, eq=False)
class ServoOptions:
    """Options of a bus of servos, checked.

    Attributes:
        port: Serial port.
        ids: Servo of each joint.
        zero: Encoder count of each joint at 0 rad, shape (D,).
        direction: 1 or -1 per joint, shape (D,).
        baud: Bits per second.
        reply_timeout: After which a missing answer fails the cycle [s].
        watchdog: After which the servos stop by themselves [s].
        tracker: UDP port on which a tracker sends what else is in the scene, 0 for none.
        tracker_size: How many numbers it sends.
        tracker_timeout: How old the newest of them may be before the robot stops [s].
    """

    port: str
    ids: tuple[int, ...]
    zero: Vector
    direction: Vector
    baud: int
    reply_timeout: float
    watchdog: float
    tracker: int
    tracker_size: int
    tracker_timeout: float


def servo_options(config: RobotConfig) -> ServoOptions:
    """Read a robot's options for the servo family that its driver is named after.

    Raises:
        ValueError: For an option that is unknown, of a wrong type, or cannot be true of the
            hardware together with the limits and the period of the control loop.
    """
    given, joints = config.options, config.control.limits.num_joints
    family = FAMILIES[config.driver]
    check_options(given, KNOWN)
    if not given.get("port"):
        raise ValueError(
            f"driver {config.driver} needs the option port, e.g. robot.options.port=/dev/ttyUSB0"
        )
    if "watchdog" in given and not family.longest_watchdog:
        raise ValueError(f"{family.name} servos have no watchdog; leave the option watchdog out")
    options: dict[str, Any] = {
        "ids": range(1, joints + 1),
        "zero": [COUNTS / 2] * joints,
        "direction": [1] * joints,
        "baud": 1_000_000,
        "reply_timeout": 0.01,
        "watchdog": 0.1 if family.longest_watchdog else 0.0,
        "tracker": 0,
        "tracker_size": 0,
        "tracker_timeout": 0.3,
        **given,
    }
    for name in ("ids", "zero", "direction"):
        options[name] = numbers({name: list(options[name])}, name, joints)
    options["ids"] = _checked_ids(options["ids"], family)
    made = ServoOptions(**options)
    _check_travel(made, config)
    _check_times(made, config, family)
    return made


def _checked_ids(ids: Vector, family: ServoFamily) -> tuple[int, ...]:
    whole = [int(number) for number in ids]
    for index, number in enumerate(whole):
        if number != ids[index] or not 0 <= number <= family.last_id:
            raise ValueError(
                f"driver option ids: a {family.name} servo has an ID from 0 to {family.last_id}, "
                f"got {ids[index]:g} for joint {index}"
            )
        if number in whole[:index]:
            raise ValueError(
                f"driver option ids: joints {whole.index(number)} and {index} cannot share servo "
                f"{number}; each joint needs a servo with an ID of its own, got {whole}"
            )
    return tuple(whole)


def _check_travel(options: ServoOptions, config: RobotConfig) -> None:
    """Reject a calibration by which a joint's limits lie outside of what its encoder counts."""
    for index, direction in enumerate(options.direction):
        if direction not in (-1, 1):
            raise ValueError(
                f"driver option direction must be 1 or -1 per joint, got {direction:g} for joint "
                f"{index}"
            )
    limits, last = config.control.limits.arrays, COUNTS - 1
    ends = np.stack([limits.low, limits.high]) * TICKS * options.direction + options.zero
    for index, zero in enumerate(options.zero):
        low, high = ends[:, index].min(), ends[:, index].max()
        if not 0 <= zero <= last:
            raise ValueError(
                f"driver option zero is an encoder count from 0 to {last} per joint, got {zero:g} "
                f"for joint {index}"
            )
        if low < 0 or high > last:
            reach = np.sort(options.direction[index] * (np.array([0, last]) - zero) / TICKS)
            raise ValueError(
                f"control.limits of joint {index} go from {limits.low[index]:g} to "
                f"{limits.high[index]:g} rad, its servo counts only from {reach[0]:.3f} to "
                f"{reach[1]:.3f} rad with zero={zero:g}; correct the limits or the calibration"
            )


def _check_times(options: ServoOptions, config: RobotConfig, family: ServoFamily) -> None:
    """Reject rates that the wire cannot carry, and timeouts without meaning."""
    dt = config.control.dt
    if options.baud not in family.bauds:
        raise ValueError(
            f"driver option baud: {family.name} servos have {', '.join(map(str, family.bauds))}, "
            f"got {options.baud}"
        )
    num_bytes = family.cycle_bytes[0] + family.cycle_bytes[1] * len(options.ids)
    duration = num_bytes * BITS_PER_BYTE / options.baud
    if duration > dt:
        raise ValueError(
            f"{len(options.ids)} servos need {num_bytes} bytes per cycle, {1e3 * duration:.2f} ms "
            f"at {options.baud} baud, longer than control.dt of {1e3 * dt:g} ms; raise baud or "
            f"control.dt"
        )
    if not 0 < options.reply_timeout <= 10:
        raise ValueError(
            f"driver option reply_timeout must be above 0 and at most 10 s, got "
            f"{options.reply_timeout}"
        )
    if family.longest_watchdog and not dt < options.watchdog <= family.longest_watchdog:
        raise ValueError(
            f"driver option watchdog must be longer than control.dt of {dt:g} s, or it would stop "
            f"the servos between two cycles, and at most {family.longest_watchdog:g} s; got "
            f"{options.watchdog:g}"
        )
