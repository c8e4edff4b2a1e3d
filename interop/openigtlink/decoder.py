"""Bytes in, messages out; no socket. Whoever reads asks for a place (`buffer`), fills it and says how much (`advance`).

A large body is read straight into its own memory, which grows only as bytes come: a header that promises more than the
limit is refused before anything is set aside. What can't be used is skipped and counted, so the stream goes on; only a
header that is none ends it, because the place in the stream is lost.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np

from interop.openigtlink.crc import crc64
from interop.openigtlink.fields import BadContent
from interop.openigtlink.message import ASKING, HEADER, Header, Message, decode, is_known
from spatial.faults import Fault

STAGE_BYTES = 1 << 16
SHOWN_BYTES = 16
LARGEST_BYTES = 1 << 28
SIZES = {  # bodies of fixed size (header version 1); another size is refused before it is read
    "TRANSFORM": (48,),
    "POSITION": (12, 24, 28, 152),
    "QTRANS": (12, 24, 28),
}


class LostStream(Fault):
    """The bytes are no OpenIGTLink, or no longer: the connection has to be opened anew."""


@dataclass(frozen=True)
class Refused:
    """A message that was not used: of an unknown type, not wanted, or damaged."""

    type: str
    device: str
    why: Literal["unknown", "not wanted", "damaged"]
    words: str


Event: TypeAlias = Message | Refused


@dataclass
class Counts:
    """What came in: messages read, skipped, damaged; bytes."""

    messages: int = 0
    skipped: int = 0
    damaged: int = 0
    n_bytes: int = 0
    by_type: dict[str, int] = field(default_factory=dict)


class Decoder:
    """Reads one stream; see the module's words."""

    def __init__(
        self,
        *,
        largest_bytes: int = LARGEST_BYTES,
        wanted: Collection[str] | None = None,
        check_crc: bool = True,
    ) -> None:
        """`wanted`: types to read beside questions (None: all that are known); the others are skipped unread."""
        self.largest_bytes, self.wanted, self.check_crc = largest_bytes, wanted, check_crc
        self.counts = Counts()
        self._stage = bytearray(STAGE_BYTES)
        self._start = self._stop = 0
        self._header: Header | None = None
        self._skip = 0
        self._body: memoryview | None = None
        self._filled = 0

    @property
    def pending(self) -> bool:
        """Whether a message has begun and not ended; at the end of a stream it was cut short."""
        return self._header is not None or self._stop > self._start

    @property
    def rest(self) -> bytes:
        """The first bytes that came of a header that is not whole yet; empty where there are none."""
        return b"" if self._header is not None else bytes(self._stage[self._start : self._stop][:SHOWN_BYTES])

    def buffer(self) -> memoryview:
        """Where the next bytes belong; write at its beginning, then call `advance`."""
        if self._body is not None:
            return self._body[self._filled :]
        if self._start:
            rest = self._stop - self._start
            self._stage[:rest] = self._stage[self._start : self._stop]
            self._start, self._stop = 0, rest
        return memoryview(self._stage)[self._stop :]

    def feed(self, data: bytes | bytearray | memoryview) -> list[Event]:
        """Take in bytes that lie elsewhere. Raises LostStream."""
        out: list[Event] = []
        view = memoryview(data)
        while len(view):
            place = self.buffer()
            n = min(len(place), len(view))
            place[:n] = view[:n]
            view = view[n:]
            out += self.advance(n)
        return out

    def advance(self, n_bytes: int) -> list[Event]:
        """What `n_bytes` more bytes complete. Raises LostStream."""
        self.counts.n_bytes += n_bytes
        out: list[Event] = []
        if self._body is not None:
            self._filled += n_bytes
            if self._filled == len(self._body):
                body, self._body = self._body, None
                self._finish(body, out)
            return out
        self._stop += n_bytes
        while self._step(out):
            pass
        return out

    def _step(self, out: list[Event]) -> bool:
        """One thing done with the staged bytes; False when more are needed."""
        ready = self._stop - self._start
        if self._skip:
            n = min(self._skip, ready)
            self._start += n
            self._skip -= n
            return not self._skip
        if self._header is None:
            if ready < HEADER.size:
                return False
            self._header = Header.unpack(self._stage, self._start)
            self._start += HEADER.size
            self._judge(self._header, out)
            return True
        size = self._header.body_bytes
        if ready >= size:
            body = bytes(self._stage[self._start : self._start + size])
            self._start += size
            self._finish(body, out)
            return True
        if size > STAGE_BYTES - HEADER.size:
            self._body = np.empty(size, np.uint8).data
            self._body[:ready] = self._stage[self._start : self._stop]
            self._filled, self._start, self._stop = ready, 0, 0
        return False

    def _judge(self, header: Header, out: list[Event]) -> None:
        """Before the body comes: is this a header, may the body be so large, does anybody want it?"""
        name = header.type
        if header.version not in (1, 2) or not name or not name.isascii() or not name.isprintable():
            found = bytes(self._stage[self._start - HEADER.size : self._start])
            raise LostStream(
                f"{found[:SHOWN_BYTES]!r}… is no OpenIGTLink header (version {header.version}, type {name!r}; 1 or 2 "
                "and a name are needed). Is it OpenIGTLink that the other side speaks, or did it lose bytes?"
            )
        if header.body_bytes > self.largest_bytes:
            raise LostStream(
                f"{name} of {header.device!r} says that it has {header.body_bytes} bytes, the limit is "
                f"{self.largest_bytes}"
            )
        sizes = SIZES.get(name)
        if not is_known(name):
            self._refuse(header, "unknown", f"type {name} is not known", out)
        elif self.wanted is not None and name not in self.wanted and not name.startswith(ASKING):
            self._refuse(header, "not wanted", f"type {name} is not wanted", out)
        elif header.version == 1 and sizes is not None and header.body_bytes not in sizes:
            self._refuse(header, "damaged", f"{name} of {header.body_bytes} bytes; {sizes[0]} are needed", out)

    def _refuse(
        self, header: Header, why: Literal["unknown", "not wanted", "damaged"], words: str, out: list[Event]
    ) -> None:
        self._skip, self._header = header.body_bytes, None
        self._count(Refused(header.type, header.device, why, words), out)

    def _finish(self, body: bytes | memoryview, out: list[Event]) -> None:
        header, self._header = self._header, None
        assert header is not None
        if self.check_crc and (found := crc64(body)) != header.crc:
            words = f"{header.type}: the sum is {found:016x}, the header says {header.crc:016x}"
            self._count(Refused(header.type, header.device, "damaged", words), out)
            return
        try:
            message = decode(header, body)
        except BadContent as fault:
            self._count(Refused(header.type, header.device, "damaged", fault.message), out)
            return
        self.counts.messages += 1
        self.counts.by_type[header.type] = self.counts.by_type.get(header.type, 0) + 1
        out.append(message)

    def _count(self, refused: Refused, out: list[Event]) -> None:
        if refused.why == "damaged":
            self.counts.damaged += 1
        else:
            self.counts.skipped += 1
        out.append(refused)
