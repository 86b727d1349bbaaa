"""Shared memory between processes: nothing torn, nothing lost silently, nobody waits."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from robots import chunk, state
from virtual_loop import World, move

from hotloop.real_robot.core.events import Event, EventKind, Mailbox, Mode, Output, Request
from hotloop.real_robot.core.limits import Motion
from hotloop.real_robot.core.trajectory import Chunk
from hotloop.real_robot.runtime.channels import (
    MAX_WAYPOINTS,
    Channels,
    Sizes,
    chunk_dtype,
    cycle_dtype,
    pack_chunk,
    state_dtype,
    unpack_chunk,
    unpack_state,
)
from hotloop.real_robot.runtime.packing import CyclePacker, StatePacker, layout
from hotloop.real_robot.runtime.shared import Histogram, Ring, Slot
from hotloop.real_robot.runtime.tally import Durations, Tally

WIDE = np.dtype([("values", "f8", (512,))])
SIZES = Sizes(num_joints=2, num_sensors=3, dt=0.002)
WRITER = """
import sys
import numpy as np
from hotloop.real_robot.runtime.shared import Slot
dtype = np.dtype([("values", "f8", (512,))])
slot, record, value = Slot(dtype, int(sys.argv[1])), np.zeros((), dtype), 0.0
while True:
    record["values"] = value
    slot.write(record)
    value += 1
