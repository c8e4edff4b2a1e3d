"""Sockets under the codec (asyncio): a server for several clients, a client that comes back when the line breaks.

What is sent with a `key` is a stream: while the line is full only the newest of each key waits, and what it displaced
is counted. Everything else waits in order; whoever reads so slowly that too much piles up is cut off.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import cast

from interop.openigtlink.decoder import LARGEST_BYTES, Decoder, LostStream, Refused
from interop.openigtlink.fields import Part
from interop.openigtlink.message import Message, Version, encode
from spatial.faults import Misuse

PORT = 18944
LARGEST_PORT = 65535
BACKLOG_BYTES = 1 << 30
FULL_BYTES = 1 << 18
FIRST_WAIT_S, LONGEST_WAIT_S = 0.1, 5.0
MOST_CLIENTS = 16


class PortTaken(Misuse):
    """The port can't be listened on."""


class NoPort(Misuse):
    """A number that no port has."""


@dataclass
class Sent:
    """What went out on one connection: messages, stream messages displaced by newer ones, bytes."""

    messages: int = 0
    displaced: int = 0
    n_bytes: int = 0
    by_type: dict[str, int] = field(default_factory=dict)


class Connection(asyncio.BufferedProtocol):
    """One open line: decodes what comes, writes what is sent."""

    def __init__(
        self,
        opened: Callable[[Connection], None],
        closed: Callable[[Connection, str], None],
        received: Callable[[Connection, Message, int], None],
        refused: Callable[[Connection, Refused], None],
        decoder: Decoder,
    ) -> None:
        """The callbacks run in the loop; `received` gets the monotonic ns of arrival."""
        self._opened, self._closed, self._received, self._refused = opened, closed, received, refused
        self.decoder = decoder
        self.sent = Sent()
        self.peer = ""
        self.version: Version = 1
        self.heard_ns = 0
        self._transport: asyncio.Transport | None = None
        self._full = False
        self._waiting: deque[Message] = deque()
        self._waiting_bytes = 0
        self._newest: dict[str, Message] = {}
        self._why = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The line is open."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=FULL_BYTES)
        place = transport.get_extra_info("peername")
        self.peer = f"{place[0]}:{place[1]}" if place else "?"
        _keep_alive(transport.get_extra_info("socket"))
        self.heard_ns = time.monotonic_ns()
        self._opened(self)

    def connection_lost(self, error: Exception | None) -> None:
        """The line is gone."""
        self._transport = None
        cut = ""
        if self.decoder.pending and not self._why:
            begun = f" ({self.decoder.rest!r})" if self.decoder.rest else ""
            cut = f"; its last message was cut short{begun}"
        why = self._why or (f"{type(error).__name__}: {error}" if error else "the other side closed it")
        self._closed(self, why + cut)

    def get_buffer(self, size_hint: int) -> memoryview:
        """Where the next bytes belong."""
        return self.decoder.buffer()

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes came."""
        self.heard_ns = time.monotonic_ns()
        try:
            events = self.decoder.advance(nbytes)
        except LostStream as fault:
            self.close(fault.message)
            return
        for event in events:
            if isinstance(event, Refused):
                self._refused(self, event)
                continue
            if event.version == 2:
                self.version = 2  # whoever speaks protocol 3 is answered in it
            self._received(self, event, self.heard_ns)

    def pause_writing(self) -> None:
        """The line is full."""
        self._full = True

    def resume_writing(self) -> None:
        """There is room again: first what waits in order, then the newest of each stream."""
        self._full = False
        while self._waiting and not self._full:
            self._write(self._waiting.popleft())
        while self._newest and not self._full:
            self._write(self._newest.pop(next(iter(self._newest))))

    def send(self, message: Message, key: str | None = None) -> None:
        """Send, or let it wait; see the module's words. Raises BadContent."""
        if self._transport is None or self._transport.is_closing():
            return
        if not self._full and not self._waiting:
            self._write(message)
        elif key is not None:
            self.sent.displaced += key in self._newest
            self._newest[key] = message
        else:
            self._waiting.append(message)
            if self._transport.get_write_buffer_size() > BACKLOG_BYTES or len(self._waiting) > 10_000:
                self.close("it reads too slowly")

    def _write(self, message: Message) -> None:
        assert self._transport is not None
        parts = encode(message, self.version)
        small = sum(len(part) for part in parts) < FULL_BYTES
        pieces: list[Part] = [b"".join(parts)] if small else parts
        for piece in pieces:
            self._transport.write(piece)
            self.sent.n_bytes += len(piece)
        self.sent.messages += 1
        self.sent.by_type[message.type] = self.sent.by_type.get(message.type, 0) + 1

    def close(self, why: str = "closed here") -> None:
        """Write what is buffered, then close."""
        self._why = self._why or why
        if self._transport is not None:
            self._transport.close()


