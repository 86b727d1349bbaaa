"""What may be asked of a bus of servos: options that cannot be true of the hardware are refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..config import RobotConfig
from ..core.limits import Vector
from .driver import check_options, numbers

COUNTS = 4096  # per turn, of the encoders of both families
TICKS = COUNTS / (2 * np.pi)  # per radian
BITS_PER_BYTE = 10  # with start and stop bit
WATCH_PERIOD = 0.02  # of the turns in which servos are asked how they are [s]
USB_LATENCY = 1e-3  # for which an adapter holds back each answer, at its best setting [s]
SHORTEST_REPLY, LONGEST_REPLY = 1e-4, 1.0  # [s]
SMALLEST_SHARE = 0.01  # of a torque that servos can be set to
LONGEST_LOAD = 2.0  # for which a joint may push at its limit; Feetech servos then give in [s]
KNOWN: dict[str, type] = {
    "port": str, "ids": list, "baud": int, "zero": list, "direction": list,
    "reply_timeout": float, "watchdog": float, "tracker": int, "tracker_size": int,
    "tracker_timeout": float, "torque_limit": list, "load_limit": list, "load_time": float,
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
        watch_bytes: The same of the longest turn in which the servos are asked how they are.
    """

    name: str
    last_id: int
    bauds: tuple[int, ...]
    longest_watchdog: float
    cycle_bytes: tuple[int, int]
    watch_bytes: tuple[int, int]


FAMILIES = {
    # Sync read: 14 and 1 bytes are asked, 19 answered; sync write: 14, and 5 for each servo.
    "dynamixel": ServoFamily(
        "Dynamixel X",
        252,
        (9600, 57600, 115200, 1_000_000, 2_000_000, 3_000_000, 4_000_000, 4_500_000),
        127 * 0.02,
        (28, 25),
        (14, 19),
    ),
    # Sync read: 8 and 1 bytes are asked, 10 answered; sync write: 8, and 3 for each servo.
    "feetech": ServoFamily(
        "Feetech STS",
        253,
        (38400, 57600, 76800, 115200, 128_000, 250_000, 500_000, 1_000_000),
        0.0,
        (16, 14),
        (8, 13),
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
        torque_limit: Share of its full torque with which each joint may push, e.g. a gripper.
        load_limit: Share of that at which a joint counts as blocked and the robot stops, 1 for a
            joint that may push as long as it likes.
        load_time: For how long it has to [s].
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
    torque_limit: tuple[float, ...]
    load_limit: tuple[float, ...]
    load_time: float


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
        "torque_limit": [1.0] * joints,
        "load_limit": [0.95] * joints,
        "load_time": 0.5,
        **given,
    }
    for name in ("ids", "zero", "direction"):
        options[name] = numbers({name: list(options[name])}, name, joints)
    options["ids"] = _checked_ids(options["ids"], family)
    for name in ("torque_limit", "load_limit"):
        options[name] = _shares(options, name, joints)
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


def _shares(options: dict[str, Any], name: str, joints: int) -> tuple[float, ...]:
    shares = numbers({name: list(options[name])}, name, joints)
    for joint, share in enumerate(shares):
        if not SMALLEST_SHARE <= share <= 1:
            raise ValueError(
                f"driver option {name} is a share of a joint's torque, from {SMALLEST_SHARE} to 1, "
                f"got {share:g} for joint {joint}"
            )
    return tuple(shares.tolist())


class WatchTurns(NamedTuple):
    """In which cycles servos are asked how they are.

    Attributes:
        every: Cycles from one turn to the next.
        beside: Whether the cycle measures the joints as well. Otherwise the turn takes the
            measurement's place on the wire, and the cycle goes on with the one before.
    """

    every: int
    beside: bool


def watch_turns(config: RobotConfig, options: ServoOptions) -> WatchTurns:
    """The turns that the wire has room for: 50 in a second, or one in each cycle if it is slower.

    Raises:
        ValueError: If a measurement would be too old by the time that it is used a second time.
    """
    family, control = FAMILIES[config.driver], config.control
    every = max(int(WATCH_PERIOD / control.dt), 1)
    duration = _duration(family.cycle_bytes, options) + _duration(family.watch_bytes, options)
    if duration + 2 * USB_LATENCY <= control.dt:
        return WatchTurns(every, True)
    if control.state_timeout < 3 * control.dt:
        raise ValueError(
            f"at {options.baud} baud, servos are asked how they are instead of where, in some "
            f"cycles, and control.state_timeout of {control.state_timeout:g} s is too short for "
            f"that; give it {3 * control.dt:g} s or raise baud or control.dt"
        )
    return WatchTurns(max(every, 2), False)


def _duration(num_bytes: tuple[int, int], options: ServoOptions) -> float:
    """Time on the wire [s]."""
    return (num_bytes[0] + num_bytes[1] * len(options.ids)) * BITS_PER_BYTE / options.baud


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
    duration = _duration(family.cycle_bytes, options)
    if duration > dt:
        raise ValueError(
            f"{len(options.ids)} servos need {num_bytes} bytes per cycle, {1e3 * duration:.2f} ms "
            f"at {options.baud} baud, longer than control.dt of {1e3 * dt:g} ms; raise baud or "
            f"control.dt"
        )
    if not SHORTEST_REPLY <= options.reply_timeout <= LONGEST_REPLY:
        raise ValueError(
            f"driver option reply_timeout must be from {SHORTEST_REPLY} to {LONGEST_REPLY} s, for "
            f"which the loop hears nobody if a servo is silent, got {options.reply_timeout}"
        )
    if not 0 < options.load_time <= LONGEST_LOAD:
        raise ValueError(
            f"driver option load_time must be above 0 and at most {LONGEST_LOAD} s, or a blocked "
            f"joint would be pushed for that long, got {options.load_time}"
        )
    if family.longest_watchdog and not dt < options.watchdog <= family.longest_watchdog:
        raise ValueError(
            f"driver option watchdog must be longer than control.dt of {dt:g} s, or it would stop "
            f"the servos between two cycles, and at most {family.longest_watchdog:g} s; got "
            f"{options.watchdog:g}"
        )
