"""What `osteotwin track` says: a line a body a picture, a summary, files, pictures."""

from __future__ import annotations

import json
import math
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TextIO

from commands.console import emit, tell
from commands.track_order import Order
from commands.track_wire import Send, nothing
from spatial.faults import Fault

if TYPE_CHECKING:
    from tracking.history.history import PoseHistory
    from tracking.history.timed import TimedPose
    from tracking.pose.sighting import Sighting

NO_MORE: Mapping[str, Any] = MappingProxyType({})


class NoMarkers(Fault):
    """Not one picture shows a marker that was asked for."""


def line(index: int | None, sighting: Sighting[Any], timed: TimedPose[Any]) -> dict[str, Any]:
    """One line of `--json`; a lost body has no pose, and says why. `filtered` is the history's pose at that instant.

    `index` is None where the camera gave no picture.
    """
    found = sighting.camera_from_body
    known = timed.uncertain
    return {
        "frame": index,
        "t_ns": sighting.t_ns,
        "body": sighting.body,
        "status": sighting.status,
        "how": timed.how,
        "cause": sighting.cause or timed.cause,
        "reason": sighting.reason or timed.reason,
        "camera_from_body": found.pose.to_json() if found else None,
        "covariance": found.covariance.tolist() if found else None,
        "rms_px": sighting.rms_px if sighting.rms_px is not None and math.isfinite(sighting.rms_px) else None,
        "corners_px": {str(marker): corners.tolist() for marker, corners in sighting.corners_px.items()},
        "ambiguity": sighting.ambiguity if math.isfinite(sighting.ambiguity) else None,
        "filtered": None
        if known is None
        else {"camera_from_body": known.pose.to_json(), "covariance": known.covariance.tolist()},
        "age_ms": timed.age_ns / 1e6,
    }


def words(index: int | None, sighting: Sighting[Any]) -> str:
    """The same for a person."""
    frame = "-" if index is None else str(index)
    found = sighting.camera_from_body
    if found is None:
        return f"{frame:>5s}  {sighting.body:16s} LOST     {sighting.reason}"
    x, y, z = found.pose.translation_mm
    sd_mm = math.sqrt(float(found.covariance[5, 5]))
    doubt = f"; {sighting.reason}" if sighting.reason else ""
    by = "" if sighting.rms_px is None else f"  {len(sighting.corners_px)} markers, {sighting.rms_px:.2f} px"
    return (
        f"{frame:>5s}  {sighting.body:16s} TRACKED  x {x:8.2f}  y {y:8.2f}  z {z:8.2f} mm (sd {sd_mm:.2f}){by}{doubt}"
    )


@dataclass
class Summary:
    """What became of the pictures, and of each body in them: how often tracked, and how often lost for which cause."""

    pictures: int = 0
    stops: int = 0
    stopped: bool = False
    markers: int = 0
    tracked: Counter[str] = field(default_factory=Counter)
    lost: dict[str, Counter[str]] = field(default_factory=dict)
    order: Order = field(default_factory=Order)
    hints: Counter[str] = field(default_factory=Counter)

    def add(self, sighting: Sighting[Any]) -> None:
        """Count one."""
        self.markers += len(sighting.corners_px)
        causes = self.lost.setdefault(sighting.body, Counter())
        if sighting.status == "TRACKED":
            self.tracked[sighting.body] += 1
        else:
            causes[sighting.cause or "residual"] += 1
            hint = (sighting.reason or "").partition("; ")[2]
            self.hints.update([hint] if hint else [])

    def lines(self) -> list[str]:
        """A line a body; a single marker is counted from the picture on in which it was first seen."""
        out = []
        for body, causes in self.lost.items():
            total = self.tracked[body] + causes.total()
            why = ", ".join(f"{n} {cause}" for cause, n in causes.most_common())
            out.append(
                f"{body}: tracked in {self.tracked[body]} of {total} pictures" + (f"; lost: {why}" if why else "")
            )
        if self.stops:
            out.append(f"the camera stopped {self.stops} times")
        return out + self.order.lines()


@dataclass(frozen=True)
class Output:
    """Where lines and pictures go: stdout, a file, a folder, a wire; a line waits for `behind` pictures more."""

    as_json: bool
    sink: TextIO | None
    overlay: Path | None
    send: Send = nothing
    behind: int = 0
    waiting: dict[str, deque[tuple[int | None, Sighting[Any], PoseHistory[Any]]]] = field(default_factory=dict)

    def put_later(self, index: int | None, sighting: Sighting[Any], history: PoseHistory[Any]) -> None:
        """With the pose that the history gives once it has seen `behind` pictures more."""
        queue = self.waiting.setdefault(sighting.body, deque())
        queue.append((index, sighting, history))
        if len(queue) > self.behind:
            self._put_first(queue)

    def flush(self) -> None:
        """What still waits, in the order of its instants."""
        while queues := [queue for queue in self.waiting.values() if queue]:
            self._put_first(min(queues, key=lambda queue: queue[0][1].t_ns))

    def _put_first(self, queue: deque[tuple[int | None, Sighting[Any], PoseHistory[Any]]]) -> None:
        index, sighting, history = queue.popleft()
        self.put(index, sighting, history.at(sighting.t_ns))

    def put(
        self, index: int | None, sighting: Sighting[Any], timed: TimedPose[Any], more: Mapping[str, Any] = NO_MORE
    ) -> None:
        """Now; `more` are further keys of the JSON line."""
        if self.as_json or self.sink is not None:
            value = {**line(index, sighting, timed), **more}
            if self.sink is not None:
                self.sink.write(json.dumps(value, allow_nan=False) + "\n")
            if self.as_json:
                emit(value)
        if not self.as_json:
            tell(words(index, sighting))


def with_reason(sighting: Sighting[Any], words: str | None) -> Sighting[Any]:
    """With a reason more, beside the one that it may have."""
    if words is None:
        return sighting
    return replace(sighting, reason=f"{sighting.reason}; {words}" if sighting.reason else words)


def folder(path: Path | None) -> Path | None:
    """The folder, made where it is asked for."""
    if path is not None:
        path.mkdir(parents=True, exist_ok=True)
    return path


@contextmanager
def writer(path: Path | None) -> Iterator[TextIO | None]:
    """The file of lines, open where it is asked for."""
    if path is None:
        yield None
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as sink:
        yield sink
