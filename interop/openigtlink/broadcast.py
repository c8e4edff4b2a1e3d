"""What we offer to whoever connects: poses as they come, and what stands still (bones, CT, trajectories) on arrival.

A client that asks for TDATA or QTDATA (STT_…) gets its tools in one message at its own pace instead of TRANSFORMs. GET_
of what stands still sends it again; GET_STATUS and GET_CAPABILITY are answered. A question that is not understood gets
a STATUS that says so.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from interop.openigtlink.crc import crc64
from interop.openigtlink.link import PORT, Connection, Server, is_loopback
from interop.openigtlink.message import Message
from interop.openigtlink.outgoing import StatusWriter, WirePose, tools, transform
from interop.openigtlink.running import LoopThread
from interop.openigtlink.words import OK, SHUT_DOWN, UNKNOWN_INSTRUCTION, Capability, Request, Status, String

NAME = "Osteotwin"
QUIET_S = 1.0
SPEAKS = (
    "TRANSFORM", "TDATA", "QTDATA", "STATUS", "CAPABILITY", "POLYDATA", "IMAGE", "TRAJ", "STRING",
    "STT_TDATA", "STP_TDATA", "STT_QTDATA", "STP_QTDATA", "GET_STATUS", "GET_CAPABIL", "GET_POLYDATA", "GET_IMAGE",
    "GET_TRAJ",
)  # fmt: skip
WANTED = ("STATUS", "TRAJ", "TRAJECTORY")


@dataclass
class _Asked:
    """How one client wants its poses."""

    of: str
    interval_ns: int
    sent_ns: int = -(1 << 62)


class Broadcast:
    """An OpenIGTLink server in a thread of its own; a context manager. All methods may be called from any thread."""

    def __init__(
        self,
        port: int = PORT,
        host: str = "127.0.0.1",
        *,
        standing: Sequence[Message] = (),
        told: Callable[[str], None] = lambda _: None,
        received: Callable[[Message], None] = lambda _: None,
    ) -> None:
        """Listen. `standing` is sent to each newcomer; `received` gets messages that are no questions.

        Raises PortTaken, NoPort.
        """
        self._standing, self._told, self._on_message = tuple(standing), told, received
        self._asked: dict[Connection, _Asked] = {}
        self._status = StatusWriter()
        self._epoch_ns = time.time_ns() - time.monotonic_ns()  # once: what is sent never steps with the wall clock
        self._start_ns: int | None = None
        self._trouble: dict[str, Message] = {}
        self._sent_ns = time.monotonic_ns()
        self.messages = 0
        self.displaced = 0
        self._server = Server(self._received, welcome=self._welcome, told=told, wanted=WANTED, largest_bytes=1 << 24)
        crc64(b"ready")  # compiled before the first pose has to go, not while it waits
        self._thread = LoopThread(f"igtl:{port}")
        try:
            self.port = self._thread.call(self._server.listen(port, host))
        except BaseException:
            self._thread.stop()
            raise
        self._thread.start(self._keep_alive())
        if not is_loopback(host):
            told(f"other machines reach {host}: whoever does can read what is sent, the protocol has no password")

    @property
    def clients(self) -> int:
        """How many are connected."""
        return len(self._server.connections)

    def poses(self, poses: Sequence[WirePose], *, paced: bool = False) -> None:
        """The poses of one instant. `paced`: a recording, played at the pace of its stamps; waits until it is due."""
        if not poses:
            return
        shift_ns = 0
        if paced:
            t_ns = poses[0].t_ns
            if self._start_ns is None:
                self._start_ns = time.monotonic_ns() - t_ns
            wait_ns = t_ns + self._start_ns - time.monotonic_ns()
            if wait_ns > 0:
                time.sleep(wait_ns * 1e-9)
            else:
                self._start_ns -= wait_ns  # computed more slowly than it was taken: then it plays more slowly
            shift_ns = self._start_ns
        self._thread.soon(self._send_poses, tuple(poses), self._epoch_ns + shift_ns)

    def send(self, message: Message, key: str | None = None) -> None:
        """Any other message to all; with a key the newest wins."""
        self._thread.soon(self._server.send, message, key)

    def say(self, words: str) -> None:
        """A STATUS OK with words about the whole, to all."""
        self._thread.soon(self._server.send, self._now(Status(OK, words)), None)

    def _send_poses(self, poses: tuple[WirePose, ...], epoch_ns: int) -> None:
        self._sent_ns = time.monotonic_ns()
        single: list[tuple[Message, str | None]] = []
        for pose in poses:
            moved, status = transform(pose, epoch_ns), self._status.write(pose, epoch_ns)
            if status is not None:
                single.append((status, None))
                if pose.pose is None:
                    self._trouble[pose.device] = status
                else:
                    self._trouble.pop(pose.device, None)
            if moved is not None:
                single.append((moved, f"pose {pose.device}"))
        for connection in tuple(self._server.connections):
            asked = self._asked.get(connection)
            before = connection.sent.displaced
            if asked is not None:
                if poses[0].t_ns - asked.sent_ns >= asked.interval_ns:
                    asked.sent_ns = poses[0].t_ns
                    connection.send(tools(poses, epoch_ns, NAME, quaternions=asked.of == "QTDATA"), "tools")
                for message, key in single:
                    if key is None:
                        connection.send(message)
            else:
                for message, key in single:
                    connection.send(message, key)
            self.displaced += connection.sent.displaced - before
        self.messages += len(single)

    async def _keep_alive(self) -> None:
        """STATUS OK when nothing else was sent for a second, so that a client can tell silence from a dead line."""
        while True:
            await asyncio.sleep(QUIET_S / 2)
            if time.monotonic_ns() - self._sent_ns > QUIET_S * 1e9:
                self._sent_ns = time.monotonic_ns()
                self._server.send(self._now(Status(OK, "alive")), "alive")

    def _now(self, content: Status | Capability | Request | String) -> Message:
        return Message(NAME, content, time.monotonic_ns() + self._epoch_ns)

    def _welcome(self) -> list[Message]:
        return [self._now(Status(OK, "Osteotwin: a research tool")), *self._standing, *self._trouble.values()]

    def _received(self, connection: Connection, message: Message, arrived_ns: int) -> None:
        question = message.content
        if not isinstance(question, Request):
            self._on_message(message)
            return
        if question.verb == "STT" and question.of in ("TDATA", "QTDATA"):
            self._asked = {line: asked for line, asked in self._asked.items() if line in self._server.connections}
            self._asked[connection] = _Asked(question.of, max(0, question.interval_ms) * 1_000_000)
            connection.send(self._now(Request("RTS", question.of)))
        elif question.verb == "STP" and question.of in ("TDATA", "QTDATA"):
            self._asked.pop(connection, None)
            connection.send(self._now(Request("RTS", question.of)))
        elif question == Request("GET", "STATUS"):
            connection.send(self._now(Status(OK, f"{self.clients} clients")))
        elif question == Request("GET", "CAPABILITY"):
            connection.send(self._now(Capability(SPEAKS)))
        elif question.verb == "GET":
            found = [m for m in self._standing if m.type == question.of and message.device in ("", m.device)]
            for one in found:
                connection.send(one)
            if not found:
                connection.send(self._now(Status(UNKNOWN_INSTRUCTION, f"there is no {question.of} to get", "Error")))
        else:
            words = f"{question.type_name} is not offered"
            connection.send(self._now(Status(UNKNOWN_INSTRUCTION, words, "Error")))

    def close(self) -> None:
        """Tell the clients, write what is buffered, stop; may be called twice."""
        if not self._thread.loop.is_closed():
            self._thread.call(self._server.close(self._now(Status(SHUT_DOWN, "closing"))))
            self._thread.stop()

    def __enter__(self) -> Self:
        """Use with `with`."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()
