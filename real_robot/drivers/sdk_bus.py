"""What a servo bus has to offer, and what the makers' SDKs have in common."""

from __future__ import annotations

import fcntl
import select
import termios
import time
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Protocol

from ...decoding.plumbing.extras import require
from .driver import BusError, PortError
from .servo_registers import REGISTERS, Register

ATTEMPTS = 3
SETTLING = 0.02  # [s]


class ServoProtocol(Protocol):
    """What a servo bus can do; every method but `close` raises BusError if it fails."""

    is_open: bool

    def open(self) -> None:
        """Open the port for this program alone."""
        ...

    def look(self) -> None:
        """Check that all servos are there and healthy, in the right mode; write nothing.

        Raises:
            ConnectionError: If one is not.
        """
        ...

    def prepare(self) -> None:
        """Set the servos up for streaming."""
        ...

    def torque(self, on: bool) -> None:
        """Switch all servos on or off."""
        ...

    def watchdog(self, seconds: float) -> None:
        """Let the servos stop when nobody talks to them for so long; 0 switches it off."""
        ...

    def read(self) -> tuple[list[int], list[float]]:
        """Positions in encoder counts and velocities [rad/s] of all servos."""
        ...

    def write(self, ticks: Sequence[int]) -> None:
        """Send a goal to each servo."""
        ...

    def errors(self) -> dict[int, int]:
        """Error byte of each servo's last answer, of those that have one."""
        ...

    def gather(self, registers: Sequence[Register]) -> list[tuple[int, ...]]:
        """Registers that lie close together, of all servos at once, as unsigned numbers."""
        ...

    def get(self, number: int, address: int, size: int = 1) -> int:
        """Read a register of one servo, as an unsigned number."""
        ...

    def full_load(self, number: int) -> int:
        """What a servo's load register tells at its full torque."""
        ...

    def limit_torque(self, shares: Sequence[float]) -> None:
        """Let each servo push with a share of its full torque, or less if it is set to less."""
        ...

    def close(self) -> None:
        """Close the port."""
        ...


