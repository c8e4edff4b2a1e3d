"""Whether bone is cut off by the picture's edge: sideways, where no neighbouring slice tells what is missing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BONE_HU = 300
OUTSIDE_HU = -1200  # below air: what scanners fill the corners outside the reconstructed circle with
LOOKED_AT = 32  # slices
ENOUGH_PIXELS = 6  # one alone is noise or a wire


def bone_at_edge(hu: NDArray[np.int16]) -> float:
    """The share of slices (of some, evenly spread) in which bone touches the picture's border or the padding."""
    looked = hu[:: max(1, len(hu) // LOOKED_AT)]
    cut = 0
    for plane in looked:
        bone = plane > BONE_HU
        count = int(bone[0].sum() + bone[-1].sum() + bone[:, 0].sum() + bone[:, -1].sum())
        outside = plane < OUTSIDE_HU
        if outside.any():
            count += int((bone[1:] & outside[:-1]).sum() + (bone[:-1] & outside[1:]).sum())
            count += int((bone[:, 1:] & outside[:, :-1]).sum() + (bone[:, :-1] & outside[:, 1:]).sum())
        cut += count >= ENOUGH_PIXELS
    return cut / len(looked)
