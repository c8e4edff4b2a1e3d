"""Compiled passes over label voxels: numpy would widen every byte to eight for each of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spatial.compiled import njit, njit_parallel, prange
from spatial.rigid import Array
from twin.scan.orientation import patient_from_index
from twin.scan.volume import Grid


def present(values: NDArray[np.uint8]) -> list[int]:
    """The numbers above zero that occur, in order."""
    return [int(n) for n in np.flatnonzero(_seen(np.ascontiguousarray(values).reshape(-1))) if n]


def mapped(values: NDArray[np.uint8], table: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Each number replaced by `table` (256,) of it."""
    out = np.empty(values.shape, np.uint8)
    _mapped(np.ascontiguousarray(values).reshape(-1), table, out.reshape(-1))
    return out


def nearest(values: NDArray[np.uint8], matrix: Array, grid: Grid) -> NDArray[np.uint8]:
    """The value of an image nearest to each voxel of `grid`, 0 outside; its (4, 4) map from (i, j, k) may shear."""
    old_from_new = np.linalg.inv(matrix) @ patient_from_index(grid)
    return _nearest(
        np.ascontiguousarray(values), np.ascontiguousarray(old_from_new[:3]), np.empty(grid.shape, np.uint8)
    )


def centroids(values: NDArray[np.uint8]) -> dict[int, tuple[int, Array]]:
    """Voxel count and centroid (i, j, k) of each number above zero that occurs."""
    sums = _moments(np.ascontiguousarray(values))
    return {int(n): (int(sums[n, 0]), sums[n, 1:] / sums[n, 0]) for n in np.flatnonzero(sums[:, 0]) if n}


@njit
def _moments(values: NDArray[np.uint8]) -> Array:
    depth, height, width = values.shape
    sums = np.zeros((256, 4))
    for k in range(depth):
        for j in range(height):
            for i in range(width):
                n = values[k, j, i]
                if n:
                    sums[n, 0] += 1.0
                    sums[n, 1] += i
                    sums[n, 2] += j
                    sums[n, 3] += k
    return sums


@njit
def _seen(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    seen = np.zeros(256, np.uint8)
    for n in range(values.size):
        seen[values[n]] = 1
    return seen


@njit
def _mapped(values: NDArray[np.uint8], table: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
    for n in range(values.size):
        out[n] = table[values[n]]


@njit_parallel
def _nearest(values: NDArray[np.uint8], m: Array, out: NDArray[np.uint8]) -> NDArray[np.uint8]:
    depth, height, width = values.shape
    for k in prange(out.shape[0]):
        for j in range(out.shape[1]):
            x0 = m[0, 1] * j + m[0, 2] * k + m[0, 3] + 0.5
            y0 = m[1, 1] * j + m[1, 2] * k + m[1, 3] + 0.5
            z0 = m[2, 1] * j + m[2, 2] * k + m[2, 3] + 0.5
            for i in range(out.shape[2]):
                x = int(np.floor(x0 + m[0, 0] * i))
                y = int(np.floor(y0 + m[1, 0] * i))
                z = int(np.floor(z0 + m[2, 0] * i))
                inside = 0 <= x < width and 0 <= y < height and 0 <= z < depth
                out[k, j, i] = values[z, y, x] if inside else 0
    return out
