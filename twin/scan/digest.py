"""The fingerprint of a scan: the same grid and voxels give the same, whatever files they came in."""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twin.scan.volume import Grid


def slice_digest(plane: NDArray[Any]) -> bytes:
    """SHA-256 of one slice's voxels."""
    return hashlib.sha256(np.ascontiguousarray(plane).data).digest()


def content_sha256(grid: Grid, voxels: NDArray[Any], digests: Sequence[bytes] | None = None) -> str:
    """SHA-256 over spacing, origin and axes (little-endian doubles) and the SHA-256 of each slice of (k, j, i) voxels.

    By slices, so that it can be taken in several threads; `digests` are given when they were taken while reading.
    """
    if digests is None:
        with ThreadPoolExecutor(2) as pool:
            digests = list(pool.map(slice_digest, voxels))
    digest = hashlib.sha256()
    for values in (grid.spacing_mm, grid.origin_mm, grid.axes):
        digest.update(np.ascontiguousarray(values, "<f8").tobytes())
    for one in digests:
        digest.update(one)
    return digest.hexdigest()
