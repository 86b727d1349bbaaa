"""What a policy server has to bear: broken handshakes, fuzzed frames, clients that read nothing."""

from __future__ import annotations

import random
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress

UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)


def frame(payload: bytes, opcode: int = 2) -> bytes:
    """A masked frame as clients send it; the mask of zeros changes nothing."""
    size = len(payload)
    head = bytes([0x80 | opcode])
    if size < 126:
        head += bytes([0x80 | size])
    elif size < 1 << 16:
        head += bytes([0x80 | 126]) + struct.pack(">H", size)
    else:
        head += bytes([0x80 | 127]) + struct.pack(">Q", size)
    return head + bytes(4) + payload


def opened(port: int, header: bytes = b"", timeout: float = 20.0) -> socket.socket:
    """A connection that has shaken hands, by hand, with another line in its request.

    Raises:
        ConnectionRefusedError: If the server answers with anything but an upgrade.
    """
    client = socket.create_connection(("127.0.0.1", port), timeout=timeout)
    client.sendall(UPGRADE + header + b"\r\n")
    received = b""
    while b"\r\n\r\n" not in received:
        part = client.recv(4096)
        received += part
        if not part:
            break
    if not received.startswith(b"HTTP/1.1 101"):
        client.close()
        raise ConnectionRefusedError(received[:40])
    return client


def reset(client: socket.socket) -> None:
    """End a connection as a machine does that loses its power and comes back."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def mutated(rng: random.Random, message: bytes) -> bytes:
    """A message with some bytes changed, lost or added."""
    data = bytearray(message)
    for _ in range(rng.randrange(1, 4)):
        where = rng.randrange(len(data) or 1)
        change = rng.randrange(4)
        if change == 0 and data:
            data[where % len(data)] = rng.randrange(256)
        elif change == 1:
            del data[where : where + rng.randrange(1, 6)]
        elif change == 2:
            data[where:where] = rng.randbytes(rng.randrange(1, 6))
        else:
            data[where : where + 1] = rng.choice([b"\xc4\x08", b"|O", b"\xdd\xff\xff\xff\xff"])
    return bytes(data)


# What a fuzzed client sends after its handshake, by name.
FUZZED: dict[str, Callable[[random.Random, bytes], bytes]] = {
    "message": lambda rng, request: frame(mutated(rng, request)),
    "frame": lambda rng, request: mutated(rng, frame(request)),
    "opcode": lambda rng, request: frame(rng.randbytes(rng.randrange(40)), rng.randrange(16)),
    "noise": lambda rng, request: rng.randbytes(rng.randrange(1, 60)),
}


def fuzz(port: int, request: bytes, kind: str, rng: random.Random) -> None:
    """Send one fuzzed message, and read until the server ends the connection."""
    with opened(port) as client, suppress(OSError):
        client.sendall(FUZZED[kind](rng, request))
        client.shutdown(socket.SHUT_WR)
        while client.recv(4096):
            pass


def break_off(port: int, request: bytes, rng: random.Random) -> None:
    """Connect, ask three times, and break off at any byte."""
    whole = UPGRADE + b"\r\n" + frame(request) * 3
    client = socket.create_connection(("127.0.0.1", port), timeout=0.05)
    # The server may have ended it already, or wait for the rest of the handshake.
    with suppress(OSError):
        client.sendall(whole[: rng.randrange(len(whole))])
        if rng.random() < 0.5:
            client.recv(rng.randrange(1, 300))
    (reset if rng.random() < 0.5 else socket.socket.close)(client)


def read_nothing(port: int, request: bytes, longest: float) -> bool:
    """Ask on and on and read no answer; return whether the server let go of it [s]."""
    client = opened(port)
    client.settimeout(0.1)
    requests, sent = frame(request) * 100, 0
    ends = time.monotonic() + longest
    try:
        while time.monotonic() < ends:
            with suppress(TimeoutError):
                sent = (sent + client.send(requests[sent:])) % len(requests)
    except OSError:
        return True
    finally:
        client.close()
    return False
