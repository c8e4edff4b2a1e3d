"""Whether a camera gave the same picture twice: sensors are noisy, so two equal pictures are one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

STRIDE = 61  # a first look at few values; only where all of them agree is everything compared


def same_picture(picture: NDArray[np.uint8], earlier: NDArray[np.uint8] | None) -> bool:
    """Whether every value is equal. A few microseconds where they are not."""
    if earlier is None or picture.shape != earlier.shape:
        return False
    if picture is earlier:
        return True
    few = picture[::STRIDE, ::STRIDE]
    return bool(np.array_equal(few, earlier[::STRIDE, ::STRIDE]) and np.array_equal(picture, earlier))
