"""A tracker at the end of a wire gives sightings, as a camera of ours does: a pose with a covariance, or LOST and why.

No socket and no clock. A tracker's silence is an answer: a tool that it leaves out, marks as invalid, fills in with the
identity or repeats to the last bit is LOST, never still there.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from typing import Any, get_args

import numpy as np

from interop.openigtlink.address import Address
from interop.openigtlink.fields import BadContent
from interop.openigtlink.message import Message
from interop.openigtlink.poses import TOOL_6D, TRACKER, Position, QuaternionTrackingData, TrackingData, Transform
from interop.openigtlink.stamps import SenderClock
from interop.openigtlink.words import OK, Status
from spatial.faults import Fault
from spatial.frames import Camera
from spatial.rigid import Array, Rigid, UncertainRigid
from tracking.pose.sighting import Cause, Sighting

# What is assumed where nobody stated it: 0.35 mm RMS in space is what makers of optical trackers give for one sphere in
# the whole volume; a tool of 50 mm then turns by about 0.3 degrees.
ASSUMED_SD_MM = 0.35 / math.sqrt(3)
ASSUMED_SD_DEG = 0.3
RIGID_DEFECT = 1e-3
ASSUMED = "its spread is assumed, the tracker states none"
AGAIN_NS = 100_000_000
VALID = ("OK", "SWITCH1_IS_ON", "SWITCH2_IS_ON", "SWITCH3_IS_ON")  # PLUS's words; a pressed button is no loss
CAUSES: dict[str, Cause] = {
    "MISSING": "out of view",
    "OUT_OF_VIEW": "out of view",
    "OUT_OF_VOLUME": "out of view",
    "REQ_TIMEOUT": "camera stopped",
    "INVALID": "out of view",
    "PATH_NOT_FOUND": "never seen",
}
CAUSE_WORDS: tuple[Cause, ...] = get_args(Cause)
COVARIANCE = "osteotwin.covariance"
_NAME = re.compile(r"(.+)To([A-Z].*)")


@dataclass
class _Known:
    """What is remembered of a body."""

    arrived_ns: int | None = None
    stamp_ns: int | None = None
    numbers: bytes = b""
    same_since_ns: int = 0
    lost_told_ns: int = 0
    is_lost: bool = False
    interval_ns: float = 0.0


@dataclass
class Tally:
    """What was not used: the same measurement once more, another coordinate system, a tool nobody asked for."""

    repeated: int = 0
    elsewhere: dict[str, int] = field(default_factory=dict)
    unasked: dict[str, int] = field(default_factory=dict)


class WireTracker:
    """Messages to sightings; `assumed` says that no covariance was stated."""

    def __init__(self, address: Address) -> None:
        """What is known of the tracker stands in its address."""
        self.address = address
        self.to = address.to
        self.clock = SenderClock()
        self.tally = Tally()
        self.assumed = address.sd_mm is None or address.sd_deg is None
        sd_mm = ASSUMED_SD_MM if address.sd_mm is None else address.sd_mm
        sd_rad = math.radians(ASSUMED_SD_DEG if address.sd_deg is None else address.sd_deg)
        self.covariance = np.diag([sd_rad**2] * 3 + [sd_mm**2] * 3)
        self._known: dict[str, _Known] = {body: _Known() for body in address.tools.values()}
        self._heard_ns: int | None = None
        self._opened_ns: int | None = None
        self._trouble: str | None = None

    @property
    def bodies(self) -> tuple[str, ...]:
        """The bodies followed so far."""
        return tuple(self._known)

    def opened(self, now_ns: int) -> None:
        """The line is open: from now on silence counts."""
        self._heard_ns = self._opened_ns = now_ns
        self._trouble = None

    def receive(self, message: Message, arrived_ns: int) -> list[Sighting[Any]]:
        """What a message says of the bodies; `arrived_ns` monotonic."""
        self._heard_ns = arrived_ns
        content = message.content
        if isinstance(content, Status):
            return self._status(message.device, content, arrived_ns)
        if not isinstance(content, Transform | Position | TrackingData | QuaternionTrackingData):
            return []
        t_ns = self.clock.monotonic_ns(message.t_ns, arrived_ns) - round(self.address.latency_ms * 1e6)
        self._trouble = None
        out: list[Sighting[Any]] = []
        if isinstance(content, Transform | Position):
            body = self._body(message.device)
            if body is not None:
                word = message.metadata.get("TransformStatus") or message.metadata.get("Status")
                out += self._one(body, content, TOOL_6D, message, word, t_ns, arrived_ns)
            return out
        named = set()
        for tool in content.tools:
            body = None if tool.kind == TRACKER else self._body(tool.name)
            if body is not None:
                named.add(body)
                word = message.metadata.get(tool.name + "Status")
                out += self._one(body, tool, tool.kind, message, word, t_ns, arrived_ns)
        for body in self._known:
            if body not in named:
                why = "the tracker leaves it out: it does not see it"
                out += self._lost(body, t_ns, "out of view", why, told_ns=arrived_ns)
        return out

    def quiet(self, now_ns: int) -> list[Sighting[Any]]:
        """LOST for each body that nothing came of for too long; call it a few times a second."""
        out: list[Sighting[Any]] = []
        for body, known in self._known.items():
            limit_ns = max(self.address.quiet_ms * 1e6, 4 * known.interval_ns)
            begun_ns = self._opened_ns if known.arrived_ns is None else known.arrived_ns
            since_ns = 0 if begun_ns is None else now_ns - begun_ns
            if since_ns <= limit_ns or (known.is_lost and now_ns - known.lost_told_ns < AGAIN_NS):
                continue
            alive = self._heard_ns is not None and now_ns - self._heard_ns <= limit_ns
            cause: Cause
            if self._trouble is not None:
                cause, why = "camera stopped", self._trouble
            elif known.arrived_ns is None:
                cause, why = "never seen", "no pose of it ever came; is that its name on the wire?"
            elif alive:
                cause, why = "out of view", f"the tracker has sent no pose of it for {since_ns / 1e6:.0f} ms"
            else:
                cause, why = "camera stopped", f"nothing came for {since_ns / 1e6:.0f} ms; does the tracker still run?"
            out += self._lost(body, now_ns, cause, why, told_ns=now_ns)
        return out

    def broken(self, now_ns: int, why: str) -> list[Sighting[Any]]:
        """The line broke: all bodies are LOST at once."""
        self._trouble = why
        self.clock = SenderClock()
        return [s for body in self._known for s in self._lost(body, now_ns, "camera stopped", why, told_ns=now_ns)]

    def _body(self, name: str) -> str | None:
        """The body of a name on the wire; None (and a mark in the tally) for one that is not followed."""
        match = _NAME.fullmatch(name)
        short, to = (match[1], match[2]) if match else (name, None)
        tools = self.address.tools
        if name in tools:
            return tools[name]
        if to is not None:
            if self.to is None and (not tools or short in tools):
                self.to = to
            if to != self.to:
                self.tally.elsewhere[name] = self.tally.elsewhere.get(name, 0) + 1
                return None
        if tools and short not in tools:
            self.tally.unasked[name] = self.tally.unasked.get(name, 0) + 1
            return None
        body = tools.get(short, short)
        self._known.setdefault(body, _Known())
        return body

    def _one(
        self, body: str, source: Any, kind: int, message: Message, word: str | None, t_ns: int, arrived_ns: int
    ) -> list[Sighting[Any]]:
        known = self._known[body]
        if message.t_ns is not None and message.t_ns == known.stamp_ns:
            self.tally.repeated += 1
            return []
        if known.arrived_ns is not None:
            gap_ns = arrived_ns - known.arrived_ns
            known.interval_ns += 0.1 * (min(gap_ns, 1e9) - known.interval_ns) if known.interval_ns else min(gap_ns, 1e9)
        known.arrived_ns, known.stamp_ns = arrived_ns, message.t_ns
        if word is not None and word not in VALID:
            cause = CAUSES.get(word, "out of view")
            return self._lost(body, t_ns, cause, f"the tracker says {word}")
        if kind != TOOL_6D:
            return self._lost(
                body, t_ns, "too few markers", "the tracker gives its tip or axis alone, not all six degrees"
            )
        try:
            matrix = source.matrix
        except BadContent as fault:
            return self._lost(body, t_ns, "residual", fault.message)
        if matrix is None:
            return self._lost(body, t_ns, "too few markers", "POSITION came without a turn")
        trouble = self._suspicion(known, matrix, arrived_ns)
        if trouble is not None:
            return self._lost(body, t_ns, *trouble)
        u, singular, vt = np.linalg.svd(matrix[:, :3])
        det = float(np.linalg.det(matrix[:, :3]))
        if np.abs(singular - 1).max() > RIGID_DEFECT or det < 0:
            what = f"its matrix is no rotation (scales {singular.round(4).tolist()}, determinant {det:.3f})"
            return self._lost(body, t_ns, "residual", what)
        pose = Rigid[Camera, Any](u @ vt, matrix[:, 3])
        known.is_lost = False
        own = self._own_spread(message)
        doubt = ASSUMED if own is None and self.assumed else None
        uncertain = UncertainRigid(pose, self.covariance if own is None else own)
        return [Sighting[Any](body, t_ns, "TRACKED", doubt, uncertain, None)]

    def _suspicion(self, known: _Known, matrix: Array, arrived_ns: int) -> tuple[Cause, str] | None:
        """Numbers that no measurement gives."""
        if np.array_equal(matrix, np.eye(3, 4)):
            return "out of view", "exactly the identity: a pose that the sender filled in, not one that it measured"
        numbers = matrix.tobytes()
        if numbers != known.numbers:
            known.numbers, known.same_since_ns = numbers, arrived_ns
        same_ms = (arrived_ns - known.same_since_ns) / 1e6
        if self.address.repeat_ms and same_ms > self.address.repeat_ms:
            return "camera stopped", f"the same pose to the last bit for {same_ms / 1e3:.1f} s: repeated, not measured"
        return None

    def _own_spread(self, message: Message) -> Array | None:
        """What the sender states of this very pose (another Osteotwin does); None where it doesn't, or not soundly."""
        told = message.metadata.get(COVARIANCE)
        if told is None:
            return None
        try:
            return UncertainRigid(Rigid[Any, Any].identity(), np.array(json.loads(told), np.float64)).covariance
        except (ValueError, TypeError, Fault):
            return None

    def _status(self, device: str, status: Status, arrived_ns: int) -> list[Sighting[Any]]:
        if status.code == OK:
            self._trouble = None
            return []
        words = status.text or status.error or status.code_words
        match = _NAME.fullmatch(device)
        for body in {device, match[1] if match else device, self.address.tools.get(device, device)}:
            if body in self._known:
                cause: Cause = next((word for word in CAUSE_WORDS if word == status.error), "out of view")
                return self._lost(body, arrived_ns, cause, f"the tracker says: {words}")
        self._trouble = f"the tracker says: {words} ({status.code_words})"
        trouble = self._trouble
        return [s for body in self._known for s in self._lost(body, arrived_ns, "camera stopped", trouble)]

    def _lost(self, body: str, t_ns: int, cause: Cause, reason: str, told_ns: int | None = None) -> list[Sighting[Any]]:
        known = self._known[body]
        known.is_lost, known.lost_told_ns = True, told_ns or known.arrived_ns or 0
        return [Sighting[Any](body, t_ns, "LOST", reason, None, None, cause=cause)]
