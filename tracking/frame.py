"""One picture of a camera, and what gives pictures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Frame:
    """`picture` is uint8, RGB (h, w, 3) or grey (h, w), as the lens bends it; `t_ns` is when it was exposed.

    `index` counts from 0; a gap means that pictures were lost.
    """

    t_ns: int
    picture: NDArray[np.uint8]
    index: int


class FrameSource(Protocol):
    """Pictures in the order of their time stamps; a context manager that lets go of the device or the file."""

    @property
    def name(self) -> str:
        """What was opened, for messages."""
        ...

    def __iter__(self) -> Iterator[Frame]:
        """The pictures; ends with the file, or when closed."""
        ...

    def close(self) -> None:
        """Let go of the device; may be called twice, and from another thread."""
        ...

    def __enter__(self) -> Self:
        """Use with `with`."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        ...
