"""The MCAP container of a log: nothing in it is believed before its checksums are right."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from io import BytesIO
from typing import Any, NamedTuple

from ...decoding.plumbing.extras import require

MAGIC = b"\x89MCAP0\r\n"
HEAD = struct.Struct("<BQ")  # of a record: opcode and length
FOOTER = struct.Struct("<BQQQI")  # with its head: where the summary starts, offsets, checksum
DATA_END = struct.Struct("<BQI")  # with its head: checksum
FOOTER_CODE, DATA_END_CODE, LAST_CODE = 0x02, 0x0F, 0x0F
CHANNEL_CODE, MESSAGE_CODE, CHUNK_CODE, METADATA_CODE = 0x04, 0x05, 0x06, 0x0C
# A writer that was killed leaves a part of one record; more than this is no part of ours.
LONGEST_RECORD = 1 << 22  # [bytes]


class DamagedError(ValueError):
    """Bytes that are not what was written."""


class Contents(NamedTuple):
    """What a container holds.

    Attributes:
        metadata: Texts by name.
        messages: Topic and content of each message, in the order of the file.
    """

    metadata: dict[str, dict[str, str]]
    messages: list[tuple[str, bytes]]


def read_container(content: bytes) -> Contents:
    """Read a container, complete or cut off in the middle.

    Args:
        content: The whole file.

    Raises:
        DamagedError: If a checksum or the structure is wrong; a part that was cut off is not.
        ImportError: If mcap is not installed.
    """
    if content[: len(MAGIC)] != MAGIC[: len(content)] or len(content) < len(MAGIC):
        raise DamagedError("it does not begin as MCAP does")
    _check_end(content)
    found = Contents({}, [])
    topics: dict[int, str] = {}
    for code, body in _records(content):
        for record in _parse(code, body):
            if hasattr(record, "topic"):
                topics[record.id] = record.topic
            elif hasattr(record, "channel_id"):
                if record.channel_id not in topics:
                    raise DamagedError(f"a message belongs to no channel: {record.channel_id}")
                found.messages.append((topics[record.channel_id], record.data))
            elif hasattr(record, "metadata"):
                found.metadata[record.name] = dict(record.metadata)
    return found


def _check_end(content: bytes) -> None:
    """Check the checksums over everything, which a complete file has at its end."""
    start = len(content) - FOOTER.size - len(MAGIC)
    footer = content[start : start + FOOTER.size] if start > 0 else b""
    has_footer = footer[: HEAD.size] == HEAD.pack(FOOTER_CODE, FOOTER.size - HEAD.size)
    if has_footer != content.endswith(MAGIC):
        raise DamagedError("its last bytes are wrong")
    if not has_footer:
        return
    _, _, summary, _, checksum = FOOTER.unpack(footer)
    summary = summary or start
    if not DATA_END.size < summary <= start:
        raise DamagedError("its footer is wrong")
    if checksum and zlib.crc32(content[summary : start + FOOTER.size - 4]) != checksum:
        raise DamagedError("the checksum of its summary is wrong")
    end = summary - DATA_END.size
    code, _, checksum = DATA_END.unpack(content[end:summary])
    if code != DATA_END_CODE or (checksum and zlib.crc32(content[:end]) != checksum):
        raise DamagedError("the checksum of its data is wrong")


def _records(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Code and body of each record up to the end of the data, or to where the file was cut off."""
    at, size, is_complete = len(MAGIC), len(content), content.endswith(MAGIC)
    while at + HEAD.size <= size:
        code, length = HEAD.unpack_from(content, at)
        end = at + HEAD.size + length
        if not 0 < code <= LAST_CODE:
            raise DamagedError(f"there is no record of kind {code} in MCAP, at byte {at}")
        if end > size:
            if is_complete or size - at > LONGEST_RECORD:
                raise DamagedError(f"the record at byte {at} is longer than the file")
            return
        yield code, content[at + HEAD.size : end]
        if code == DATA_END_CODE:
            return
        at = end


def _parse(code: int, body: bytes) -> list[Any]:
    """The records that matter in a record's body: itself, or what it packs."""
    records: Any = require("mcap.records", "control")
    streams: Any = require("mcap.data_stream", "control")
    reader: Any = require("mcap.stream_reader", "control")
    zstandard: Any = require("zstandard", "control")
    exceptions: Any = require("mcap.exceptions", "control")
    stream = streams.ReadDataStream(BytesIO(body))
    try:
        if code == CHUNK_CODE:
            return reader.breakup_chunk(records.Chunk.read(stream), validate_crc=True)
        if code == CHANNEL_CODE:
            return [records.Channel.read(stream)]
        if code == MESSAGE_CODE:
            return [records.Message.read(stream, len(body))]
        return [records.Metadata.read(stream)] if code == METADATA_CODE else []
    except (
        exceptions.McapError, zstandard.ZstdError, ValueError, EOFError, OverflowError,
        MemoryError, RuntimeError, struct.error,
    ) as error:  # fmt: skip
        raise DamagedError(f"a record cannot be unpacked: {error}") from error
