"""`igtl://HOST:PORT`: sightings as they come over a wire, and LOST when they don't."""

from __future__ import annotations

import contextlib
import queue
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

from interop.openigtlink.address import Address
from interop.openigtlink.crc import crc64
from interop.openigtlink.incoming import WireTracker
from interop.openigtlink.link import Client, Connection
from interop.openigtlink.message import Message
from interop.openigtlink.running import LoopThread
from interop.openigtlink.words import Request
from spatial.faults import Fault
from tracking.pose.sighting import Sighting

WANTED = ("TRANSFORM", "POSITION", "QTRANS", "TDATA", "QTDATA", "STATUS")
LARGEST_BYTES = 1 << 20  # poses are small; whatever claims more is none
PATIENCE_S = 10.0
TICK_S = 0.05
DEPTH = 4096


class NoTracker(Fault):
    """Nobody answers where a tracker was said to be."""


class WireSource:
    """A tracker at an address; a context manager. Iterate for sightings until it is closed.

    `has_line`: there is a line, or was one. `trouble`: why there was none, or why it broke last. `dropped`: messages
    that were overwritten because nobody took them. Reconnects for ever once it had a line; raises NoTracker when there
    is none within `patience_s` at first.
    """

    def __init__(self, address: Address, patience_s: float = PATIENCE_S) -> None:
        """Begin to connect."""
        self.address, self.patience_s = address, patience_s
        self.tracker = WireTracker(address)
        self.name = str(address)
        self.dropped = 0
        self.has_line = False
        self.trouble: str | None = None
        self._events: queue.Queue[tuple[str, Any, int]] = queue.Queue(DEPTH)
        self._closed = False
        crc64(b"ready")  # compiled before the first pose comes, or it would seem late
        self._thread = LoopThread(f"igtl:{address.host}")
        self.client = Client(
            self._received, opened=self._opened, closed=self._broken, wanted=WANTED, largest_bytes=LARGEST_BYTES
        )
        self._thread.start(self.client.run(address.host, address.port))

    def __iter__(self) -> Iterator[Sighting[Any]]:
        """Sightings in the order in which they came. Raises NoTracker."""
        return (sighting for batch in self.batches() for sighting in batch)

    def batches(self) -> Iterator[list[Sighting[Any]]]:
        """All sightings that wait, and an empty list where nothing came for a moment. Raises NoTracker.

        Whoever is slower than the tracker so gets several at once, and can answer for the newest instant alone.
        """
        begun = time.monotonic()
        while not self._closed:
            batch: list[Sighting[Any]] = []
            with contextlib.suppress(queue.Empty):
                batch += self._event(*self._events.get(timeout=TICK_S))
            batch += self.pending()
            if not self.has_line and time.monotonic() - begun > self.patience_s:
                why = self.trouble or "no answer"
                raise NoTracker(
                    f"no line to {self.name} within {self.patience_s:g} s: {why}; does the server run there, and does "
                    "it let this machine in?"
                )
            yield batch

    def pending(self) -> list[Sighting[Any]]:
        """All sightings that wait, without waiting for any; for a loop that has another clock, a camera's."""
        batch: list[Sighting[Any]] = []
        with contextlib.suppress(queue.Empty):
            while True:
                batch += self._event(*self._events.get_nowait())
        if self.has_line:  # nothing waits now, so what has not come is not here
            batch += self.tracker.quiet(time.monotonic_ns())
        return batch

    def _event(self, kind: str, value: Any, t_ns: int) -> list[Sighting[Any]]:
        if kind == "message":
            return self.tracker.receive(value, t_ns)
        if kind == "broken":
            self.trouble = value
            return self.tracker.broken(t_ns, value)
        self.has_line = True
        self.tracker.opened(t_ns)
        return []

    def _put(self, kind: str, value: Any, t_ns: int) -> None:
        while True:
            try:
                self._events.put_nowait((kind, value, t_ns))
                return
            except queue.Full:
                self.dropped += 1
                self._events.get_nowait()

    def _opened(self, connection: Connection) -> None:
        if self.address.version == 3:  # PLUS and others answer in the protocol in which they were addressed
            connection.version = 2
            connection.send(Message("", Request("GET", "STATUS")))
        if self.address.stream != "as it comes":
            asked = Request("STT", self.address.stream.upper(), self.address.interval_ms, self.address.coordinates)
            connection.send(Message("", asked))
        self._put("opened", None, time.monotonic_ns())

    def _received(self, connection: Connection, message: Message, arrived_ns: int) -> None:
        if isinstance(message.content, Request):
            if message.content.verb == "RTS" and not message.content.accepted:
                self._put("broken", f"the server refused {self.address.stream.upper()}", arrived_ns)
            return
        self._put("message", message, arrived_ns)

    def _broken(self, why: str) -> None:
        self._put("broken", why, time.monotonic_ns())

    def close(self) -> None:
        """Close the line; may be called twice, and from another thread."""
        self._closed = True
        self._thread.stop()

    def __enter__(self) -> Self:
        """Use with `with`."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()
