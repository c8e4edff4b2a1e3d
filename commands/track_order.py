"""How the pictures of a recording follow one another: what is missing, came twice, came late, and clocks that jump."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tracking.frame import Frame

JUMP_NS = 1_000_000_000  # stamps that fall by more are a clock's; as the pose history takes them (Limits.jump_ns)
UNUSUAL = 10  # times the usual time between two pictures: a slow series is no clock that jumps


@dataclass
class Order:
    """Counts while pictures come; `numbered`: a gap between their numbers means that pictures are missing."""

    numbered: bool = True
    missing: int = 0
    again: int = 0
    late: int = 0
    jumps: int = 0
    _index: int = -1
    _t_ns: int | None = None
    _usual_ns: float | None = None

    def see(self, frame: Frame) -> str | None:
        """Count a picture; what is wrong with its place among the others, in a sentence."""
        before_ns, step = self._t_ns, frame.index - self._index
        if self.numbered:
            self.missing = max(0, self.missing + (step - 1 if step > 0 else -1 if step < 0 else 0))
        self._index = max(self._index, frame.index)
        self.again += frame.repeated
        if before_ns is None:
            self._t_ns = frame.t_ns
            return None
        ahead_ns = frame.t_ns - before_ns
        if ahead_ns == 0:
            self.again += not frame.repeated
            return "this picture, or one of the same instant, came before"
        if -JUMP_NS <= ahead_ns < 0:
            self.late += 1
            return f"this picture came late, {-ahead_ns / 1e6:.1f} ms older than one before it"
        self._t_ns = frame.t_ns
        each_ns = ahead_ns / max(step, 1)
        if ahead_ns < 0 or (self._usual_ns is not None and each_ns > max(JUMP_NS, UNUSUAL * self._usual_ns)):
            self.jumps += 1
            return f"the time stamps jump by {ahead_ns / 1e9:+.1f} s; was the clock set?"
        self._usual_ns = each_ns
        return None

    def lines(self) -> list[str]:
        """What was counted, in a sentence; nothing where every picture came in its place."""
        told = {"missing": self.missing, "the same again": self.again, "out of order": self.late}
        words = [f"{count} {what}" for what, count in told.items() if count]
        words += [f"the clock jumped {self.jumps} x"] if self.jumps else []
        return ["pictures: " + ", ".join(words)] if words else []
