"""A message: a header of 58 bytes and a body; from protocol 3 on that has an extended header and metadata."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, NamedTuple, TypeAlias

from interop.openigtlink.crc import crc64
from interop.openigtlink.fields import DEVICE_BYTES, BadContent, Bytes, Part, packed_text, read_text
from interop.openigtlink.image import Image
from interop.openigtlink.poses import Position, QuaternionTrackingData, TrackingData, Transform
from interop.openigtlink.shapes import PolyData, Trajectories
from interop.openigtlink.stamps import ns_from_wire, wire_from_ns
from interop.openigtlink.words import ASCII, UTF8, Capability, Request, Status, String

Content: TypeAlias = (
    Transform | TrackingData | QuaternionTrackingData | Position | Status | String | Capability | Request
    | Trajectories | PolyData | Image
)  # fmt: skip
Version = Literal[1, 2]  # of the header: 1 is protocol 1 and 2, 2 is protocol 3

CONTENTS = {
    kind.TYPE: kind
    for kind in (
        Transform, TrackingData, QuaternionTrackingData, Position, Status, String, Capability, Trajectories, PolyData,
        Image,
    )
} | {"QTRANS": Position, "TRAJECTORY": Trajectories}  # fmt: skip
ASKING = ("GET_", "STT_", "STP_", "RTS_")
HEADER = struct.Struct(">H12s20sQQQ")
EXTENDED = struct.Struct(">HHII")
_ENTRY = struct.Struct(">HHI")
NO_METADATA: Mapping[str, str] = MappingProxyType({})


class Header(NamedTuple):
    """The first 58 bytes. `stamp` is 32.32 fixed point, 0 where the sender gives no time."""

    version: int
    type: str
    device: str
    stamp: int
    body_bytes: int
    crc: int

    @classmethod
    def unpack(cls, data: Bytes, offset: int = 0) -> Header:
        """From 58 bytes; nothing is judged."""
        version, kind, device, stamp, size, crc = HEADER.unpack_from(data, offset)
        return cls(version, read_text(kind), read_text(device), stamp, size, crc)


@dataclass(frozen=True, eq=False)
class Message:
    """What was sent, by which device (20 bytes at most: a tool's or a file's name), when.

    `t_ns`: nanoseconds since the sender's epoch (usually 1970), None where it gives no time. Metadata and `number`
    travel with header version 2 only.
    """

    device: str
    content: Content
    t_ns: int | None = None
    metadata: Mapping[str, str] = field(default_factory=lambda: NO_METADATA)
    number: int = 0
    version: Version = 1

    @property
    def type(self) -> str:
        """The type's name on the wire."""
        return self.content.type_name if isinstance(self.content, Request) else self.content.TYPE


def encode(message: Message, version: Version | None = None) -> list[Part]:
    """The parts of a message, to be written one after the other; large ones are not copied. Raises BadContent."""
    shape = version or message.version
    parts = message.content.pack()
    if shape == 2:
        index, values = _packed_metadata(message.metadata)
        parts = [EXTENDED.pack(EXTENDED.size, len(index), len(values), message.number), *parts, index + values]
    head = HEADER.pack(
        shape,
        packed_text(message.type, 12, "the type"),
        packed_text(message.device, DEVICE_BYTES, "the device's name"),
        0 if message.t_ns is None else wire_from_ns(message.t_ns),
        sum(len(part) for part in parts),
        crc64(*parts),
    )
    return [head, *parts]


def encoded(message: Message, version: Version | None = None) -> bytes:
    """The same in one piece."""
    return b"".join(encode(message, version))


def decode(header: Header, body: Bytes) -> Message:
    """A message of a known type whose sum was checked. Raises BadContent."""
    content, metadata, number = body, NO_METADATA, 0
    if header.version == 2:
        if len(body) < EXTENDED.size:
            raise BadContent(f"{header.type} of {len(body)} bytes has no room for an extended header")
        size, index_bytes, value_bytes, number = EXTENDED.unpack_from(body)
        stop = len(body) - index_bytes - value_bytes
        if size < EXTENDED.size or stop < size:
            raise BadContent(f"{header.type}: extended header and metadata are larger than the body")
        content = memoryview(body)[size:stop]
        metadata = MappingProxyType(_read_metadata(memoryview(body)[stop:], index_bytes))
    try:
        value: Content
        if header.type.startswith(ASKING):
            value = Request.unpack(header.type, content)
        else:
            value = CONTENTS[header.type].unpack(content)
    except (struct.error, ValueError) as error:  # a length that no check foresaw
        raise BadContent(f"{header.type}: {error}") from None
    stamp = ns_from_wire(header.stamp) if header.stamp else None
    return Message(header.device, value, stamp, metadata, number, 2 if header.version == 2 else 1)


def is_known(type_name: str) -> bool:
    """Whether `decode` can read this type."""
    return type_name in CONTENTS or type_name.startswith(ASKING)


def _packed_metadata(metadata: Mapping[str, str]) -> tuple[bytes, bytes]:
    index, values = struct.pack(">H", len(metadata)), b""
    for key, value in metadata.items():
        name, text = key.encode(), value.encode()
        index += _ENTRY.pack(len(name), ASCII if value.isascii() else UTF8, len(text))
        values += name + text
    return index, values


def _read_metadata(data: memoryview, index_bytes: int) -> dict[str, str]:
    if index_bytes < 2:
        return {}
    (count,) = struct.unpack_from(">H", data)
    if 2 + count * _ENTRY.size > index_bytes:
        raise BadContent(f"metadata promises {count} entries, more than its index holds")
    out, at = {}, index_bytes
    for k in range(count):
        name_bytes, _, value_bytes = _ENTRY.unpack_from(data, 2 + k * _ENTRY.size)
        if at + name_bytes + value_bytes > len(data):
            raise BadContent("metadata is cut short")
        name, value = data[at : at + name_bytes], data[at + name_bytes : at + name_bytes + value_bytes]
        out[read_text(name)] = read_text(value)
        at += name_bytes + value_bytes
    return out
