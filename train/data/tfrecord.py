"""TFRecord files and the `tf.train.Example` messages in them, without TensorFlow.

A record is its length (uint64), a checksum of the length, the payload, and a checksum of the
payload, all little-endian. Checksums are CRC-32C, rotated and shifted, as TensorFlow masks them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from ...decoding.plumbing.extras import require

_LENGTH = struct.Struct("<Q")
_CHECKSUM = struct.Struct("<I")


class Record(NamedTuple):
    """Where a record's payload is.

    Attributes:
        path: The file.
        offset: First byte of the payload.
        length: Number of bytes.
    """

    path: Path
    offset: int
    length: int


def find_records(path: Path) -> Iterator[Record]:
    """Yield the places of a file's records, reading their lengths only.

    Raises:
        ValueError: If a length is damaged or the file ends within a record; names the record.
    """
    size, offset, number = path.stat().st_size, 0, 0
    with path.open("rb") as file:
        while offset < size:
            header = file.read(_LENGTH.size + _CHECKSUM.size)
            where = f"{path}: record {number} at byte {offset}"
            if len(header) < _LENGTH.size + _CHECKSUM.size:
                raise ValueError(f"{where} is incomplete; copy the file again")
            _check(header[: _LENGTH.size], header[_LENGTH.size :], where)
            (length,) = _LENGTH.unpack_from(header)
            payload = offset + len(header)
            offset = payload + length + _CHECKSUM.size
            if offset > size:
                raise ValueError(f"{where} is incomplete; copy the file again")
            yield Record(path, payload, length)
            file.seek(offset)
            number += 1


def read_record(record: Record) -> bytes:
    """Read a payload; raise ValueError if its checksum does not match."""
    with record.path.open("rb") as file:
        file.seek(record.offset)
        payload = file.read(record.length)
        _check(payload, file.read(_CHECKSUM.size), f"{record.path}: at byte {record.offset}")
    return payload


def masked_checksum(data: bytes) -> int:
    """Checksum of a record's part as TensorFlow stores it."""
    checksum = int(require("google_crc32c", "vla").value(data))
    rotated = (checksum >> 15 | checksum << 17) & 0xFFFFFFFF
    return (rotated + 0xA282EAD8) & 0xFFFFFFFF


def parse_example(payload: bytes) -> dict[str, list[bytes] | list[float] | list[int]]:
    """Features of a serialised `tf.train.Example` by name.

    Raises:
        ValueError: If the payload is no such message.
    """
    from google.protobuf.message import DecodeError

    example = example_class()()
    try:
        example.ParseFromString(payload)
    except DecodeError as error:
        raise ValueError(f"not a tf.train.Example: {error}") from error
    found: dict[str, Any] = {}
    for name, feature in example.features.feature.items():
        kind = feature.WhichOneof("kind")
        found[name] = list(getattr(feature, kind).value) if kind else []
    return found


@lru_cache(maxsize=1)
def example_class() -> Any:
    """The class of `tf.train.Example` messages, from their published definition."""
    require("google.protobuf", "vla")
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    field_type = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="hotloop/example.proto", package="hotloop.example", syntax="proto3"
    )

    def add(message: Any, name: str, number: int, kind: str, *, repeated: bool = False) -> Any:
        field = message.field.add(name=name, number=number)
        field.label = field_type.LABEL_REPEATED if repeated else field_type.LABEL_OPTIONAL
        if hasattr(field_type, f"TYPE_{kind}"):
            field.type = getattr(field_type, f"TYPE_{kind}")
        else:
            field.type, field.type_name = field_type.TYPE_MESSAGE, f".hotloop.example.{kind}"
        return field

    for name, kind in (("BytesList", "BYTES"), ("FloatList", "FLOAT"), ("Int64List", "INT64")):
        add(file.message_type.add(name=name), "value", 1, kind, repeated=True)
    feature = file.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    lists = (("bytes_list", "BytesList"), ("float_list", "FloatList"), ("int64_list", "Int64List"))
    for number, (name, kind) in enumerate(lists, start=1):
        add(feature, name, number, kind).oneof_index = 0
    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    add(entry, "key", 1, "STRING")
    add(entry, "value", 2, "Feature")
    add(features, "feature", 1, "Features.FeatureEntry", repeated=True)
    add(file.message_type.add(name="Example"), "features", 1, "Features")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("hotloop.example.Example"))


def _check(data: bytes, stored: bytes, where: str) -> None:
    if len(stored) < _CHECKSUM.size or _CHECKSUM.unpack(stored)[0] != masked_checksum(data):
        raise ValueError(f"{where} has a wrong checksum; the file is damaged, copy it again")