def _keep_alive(link: socket.socket | None) -> None:
    """A pulled cable is noticed within seconds, not hours."""
    if link is None:
        return
    with contextlib.suppress(OSError):
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in (("TCP_KEEPIDLE", 2), ("TCP_KEEPINTVL", 1), ("TCP_KEEPCNT", 3)):
            if hasattr(socket, name):
                link.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches `host`."""
    if host == "localhost":
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


class Server:
    """Listens; on loopback unless another address of this machine is asked for."""

    def __init__(
        self,
        received: Callable[[Connection, Message, int], None] = lambda *_: None,
        *,
        welcome: Callable[[], Iterable[Message]] = tuple,
        told: Callable[[str], None] = lambda _: None,
        wanted: Collection[str] | None = None,
        largest_bytes: int = LARGEST_BYTES,
    ) -> None:
        """`welcome` is what a newcomer is sent first; `told` gets words about who comes and goes."""
        self._received, self._welcome, self._told = received, welcome, told
        self._wanted, self._largest_bytes = wanted, largest_bytes
        self.connections: set[Connection] = set()
        self._server: asyncio.Server | None = None

    async def listen(self, port: int = PORT, host: str = "127.0.0.1") -> int:
        """Begin; returns the port (0 asks for a free one). Raises PortTaken, NoPort."""
        if not 0 <= port <= LARGEST_PORT:
            raise NoPort(
                f"port {port}; 1 to {LARGEST_PORT} can be listened on, {PORT} is OpenIGTLink's (0: a free one)"
            )
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(self._connection, host, port)
        except OSError as error:
            raise PortTaken(
                f"{host}:{port} can't be listened on ({error.strerror or error}); does another program use it? "
                "3D Slicer in server mode takes 18944"
            ) from None
        return int(self._server.sockets[0].getsockname()[1])

    def _connection(self) -> Connection:
        decoder = Decoder(wanted=self._wanted, largest_bytes=self._largest_bytes)
        return Connection(self._came, self._went, self._received, lambda *_: None, decoder)

    def _came(self, connection: Connection) -> None:
        if len(self.connections) >= MOST_CLIENTS:
            connection.close(f"there are {MOST_CLIENTS} clients already")
            return
        self.connections.add(connection)
        self._told(f"{connection.peer} connected")
        for message in self._welcome():
            connection.send(message)

    def _went(self, connection: Connection, why: str) -> None:
        self.connections.discard(connection)
        self._told(f"{connection.peer} left ({why})")

    def send(self, message: Message, key: str | None = None) -> None:
        """To every client."""
        for connection in tuple(self.connections):
            connection.send(message, key)

    async def close(self, last: Message | None = None) -> None:
        """Say goodbye, write what is buffered, close every line."""
        if self._server is not None:
            self._server.close()
        if last is not None:
            self.send(last)
        for connection in tuple(self.connections):
            connection.close()
        for _ in range(100):
            if not self.connections:
                return
            await asyncio.sleep(0.01)


class Client:
    """Keeps a line to a server: waits 0.1 s after a break, then twice as long each time, 5 s at most."""

    def __init__(
        self,
        received: Callable[[Connection, Message, int], None] = lambda *_: None,
        *,
        opened: Callable[[Connection], None] = lambda _: None,
        closed: Callable[[str], None] = lambda _: None,
        refused: Callable[[Connection, Refused], None] = lambda *_: None,
        wanted: Collection[str] | None = None,
        largest_bytes: int = LARGEST_BYTES,
    ) -> None:
        """`closed` gets why a line broke or could not be opened, once a time."""
        self._received, self._on_open, self._on_close, self._refused = received, opened, closed, refused
        self._wanted, self._largest_bytes = wanted, largest_bytes
        self.connection: Connection | None = None
        self.breaks = 0
        self.decoder: Decoder | None = None

    async def run(self, host: str, port: int) -> None:
        """Until cancelled."""
        loop, wait_s = asyncio.get_running_loop(), FIRST_WAIT_S
        while True:
            gone: asyncio.Future[str] = loop.create_future()
            try:
                _, connection = await loop.create_connection(partial(self._make, gone), host, port)
            except OSError as error:
                why = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or str(error)
                self._on_close(f"{host}:{port} can't be reached ({why})")
            else:
                self.connection, since_s = connection, loop.time()
                try:
                    why = await gone
                except asyncio.CancelledError:
                    connection.close()
                    raise
                finally:
                    self.connection = None
                self.breaks += 1
                if loop.time() - since_s > LONGEST_WAIT_S:
                    wait_s = FIRST_WAIT_S
                self._on_close(f"the line to {host}:{port} broke ({why})")
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)

    def _make(self, gone: asyncio.Future[str]) -> Connection:
        def closed(_: Connection, why: str) -> None:
            if not gone.done():
                gone.set_result(why)

        self.decoder = Decoder(wanted=self._wanted, largest_bytes=self._largest_bytes)
        return Connection(self._on_open, closed, self._received, self._refused, self.decoder)

    def send(self, message: Message, key: str | None = None) -> None:
        """To the server, where there is a line."""
        if self.connection is not None:
            self.connection.send(message, key)
