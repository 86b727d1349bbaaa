"""Checks of a robot: its file against its servos, its health, its pose; nothing is changed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np

from ..config import RobotConfig
from ..core.limits import Vector
from ..drivers import BusError, Driver, make_driver
from ..drivers.driver import Inspectable
from ..drivers.servo_access import opened
from ..drivers.servo_options import FAMILIES, servo_options
from ..drivers.servo_registers import REGISTERS
from ..inputs import StopInputs
from ..readiness import check_effect, check_stated, check_units
from .findings import Finding
from .servos import Survey

NUM_READS = 200
LISTENING = 0.3  # to a stop input [s]
LATENCY_TIMERS = Path("/sys/bus/usb-serial/devices")


def check_robot(config: RobotConfig) -> list[Finding]:
    """Look at a robot without taking hold of it: nothing is written, switched or moved.

    Args:
        config: The robot; it may be a template.

    Returns:
        What was found, good or not; an arm that does not answer is a finding too.

    Raises:
        ValueError: If its options cannot be true of the hardware.
        ImportError: If a package is not installed.
    """
    check_units(config)
    check_effect(config)
    driver = make_driver(config)
    findings = [*_latency_timer(config), *_stated(config), *_stop_inputs(config)]
    if not isinstance(driver, Inspectable):
        text = f"driver {config.driver} cannot look without taking hold of the robot: not asked"
        return [*findings, Finding(True, text)]
    try:
        if config.driver in FAMILIES:
            with opened(config.driver, servo_options(config)) as bus:
                survey = Survey(bus, REGISTERS[config.driver], config, servo_options(config))
                if absent := survey.absent():
                    return [*findings, Finding(False, absent)]
                found = survey.findings()
            findings += found
            if not all(one.good for one in found):
                # With these servos a run would not begin either; the rest can wait.
                return findings
        findings += _bus(config, driver)
    except OSError as error:
        findings.append(Finding(False, f"{config.name}: {error}"))
    return findings


def _stated(config: RobotConfig) -> Iterator[Finding]:
    """What a run would refuse about the file, or warn of."""
    if not config.calibrated:
        yield Finding(
            False,
            f"{config.name} is a template: zeros, directions and limits of this arm are not known; "
            "measure them with `hotloop calibrate`",
        )
    try:
        if warning := check_stated(config):
            yield Finding(True, warning)
    except ValueError as error:
        yield Finding(False, str(error))


def _stop_inputs(config: RobotConfig) -> Iterator[Finding]:
    """Each can be read, and what it says now: whoever holds a button sees that it arrives."""
    for name, one in config.stop_inputs.items():
        inputs = StopInputs(replace(config, stop_inputs={name: one}))
        try:
            inputs.open()
            # A heartbeat takes a moment to be heard.
            ends, problem = time.monotonic() + LISTENING, ""
            while time.monotonic() < ends:
                problem = inputs.read(time.monotonic()).problem
                time.sleep(0.01)
        except OSError as error:
            yield Finding(False, str(error))
        else:
            says = problem or f"stop input {name!r}: the robot may move"
            yield Finding(True, f"{says} (it can be read)")
        finally:
            inputs.close()


def _bus(config: RobotConfig, driver: Driver) -> list[Finding]:
    """Time the bus and compare the pose with the limits."""
    durations: list[float] = []
    failures, position = 0, None
    try:
        cast("Inspectable", driver).inspect()
        for _ in range(NUM_READS):
            began = time.perf_counter()
            try:
                position = driver.read().position
            except BusError:
                failures += 1
            durations.append(1e3 * (time.perf_counter() - began))
    finally:
        driver.disconnect(torque_off=False)
    p50, p99 = np.quantile(durations, (0.5, 0.99))
    period = 1e3 * config.control.dt
    findings = [
        Finding(failures == 0, f"{failures} of {NUM_READS} reads failed"),
        Finding(
            bool(p99 < period),
            f"one read: p50 {p50:.2f} ms, p99 {p99:.2f} ms, of a period of {period:g} ms",
        ),
    ]
    return findings if position is None else [*findings, _pose(config, position)]


def _pose(config: RobotConfig, position: Vector) -> Finding:
    bounds = config.control.limits.arrays
    outside = np.flatnonzero(~((bounds.low <= position) & (position <= bounds.high)))
    pose = ", ".join(f"{value:.3f}" for value in position)
    if not len(outside):
        return Finding(True, f"joints at [{pose}], within the limits")
    told = ", ".join(
        f"{config.joint_names[k]} is at {position[k]:.3f}, limits {bounds.low[k]:g} to "
        f"{bounds.high[k]:g}"
        for k in outside
    )
    return Finding(
        False, f"joints at [{pose}]: {told}; move them there by hand, or measure the limits again"
    )


def _latency_timer(config: RobotConfig) -> list[Finding]:
    """An FTDI adapter holds back bytes for 16 ms unless its latency timer is set to 1 ms."""
    # A name like /dev/serial/by-id/... is a link to the device.
    device = Path(str(config.options.get("port", ""))).resolve().name
    timer = LATENCY_TIMERS / device / "latency_timer"
    if not device or not timer.is_file():
        return []
    value = int(timer.read_text())
    advice = "" if value <= 1 else f"; as root: echo 1 > {timer}"
    return [Finding(value <= 1, f"latency timer of {device}: {value} ms{advice}")]