"""


@pytest.fixture
def writer(close_later):
    """A slot that another process writes to as fast as it can: 512 equal numbers each time."""
    slot = close_later(Slot(WIDE))
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(slot.descriptor)], pass_fds=[slot.descriptor]
    )
    while slot.read() is None:
        time.sleep(0.01)
    yield slot
    process.kill()
    process.wait()


def test_no_read_is_torn_while_another_process_writes(writer: Slot) -> None:
    reads, newest, ends = 0, -1.0, time.monotonic() + 2.0
    while time.monotonic() < ends:
        record = writer.read()
        if record is None:
            continue
        values = record["values"]
        assert (values == values[0]).all()
        assert values[0] >= newest, "time does not run backwards"
        newest = values[0]
        reads += 1
    assert reads > 5_000 and newest > 1_000


def test_the_torn_reads_are_there_without_the_lock(writer: Slot) -> None:
    """The test above can fail: the same memory read naively is torn now and then."""
    raw = np.frombuffer(writer._bytes, WIDE)
    ends = time.monotonic() + 20
    while time.monotonic() < ends:
        values = raw[0]["values"].copy()
        if (values != values[0]).any():
            return
    pytest.fail("no torn read in 20 s")


def test_a_reader_that_dies_does_not_take_the_memory_along(close_later) -> None:
    """Named shared memory is deleted by whoever exits first, on Python before 3.13."""
    slot = close_later(Slot(WIDE))
    code = WRITER.replace("while True:", "for _ in range(3):")
    for _ in range(2):
        subprocess.run(
            [sys.executable, "-c", code, str(slot.descriptor)],
            pass_fds=[slot.descriptor],
            check=True,
        )
    record = slot.read()
    assert record is not None and record["values"][0] == 2


def test_a_write_that_never_ends_gives_no_record(close_later) -> None:
    slot = close_later(Slot(WIDE))
    assert slot.read() is None
    slot.write(np.ones((), WIDE))
    slot._counters[0] += 1
    assert slot.read() is None


def test_a_record_whose_checksum_is_wrong_is_not_read(close_later) -> None:
    slot = close_later(Slot(WIDE))
    slot.write(np.ones((), WIDE))
    slot._bytes[5] += 1
    assert slot.read() is None


def test_a_record_is_new_once(close_later) -> None:
    slot = close_later(Slot(WIDE))
    assert slot.read_new() is None
    slot.write(np.ones((), WIDE))
    assert slot.read_new() is not None
    assert slot.read_new() is None
    assert slot.read() is not None


def test_a_ring_keeps_order_and_counts_what_it_drops(close_later) -> None:
    dtype = np.dtype([("n", "i8")])
    ring = close_later(Ring(dtype, 4))
    reader = close_later(Ring(dtype, 4, os.dup(ring.descriptor)))
    taken = []
    for number in range(10):
        record = np.zeros((), dtype)
        record["n"] = number
        accepted = ring.push(record)
        assert accepted == (number < 4 or number == 9)
        if number == 8:
            taken += reader.pop()["n"].tolist()
    taken += reader.pop()["n"].tolist()
    assert taken == [0, 1, 2, 3, 9] and ring.num_dropped == 5


def test_states_and_chunks_come_out_as_they_went_in() -> None:
    sent = state(1.5, np.array([0.1, np.nan]), "servo 3 is hot")
    sent = type(sent)(sent.time, sent.position, sent.velocity, sent.fault, np.arange(3.0))
    content = StatePacker(SIZES).pack(sent)
    got = unpack_state(np.frombuffer(content, state_dtype(SIZES))[0])
    np.testing.assert_equal(
        (got.time, got.position, got.fault, got.sensors),
        (sent.time, sent.position, sent.fault, sent.sensors),
    )
    made = chunk(7, 3.0, [(0.1, 0.2), (np.nan, np.inf)])
    back = unpack_chunk(pack_chunk(made, chunk_dtype(SIZES)))
    assert (back.sequence, back.observed_at) == (7, 3.0)
    np.testing.assert_equal((back.times, back.waypoints), (made.times, made.waypoints))


@pytest.mark.parametrize("waypoints", [np.zeros((3, 5)), np.zeros((MAX_WAYPOINTS + 1, 2))])
def test_a_chunk_that_does_not_fit_is_refused_where_it_is_made(waypoints) -> None:
    with pytest.raises(ValueError, match="a chunk has at most 128 waypoints of 2 joints"):
        pack_chunk(chunk(1, 0.0, waypoints), chunk_dtype(SIZES))


def made_of(times: Any, waypoints: Any, sequence: Any = 4) -> Chunk:
    """What a careless policy may put into a chunk."""
    return Chunk(sequence, 1.0, times, waypoints)


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ({"action": [1, 2]}, "a policy plans a Chunk, or None to wait, got {'action'"),
        (made_of([0.0], [[1j, 0j]]), "has real numbers.*complex128"),
        (made_of([0.0], np.array([["a", "b"]], object)), "has real numbers.*object"),
        (made_of(1.0, [0.0, 0.0]), r"got times \(\) and waypoints"),
        (made_of([0.0], [[0.0, 0.0]], 2**63), "sequence.*64 bits, got 922"),
        (made_of([0.0], [[0.0, 0.0]], math.nan), "sequence.*64 bits, got nan"),
    ],
)
def test_what_is_no_chunk_is_refused_in_one_sentence(plan, message) -> None:
    with pytest.raises(ValueError, match=message):
        pack_chunk(plan, chunk_dtype(SIZES))


def test_lists_of_numbers_are_as_good_as_arrays() -> None:
    listed = made_of([1.0, 2.0], [[0, 1], [2, 3]])
    back = unpack_chunk(pack_chunk(listed, chunk_dtype(SIZES)))
    assert back.times.tolist() == [1.0, 2.0] and back.waypoints.tolist() == [[0, 1], [2, 3]]


def test_a_hostile_count_cannot_read_beyond_the_record() -> None:
    record = pack_chunk(chunk(1, 0.0, np.zeros((3, 2))), chunk_dtype(SIZES))
    for count, length in ((10**6, MAX_WAYPOINTS), (-5, 0)):
        record["count"] = count
        assert len(unpack_chunk(record).times) == length


def test_a_cycle_is_packed_field_by_field_as_numpy_would_do_it() -> None:
    motion = Motion(*np.arange(6.0).reshape(3, 2))
    measured = state(1.5, np.array([0.1, 0.2]), "servo 3 is hot é")
    measured = replace(measured, sensors=np.arange(3.0))
    output = Output(motion, (), Mode.RUN, np.array([7.0, 8.0]), 5, np.inf)
    packed = StatePacker(SIZES).pack(measured)
    times, mailbox = (1.0, 1.1, 1.2), Mailbox(request=Request.ARM)
    content = CyclePacker(SIZES).pack(times, mailbox, packed, output, True)
    row = np.frombuffer(content, cycle_dtype(SIZES))[0]
    assert (row["now"], row["wake"], row["sent"]) == times
    assert (row["mode"], row["request"], row["chunk"], row["age"]) == (2, 1, 5, np.inf)
    assert row["state"]["fault"].decode() == "servo 3 is hot é"
    np.testing.assert_array_equal(row["state"]["sensors"], [0.0, 1.0, 2.0])
    assert row["has_command"] == 1
    np.testing.assert_array_equal(row["command"], motion.position)
    np.testing.assert_array_equal(row["command_velocity"], motion.velocity)
    np.testing.assert_array_equal(row["command_acceleration"], motion.acceleration)
    np.testing.assert_array_equal(row["reference"], output.reference)
    idle = CyclePacker(SIZES).pack(times, mailbox, packed, output._replace(command=None), False)
    row = np.frombuffer(idle, cycle_dtype(SIZES))[0]
    assert row["has_command"] == 0 and not row["command"].any()
    with pytest.raises(TypeError, match="no layout for float32"):
        layout(np.dtype([("x", "f4")]))


def test_a_status_says_what_the_loop_counted(close_later) -> None:
    world = close_later(World())
    world.broken = range(40, 42)
    world.slow = {50: 0.055}
    world.loop.realtime = "scheduling: as it is"
    world.run(100, move)
    status, tally = world.status(), world.loop.tally
    for name in ("cycles", "late", "skipped", "unsent", "bus_failures", "accepted", "limit_hits"):
        assert status[name] == getattr(tally, name), name
    assert status["skipped"] > 0 and status["bus_failures"] == 4 and status["accepted"] > 5
    peaks = world.loop.controller.peaks
    assert [status["velocity"], status["acceleration"], status["jerk"]] == peaks
    assert status["wake_max"] == tally.wake.largest
    assert 0 < status["wake_p50"] <= status["wake_p99"] <= status["wake_max"]
    assert status["realtime"].decode() == world.loop.realtime
    assert (status["finished"], status["asked"], status["failure"]) == (1, 1, b"")


def test_all_channels_can_be_attached_by_their_descriptors(close_later) -> None:
    channels = close_later(Channels(SIZES))
    other = close_later(Channels(SIZES, [os.dup(number) for number in channels.descriptors]))
    channels.ask(Request.STOP)
    record = other.request.read_new()
    assert record is not None and record["request"] == Request.STOP


def open_descriptors() -> set[Path]:
    return set(Path("/proc/self/fd").iterdir())


def test_what_is_closed_leaves_no_descriptor_and_takes_no_memory_from_others() -> None:
    before = open_descriptors()
    channels = Channels(SIZES)
    other = Channels(SIZES, [os.dup(number) for number in channels.descriptors])
    channels.ask(Request.ARM)
    channels.close()
    record = other.request.read_new()
    assert record is not None and record["request"] == Request.ARM
    with pytest.raises(ValueError, match="released"):
        channels.ask(Request.STOP)
    other.close()
    assert len(open_descriptors()) == len(before)


def test_durations_know_their_quantiles(close_later) -> None:
    durations = Durations(close_later(Histogram()))
    assert durations.quantiles(0.5) == [0.0]
    for microseconds in range(1000):
        durations.add(1e-6 * (microseconds + 0.5))
    durations.add(0.2)
    p50, p99 = durations.quantiles(0.5, 0.99)
    assert p50 == pytest.approx(501e-6, abs=2e-6) and p99 == pytest.approx(991e-6, abs=2e-6)
    assert durations.largest == 0.2


def test_the_tally_counts_events_by_kind(close_later) -> None:
    durations = Durations(close_later(Histogram()))
    tally = Tally(durations, durations)
    for kind in (EventKind.CLIPPED, EventKind.WORKSPACE, EventKind.CHUNK_REJECTED, EventKind.MODE):
        tally.note(Event(kind, ""))
    assert (tally.limit_hits, tally.rejected, tally.violations) == (2, 1, 0)
