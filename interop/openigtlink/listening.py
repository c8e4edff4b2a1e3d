"""A look at what a server sends, for whoever sets up a room: types, rates, how late, and what can't be read."""

from __future__ import annotations

import queue
import time
from dataclasses import dataclass, field
from typing import Any

from interop.openigtlink.address import read_address
from interop.openigtlink.crc import crc64
from interop.openigtlink.decoder import Refused
from interop.openigtlink.image import Image
from interop.openigtlink.link import Client, Connection
from interop.openigtlink.message import HEADER, Message
from interop.openigtlink.poses import Position, QuaternionTrackingData, TrackingData, Transform
from interop.openigtlink.running import LoopThread
from interop.openigtlink.shapes import PolyData, Trajectories, Trajectory
from interop.openigtlink.source import NoTracker
from interop.openigtlink.stamps import SenderClock
from interop.openigtlink.words import Capability, Request, Status, String
from spatial.progress import Progress, silent

SETTLED_S = 0.5


@dataclass
class Row:
    """What one device sent of one type. `late_ms`: the latest message against the fastest, by the sender's stamps."""

    type: str
    device: str
    count: int = 0
    first_ns: int = 0
    last_ns: int = 0
    late_ms: float | None = None
    last: str = ""
    versions: set[int] = field(default_factory=set)

    @property
    def per_second(self) -> float:
        """The rate over the time in which messages came."""
        return 0.0 if self.last_ns <= self.first_ns else (self.count - 1) / ((self.last_ns - self.first_ns) * 1e-9)


@dataclass
class Heard:
    """Everything that came, by type and device, and what was refused, by reason."""

    rows: list[Row]
    refused: dict[str, int]
    n_bytes: int
    breaks: int
    trouble: str | None

    @property
    def silence(self) -> str | None:
        """Why nothing was heard, in a sentence; None where messages came, if only such as could not be read."""
        if self.rows or self.refused:
            return None
        if self.trouble:
            return f"no OpenIGTLink message came; {self.trouble}"
        return "a line, but no message came over it; some servers wait to be asked (?stream=tdata)"

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "devices": [
                {
                    "type": row.type,
                    "device": row.device,
                    "count": row.count,
                    "per_second": row.per_second,
                    "late_ms": row.late_ms,
                    "header_versions": sorted(row.versions),
                    "last": row.last,
                }
                for row in self.rows
            ],
            "refused": self.refused,
            "bytes": self.n_bytes,
            "breaks": self.breaks,
            "trouble": self.trouble,
        }


def listened(text: str, seconds: float, progress: Progress = silent) -> Heard:
    """Connect and listen for so long. Raises BadAddress, NoTracker."""
    rows: dict[tuple[str, str], Row] = {}
    refused: dict[str, int] = {}
    clock = SenderClock()
    n_bytes = breaks = 0
    with _Line(text) as line:
        stop = time.monotonic() + seconds
        while (left := stop - time.monotonic()) > 0:
            progress("listening", 1.0 - left / seconds)
            try:
                event, arrived_ns = line.events.get(timeout=min(left, 0.1))
            except queue.Empty:
                continue
            if isinstance(event, Refused):
                refused[event.words] = refused.get(event.words, 0) + 1
                continue
            row = rows.setdefault((event.type, event.device), Row(event.type, event.device, first_ns=arrived_ns))
            row.count += 1
            row.last_ns, row.last = arrived_ns, summary(event)
            row.versions.add(event.version)
            if event.t_ns is not None and not isinstance(event.content, Request):
                late_ms = (arrived_ns - clock.monotonic_ns(event.t_ns, arrived_ns)) / 1e6
                row.late_ms = max(row.late_ms or 0.0, late_ms)
        decoder = line.client.decoder
        n_bytes, breaks = (decoder.counts.n_bytes if decoder else 0), line.client.breaks
        if decoder is not None and decoder.rest and not line.why:
            line.why = f"{decoder.rest!r} and no more came; an OpenIGTLink header has {HEADER.size} bytes"
        if not line.had_line:
            raise NoTracker(
                f"no line to {line.name} within {seconds:g} s: {line.why or 'no answer'}; does a server run there?"
            )
    return Heard([rows[key] for key in sorted(rows)], refused, n_bytes, breaks, line.why)


def trajectories(text: str, seconds: float) -> list[Trajectory]:
    """Ask for trajectories (GET_TRAJ); those that come till half a second passes without one. Raises NoTracker."""
    found: dict[str, tuple[Trajectory, ...]] = {}
    with _Line(text, Request("GET", "TRAJ")) as line:
        stop = time.monotonic() + seconds
        while time.monotonic() < stop:
            try:
                event, _ = line.events.get(timeout=0.05)
            except queue.Empty:
                continue
            if isinstance(event, Message) and isinstance(event.content, Trajectories):
                found[event.device] = tuple(event.content.elements)
                stop = min(stop, time.monotonic() + SETTLED_S)
        if not line.had_line:
            raise NoTracker(
                f"no line to {line.name} within {seconds:g} s: {line.why or 'no answer'}; does a server run there?"
            )
    return [one for several in found.values() for one in several]


def summary(message: Message) -> str:
    """A message's content in a few words."""
    match message.content:
        case Transform(matrix=m):
            return f"at {m[0, 3]:.1f} {m[1, 3]:.1f} {m[2, 3]:.1f} mm"
        case Position(position_mm=p):
            return f"at {p[0]:.1f} {p[1]:.1f} {p[2]:.1f} mm"
        case TrackingData(tools=tools):
            return ", ".join(tool.name for tool in tools) or "no tool in view"
        case QuaternionTrackingData(tools=quaternion_tools):
            return ", ".join(tool.name for tool in quaternion_tools) or "no tool in view"
        case Status() as status:
            return f"{status.code_words} {status.text}".strip()
        case String(text=text):
            return text if len(text) <= 60 else text[:59] + "…"
        case Capability(types=types):
            return " ".join(types)
        case Trajectories(elements=elements):
            return ", ".join(one.name for one in elements)
        case PolyData() as surface:
            return f"{len(surface.points_mm)} points, {surface.polygons.count} polygons"
        case Image() as image:
            size = "not known" if image.size is None else " x ".join(map(str, image.size))
            return f"{size} voxels of {image.voxels.dtype}, {image.coordinates}"
        case Request() as request:
            return request.type_name


class _Line:
    """A client in a thread, its messages in a queue."""

    def __init__(self, text: str, ask: Request | None = None) -> None:
        address = read_address(text)
        self.name, self.had_line = str(address), False
        self.why: str | None = None
        self.events: queue.SimpleQueue[tuple[Message | Refused, int]] = queue.SimpleQueue()
        self._asks = [ask] if ask is not None else []
        if address.stream != "as it comes":
            self._asks.append(Request("STT", address.stream.upper(), address.interval_ms, address.coordinates))
        crc64(b"ready")
        self.client = Client(
            lambda _, message, t_ns: self.events.put((message, t_ns)),
            opened=self._opened,
            closed=self._closed,
            refused=lambda _, refused: self.events.put((refused, time.monotonic_ns())),
        )
        self._thread = LoopThread("igtl listen")
        self._thread.start(self.client.run(address.host, address.port))

    def _opened(self, connection: Connection) -> None:
        self.had_line = True
        for ask in self._asks:
            connection.send(Message("", ask))

    def _closed(self, why: str) -> None:
        self.why = why

    def __enter__(self) -> _Line:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.stop()
