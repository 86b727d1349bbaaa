"""What the watch makes of what servos tell about themselves, in virtual time."""

from __future__ import annotations

from hotloop.real_robot.drivers import BusError
from hotloop.real_robot.drivers.servo_registers import REGISTERS, Register
from hotloop.real_robot.drivers.servo_watch import LOST_TURNS, ServoWatch, WatchRules


class Bus:
    """Servos whose registers are numbers that a test sets."""

    def __init__(self, protocol: str) -> None:
        table = REGISTERS[protocol]
        self.values = {table.torque: 1, table.hottest: 70, table.temperature: 30}
        self.values |= {table.voltage: 74, table.voltage_range[0]: 60, table.voltage_range[1]: 84}
        self.failures = 0

    def gather(self, registers) -> list[tuple[int, ...]]:
        if self.failures:
            self.failures -= 1
            raise BusError("no status packet")
        return [tuple(self.values.get(one, 0) for one in registers)] * 2

    def get(self, number: int, address: int, size: int = 1) -> int:
        return self.values[Register(address, size)]

    def full_load(self, number: int) -> int:
        return 1000

    def errors(self) -> dict[int, int]:
        return {}


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def watch(bus: Bus, clock: Clock, load_limit=(0.9, 1.0)) -> ServoWatch:
    rules = WatchRules(load_limit, 0.5, (1.0, 0.5), watchdog=False)
    made = ServoWatch(bus, REGISTERS["feetech"], [(4, "0"), (7, "1")], rules, clock)
    made.start()
    return made


def faults(made: ServoWatch, clock: Clock, seconds: float) -> str:
    """What the watch says after so long, with a turn every 20 ms."""
    for _ in range(round(seconds / 0.02)):
        clock.now += 0.02
        made.turn()
    return made.fault()


def test_a_push_counts_when_it_lasts_and_a_gripper_may_push_for_ever() -> None:
    bus, clock, table = Bus("feetech"), Clock(), REGISTERS["feetech"]
    made = watch(bus, clock)
    bus.values[table.load] = 950 | 1 << 10  # the other way
    assert faults(made, clock, 0.4) == ""
    bus.values[table.load] = 300
    assert faults(made, clock, 0.1) == ""
    bus.values[table.load] = 950
    assert faults(made, clock, 0.4) == ""
    assert faults(made, clock, 0.3).startswith("servo 4 pushes with 95% of its torque for 0.5 s")
    bus.values[table.load] = 0
    assert faults(made, clock, 0.1) == ""
    made = watch(bus, clock, load_limit=(1.0, 1.0))
    bus.values[table.load] = 1000
    assert faults(made, clock, 5) == ""


def test_a_supply_may_sag_for_a_moment() -> None:
    bus, clock, table = Bus("feetech"), Clock(), REGISTERS["feetech"]
    made = watch(bus, clock)
    bus.values[table.voltage] = 50
    assert faults(made, clock, 0.2) == ""
    assert faults(made, clock, 0.3) == "servo 4 has 5.0 V, it needs 6.0 to 8.4: joint 0"
    bus.values[table.voltage] = 70
    assert faults(made, clock, 0.1) == ""


def test_servos_that_no_longer_tell_how_they_are_do_not_move_a_robot() -> None:
    bus, clock = Bus("feetech"), Clock()
    made = watch(bus, clock)
    bus.failures = LOST_TURNS - 1
    assert faults(made, clock, 0.02 * (LOST_TURNS + 3)) == ""
    bus.failures = LOST_TURNS
    assert "no longer say how they are" in faults(made, clock, 0.02 * LOST_TURNS)
