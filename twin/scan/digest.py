"""The fingerprint of a scan: the same grid and voxels give the same, whatever files they came in."""

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twin.scan.volume import Grid


def content_sha256(grid: Grid, voxels: NDArray[Any]) -> str:
    """SHA-256 over spacing, origin and axes (little-endian doubles) and the (k, j, i) voxels."""
    digest = hashlib.sha256()
    for values in (grid.spacing_mm, grid.origin_mm, grid.axes):
        digest.update(np.ascontiguousarray(values, "<f8").tobytes())
    digest.update(np.ascontiguousarray(voxels).data)
    return digest.hexdigest()
