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

    `t_ns` is the middle of the exposure of the picture's middle row, on a monotonic clock. `index` counts from 0; a gap
    means that pictures were lost. `exposure_ns`: how long each row gathered light; 0 is unknown or an instant.
    `readout_ns`: from the first row's exposure to the last row's; 0 is a global shutter, negative one that reads from
    the bottom. `repeated`: the picture equals the one before to the last bit, which a sensor never does: it says
    nothing about where things are now.
    """

    t_ns: int
    picture: NDArray[np.uint8]
    index: int
    exposure_ns: int = 0
    readout_ns: int = 0
    repeated: bool = False

    def __post_init__(self) -> None:
        """Refuse an exposure that ends before it begins."""
        if self.exposure_ns < 0:
            raise ValueError(f"exposure of {self.exposure_ns} ns")

    def row_ns(self, v: float) -> float:
        """How long after `t_ns` row `v` (pixel centres at integers) was exposed, ns."""
        height = len(self.picture)
        return (v / (height - 1) - 0.5) * self.readout_ns if height > 1 else 0.0


@dataclass(frozen=True)
class Stopped:
    """At `t_ns` no picture has come since `since_ns`, though the source is not at its end; `reason` is a sentence."""

    t_ns: int
    since_ns: int
    reason: str


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
