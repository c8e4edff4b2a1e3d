"""Marrow that leaked: dark spongy bone behind an endplate or a wall with cracks, which no filling of cavities reaches.

Near an endplate a threshold that keeps the disc out also breaks a thin cortex. Once each vertebra has its own label the
question is simple: whatever it surrounds on nearly all sides by itself is its own marrow. A disc lies between two
vertebrae, and the canal is open above and below.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from spatial.compiled import njit
from spatial.rigid import Array
from twin.anatomy.heads import ways
from twin.anatomy.surface import bounding_boxes
from twin.scan.volume import Grid

RAYS = 42
MOST_MISSED = 3  # of them; in the phantoms 7 and more miss whatever is no marrow, but for a voxel or two
REACH_MM = 30.0
DARKEST_HU = -130  # fatty marrow; darker is gas


def seal(labels: NDArray[np.uint8], hu: NDArray[np.int16], grid: Grid, vertebrae: Collection[int]) -> None:
    """Give each of these labels the unlabelled voxels (k, j, i) that it surrounds, in place."""
    spacing = grid.spacing_mm[::-1]
    step_mm = float(spacing.min())
    steps = ways(RAYS) * step_mm / spacing
    for number, box in bounding_boxes(labels).items():
        if number not in vertebrae:
            continue
        block = labels[box]
        held = _between(block, hu[box], number)
        surrounded = _surrounded(block, held, number, steps, int(REACH_MM / step_mm))
        block[tuple(held[surrounded].T)] = number


@njit
def _between(labels: NDArray[np.uint8], hu: NDArray[np.int16], number: int) -> NDArray[np.int32]:
    """Unlabelled voxels (N, 3) that have the label on both of their sides along each axis."""
    nk, nj, ni = labels.shape
    k_ends = np.empty((nj, ni, 2), dtype=np.int32)
    j_ends = np.empty((ni, 2), dtype=np.int32)
    k_ends[:, :, 0], k_ends[:, :, 1] = nk, -1
    for k in range(nk):
        for j in range(nj):
            for i in range(ni):
                if labels[k, j, i] == number:
                    k_ends[j, i, 0] = min(k_ends[j, i, 0], k)
                    k_ends[j, i, 1] = k
    out = np.empty((256, 3), dtype=np.int32)
    n = 0
    for k in range(nk):
        j_ends[:, 0], j_ends[:, 1] = nj, -1
        for j in range(nj):
            for i in range(ni):
                if labels[k, j, i] == number:
                    j_ends[i, 0] = min(j_ends[i, 0], j)
                    j_ends[i, 1] = j
        for j in range(nj):
            first, last = ni, -1
            for i in range(ni):
                if labels[k, j, i] == number:
                    first = min(first, i)
                    last = i
            for i in range(first + 1, last):
                if (
                    labels[k, j, i] == 0
                    and hu[k, j, i] > DARKEST_HU
                    and j_ends[i, 0] < j < j_ends[i, 1]
                    and k_ends[j, i, 0] < k < k_ends[j, i, 1]
                ):
                    if n == len(out):
                        out = np.concatenate((out, np.empty_like(out)))
                    out[n, 0], out[n, 1], out[n, 2] = k, j, i
                    n += 1
    return out[:n].copy()


@njit
def _surrounded(
    labels: NDArray[np.uint8], voxels: NDArray[np.int32], number: int, steps: Array, reach: int
) -> NDArray[np.bool_]:
    """Whether all rays from each voxel but MOST_MISSED meet the label."""
    nk, nj, ni = labels.shape
    out = np.empty(len(voxels), dtype=np.bool_)
    for n in range(len(voxels)):
        missed = 0
        for way in range(len(steps)):
            met = False
            for s in range(1, reach + 1):
                k = int(np.floor(voxels[n, 0] + s * steps[way, 0] + 0.5))
                j = int(np.floor(voxels[n, 1] + s * steps[way, 1] + 0.5))
                i = int(np.floor(voxels[n, 2] + s * steps[way, 2] + 0.5))
                if k < 0 or j < 0 or i < 0 or k >= nk or j >= nj or i >= ni:
                    break
                if labels[k, j, i] == number:
                    met = True
                    break
            missed += not met
            if missed > MOST_MISSED:
                break
        out[n] = missed <= MOST_MISSED
    return out
