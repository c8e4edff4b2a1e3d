"""Time on the wire: 32.32 fixed point seconds, and a sender's clock told in ours.

A sender stamps with a clock of its own. `arrived - sent` is the difference of the clocks plus the time on the way,
which is never negative: its smallest value over the last seconds comes closest to the difference alone. What the
fastest message took remains in it (loopback: 0.1 ms; a quiet wire: 1 ms) and can't be seen from one side.
"""

from __future__ import annotations

from collections import deque

from interop.openigtlink.fields import BadContent

SECOND = 1_000_000_000
BUCKET_NS = SECOND
BUCKETS = 10  # 50 ppm of drift move the clocks by 0.5 ms meanwhile
STEP_NS = SECOND // 2
STEP_MESSAGES = 20


def wire_from_ns(t_ns: int) -> int:
    """Nanoseconds to 32.32 fixed point, to the nearest quarter of a nanosecond. Raises BadContent out of its range."""
    seconds, rest = divmod(t_ns, SECOND)
    if not 0 <= seconds < 1 << 32:
        raise BadContent(f"time {t_ns} ns; the protocol's stamps run from 0 to 2^32 s")
    return (seconds << 32) | ((rest << 32) + SECOND // 2) // SECOND


def ns_from_wire(stamp: int) -> int:
    """32.32 fixed point to nanoseconds; gives back what `wire_from_ns` was given."""
    return (stamp >> 32) * SECOND + ((stamp & 0xFFFFFFFF) * SECOND + (1 << 31) >> 32)


class SenderClock:
    """Tells a sender's stamps in our monotonic nanoseconds.

    A stamp never lies after its arrival. When the sender's clock steps forward this is seen at once; when it steps
    back the messages seem late, as after a stalled wire, so they are believed only when `STEP_MESSAGES` in a row and a
    second agree; till then they count as old, which is the safe side.
    """

    def __init__(self) -> None:
        """Nothing heard yet."""
        self._least: deque[tuple[int, int]] = deque(maxlen=BUCKETS)  # (bucket, least arrived - sent in it)
        self._late = 0
        self._late_since_ns = 0
        self.steps = 0

    @property
    def offset_ns(self) -> int | None:
        """Ours minus the sender's clock, with the fastest message's time on the way; None before the first one."""
        return min(least for _, least in self._least) if self._least else None

    def monotonic_ns(self, sent_ns: int | None, arrived_ns: int) -> int:
        """When a message was made, in our time; without a stamp: when it arrived."""
        if sent_ns is None:
            return arrived_ns
        gap = arrived_ns - sent_ns
        offset = self.offset_ns
        if offset is not None and gap < offset - STEP_NS:
            self._restart()
        elif offset is not None and gap > offset + STEP_NS:
            if not self._late:
                self._late_since_ns = arrived_ns
            self._late += 1
            if self._late < STEP_MESSAGES or arrived_ns - self._late_since_ns < SECOND:
                return sent_ns + offset
            self._restart()
        self._late = 0
        bucket = arrived_ns // BUCKET_NS
        if self._least and self._least[-1][0] == bucket:
            gap = min(gap, self._least.pop()[1])
        self._least.append((bucket, gap))
        offset = self.offset_ns
        assert offset is not None
        return min(sent_ns + offset, arrived_ns)

    def _restart(self) -> None:
        self._least.clear()
        self._late = 0
        self.steps += 1
