"""A network stream as a source: rtsp, rtmp, http (Motion JPEG too), udp, srt, through FFmpeg."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import av

from tracking.sources.clock import DeviceClock
from tracking.sources.closing import BadSource, CameraSilent
from tracking.sources.live import Feed, LiveSource, Shutter

SCHEMES = ("rtsp", "rtsps", "rtmp", "http", "https", "udp", "tcp", "srt", "rtp")
OPTIONS = {"fflags": "nobuffer", "flags": "low_delay", "rtsp_transport": "tcp"}
SETTLE_NS = 300_000_000  # the first pictures come in a burst and say little about the sender's clock
UNSTAMPED = ("mpjpeg", "mjpeg", "image2pipe")  # their stamps are counted up, not measured


class NetworkFeed:
    """An open stream as a `Feed`; the sender's stamps on our clock, or the time of arrival where it sends none."""

    def __init__(self, url: str, timeout_s: float, format_name: str | None = None) -> None:
        """Connect. Raises CameraSilent, and BadSource for a file behind an address."""
        self.url = url
        self._clock = DeviceClock()
        self._first_ns = 0
        shown = hidden(url)
        try:
            self._container: Any = av.open(
                url, options=dict(OPTIONS), timeout=(timeout_s, timeout_s), format=format_name
            )
        except (av.error.FFmpegError, OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or type(error).__name__
            raise CameraSilent(f"{shown} can't be opened within {timeout_s:g} s: {why}") from None
        if not self._container.streams.video:
            self._container.close()
            raise CameraSilent(f"{shown} sends no video")
        if url.lower().startswith("http") and (self._container.duration or 0) > 0:
            seconds = self._container.duration / 1e6
            self._container.close()
            raise BadSource(f"{shown} is a file of {seconds:.0f} s, no stream: fetch it and give the file")
        stream = self._container.streams.video[0]
        stream.thread_type = "SLICE"  # threads by frame would hold pictures back
        self._stamped = not any(name in self._container.format.name for name in UNSTAMPED)
        self._pictures: Iterator[Any] = self._container.decode(stream)

    @property
    def clock_steps(self) -> int:
        """How many times the sender's clock jumped."""
        return self._clock.steps

    def read(self) -> Shutter | None:
        """Wait for the next picture; None when the stream ends, breaks or stays silent too long."""
        while True:
            try:
                decoded = next(self._pictures, None)
            except (av.error.FFmpegError, OSError):
                return None
            if decoded is None:
                return None
            t_ns = time.monotonic_ns()
            self._first_ns = self._first_ns or t_ns
            stamped = self._stamped and decoded.pts is not None
            if not stamped:
                return Shutter(t_ns, decoded.to_ndarray(format="rgb24"), stamped=False)
            taken_ns = self._clock.monotonic_ns(round(int(decoded.pts) * float(decoded.time_base) * 1e9), t_ns)
            if t_ns - self._first_ns > SETTLE_NS:
                return Shutter(taken_ns, decoded.to_ndarray(format="rgb24"))

    def close(self) -> None:
        """Close the connection."""
        self._container.close()


class StreamSource(LiveSource):
    """A network stream: the newest picture, connected again when it breaks.

    Stamps have the network's least delay in them, which nothing here can know.
    """

    def __init__(
        self, url: str, *, timeout_s: float = 5.0, give_up_s: float = 30.0, format_name: str | None = None
    ) -> None:
        """Connect and start the thread. Raises CameraSilent."""

        def connect() -> Feed:
            return NetworkFeed(url, timeout_s, format_name)

        super().__init__(hidden(url), connect, give_up_s=give_up_s)


def hidden(url: str) -> str:
    """The address without the password that may stand in it."""
    scheme, slashes, rest = url.partition("://")
    user, at, place = rest.rpartition("@")
    return f"{scheme}{slashes}{'…@' if at and user else ''}{place}"
