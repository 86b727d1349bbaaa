"""Writing a run as MCAP: JSON messages, readable by Foxglove and by other programs."""

from __future__ import annotations

import json
import math
import os
import zlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from ...decoding.plumbing.extras import require
from ..config import RobotConfig
from ..runtime.channels import Sizes
from ..runtime.shared import Record

TOPICS = ("/cycle", "/chunk", "/event", "/end")
CHUNK_SIZE = 1 << 16  # bytes; what a crash loses at most
SCHEMA = json.dumps({"type": "object"}).encode()


class LogWriter:
    """An MCAP file that is open for writing; a context.

    Args:
        path: File to create.
        robot: The robot that is logged.
        sizes: Layout of the records.

    Raises:
        FileExistsError: If there is such a file: a log is never overwritten.
        OSError: If the file cannot be written, also later.
        ImportError: If mcap is not installed.
    """

    def __init__(self, path: Path, robot: RobotConfig, sizes: Sizes) -> None:
        writer: Any = require("mcap.writer", "control")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("xb")
        self._writer: Any = writer.Writer(self._file, chunk_size=CHUNK_SIZE, enable_data_crcs=True)
        self._writer.start(profile="", library="hotloop")
        plain_robot = json.dumps(asdict(robot))
        checksum = str(zlib.crc32(plain_robot.encode()))
        self._writer.add_metadata(
            "hotloop",
            {"robot": plain_robot, "checksum": checksum, "sizes": json.dumps(list(sizes))},
        )
        self._channels: dict[str, int] = {}
        for topic in TOPICS:
            schema = self._writer.register_schema(topic.strip("/"), "jsonschema", SCHEMA)
            self._channels[topic] = self._writer.register_channel(topic, "json", schema)
        self._sequence = 0
        # A full disk shows now, before the robot moves, and not later.
        self._file.flush()
        os.fsync(self._file.fileno())

    def __enter__(self) -> LogWriter:
        """The writer itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Finish the file."""
        try:
            self._writer.finish()
        finally:
            self._file.close()

    def cycles(self, records: Record) -> None:
        """Append control cycles."""
        self._append("/cycle", records, "now")

    def chunks(self, records: Record) -> None:
        """Append chunks as the loop received them."""
        for record in records:
            values = plain(record)
            count = values["count"]
            values["times"] = values["times"][:count]
            values["waypoints"] = values["waypoints"][:count]
            self._message("/chunk", values, values["received_at"])

    def events(self, records: Record) -> None:
        """Append events."""
        self._append("/event", records, "time")

    def end(self, dropped: int) -> None:
        """Note, last of all, how many records never reached the log."""
        self._message("/end", {"dropped": dropped}, 0.0)

    def _append(self, topic: str, records: Record, time: str) -> None:
        for record in records:
            values = plain(record)
            self._message(topic, values, values[time])
        self._file.flush()

    def _message(self, topic: str, values: Mapping[str, Any], time: float) -> None:
        nanoseconds = int(time * 1e9)
        self._sequence += 1
        self._writer.add_message(
            channel_id=self._channels[topic],
            log_time=nanoseconds,
            publish_time=nanoseconds,
            # Python writes floats with all the digits that bring them back bit for bit.
            data=json.dumps(values).encode(),
            sequence=self._sequence,
        )


def plain(record: Record) -> dict[str, Any]:
    """A record as JSON-able values; finite floats keep every bit."""
    return {name: _plain(record[name]) for name in record.dtype.names}


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return plain(value) if value.dtype.names else _finite(value.tolist())


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: they become the strings that `float` reads."""
    if isinstance(value, list):
        return [_finite(item) for item in cast("list[Any]", value)]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
