"""What servos say about themselves, beside what the robot file says; registers are only read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..config import RobotConfig
from ..drivers.sdk_bus import SdkBus
from ..drivers.servo_access import LAST_SCANNED
from ..drivers.servo_options import TICKS, ServoOptions
from ..drivers.servo_registers import TRIPPED, Register, ServoRegisters
from .findings import Finding


@dataclass(frozen=True)
class Survey:
    """One look at all servos of a robot.

    Args:
        bus: An open bus.
        registers: Those of its servos.
        config: The robot.
        options: Its options, checked.
    """

    bus: SdkBus
    registers: ServoRegisters
    config: RobotConfig
    options: ServoOptions

    def findings(self) -> list[Finding]:
        """Each servo's state, what is wrong with it, and what a run would change about it.

        Raises:
            BusError: If a servo stops answering meanwhile.
        """
        found: list[Finding] = []
        for joint, number in enumerate(self.options.ids):
            wrong = list(self._wrong(joint, number))
            found.append(Finding(not wrong, self._state(joint, number)))
            found += [Finding(False, f"{self._name(joint)} {text}") for text in wrong]
        return [*found, *self._changes()]

    def _name(self, joint: int) -> str:
        return f"servo {self.options.ids[joint]} ({self.config.joint_names[joint]})"

    def _get(self, number: int, register: Register) -> int:
        return self.bus.get(number, register.address, register.size)

    def absent(self) -> str:
        """Servos that do not answer, and those that the file does not name; empty if none."""
        missing = [number for number in self.options.ids if not self.bus.answers(number)]
        if not missing:
            return ""
        named = ", ".join(self._name(self.options.ids.index(number)) for number in missing)
        others = [
            number
            for number in range(LAST_SCANNED + 1)
            if number not in self.options.ids and self.bus.answers(number, attempts=1)
        ]
        strangers = f"; servos {others} answer, which the file does not name" if others else ""
        verb = "does" if len(missing) == 1 else "do"
        return (
            f"{named} {verb} not answer at {self.options.baud} baud{strangers}; check power, cable "
            "and IDs, or give IDs with `hotloop calibrate`"
        )

    def _state(self, joint: int, number: int) -> str:
        table = self.registers
        torque = "on" if self._get(number, table.torque) else "off"
        return (
            f"{self._name(joint)}: model {self._get(number, table.model)}, "
            f"{self._get(number, table.temperature)} deg C, "
            f"{self._get(number, table.voltage) / 10:.1f} V, torque {torque}"
        )

    def _wrong(self, joint: int, number: int) -> Iterator[str]:
        table = self.registers
        status = self._get(number, table.status)
        if status:
            bits = [text for bit, text in table.complaints.items() if status >> bit & 1]
            yield (
                f"reports {' and '.join(bits) or f'error 0x{status:02x}'}; remove the cause and "
                "switch its power off and on"
            )
        if (mode := self._get(number, table.mode)) != table.position_mode:
            yield (
                f"is in operating mode {mode}, expected {table.position_mode} (position); `hotloop "
                "calibrate --ids` sets it"
            )
        heat, hottest = self._get(number, table.temperature), self._get(number, table.hottest)
        if 0 < hottest <= heat:
            yield f"has {heat} deg C, it switches off at {hottest}; let it cool down"
        lowest, highest = (self._get(number, one) for one in table.voltage_range)
        volts = self._get(number, table.voltage)
        if highest and not lowest <= volts <= highest:
            yield f"has {volts / 10} V, expected {lowest / 10} to {highest / 10}; check the supply"
        yield from self._narrower(joint, number)

    def _narrower(self, joint: int, number: int) -> Iterator[str]:
        """A servo's own range that would refuse or cut off goals within the limits."""
        low, high = (self._get(number, one) for one in (self.registers.low, self.registers.high))
        zero, direction = self.options.zero[joint], self.options.direction[joint]
        limits = self.config.control.limits.arrays
        ends = direction * np.array([limits.low[joint], limits.high[joint]]) * TICKS + zero
        first, last = np.rint(np.sort(ends))
        if low < high and not low <= first <= last <= high:
            own = np.sort(direction * (np.array([low, high]) - zero) / TICKS)
            yield (
                f"accepts only {own[0]:.3f} to {own[1]:.3f} rad (its own limits, {low} to {high} "
                f"counts), control.limits go from {limits.low[joint]:g} to {limits.high[joint]:g}; "
                "make the limits narrower, or widen the servo's with its maker's tool"
            )

    def _changes(self) -> Iterator[Finding]:
        """What a run will write that outlasts it, and what it will clear."""
        ids, table = self.options.ids, self.registers
        slow = [number for number in ids if self._get(number, table.return_delay)]
        if slow:
            text = (
                f"a run will set the return delay of servos {slow} to 0, in their permanent memory"
            )
            yield Finding(True, text)
        watchdog = table.watchdog
        tripped = [one for one in ids if watchdog and self._get(one, watchdog) == TRIPPED]
        if tripped:
            text = f"the bus watchdog of servos {tripped} has stopped them; a run will clear it"
            yield Finding(True, text)
