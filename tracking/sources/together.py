"""Pictures of several cameras put together by their instants, from recordings or from cameras that go on."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tracking.frame import Frame, FrameSource, Stopped
from tracking.sources.closing import CameraSilent
from tracking.sources.source import pictures_after
from tracking.sources.watch import Watchable, watch

Instant = tuple[Frame | None, ...]
PATIENCE_S = 0.25
ALONE_NS = 500_000_000  # pictures that come and are never of one instant


@dataclass
class Unused:
    """Pictures of recordings that came to no instant, by the camera's number.

    `alone`: no picture of every other camera was near; `left`: they come after the recording `ended` had ended.
    """

    ended: int | None = None
    alone: Counter[int] = field(default_factory=Counter)
    left: Counter[int] = field(default_factory=Counter)


def together(
    sources: Sequence[FrameSource], within_ns: int, unused: Unused | None = None
) -> Iterator[Instant | Stopped]:
    """For each instant a picture of every camera, taken within so long of one another; others are passed over.

    A live camera that has stopped is None until it gives pictures again, and the others go on; Stopped when none is
    left, or when their pictures are never of one instant. Whoever reads slowly gets the newest pictures. Recordings end
    with the shortest, and `unused` then tells what was not used; live ones when no camera is left; CameraSilent then.
    """
    if any(isinstance(source, Watchable) for source in sources):
        return _live(sources, within_ns)
    return _recorded(sources, within_ns, Unused() if unused is None else unused)


def _recorded(sources: Sequence[FrameSource], within_ns: int, unused: Unused) -> Iterator[Instant]:
    streams = [iter(source) for source in sources]
    last: dict[int, Frame] = {}
    waiting: dict[int, Frame] = {}  # read, and not used yet
    while True:
        for k in [k for k in range(len(sources)) if k not in waiting]:
            frame = next(streams[k], None)
            if frame is None:
                unused.ended = k
                for other in set(range(len(sources))) - {k}:
                    rest = _rest(sources[other], streams[other], last.get(other))
                    unused.left[other] = rest + (other in waiting)
                return
            last[k] = waiting[k] = frame
        newest = max(frame.t_ns for frame in waiting.values())
        late = [k for k, frame in waiting.items() if newest - frame.t_ns > within_ns]
        if not late:
            yield tuple(waiting[k] for k in range(len(sources)))
            waiting.clear()
        for k in late:
            del waiting[k]
        unused.alone.update(late)


def _rest(source: FrameSource, stream: Iterator[Frame], last: Frame | None) -> int:
    """How many pictures a recording still has; read to its end where it does not tell."""
    known = None if last is None else pictures_after(source, last)
    return sum(1 for _ in stream) if known is None else known


def _live(sources: Sequence[FrameSource], within_ns: int) -> Iterator[Instant | Stopped]:
    inbox = _Inbox(sources)
    matched_ns: int | None = None
    now: list[Frame | None] = [None] * len(sources)
    stopped: list[Stopped | None] = [None] * len(sources)
    try:
        while (news := inbox.take()) is not None:
            for number, event in enumerate(news):
                if isinstance(event, Stopped):
                    stopped[number], now[number] = event, None
                elif event is not None:
                    stopped[number], now[number] = None, event
            stops = [stop for stop in stopped if stop is not None]
            there = [frame for frame in now if frame is not None]
            if len(stops) == len(now):
                yield max(stops, key=lambda stop: stop.t_ns)
            if not there or len(there) + len(stops) < len(now):
                continue  # a camera that runs has yet to give its picture
            newest, oldest = max(frame.t_ns for frame in there), min(frame.t_ns for frame in there)
            if newest - oldest <= within_ns:
                matched_ns = newest
                yield tuple(now)
                now = [None] * len(now)
            else:
                matched_ns = newest if matched_ns is None else matched_ns
                if newest - matched_ns > ALONE_NS:
                    yield Stopped(newest, matched_ns, _apart(newest - oldest, within_ns))
                    matched_ns = newest
                now = [None if frame is None or newest - frame.t_ns > within_ns else frame for frame in now]
    finally:
        inbox.close()


def _apart(gap_ns: int, within_ns: int) -> str:
    return (
        f"the cameras' pictures are {gap_ns / 1e6:.1f} ms apart, {within_ns / 1e6:g} are allowed (--sync-ms); do they "
        "run at one rate, triggered together?"
    )


class _Inbox:
    """The newest event of each camera, brought by a thread a camera."""

    def __init__(self, sources: Sequence[FrameSource]) -> None:
        self._changed = threading.Condition()
        self._news: list[Frame | Stopped | None] = [None] * len(sources)
        self._over = False
        self._running = len(sources)
        self._error: BaseException | None = None
        for number, source in enumerate(sources):
            name = f"together:{source.name}"
            threading.Thread(target=self._run, args=(number, source), name=name, daemon=True).start()

    def take(self) -> list[Frame | Stopped | None] | None:
        """Wait for news; None when the last camera has ended. Raises what a source raised."""
        with self._changed:
            self._changed.wait_for(lambda: self._over or any(event is not None for event in self._news))
            if self._error is not None:
                raise self._error
            if self._over:
                return None
            news, self._news = self._news, [None] * len(self._news)
            return news

    def close(self) -> None:
        """Let the threads end with their next event."""
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def _run(self, number: int, source: FrameSource) -> None:
        error: BaseException | None = None
        try:
            for event in watch(source, PATIENCE_S):
                with self._changed:
                    if self._over:
                        return
                    self._news[number] = event
                    self._changed.notify_all()
        except BaseException as fault:  # raised again by the reader
            error = fault
        with self._changed:
            self._running -= 1
            if isinstance(error, CameraSilent) and self._running:  # the others go on without it
                now_ns = time.monotonic_ns()
                self._news[number] = Stopped(now_ns, now_ns, str(error))
            else:
                self._over, self._error = True, self._error or error
            self._changed.notify_all()
