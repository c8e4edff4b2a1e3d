"""A device that gives pictures of its own accord: a thread of its own, reconnecting, every loss counted.

The reader always gets the newest picture. Nothing here knows what the device is: a camera and a network stream differ
in their `Feed`.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from statistics import median
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from spatial.faults import Fault
from tracking.frame import Frame, Stopped
from tracking.latest import Latest
from tracking.sources.closing import CameraSilent, Closing, SizeChanged
from tracking.sources.repeats import same_picture

PATIENCE_S = 0.25
CLOCK_STEP_NS = 500_000_000  # no picture is that late
GAPS = 31  # the usual time between pictures is the median of so many: a camera in the dark slows down


@dataclass(frozen=True, eq=False)
class Shutter:
    """One picture of a feed, as in Frame. `stamped`: by the device; else by when it came, and a gap proves no loss."""

    t_ns: int
    picture: NDArray[np.uint8]
    exposure_ns: int = 0
    readout_ns: int = 0
    stamped: bool = True


class Feed(Protocol):
    """An open device."""

    @property
    def clock_steps(self) -> int:
        """How many times the device's clock jumped."""
        ...

    def read(self) -> Shutter | None:
        """Wait for the next picture; None when the device has gone."""
        ...

    def close(self) -> None:
        """Let go of the device."""
        ...


@dataclass(frozen=True)
class Counts:
    """What became of a live source's pictures since it was opened.

    `received` came from the device; of these `repeated` were the same picture again and `belated` bore a stamp before
    the last one's (both are dropped), `overwritten` came while the reader was busy. `missed` never came (gaps between
    stamps). `clock_steps`: how many times the device's clock jumped; `reconnected`: how many times the device was lost
    and found again.
    """

    received: int = 0
    repeated: int = 0
    overwritten: int = 0
    missed: int = 0
    belated: int = 0
    clock_steps: int = 0
    reconnected: int = 0

    def __str__(self) -> str:
        """For people: what came, and each loss that there was."""
        told = {
            "too fast for the reader": self.overwritten,
            "missing": self.missed,
            "the same again": self.repeated,
            "out of order": self.belated,
        }
        losses = [f"{count} {what}" for what, count in told.items() if count]
        times = [f"clock jumped {self.clock_steps} x"] if self.clock_steps else []
        times += [f"found again {self.reconnected} x"] if self.reconnected else []
        return f"{self.received} pictures came" + "".join(f", {words}" for words in losses + times)


