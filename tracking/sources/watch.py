"""Any source as a stream that also says when it has stopped: what a loop over pictures should read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

from tracking.frame import Frame, FrameSource, Stopped


@runtime_checkable
class Watchable(Protocol):
    """A source that knows when its pictures stay away."""

    def events(self, patience_s: float = ..., /) -> Iterator[Frame | Stopped]:
        """Pictures, and Stopped after each `patience_s` without one."""
        ...


def watch(source: FrameSource, patience_s: float = 0.25) -> Iterator[Frame | Stopped]:
    """The pictures of a source; from a live one also Stopped after each `patience_s` without a picture."""
    return source.events(patience_s) if isinstance(source, Watchable) else iter(source)
