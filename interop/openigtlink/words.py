"""Words on the wire: STATUS, STRING, CAPABILITY, and what one side asks of the other (GET, STT, STP, RTS)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import ClassVar, Literal, Self

from interop.openigtlink.fields import (
    BadContent,
    Bytes,
    Part,
    packed_text,
    read_text,
    require_multiple,
    require_size,
)  # fmt: skip

OK, UNKNOWN_ERROR, NOT_FOUND, ACCESS_DENIED, BUSY, TIME_OUT, OVERFLOW, CHECKSUM_ERROR = 1, 2, 4, 5, 6, 7, 8, 9
CONFIG_ERROR, UNKNOWN_INSTRUCTION, NOT_READY, NOT_PRESENT, HARDWARE_FAILURE, SHUT_DOWN = 10, 12, 13, 16, 18, 19
CODES = (
    "invalid packet", "OK", "unknown error", "panic mode", "not found", "access denied", "busy", "time out",
    "overflow", "checksum error", "configuration error", "not enough resource", "unknown instruction", "not ready",
    "manual mode", "disabled", "not present", "unknown version", "hardware failure", "shutting down",
)  # fmt: skip

Verb = Literal["GET", "STT", "STP", "RTS"]
_STATUS = struct.Struct(">Hq20s")
_STREAM = struct.Struct(">i32s")
ASCII, UTF8 = 3, 106  # IANA MIBenum


@dataclass(frozen=True)
class Status:
    """STATUS: `code` 1 is OK (see CODES); `error` a short name, `text` a sentence for people."""

    TYPE: ClassVar[str] = "STATUS"
    code: int = OK
    text: str = ""
    error: str = ""
    subcode: int = 0

    @property
    def code_words(self) -> str:
        """The code in words."""
        return CODES[self.code] if self.code < len(CODES) else f"code {self.code}"

    def pack(self) -> list[Part]:
        """The body; the text ends with a zero, as the C++ library writes it."""
        head = _STATUS.pack(self.code, self.subcode, packed_text(self.error, 20, "the error's name"))
        return [head, self.text.encode() + b"\0"]

    @classmethod
    def unpack(cls, body: Bytes) -> Self:
        """From a body. Raises BadContent."""
        if len(body) < _STATUS.size:
            raise BadContent(f"STATUS of {len(body)} bytes; 30 at least are needed")
        code, subcode, error = _STATUS.unpack_from(body)
        return cls(code, read_text(body[_STATUS.size :]), read_text(error), subcode)


@dataclass(frozen=True)
class String:
    """STRING: text, at most 65,535 bytes."""

    TYPE: ClassVar[str] = "STRING"
    text: str

    def pack(self) -> list[Part]:
        """The body: ASCII where it can be, else UTF-8."""
        data = self.text.encode()
        if len(data) > 0xFFFF:
            raise BadContent(f"a STRING of {len(data)} bytes; the protocol has 65,535")
        return [struct.pack(">HH", ASCII if self.text.isascii() else UTF8, len(data)), data]

    @classmethod
    def unpack(cls, body: Bytes) -> Self:
        """From a body. Raises BadContent for a code that is neither ASCII, UTF-8 nor Latin-1."""
        if len(body) < 4:
            raise BadContent(f"STRING of {len(body)} bytes; 4 at least are needed")
        encoding, size = struct.unpack_from(">HH", body)
        if len(body) != 4 + size:
            raise BadContent(f"STRING promises {size} bytes of text and has {len(body) - 4}")
        codec = {ASCII: "ascii", 4: "latin-1", UTF8: "utf-8"}.get(encoding)
        if codec is None:
            raise BadContent(f"STRING in character set {encoding} (IANA); 3, 4 and 106 are known")
        try:
            return cls(bytes(body[4:]).decode(codec))
        except UnicodeDecodeError:
            raise BadContent(f"STRING is not in the character set that it names ({codec})") from None


@dataclass(frozen=True)
class Capability:
    """CAPABILITY: the types that the sender knows."""

    TYPE: ClassVar[str] = "CAPABILITY"
    types: tuple[str, ...]

    def pack(self) -> list[Part]:
        """The body."""
        return [packed_text(name, 12, "the type") for name in self.types]

    @classmethod
    def unpack(cls, body: Bytes) -> Self:
        """From a body. Raises BadContent."""
        require_multiple(body, 12, "CAPABILITY")
        return cls(tuple(read_text(body[at : at + 12]) for at in range(0, len(body), 12)))


@dataclass(frozen=True)
class Request:
    """GET_, STT_, STP_ of a type, and the answer RTS_ (`accepted`).

    A stream of tools (STT_TDATA, STT_QTDATA) may name the least time between two messages and the coordinates wanted.
    """

    verb: Verb
    of: str
    interval_ms: int = 0
    coordinates: str = ""
    accepted: bool = True

    @property
    def type_name(self) -> str:
        """The type in the header, at most twelve bytes: the library has cut GET_CAPABILITY to GET_CAPABIL."""
        return "GET_CAPABIL" if (self.verb, self.of) == ("GET", "CAPABILITY") else f"{self.verb}_{self.of}"

    def pack(self) -> list[Part]:
        """The body; most have none."""
        if self.verb == "RTS":
            return [bytes([0 if self.accepted else 1])]
        if self.verb == "STT" and self.of in ("TDATA", "QTDATA"):
            return [_STREAM.pack(self.interval_ms, packed_text(self.coordinates, 32, "the coordinates' name"))]
        return []

    @classmethod
    def unpack(cls, type_name: str, body: Bytes) -> Self:
        """From a type and a body. Raises BadContent."""
        verb, _, of = type_name.partition("_")
        of = "CAPABILITY" if of == "CAPABIL" else of
        if verb == "RTS":
            require_size(body, (1,), type_name)
            return cls("RTS", of, accepted=body[0] == 0)
        if verb == "STT" and of in ("TDATA", "QTDATA") and len(body):
            require_size(body, (_STREAM.size,), type_name)
            interval_ms, name = _STREAM.unpack(body)
            return cls("STT", of, interval_ms, read_text(name))
        match verb:
            case "GET" | "STT" | "STP":
                return cls(verb, of)
        raise BadContent(f"{type_name} asks for nothing that is known")