class LiveSource(Closing):
    """Pictures of a device as they come; see `Counts` for those that don't reach the reader.

    A device that goes silent is opened again, with growing pauses, for `give_up_s`; meanwhile `events` says Stopped.
    """

    def __init__(
        self, name: str, connect: Callable[[], Feed], *, silent_s: float = 2.0, give_up_s: float = 30.0
    ) -> None:
        """Open the device with `connect` and start its thread. Raises what `connect` raises."""
        self._name, self._connect = name, connect
        self.silent_s, self.give_up_s = silent_s, give_up_s
        self._feed: Feed | None = connect()
        self._slot: Latest[Frame] = Latest()
        self._stop = threading.Event()
        self._counts = Counts()
        self._index = 0
        self._gaps_ns: deque[int] = deque(maxlen=GAPS)
        self._size: tuple[int, ...] | None = None
        self._trouble: str | None = None
        self._failed: Fault | None = None
        self._last_ns = time.monotonic_ns()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def name(self) -> str:
        """As on the command line."""
        return self._name

    @property
    def counts(self) -> Counts:
        """What became of the pictures so far."""
        return replace(self._counts, overwritten=self._slot.overwritten)

    @property
    def lost(self) -> int:
        """Pictures that came while the reader was busy."""
        return self._slot.overwritten

    def __iter__(self) -> Iterator[Frame]:
        """The newest picture each time, until closed; waits while the device is opened again.

        Raises CameraSilent when it stays away, SizeChanged when it comes back with pictures of another size.
        """
        for event in self.events():
            if isinstance(event, Frame):
                yield event

    def events(self, patience_s: float = PATIENCE_S) -> Iterator[Frame | Stopped]:
        """The newest picture each time, or Stopped after `patience_s` without one. Raises as iterating does."""
        while not self._stop.is_set():
            frame = self._slot.take(patience_s)
            if frame is not None:
                yield frame
            elif self._stop.is_set():
                return
            elif self._slot.closed:
                raise self._failed or CameraSilent(f"{self._name} ended")
            else:
                now = time.monotonic_ns()
                since = self._last_ns
                why = self._trouble or f"{self._name} gave no picture for {(now - since) / 1e9:.2f} s"
                yield Stopped(now, since, why)

    def close(self) -> None:
        """Stop the thread and free the device."""
        self._stop.set()
        self._slot.close()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=self.silent_s)

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                if self._feed is None and not self._reconnect():
                    break
                self._pictures()
        except Fault as fault:
            self._failed = fault
        finally:  # whatever ended it, the reader must not wait for nothing and the device must be free
            self._drop()
            self._slot.close()

    def _drop(self) -> None:
        feed, self._feed = self._feed, None
        if feed is not None:
            feed.close()

    def _pictures(self) -> None:
        """Hand on what the device gives, until it goes."""
        feed = self._feed
        assert feed is not None
        earlier: NDArray[np.uint8] | None = None
        stamp_ns: int | None = None
        steps = 0
        while not self._stop.is_set():
            shutter = feed.read()
            if shutter is None:
                self._trouble = f"{self._name} stopped giving pictures; was it unplugged?"
                self._drop()
                return
            counts = replace(self._counts, received=self._counts.received + 1)
            if same_picture(shutter.picture, earlier):
                self._counts = replace(counts, repeated=counts.repeated + 1)
                self._trouble = f"{self._name} repeats the same picture; is it frozen?"
                self._index += 1
                continue
            if self._size is not None and shutter.picture.shape != self._size:
                raise SizeChanged(
                    f"{self._name} gives {shutter.picture.shape[1]} x {shutter.picture.shape[0]} px, it gave "
                    f"{self._size[1]} x {self._size[0]}; has another program changed its mode?"
                )
            if stamp_ns is not None:
                gap_ns = shutter.t_ns - stamp_ns
                if -CLOCK_STEP_NS < gap_ns <= 0:
                    self._counts = replace(counts, belated=counts.belated + 1)
                    self._index += 1
                    continue
                counts = self._told(counts, gap_ns, shutter.stamped)
            if feed.clock_steps > steps:
                counts = replace(counts, clock_steps=counts.clock_steps + feed.clock_steps - steps)
                steps = feed.clock_steps
            self._counts, self._trouble, self._last_ns = counts, None, time.monotonic_ns()
            self._size, earlier, stamp_ns = shutter.picture.shape, shutter.picture, shutter.t_ns
            frame = Frame(shutter.t_ns, shutter.picture, self._index, shutter.exposure_ns, shutter.readout_ns)
            self._slot.put(frame)
            self._index += 1

    def _told(self, counts: Counts, gap_ns: int, stamped: bool) -> Counts:
        """What the gap between two stamps tells: a clock that jumped, or pictures that are missing."""
        passed_ns = time.monotonic_ns() - self._last_ns
        if gap_ns < 0 or gap_ns - passed_ns > CLOCK_STEP_NS:  # whoever reads the pictures sees it in their stamps
            return replace(counts, clock_steps=counts.clock_steps + 1)
        usual_ns = median(self._gaps_ns) if len(self._gaps_ns) == GAPS else 0
        self._gaps_ns.append(gap_ns)
        if not usual_ns or gap_ns <= 1.5 * usual_ns or not stamped:
            return counts
        missed = round(gap_ns / usual_ns) - 1
        self._index += missed
        return replace(counts, missed=counts.missed + missed)

    def _reconnect(self) -> bool:
        """Open the device again; False when it stays away or the source is closed."""
        until = time.monotonic() + self.give_up_s
        pause_s = 0.1
        tries = 0
        while not self._stop.wait(pause_s):
            tries += 1
            try:
                self._feed = self._connect()
            except CameraSilent:
                if time.monotonic() >= until:
                    self._failed = CameraSilent(
                        f"{self._name} stopped giving pictures and did not come back in {self.give_up_s:g} s "
                        f"({tries} tries); was it unplugged?"
                    )
                    return False
                pause_s = min(2 * pause_s, 2.0)
                continue
            self._counts = replace(self._counts, reconnected=self._counts.reconnected + 1)
            return True
        return False
