"""Who has the machine where tests run side by side: several tests, or one that needs all of it."""

from __future__ import annotations

import fcntl
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def turn(folder: Path, *, alone: bool) -> Generator[None, None, None]:
    """Wait until nobody is alone on the machine, or, to be `alone`, until nobody else is on it.

    Args:
        folder: One that all test processes share.
        alone: Whether nobody may run beside the caller.
    """
    with (folder / "entrance").open("w") as entrance, (folder / "machine").open("w") as machine:
        # Who waits in the entrance to be alone lets nobody in who comes later.
        fcntl.flock(entrance, fcntl.LOCK_EX)
        fcntl.flock(machine, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(entrance, fcntl.LOCK_UN)
        yield
