"""What all sources share: their faults, and letting go of what they hold."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from spatial.faults import Fault, Misuse


class BadSource(Misuse):
    """A source that is not there or not understood."""


class NoVideo(Fault):
    """A file that is no video, a truncated one, a folder without pictures."""


class CameraSilent(Fault):
    """A camera or a stream that can't be opened or stopped giving pictures."""


class SizeChanged(Fault):
    """A source whose pictures change their size on the way: no calibration fits them all."""


class Closing:
    """A source for `with`: leaving it closes."""

    def close(self) -> None:
        """Nothing to let go of."""

    def __enter__(self) -> Self:
        """The source itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()
