"""A device's own clock on ours: the least delay seen tells how far apart they are."""

from __future__ import annotations

STEP_NS = 500_000_000
DRIFT = 2e-4  # two quartz clocks part by less than this


class DeviceClock:
    """Turns a device's stamps into monotonic ones.

    A picture can't arrive before it was taken, and the quickest arrives soonest after: the smallest difference between
    arrival and stamp, let grow by the clocks' drift, is the offset. The delay of the quickest picture stays unknown
    (`osteotwin calibrate latency` measures it). `steps` counts stamps that fell, or ran ahead of the time that passed
    by more than half a second; then the offset is found anew.
    """

    def __init__(self) -> None:
        """Start without an offset."""
        self.steps = 0
        self._offset_ns: float | None = None
        self._stamp_ns = 0
        self._arrival_ns = 0

    def monotonic_ns(self, stamp_ns: int, arrival_ns: int) -> int:
        """When a picture stamped `stamp_ns` by the device was taken; it came at `arrival_ns`."""
        if self._offset_ns is not None:
            passed = arrival_ns - self._arrival_ns
            told = stamp_ns - self._stamp_ns
            if told < 0 or told - passed > STEP_NS:
                self.steps += 1
                self._offset_ns = None
            else:
                self._offset_ns += DRIFT * passed
        delay = arrival_ns - stamp_ns
        self._offset_ns = delay if self._offset_ns is None else min(self._offset_ns, delay)
        self._stamp_ns, self._arrival_ns = stamp_ns, arrival_ns
        return round(stamp_ns + self._offset_ns)
