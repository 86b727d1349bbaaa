"""What the servos of both protocols have in common: registers in front of a simulated joint."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, TypeVar

import numpy as np

from ..core.limits import Vector
from .plant import Plant

TICKS_PER_TURN = 4096
CENTRE = 2048
# What the encoder counts per radian.
TICKS = TICKS_PER_TURN / (2 * np.pi)
FACTORY_ID = 1

Family = TypeVar("Family", bound="Servos")


class Servos(ABC):
    """Joints of a plant as servos with IDs.

    A client changes them by packets; a test changes them by the methods here, or writes into their
    tables, e.g. ``servos.tables[3][TEMPERATURE] = 90``.

    Args:
        plant: The simulated joints, at zero where a servo reads 2048.
        ids: ID of each joint's servo.

    Attributes:
        tables: Registers of each servo that is plugged in and has its ID for itself, by ID.
        joints: Its joint.
        eeprom_writes: How often each joint's servo has written into its permanent memory.
        rate: At which the client talks [bit/s]; servos set to another rate are deaf. None if all
            hear everything.
    """

    eeprom: ClassVar[range]
    id_register: ClassVar[int]
    baud_register: ClassVar[int]
    new_baud: ClassVar[int]  # code that a servo comes with
    bauds: ClassVar[tuple[int, ...]]

    def __init__(self, plant: Plant, ids: Sequence[int]) -> None:
        if len(ids) != plant.num_joints or len(set(ids)) != len(ids):
            raise ValueError(
                f"the model has {plant.num_joints} joints and needs as many different IDs, "
                f"got {list(ids)}"
            )
        self.plant = plant
        self.lock = threading.RLock()  # a test changes servos while another thread serves them
        self.rate: int | None = None
        self.is_new = False
        self.eeprom_writes = [0] * len(ids)
        self._all = [self.factory_settings(number) for number in ids]
        self._saved = [bytes(table[: self.eeprom.stop]) for table in self._all]
        self._plugged = list(range(len(ids)))
        self.tables: dict[int, bytearray] = {}
        self.joints: dict[int, int] = {}
        self._wire()
        self.plant.torque[:] = False

    @classmethod
    def from_the_box(cls: type[Family], plant: Plant) -> Family:
        """Servos as they are sold, none plugged in: all with the same ID and baud rate."""
        servos = cls(plant, range(1, plant.num_joints + 1))
        for table in servos._all:
            table[cls.id_register], table[cls.baud_register] = FACTORY_ID, cls.new_baud
        servos._saved = [bytes(table[: cls.eeprom.stop]) for table in servos._all]
        servos.is_new = True
        servos.plug_in([])
        return servos

    @staticmethod
    @abstractmethod
    def factory_settings(number: int) -> bytearray:
        """Registers of a servo that was given an ID and has just got power."""

    def plug_in(self, joints: Sequence[int]) -> None:
        """Let the servos of these joints alone be on the bus; each starts anew with its power."""
        with self.lock:
            self._plugged = list(joints)
            for joint, saved in enumerate(self._saved):
                self._start(joint, self._all[joint], saved)
            self._wire()

    def reboot(self, number: int) -> None:
        """Let a servo lose its power for a moment: limp, and back to what its EEPROM holds."""
        with self.lock:
            joint = self.joints[number]
            self._start(joint, self._all[joint], self._saved[joint])
            self._wire()

    def _start(self, joint: int, table: bytearray, saved: bytes) -> None:
        table[:] = self.factory_settings(saved[self.id_register])
        table[: len(saved)] = saved
        self.plant.torque[joint] = False
        self.plant.strength[joint] = 1.0
        self.plant.target[joint] = self.plant.position[joint]

    def _wire(self) -> None:
        """Who answers to which ID; two with the same one spoil each other's answers."""
        numbers = {joint: self._all[joint][self.id_register] for joint in self._plugged}
        taken = list(numbers.values())
        alone = {number: joint for joint, number in numbers.items() if taken.count(number) == 1}
        self.joints = alone
        self.tables = {number: self._all[joint] for number, joint in alone.items()}

    def hears(self, number: int) -> bool:
        """Whether a servo is there and understands the client."""
        table = self.tables.get(number)
        return table is not None and self.rate in (None, self._baud(table))

    def _baud(self, table: bytearray) -> int | None:
        code = table[self.baud_register]
        return self.bauds[code] if code < len(self.bauds) else None

    def keep(self, number: int, address: int, data: bytes, permanent: bool = True) -> int:
        """Put bytes into a servo's registers and return the ID that it has from then on."""
        table, joint = self.tables[number], self.joints[number]
        table[address : address + len(data)] = data
        if address not in self.eeprom:
            return number
        if permanent:
            self.eeprom_writes[joint] += 1
            self._saved[joint] = bytes(table[: self.eeprom.stop])
        if (renamed := table[self.id_register]) != number:
            self._wire()
        return renamed

    def ticks(self, number: int) -> int:
        """Position of a servo in encoder counts."""
        return round(self.plant.position[self.joints[number]] * TICKS) + CENTRE

    def speed(self, number: int) -> float:
        """Velocity of a servo [rad/s]."""
        return float(self.plant.velocity[self.joints[number]])

    def load(self, number: int) -> float:
        """How hard a servo pushes, as a share of its full torque, in [-1, 1]."""
        return self.plant.load(self.joints[number])

    def limit(self, number: int, share: float) -> None:
        """Let a servo push with a share of its full torque at most."""
        self.plant.strength[self.joints[number]] = share

    def aim(self, number: int, ticks: int) -> None:
        """Give a servo a new goal in encoder counts."""
        target: Vector = np.array(self.plant.target)
        target[self.joints[number]] = (ticks - CENTRE) / TICKS
        self.plant.target = target

    def hold(self, number: int) -> None:
        """Let a servo stay where it is."""
        self.aim(number, self.ticks(number))

    def power(self, number: int, on: bool) -> None:
        """Switch a servo's torque; it holds its place when it is switched on."""
        if on and not self.plant.torque[self.joints[number]]:
            self.hold(number)
        self.plant.torque[self.joints[number]] = on
