"""A servo bus on a pseudo-terminal: any program that speaks to servos can open it."""

from __future__ import annotations

import fcntl
import os
import select
import struct
import time
import tty
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .dynamixel import DynamixelServos
from .feetech import FeetechServos

PROTOCOLS = {"dynamixel": DynamixelServos, "feetech": FeetechServos}
BITS_PER_BYTE = 10  # with start and stop bit
IDLE_PERIOD = 0.005  # [s]
# The kernel's `struct termios2`, which knows any baud rate, from <asm/termbits.h>.
TCGETS2, TERMIOS2 = 0x802C542A, struct.Struct("4IB19B2I")


@dataclass
class Faults:
    """What goes wrong on the bus; may be changed while it runs.

    Attributes:
        drop: Probability that an answer is lost.
        corrupt: Probability that a bit of an answer flips.
        delay: Further time before each answer [s].
        unplugged: Whether nothing comes through at all.
    """

    drop: float = 0.0
    corrupt: float = 0.0
    delay: float = 0.0
    unplugged: bool = False


@dataclass(frozen=True)
class Wire:
    """How long bytes take; a pseudo-terminal itself takes no time.

    Attributes:
        baud: Bits per second.
        latency: What the USB adapter adds to an answer [s].
    """

    baud: int = 1_000_000
    latency: float = 0.0

    def duration(self, num_bytes: int) -> float:
        """Time on the wire [s]."""
        return num_bytes * BITS_PER_BYTE / self.baud


class ServoBus:
    """Serves servos on a pseudo-terminal, a context.

    Args:
        servos: The servos, of either protocol.
        wire: Timing.
        faults: What goes wrong.
        seed: Seed of the faults.
        monotonic: Clock that the simulated arm keeps up with [s].
    """

    def __init__(
        self,
        servos: DynamixelServos | FeetechServos,
        wire: Wire | None = None,
        faults: Faults | None = None,
        seed: int = 0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.servos, self.wire, self.faults = servos, wire or Wire(), faults or Faults()
        self._generator = np.random.default_rng(seed)
        self._monotonic = monotonic
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        self.port = os.ttyname(self._slave)
        self._buffer = bytearray()
        self.num_packets = 0

    def __enter__(self) -> ServoBus:
        """The bus itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Unplug it for good."""
        os.close(self._master)
        os.close(self._slave)

    def serve(self, running: Callable[[], bool]) -> None:
        """Answer packets as long as `running()`."""
        while running():
            self.poll(IDLE_PERIOD)

    def poll(self, timeout: float) -> None:
        """Wait for bytes for at most `timeout` [s], answer complete packets, simulate."""
        if select.select([self._master], [], [], timeout)[0]:
            self._buffer += os.read(self._master, 4096)
        now = self._monotonic()
        with self.servos.lock:
            self.servos.plant.catch_up(now)
        for packet in self.servos.split(self._buffer):
            self._answer(packet, now)
        # After the packets: what came while this process was held up was there in time.
        with self.servos.lock:
            self.servos.watch(now)

    def _answer(self, packet: bytes, now: float) -> None:
        self.num_packets += 1
        if self.faults.unplugged:
            return
        due = now + self.wire.duration(len(packet)) + self.faults.delay
        with self.servos.lock:
            if self.servos.is_new:
                self.servos.rate = self._client_rate()
            answers = self.servos.handle(packet, now)
            # A servo that was told another rate answers at that one already.
            answers = [answer for answer in answers if self.servos.hears(answer[0])]
        if answers:
            due += self.wire.latency
        content = bytearray()
        for number, answer in answers:
            due += self.wire.duration(len(answer)) + self.servos.return_delay(number)
            if self._generator.random() >= self.faults.drop:
                content += self._corrupted(answer)
        # One wait for all answers: a client cannot go on before the last byte anyway.
        time.sleep(max(due - self._monotonic(), 0.0))
        if content:
            os.write(self._master, content)

    def _client_rate(self) -> int:
        """What the client has set its end of the terminal to [bit/s]."""
        return TERMIOS2.unpack(fcntl.ioctl(self._slave, TCGETS2, bytes(TERMIOS2.size)))[-1]

    def _corrupted(self, answer: bytes) -> bytes:
        if self._generator.random() >= self.faults.corrupt:
            return answer
        broken = bytearray(answer)
        broken[self._generator.integers(len(broken))] ^= 1 << int(self._generator.integers(8))
        return bytes(broken)
