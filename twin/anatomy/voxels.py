"""The voxels whose centres lie inside a closed mesh: a bone's label from its surface."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spatial.compiled import njit, njit_parallel, prange
from spatial.frames import Patient
from spatial.mesh import TriangleMesh
from spatial.rigid import Array
from twin.scan.volume import Grid


def inside(mesh: TriangleMesh[Patient], grid: Grid) -> NDArray[np.bool_]:
    """Mask (k, j, i) of a grid: centres inside the mesh, by counting crossings along each row."""
    out = np.zeros(grid.shape, dtype=np.uint8)
    _fill(_crossings(mesh, grid), 1, out)
    return out.view(np.bool_)


def block_of(grid: Grid, mesh: TriangleMesh[Patient]) -> tuple[tuple[slice, slice, slice], Grid] | None:
    """The box (k, j, i) of a grid that holds the mesh, with its own grid; None when the mesh lies outside."""
    at = ((mesh.vertices_mm - grid.origin_mm) @ grid.axes) / grid.spacing_mm
    low = np.clip(np.floor(at.min(axis=0)).astype(int), 0, grid.size)
    high = np.clip(np.ceil(at.max(axis=0)).astype(int) + 1, 0, grid.size)
    if (high <= low).any():
        return None
    size = (int(high[0] - low[0]), int(high[1] - low[1]), int(high[2] - low[2]))
    box = (slice(int(low[2]), int(high[2])), slice(int(low[1]), int(high[1])), slice(int(low[0]), int(high[0])))
    return box, grid.cropped((int(low[0]), int(low[1]), int(low[2])), size)


def paint(mesh: TriangleMesh[Patient], grid: Grid, number: int, out: NDArray[np.uint8] | NDArray[np.uint16]) -> None:
    """Write `number` into the voxels (k, j, i) of a grid that lie inside the mesh and hold 0."""
    block = block_of(grid, mesh)
    if block is not None:
        box, part = block
        _fill(_crossings(mesh, part), number, out[box])


def _crossings(mesh: TriangleMesh[Patient], grid: Grid) -> NDArray[np.bool_]:
    """Where (k, j, i) a row comes from outside to inside or back."""
    at = ((mesh.vertices_mm - grid.origin_mm) @ grid.axes) / grid.spacing_mm
    flips = np.zeros(grid.shape, dtype=np.bool_)
    # rows never meet an edge exactly: both lattice directions are shifted by an unround millionth
    _cross(at + np.array([0.0, 1.37e-6, 2.71e-6]), np.ascontiguousarray(mesh.triangles), flips)
    return flips


@njit_parallel
def _fill(flips: NDArray[np.bool_], number: int, out: NDArray[np.uint8] | NDArray[np.uint16]) -> None:
    """Write `number` between crossings where 0 is."""
    nk, nj, ni = flips.shape
    for k in prange(nk):
        for j in range(nj):
            within = False
            for i in range(ni):
                within ^= flips[k, j, i]
                if within and out[k, j, i] == 0:
                    out[k, j, i] = number


@njit
def _cross(at: Array, triangles: NDArray[np.int32], flips: NDArray[np.bool_]) -> None:
    nk, nj, ni = flips.shape
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        y0, y1, y2 = at[a, 1], at[b, 1], at[c, 1]
        z0, z1, z2 = at[a, 2], at[b, 2], at[c, 2]
        area = (y1 - y0) * (z2 - z0) - (y2 - y0) * (z1 - z0)
        if area == 0.0:
            continue
        first_j = max(0, int(np.ceil(min(y0, y1, y2))))
        last_j = min(nj - 1, int(np.floor(max(y0, y1, y2))))
        first_k = max(0, int(np.ceil(min(z0, z1, z2))))
        last_k = min(nk - 1, int(np.floor(max(z0, z1, z2))))
        for k in range(first_k, last_k + 1):
            for j in range(first_j, last_j + 1):
                w0 = ((y1 - j) * (z2 - k) - (y2 - j) * (z1 - k)) / area
                w1 = ((y2 - j) * (z0 - k) - (y0 - j) * (z2 - k)) / area
                w2 = 1.0 - w0 - w1
                if w0 < 0.0 or w1 < 0.0 or w2 < 0.0:
                    continue
                x = w0 * at[a, 0] + w1 * at[b, 0] + w2 * at[c, 0]
                i = int(np.ceil(x))
                if i < 0:
                    i = 0
                if i < ni:
                    flips[k, j, i] = not flips[k, j, i]
