"""The way through a calibration: what is asked, in which order, and what comes out."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ..config import RobotConfig
from ..core.limits import Vector
from ..drivers.servo_access import opened
from ..drivers.servo_options import COUNTS, FAMILIES, TICKS, ServoOptions, servo_options
from .arm import LimpArm
from .ids import assign
from .measure import Range, RangeRecorder, beside, direction_of, proposed_limits, recentring
from .operator import Operator, PatientOperator
from .recentre import recentre

LARGEST_MARGIN = 0.5  # [rad]


@dataclass(frozen=True, eq=False)
class Calibration:
    """What was measured.

    Attributes:
        zero: Encoder count of each joint at 0 rad, shape (D,).
        direction: 1 or -1 per joint, shape (D,).
        seen: Where each joint has been [encoder counts].
        low: Proposed smallest position per joint [rad], shape (D,).
        high: Proposed largest position per joint [rad], shape (D,).
    """

    zero: Vector
    direction: Vector
    seen: Range
    low: Vector
    high: Vector

    @property
    def reach(self) -> tuple[Vector, Vector]:
        """Smallest and largest position that was seen [rad], each of shape (D,)."""
        ends = self.direction * (np.stack(self.seen) - self.zero) / TICKS
        return ends.min(axis=0), ends.max(axis=0)

    def applied(self, config: RobotConfig) -> RobotConfig:
        """The robot with what was measured."""
        control = config.control
        limits = replace(
            control.limits, low=tuple(self.low.tolist()), high=tuple(self.high.tolist())
        )
        # A joint of a small range must not be allowed to be off by all of it.
        half: list[float] = np.round(0.5 * (self.high - self.low), 3).tolist()
        tracking = tuple(map(min, control.tracking_error, half))
        options = {
            **config.options,
            "zero": [int(one) for one in self.zero],
            "direction": [int(one) for one in self.direction],
        }
        control = replace(control, limits=limits, tracking_error=tracking)
        return replace(config, options=options, control=control)


@dataclass(frozen=True)
class Wishes:
    """How to calibrate.

    Attributes:
        ids: Whether to give IDs even where all servos answer already.
        middle: Whether 0 rad is the middle of a joint's range, as LeRobot has it, instead of a
            pose that the arm is put into.
        margin: How far the limits stay away from both ends of what was seen [rad].
    """

    ids: bool = False
    middle: bool = False
    margin: float = 0.05

    def __post_init__(self) -> None:
        """Reject a margin that is none."""
        if not 0 <= self.margin <= LARGEST_MARGIN:
            raise ValueError(f"margin must be from 0 to {LARGEST_MARGIN} rad, got {self.margin}")


def calibrate(
    config: RobotConfig,
    operator: Operator,
    wishes: Wishes,
    sleep: Callable[[float], None] = time.sleep,
) -> Calibration:
    """Measure an arm of servos that somebody moves by hand; its servos are limp afterwards.

    Args:
        config: The robot, with the IDs that its servos shall have; its zeros, directions and
            limits do not matter.
        operator: Moves it.
        wishes: How.
        sleep: Waits [s].

    Raises:
        ValueError: If the robot has no servos, or the operator gives up.
        ConnectionError: If the bus cannot be opened, or a servo does not do what it is told.
        EOFError: If nobody answers any more.
    """
    options, operator = _options(config), PatientOperator(operator)
    joints = config.joint_names
    with opened(config.driver, options) as bus:
        missing = LimpArm(bus, config.driver, joints).missing()
    if missing or wishes.ids:
        if missing:
            operator.say(f"{', '.join(missing)} cannot be found: the servos need their IDs.")
        assign(config.driver, options, joints, operator)
    with opened(config.driver, options) as bus:
        arm = LimpArm(bus, config.driver, joints, sleep)
        _connect_all(arm, operator)
        _release(arm, operator)
        zero = None if wishes.middle else _zero(arm, operator)
        direction = _directions(arm, operator)
        seen = _range(arm, operator, wishes.margin, zero)
        shift = recentre(arm, operator, recentring(seen))
    zero = np.rint((seen.low + seen.high) / 2) if zero is None else beside(zero, seen)
    zero, seen = zero - shift, Range(seen.low - shift, seen.high - shift)
    low, high = proposed_limits(seen, zero, direction, wishes.margin)
    return Calibration(zero, direction, seen, low, high)


def _options(config: RobotConfig) -> ServoOptions:
    """The robot's options, but for what is about to be measured."""
    if config.driver not in FAMILIES:
        raise ValueError(
            f"robot {config.name} has the driver {config.driver!r}; what is calibrated by hand are "
            f"servos of {' and '.join(FAMILIES)}, e.g. robot=feetech"
        )
    kept = {key: one for key, one in config.options.items() if key not in ("zero", "direction")}
    limits, size = config.control.limits, config.control.limits.num_joints
    # Any that the encoders can count to.
    near = replace(limits, low=(-1.0,) * size, high=(1.0,) * size)
    control = replace(config.control, limits=near, tracking_error=())
    return servo_options(replace(config, options=kept, control=control))


def _connect_all(arm: LimpArm, operator: PatientOperator) -> None:
    while missing := arm.missing():
        operator.mistake(f"{', '.join(missing)} cannot be found")
        operator.ask("Connect all servos, with power, and press Enter.")


def _release(arm: LimpArm, operator: PatientOperator) -> None:
    """Switch the torque off, after a warning."""
    if arm.stiff:
        operator.ask("The arm goes limp now and may fall: hold it, then press Enter.")
    arm.bus.torque(False)


def _zero(arm: LimpArm, operator: PatientOperator) -> Vector:
    operator.ask(
        "Put the arm into the pose in which all its joints are to be at 0 rad, hold it there and "
        "press Enter."
    )
    return _held(arm, operator)


def _held(arm: LimpArm, operator: PatientOperator) -> Vector:
    """Where the arm is held still, in encoder counts."""
    while (pose := arm.pose()) is None:
        operator.mistake("the arm is not still")
        operator.ask("Hold it and press Enter.")
    return pose


def _directions(arm: LimpArm, operator: PatientOperator) -> Vector:
    """Which way each servo counts when its joint turns the way that is called positive."""
    found: list[int] = []
    for joint, name in enumerate(arm.joints):
        while len(found) == joint:
            before = _held(arm, operator)
            operator.ask(
                f"{name}: turn this joint alone in its positive direction, by more than 5 degrees, "
                "hold it there and press Enter."
            )
            try:
                found.append(direction_of(joint, before, _held(arm, operator), arm.named))
            except ValueError as error:
                operator.mistake(str(error))
    return np.asarray(found, np.float64)


def _range(arm: LimpArm, operator: PatientOperator, margin: float, zero: Vector | None) -> Range:
    """How far each joint goes, followed as it is moved."""
    question = "Move every joint through its whole range, both ends, then press Enter."
    while True:
        recorder = RangeRecorder(arm.ticks())

        def look(recorder: RangeRecorder = recorder) -> str:
            recorder.add(arm.ticks())
            return _table(arm.joints, recorder.range)

        operator.ask_while(question, look)
        if not (complaint := recorder.complaint(arm.named, margin, zero)):
            return recorder.range
        operator.mistake(complaint)


def _table(joints: tuple[str, ...], seen: Range) -> str:
    degrees = 360 / COUNTS
    return "\n".join(
        f"  {name:16} {low:6.0f} to {high:6.0f} counts, {degrees * (high - low):5.1f} degrees"
        for name, low, high in zip(joints, seen.low, seen.high, strict=True)
    )
