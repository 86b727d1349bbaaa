"""A process that starts clients of a policy server and kills each at a random instant.

python killed_clients.py ADDRESS COUNT LONGEST_LIFE
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Callable

import numpy as np
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from hotloop.decoding.serving import codec


def main(address: str, count: int, longest: float) -> None:
    """Half of them are killed from before they connect on, half once they were answered."""
    rng = random.Random(0)
    for index in range(count):
        reader, writer = os.pipe()
        if child := os.fork():
            os.close(writer)
            os.read(reader, 1)
            time.sleep(rng.uniform(0, longest))
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            os.close(reader)
        else:
            ask_for_ever(address, lambda out=writer: os.write(out, b"x"), late=index % 2 == 1)


def ask_for_ever(address: str, begun: Callable[[], object], late: bool) -> None:
    """Ask for whatever the server's metadata says that it wants to see."""
    if not late:
        begun()
    while True:
        try:
            with connect(address, compression=None, proxy=None) as client:
                observation = codec.unpack(client.recv())["observation"]
                request = codec.pack(
                    {key: np.zeros(one["shape"], one["dtype"]) for key, one in observation.items()}
                )
                while True:
                    client.send(request)
                    client.recv()
                    if late:
                        begun()
                        late = False
        except (OSError, WebSocketException):
            time.sleep(0.01)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
