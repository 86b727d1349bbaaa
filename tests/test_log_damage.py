"""A log that lay on a bad disk: every flipped bit and every cut is harmless or one message."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mcap.writer import Writer

from hotloop.real_robot.config import RobotConfig
from hotloop.real_robot.core.controller import ControllerConfig
from hotloop.real_robot.core.limits import Limits
from hotloop.real_robot.logs.container import MAGIC
from hotloop.real_robot.logs.reader import ControlLog, read_log
from hotloop.real_robot.logs.writer import LogWriter
from hotloop.real_robot.runtime.channels import EVENT, Sizes, chunk_dtype, cycle_dtype
from hotloop.train.cli import main

LIMITS = Limits((-1.0,) * 2, (1.0,) * 2, (2.0,) * 2, (10.0,) * 2, (400.0,) * 2)
ROBOT = RobotConfig("arm", "dry-run", ControllerConfig(LIMITS, 0.01), joints=("pan", "lift"))
SIZES = Sizes(2, 1, 0.01)
NUM_FLIPS, NUM_CUTS = 150, 50


def write(path: Path, finish: bool = True) -> Path:
    """A log of several compressed pieces with every kind of message."""
    generator = np.random.default_rng(0)
    writer = LogWriter(path, ROBOT, SIZES)
    for part in range(8):
        cycles = np.zeros(60, cycle_dtype(SIZES))
        cycles["now"] = part + 0.01 * np.arange(60)
        cycles["command"] = generator.normal(size=(60, 2))
        writer.cycles(cycles)
        chunk = np.zeros(1, chunk_dtype(SIZES))
        chunk["sequence"], chunk["count"] = part, 9
        chunk["waypoints"] = generator.normal(size=chunk["waypoints"].shape)
        writer.chunks(chunk)
        writer.events(np.array([(part, 0, b"IDLE -> ARMED")], EVENT))
    if finish:
        writer.end(0)
        writer.__exit__()
    else:
        # What a process leaves that was killed.
        writer._file.close()
    return path


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("logs") / "log.mcap")


def outcome(path: Path, good: ControlLog) -> str:
    """``same``, ``shorter``, or the message, which has to name the file."""
    try:
        log = read_log(path)
    except ValueError as error:
        text = str(error)
        assert str(path) in text and "\n" not in text
        return "message"
    if log == good:
        return "same"
    for name in ("cycles", "chunks", "events"):
        mine, all_of_them = getattr(log, name), getattr(good, name)
        assert mine == all_of_them[: len(mine)], "what is read is what was written"
    assert log.dropped == -1 and log.robot == good.robot
    return "shorter"


def test_a_flipped_bit_is_found_wherever_it_is(sound, tmp_path) -> None:
    content, good, generator = sound.read_bytes(), read_log(sound), random.Random(0)
    # Both ends hold the few bytes that everything else hangs on.
    places = [*range(8, 48), *range(len(content) - 60, len(content) - 8)]
    places += [generator.randrange(len(content)) for _ in range(NUM_FLIPS - len(places))]
    for place in places:
        damaged = bytearray(content)
        damaged[place] ^= 1 << generator.randrange(8)
        path = tmp_path / "flipped.mcap"
        path.write_bytes(damaged)
        assert outcome(path, good) == "message", place


def test_a_log_that_was_cut_is_read_as_far_as_it_goes(sound, tmp_path) -> None:
    content, good, generator = sound.read_bytes(), read_log(sound), random.Random(1)
    found = []
    for _ in range(NUM_CUTS):
        path = tmp_path / "cut.mcap"
        path.write_bytes(content[: generator.randrange(len(content))])
        found.append(outcome(path, good))
    assert set(found) <= {"same", "shorter", "message"} and found.count("shorter") > NUM_CUTS / 3


def test_a_killed_writers_log_is_checked_piece_by_piece(tmp_path) -> None:
    """Without an end there is no checksum over everything, but there is one in each piece."""
    content = write(tmp_path / "killed.mcap", finish=False).read_bytes()
    assert not content.endswith(MAGIC)
    good, generator = read_log(tmp_path / "killed.mcap"), random.Random(2)
    assert len(good.cycles) > 100 and good.dropped == -1
    found = []
    for _ in range(60):
        damaged = bytearray(content)
        damaged[generator.randrange(8, len(content))] ^= 1 << generator.randrange(8)
        path = tmp_path / "flipped.mcap"
        path.write_bytes(damaged)
        found.append(outcome(path, good))
    assert found.count("message") > 40


def test_the_command_ends_in_one_line(sound, tmp_path, capsys) -> None:
    damaged = bytearray(sound.read_bytes())
    damaged[len(damaged) // 2] ^= 4
    path = tmp_path / "bad.mcap"
    path.write_bytes(damaged)
    assert main(["log", str(path), "--csv", str(tmp_path / "out.csv")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(path) in line and "checksum of its data" in line
    assert not (tmp_path / "out.csv").exists()


def foreign(path: Path, metadata: dict[str, str], topic: str, message: object) -> Path:
    """A sound MCAP file that this library did not write."""
    with path.open("wb") as file:
        writer = Writer(file)
        writer.start(profile="", library="other")
        if metadata:
            writer.add_metadata("hotloop", metadata)
        schema = writer.register_schema("x", "jsonschema", b"{}")
        channel = writer.register_channel(topic, "json", schema)
        writer.add_message(channel, 0, json.dumps(message).encode(), 0)
        writer.finish()
    return path


def test_files_that_are_sound_but_no_logs_are_named(sound, tmp_path) -> None:
    from dataclasses import asdict

    good = {"robot": json.dumps(asdict(ROBOT)), "sizes": json.dumps(list(SIZES))}
    cycle = read_log(sound).cycles[0]
    short = {**cycle, "command": [1.0]}
    cases = [
        ({}, "/cycle", {}, "nothing says of which robot"),
        ({**good, "robot": '{"name": 3}'}, "/cycle", {}, "name: expected str, got 3"),
        ({**good, "robot": "{"}, "/cycle", cycle, "does not hold what a log"),
        ({"robot": good["robot"]}, "/cycle", cycle, "'sizes'"),
        ({**good, "checksum": "1"}, "/cycle", cycle, "checksum of the robot's configuration"),
        (good, "/camera", {}, "no topic '/camera'"),
        (good, "/cycle", {}, "/cycle 0 has no 'now'"),
        (good, "/cycle", short, "/cycle 0 command must be a list of 2 values"),
        (
            good,
            "/chunk",
            {
                "sequence": 0,
                "observed_at": 0.0,
                "received_at": 0.0,
                "times": [],
                "waypoints": [],
                "count": 3,
            },
            "/chunk 0 times must be a list of 3 values",
        ),
    ]
    for index, (metadata, topic, message, expected) in enumerate(cases):
        path = foreign(tmp_path / f"{index}.mcap", metadata, topic, message)
        with pytest.raises(ValueError, match=expected) as caught:
            read_log(path)
        assert str(path) in str(caught.value)
    assert read_log(foreign(tmp_path / "ok.mcap", good, "/cycle", cycle)).cycles == [cycle]


def test_a_log_is_created_and_never_overwritten(sound, tmp_path) -> None:
    before = sound.read_bytes()
    with pytest.raises(FileExistsError):
        LogWriter(sound, ROBOT, SIZES)
    link = tmp_path / "link.mcap"
    link.symlink_to(tmp_path / "not-there-yet.mcap")
    with pytest.raises(FileExistsError):
        LogWriter(link, replace(ROBOT, name="other"), SIZES)
    assert sound.read_bytes() == before


def test_exports_do_not_replace_logs_nor_each_other(sound, tmp_path, capsys) -> None:
    before = sound.read_bytes()
    link = tmp_path / "run.csv"
    link.symlink_to(sound)
    for arguments, message in (
        (["--csv", str(sound)], "would be written over"),
        (["--plot", str(link)], "would be written over"),
        (["--csv", str(tmp_path / "a"), "--plot", str(tmp_path / "a")], "would be written over"),
    ):
        assert main(["log", str(sound), *arguments]) == 2
        assert message in capsys.readouterr().err
    other = write(tmp_path / "other.mcap")
    assert main(["log", str(sound), "--csv", str(other)]) == 2
    assert "is a log, which is never overwritten" in capsys.readouterr().err
    assert sound.read_bytes() == before
