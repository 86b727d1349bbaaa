"""How servos are while they move a robot: asked in turn, a few registers at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from .driver import BusError
from .servo_registers import Register, ServoRegisters

LOST_TURNS = 5  # in a row that nobody answered, before the servos count as unwatched
VOLTAGE_TIME = 0.3  # for which the supply may sag under load [s]
TEMPERATURE_MARGIN = 2  # below which the servo would let go by itself [deg C]


class WatchedBus(Protocol):
    """What the watch needs of a bus."""

    def gather(self, registers: Sequence[Register]) -> list[tuple[int, ...]]:
        """Registers that lie close together, of all servos at once."""
        ...

    def get(self, number: int, address: int, size: int = 1) -> int:
        """One register of one servo."""
        ...

    def full_load(self, number: int) -> int:
        """What a servo's load register tells at its full torque."""
        ...

    def errors(self) -> dict[int, int]:
        """Error byte of each servo's last answer, of those that have one."""
        ...


@dataclass(frozen=True)
class WatchRules:
    """When a servo is not fit to move a joint.

    Attributes:
        load_limit: Share of the torque it is allowed above which it counts as blocked; 1 is never.
        load_time: For how long [s].
        torque_limit: Share of its full torque that it is allowed.
        watchdog: Whether its bus watchdog was set.
    """

    load_limit: tuple[float, ...]
    load_time: float
    torque_limit: tuple[float, ...]
    watchdog: bool


class _Ends(NamedTuple):
    """What a servo itself counts as too much."""

    hottest: int
    voltage: tuple[int, int]
    full_load: int


class ServoWatch:
    """Asks all servos for one group of registers in each turn, and remembers what is wrong.

    Args:
        bus: The open bus.
        registers: Those of its family.
        servos: ID of each joint's servo, and the joint's name.
        rules: When a servo is not fit to move a joint.
        monotonic: Clock [s].
    """

    def __init__(
        self,
        bus: WatchedBus,
        registers: ServoRegisters,
        servos: Sequence[tuple[int, str]],
        rules: WatchRules,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bus, self._registers, self._rules = bus, registers, rules
        self._servos, self._monotonic = list(servos), monotonic
        self._ends: list[_Ends] = []
        self._turn = self._lost = 0
        self._lost_why = ""
        self._complained = (-1, 0)  # servo and error that its status was asked for
        self._since: dict[tuple[str, int], float] = {}
        # What each register says is wrong, the causes before what follows from them: an overloaded
        # servo has switched its torque off as well.
        self._judges: dict[str, Callable[[float, int, int], str]] = {
            "status": self._status,
            "torque": self._torque,
            "watchdog": self._watchdog,
            "load": self._load,
            "temperature": self._temperature,
            "voltage": self._voltage,
        }
        # What is wrong with each servo, by what was asked; empty texts if nothing.
        self._wrong: dict[str, list[str]] = {}
        self._worst = ""

    def start(self) -> None:
        """Ask each servo for its own ends; the first turn comes next.

        Raises:
            BusError: If one does not answer.
        """
        table, get = self._registers, self._bus.get
        self._ends = [
            _Ends(
                get(number, *table.hottest),
                (get(number, *table.voltage_range[0]), get(number, *table.voltage_range[1])),
                self._bus.full_load(number),
            )
            for number, _ in self._servos
        ]
        self._turn = self._lost = 0
        self._since.clear()
        self._wrong.clear()
        self._worst = ""

    def turn(self) -> str:
        """Ask for the next group; why there was no answer, empty if there was one."""
        rounds = self._registers.rounds
        failure = self._ask(rounds[self._turn % len(rounds)])
        self._turn += 1
        return failure

    def fault(self) -> str:
        """What makes the robot unfit to move, empty if nothing; names the servo and its joint."""
        errors = self._bus.errors()
        if errors:
            return self._complaint(*next(iter(errors.items())))
        self._complained = (-1, 0)
        if self._lost >= LOST_TURNS:
            return f"the servos no longer say how they are: {self._lost_why}"
        return self._worst

    def _gravest(self) -> str:
        for name in self._judges:
            for (number, joint), text in zip(self._servos, self._wrong.get(name, ()), strict=False):
                if text:
                    return f"servo {number} {text}: joint {joint}"
        return ""

    def _complaint(self, number: int, error: int) -> str:
        """An error byte of an answer, with what is behind it if the servo tells."""
        if self._complained != (number, error):
            # Once, so that the robot brakes with the bus to itself.
            self._complained = (number, error)
            self._ask(next(names for names in self._registers.rounds if "status" in names))
        numbers = [servo for servo, _ in self._servos]
        index = numbers.index(number)
        told = self._wrong.get("status", [""] * len(numbers))[index].removeprefix("reports ")
        meaning = f" ({told})" if told else ""
        return (
            f"servo {number} reports error 0x{error:02x}{meaning}: joint {self._servos[index][1]}"
        )

    def _ask(self, names: Sequence[str]) -> str:
        try:
            answers = self._bus.gather([getattr(self._registers, name) for name in names])
        except BusError as error:
            self._lost += 1
            self._lost_why = str(error)
            return self._lost_why
        self._lost, now = 0, self._monotonic()
        for name, values in zip(names, zip(*answers, strict=True), strict=True):
            judge = self._judges[name]
            self._wrong[name] = [judge(now, k, value) for k, value in enumerate(values)]
        self._worst = self._gravest()
        return ""

    def _status(self, now: float, servo: int, value: int) -> str:
        known = self._registers.complaints
        bits = [known.get(bit, f"error bit {bit}") for bit in range(8) if value >> bit & 1]
        return f"reports {' and '.join(bits)}" if bits else ""

    def _torque(self, now: float, servo: int, value: int) -> str:
        return "" if value else "has its torque off, it lost power or was switched off"

    def _watchdog(self, now: float, servo: int, value: int) -> str:
        if not self._rules.watchdog or 0 < value < 128:
            return ""
        return "was stopped by its watchdog" if value else "lost its watchdog, it was restarted"

    def _load(self, now: float, servo: int, value: int) -> str:
        rules = self._rules
        full = self._ends[servo].full_load * rules.torque_limit[servo]
        load, limit = self._registers.magnitude(value) / full, rules.load_limit[servo]
        blocked = limit < 1 and load >= limit
        if not self._lasts("load", servo, blocked, now, rules.load_time):
            return ""
        return f"pushes with {load:.0%} of its torque for {rules.load_time:g} s, it is blocked"

    def _temperature(self, now: float, servo: int, value: int) -> str:
        hottest = self._ends[servo].hottest
        if not 0 < hottest - TEMPERATURE_MARGIN <= value:
            return ""
        return f"has {value} deg C and lets go at {hottest}"

    def _voltage(self, now: float, servo: int, value: int) -> str:
        low, high = self._ends[servo].voltage
        outside = high > 0 and not low <= value <= high
        if not self._lasts("voltage", servo, outside, now, VOLTAGE_TIME):
            return ""
        return f"has {value / 10} V, it needs {low / 10} to {high / 10}"

    def _lasts(self, what: str, servo: int, present: bool, now: float, time: float) -> bool:
        """Whether something has been so at every look for at least `time` [s]."""
        if not present:
            self._since.pop((what, servo), None)
            return False
        return now - self._since.setdefault((what, servo), now) >= time