class SdkBus:
    """What both SDKs share: they have the same structure.

    Their ports poll without sleeping, which starves the very driver they wait for when the
    process has a real-time priority, they wait tens of milliseconds for an answer, they measure
    time with the wall clock, and their group reads drop the servos' error bytes. The port and the
    packet handler are corrected here for this instance, without touching the SDK.

    Args:
        sdk: The imported SDK.
        port: Serial port.
        ids: Servos.
        baud: Bits per second.
        reply_timeout: How long to wait for an answer [s].
    """

    family: ClassVar[str]
    # Bits of an answer's error byte that say that the instruction was not carried out; the others
    # tell of the servo's health.
    refusal = 0

    def __init__(
        self, sdk: Any, port: str, ids: Sequence[int], baud: int, reply_timeout: float
    ) -> None:
        self.sdk, self.ids, self.is_open = sdk, list(ids), False
        self._name, self._baud, self._timeout = port, baud, reply_timeout
        self.port: Any = sdk.PortHandler(port)
        if self.port.getCFlagBaud(baud) <= 0:
            raise ValueError(f"{sdk.__name__} cannot set {baud} baud; 1000000 is usual")
        self.packets: Any = None
        self._errors: dict[int, int] = {}
        self._length = 0  # of what the newest answer brought [bytes]
        self._groups: dict[tuple[int, int], Any] = {}

    def adopt(self, packets: Any) -> None:
        """Use a packet handler, keeping length and error byte of every answer.

        The SDKs take any answer of a servo for the one to their question, and cut off what is too
        long: a late answer to an earlier question would be taken for torque or temperature.
        """
        self.packets, read, receive = packets, packets.readRx, packets.rxPacket

        def measuring(port: Any, *options: bool) -> Any:
            packet, result = receive(port, *options)
            if result == self.sdk.COMM_SUCCESS:
                self._length = self.num_values(packet)
            return packet, result

        def remembering(port: Any, number: int, length: int) -> Any:
            data, result, error = read(port, number, length)
            while result == self.sdk.COMM_SUCCESS and self._length != length:
                data, result, error = read(port, number, length)
            if result == self.sdk.COMM_SUCCESS:
                self._errors[number] = error
            return data, result, error

        packets.rxPacket, packets.readRx = measuring, remembering

    @staticmethod
    def num_values(packet: Sequence[int]) -> int:
        """Bytes that an answer brings besides its frame."""
        raise NotImplementedError

    def open(self) -> None:
        """Open the port for this program alone."""
        port, serial = self.port, require("serial", "servo")
        port.baudrate = self._baud
        try:
            port.setupPort(self._baud)
        except serial.SerialException as error:
            raise PortError(f"{self._name} cannot be opened: {error}") from error
        try:
            fcntl.flock(port.ser.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            port.closePort()
            raise PortError(
                f"{self._name} is in use by another program; two controllers on one bus would "
                "fight over the servos"
            ) from error
        self.is_open = True
        port.readPort, port.writePort = map(self._or_lost, (self._read_port, port.writePort))
        # One of the SDKs only waits for its own output here.
        port.clearPort = self._or_lost(port.ser.reset_input_buffer)
        port.getCurrentTime = lambda: 1e3 * time.monotonic()
        port.setPacketTimeout = self._set_timeout

    def _set_timeout(self, length: int) -> None:
        duration = 1e3 * self._timeout + self.port.tx_time_per_byte * length
        self.port.setPacketTimeoutMillis(duration)

    def _read_port(self, length: int) -> bytes:
        """Bytes that are there, after sleeping until there are some or a millisecond is over."""
        serial = self.port.ser
        if select.select([serial.fileno()], [], [], 1e-3)[0]:
            return serial.read(length)
        return b""

    def _or_lost(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """A call of the port that fails as a cycle does when the adapter is gone."""

        def calling(*arguments: Any) -> Any:
            try:
                return call(*arguments)
            except (OSError, termios.error) as error:
                # The SDK would take the port for busy ever after.
                self.port.is_using = False
                raise BusError(f"{self._name} was lost: {error.args[-1]}") from error

        return calling

    def close(self) -> None:
        """Close the port."""
        if self.is_open:
            self.is_open = False
            self.port.closePort()

    def errors(self) -> dict[int, int]:
        """Error byte of each servo's last answer, of those that have one."""
        return {number: error for number, error in self._errors.items() if error}

    def check(self, result: int, what: str) -> None:
        """Raise BusError unless the SDK says that it went well."""
        if result != self.sdk.COMM_SUCCESS:
            raise BusError(f"{what}: {self.packets.getTxRxResult(result)}")

    def set(self, address: int, value: int) -> None:
        """Write a register of one byte of all servos, each with its confirmation.

        A servo that fails does not keep the others from being written.
        """
        problems: list[str] = []
        for number in self.ids:
            result, error = self._insist(
                self.packets.write1ByteTxRx, number, address, value, length=0
            )
            if result != self.sdk.COMM_SUCCESS:
                problems.append(f"servo {number}: {self.packets.getTxRxResult(result)}")
            elif error & self.refusal:
                problems.append(f"servo {number} refuses: error 0x{error:02x}")
        if problems:
            raise BusError(f"register {address}: {'; '.join(problems)}")

    def get(self, number: int, address: int, size: int = 1) -> int:
        """Read a register of 1, 2 or 4 bytes of one servo, as an unsigned number."""
        call = getattr(self.packets, f"read{size}ByteTxRx")
        value, result, _ = self._insist(call, number, address, length=size)
        self.check(result, f"servo {number}, register {address}")
        return value

    def put(self, number: int, address: int, value: int, size: int = 1) -> None:
        """Write a register of 1, 2 or 4 bytes of one servo."""
        call = getattr(self.packets, f"write{size}ByteTxRx")
        result, error = self._insist(call, number, address, value, length=0)
        self.check(result, f"servo {number}, register {address}")
        if error & self.refusal:
            raise BusError(f"servo {number}, register {address}: refused, error 0x{error:02x}")

    def gather(self, registers: Sequence[Register]) -> list[tuple[int, ...]]:
        """Registers that lie close together, of all servos at once, as unsigned numbers."""
        start = min(register.address for register in registers)
        size = max(register.address + register.size for register in registers) - start
        if (start, size) not in self._groups:
            group = self.sdk.GroupSyncRead(self.port, self.packets, start, size)
            for number in self.ids:
                group.addParam(number)
            self._groups[start, size] = group
        group = self._groups[start, size]
        self.check(group.txRxPacket(), f"sync read of register {start}")
        return [tuple(group.getData(number, *one) for one in registers) for number in self.ids]

    def limit_torque(self, shares: Sequence[float]) -> None:
        """Let each servo push with a share of its full torque, or less if it is set to less."""
        table = REGISTERS[self.family]
        for number, share in zip(self.ids, shares, strict=True):
            most = self.get(number, *table.torque_most)
            self.put(
                number, table.torque_limit.address, min(round(share * table.full_torque), most), 2
            )

    def answers(self, number: int, attempts: int = ATTEMPTS) -> bool:
        """Whether a servo is there."""
        asked = (self._ask(self.packets.ping, number)[-2] for _ in range(attempts))
        return any(result == self.sdk.COMM_SUCCESS for result in asked)

    def _insist(
        self, call: Callable[..., tuple[int, ...]], *arguments: int, length: int
    ) -> tuple[int, ...]:
        """Repeat what is done once, before the loop starts, until it works or has failed often.

        The result is the last value but one of the SDK's answer, which brings `length` bytes.
        """
        answer: tuple[int, ...] = ()
        for attempt in range(ATTEMPTS):
            # An answer that is only late is over by then, and not taken for the next one.
            time.sleep(attempt * max(self._timeout, SETTLING))
            answer = self._ask(call, *arguments)
            if answer[-2] == self.sdk.COMM_SUCCESS:
                if self._length == length:
                    break
                answer = (*answer[:-2], self.sdk.COMM_RX_CORRUPT, answer[-1])
        return answer

    def _ask(self, call: Callable[..., tuple[int, ...]], *arguments: int) -> tuple[int, ...]:
        try:
            return call(self.port, *arguments)
        except IndexError:
            # A late answer to an earlier question is shorter than what the SDK reads from it.
            return 0, self.sdk.COMM_RX_CORRUPT, 0

    def find(self) -> None:
        """Raise ConnectionError unless all servos answer."""
        missing = [number for number in self.ids if not self.answers(number)]
        if missing:
            raise ConnectionError(
                f"{self._name}: servos {missing} do not answer at {self._baud} baud within "
                f"{self._timeout:g} s; check power, IDs, baud rate and the adapter's latency"
            )
