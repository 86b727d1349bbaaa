"""Shared memory between processes: a slot that holds the newest record, a ring that holds many.

The memory has no name. It is passed on as a file descriptor, because on Python before 3.13 a
process that merely attached to a named block deletes it for everybody when it exits.
"""

from __future__ import annotations

import mmap
import os
import tempfile
import zlib
from typing import Any

import numpy as np

RESOLUTION = 1e-6  # [s]
NUM_BINS = 50_000
HEADER = 64  # bytes; a cache line of counters before the records
# A structured array of numpy; its type stubs know nothing of fields.
Record = Any


class SharedBlock:
    """Zeroed memory behind a file descriptor: eight counters, then bytes.

    Args:
        size: Size after the counters [bytes].
        descriptor: Descriptor of an existing block; a new one is made without it.
    """

    def __init__(self, size: int, descriptor: int | None = None) -> None:
        if descriptor is None:
            descriptor = _anonymous_file()
            os.ftruncate(descriptor, HEADER + size)
        self.descriptor = descriptor
        self._memory = mmap.mmap(descriptor, HEADER + size)
        whole = memoryview(self._memory)
        self._counters, self._bytes = whole[:HEADER].cast("q"), whole[HEADER:]

    def close(self) -> None:
        """Give memory and descriptor back, once; the block is of no use from then on.

        Without it both stay until the garbage collector meets them: two descriptors per block.
        """
        self._counters.release()
        self._bytes.release()
        self._memory.close()
        os.close(self.descriptor)


def _anonymous_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("hotloop", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


class Slot(SharedBlock):
    """The newest record of one writer for any number of readers: a sequence lock.

    The writer never waits. A reader that meets a write in progress tries again and gives up after
    a few attempts; the checksum makes torn reads impossible on processors that reorder stores too.

    Args:
        dtype: Type of the record.
        descriptor: Descriptor of an existing slot; a new one is made without it.
    """

    def __init__(self, dtype: np.dtype[Any], descriptor: int | None = None) -> None:
        # Counters: sequence, checksum.
        super().__init__(dtype.itemsize, descriptor)
        self.dtype, self._seen = dtype, 0

    def write(self, record: Record) -> None:
        """Publish a record of shape ()."""
        self.write_bytes(record.tobytes())

    def write_bytes(self, content: bytes) -> None:
        """Publish a record as it lies in memory."""
        sequence = self._counters[0]
        self._counters[0] = sequence + 1
        self._bytes[:] = content
        self._counters[1] = zlib.crc32(content)
        self._counters[0] = sequence + 2

    def read(self) -> Record | None:
        """The newest record, shape (); None before the first or if a writer keeps interfering."""
        content = self.read_bytes()
        if content is None:
            return None
        record: Record = np.frombuffer(content, self.dtype)[0].copy()
        return record

    def read_bytes(self, attempts: int = 5) -> bytes | None:
        """The newest record as it lies in memory; see `read`."""
        for _ in range(attempts):
            before = self._counters[0]
            if before == 0:
                return None
            if before % 2:
                continue
            content, checksum = bytes(self._bytes), self._counters[1]
            if self._counters[0] == before and zlib.crc32(content) == checksum:
                self._seen = before
                return content
        return None

    def read_new(self) -> Record | None:
        """The newest record if it was not read before."""
        return self.read() if self._counters[0] != self._seen else None


class Ring(SharedBlock):
    """Records from one writer to one reader, in order. A full ring drops new records.

    Neither side ever waits for the other, so a dead reader costs the writer nothing.

    Args:
        dtype: Type of a record.
        capacity: Records that fit.
        descriptor: Descriptor of an existing ring; a new one is made without it.
    """

    def __init__(self, dtype: np.dtype[Any], capacity: int, descriptor: int | None = None) -> None:
        # Counters: written, read, dropped.
        super().__init__(capacity * dtype.itemsize, descriptor)
        self.dtype, self.capacity = dtype, capacity

    def push(self, record: Record) -> bool:
        """Append a record; False, and one more dropped, if there is no room."""
        return self.push_bytes(record.tobytes())

    def push_bytes(self, content: bytes) -> bool:
        """Append a record as it lies in memory; see `push`."""
        written, size = self._counters[0], self.dtype.itemsize
        if written - self._counters[1] >= self.capacity:
            self._counters[2] += 1
            return False
        start = written % self.capacity * size
        self._bytes[start : start + size] = content
        self._counters[0] = written + 1
        return True

    def pop(self) -> Record:
        """All records that wait, oldest first, shape (n,)."""
        written, read = self._counters[0], self._counters[1]
        rows: Record = np.frombuffer(self._bytes, self.dtype)
        rows = rows[np.arange(read, written) % self.capacity]
        self._counters[1] = written
        return rows

    @property
    def num_dropped(self) -> int:
        """Records that found no room so far."""
        return self._counters[2]


class Histogram(SharedBlock):
    """How often durations occurred, in bins of 1 us up to 50 ms; one writer, any readers.

    Counting costs the writer one addition; quantiles are the readers' work.

    Args:
        descriptor: Descriptor of an existing one; a new one is made without it.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        super().__init__(8 * NUM_BINS, descriptor)
        self._counts = self._bytes.cast("q")

    def close(self) -> None:
        """Give memory and descriptor back; see `SharedBlock.close`."""
        self._counts.release()
        super().close()

    def add(self, seconds: float) -> None:
        """Count one duration [s]."""
        self._counts[min(max(int(seconds / RESOLUTION), 0), NUM_BINS - 1)] += 1

    def quantiles(self, *shares: float) -> list[float]:
        """Upper ends of the bins that the given shares of all durations fall below [s]."""
        cumulative = np.cumsum(np.frombuffer(self._counts, np.int64))
        total = int(cumulative[-1])
        if total == 0:
            return [0.0] * len(shares)
        bins = np.searchsorted(cumulative, np.ceil(np.asarray(shares) * total))
        return [float(index + 1) * RESOLUTION for index in bins]
