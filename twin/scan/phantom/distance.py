"""The true distance to a bone's zero level set: nearest of a dense set of surface samples, then exact refinement.

Seeds: surface samples about 1 mm apart (every crossing of a fine lattice, slid onto the surface), the nearest few in a
tree. From each, the foot point is moved along the surface and back onto it until the way to the query is normal to it;
the shortest way wins. The sign is the field's.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from spatial.compiled import njit, njit_parallel, prange
from twin.scan.phantom import shapes
from twin.scan.phantom.field import I32, Bones, CellGrid, cell_entry

F64 = NDArray[np.float64]
SEEDS = 20


@njit
def _onto(
    table: F64, outline: F64, program: I32, start: int, stop: int, cells: I32, entry: NDArray[np.int32],
    entry_start: I32,
    corner: F64, cell: float, x: float, y: float, z: float, steps: int,
) -> tuple[float, float, float, float, float, float]:  # fmt: skip
    # Newton along the gradient: the point on the surface and its unit normal.
    nx = ny = nz = 0.0
    for _ in range(steps):
        e = cell_entry(entry, corner, cell, x, y, z)
        rows = program
        a = start
        b = stop
        if e >= 0:  # the few rows that matter here
            rows = cells
            a = entry_start[e]
            b = entry_start[e + 1]
        f = shapes.fold(table, outline, rows, a, b, x, y, z)[0]
        gx, gy, gz = shapes.gradient(table, outline, rows, a, b, x, y, z)
        g = math.sqrt(gx * gx + gy * gy + gz * gz) + 1e-12
        nx, ny, nz = gx / g, gy / g, gz / g
        step = min(max(f / g, -2.0), 2.0)
        x -= step * nx
        y -= step * ny
        z -= step * nz
        if abs(step) < 1e-9:
            break
    return x, y, z, nx, ny, nz


@njit_parallel
def _refine(
    table: F64, outline: F64, program: I32, start: int, stop: int, cells: I32, entry: NDArray[np.int32],
    entry_start: I32,
    corner: F64, cell: float, points: F64, seeds: F64, squared: F64, tolerance: float, feet: F64,
) -> None:  # fmt: skip
    # points (N, 3), seeds (N, S, 3) on the surface with their squared distances; the best foot into feet (N, 3).
    # With a negative tolerance: just slide the seeds onto the surface.
    for n in prange(points.shape[0]):
        px, py, pz = points[n, 0], points[n, 1], points[n, 2]
        best = 1e30
        for s in range(seeds.shape[1]):
            if squared[n, s] > squared[n, 0] + 0.8:  # samples leave no gap over 0.9 mm
                break
            x, y, z = seeds[n, s, 0], seeds[n, s, 1], seeds[n, s, 2]
            known = False
            for r in range(s):  # a neighbour of an earlier seed leads to the same foot
                known |= (seeds[n, r, 0] - x) ** 2 + (seeds[n, r, 1] - y) ** 2 + (seeds[n, r, 2] - z) ** 2 < 0.36
            if known:
                continue
            d2 = 1e29
            step = 0.0
            rate = 0.0
            tx = ty = tz = 0.0
            for turn in range(60):
                qx, qy, qz, mx, my, mz = _onto(
                    table, outline, program, start, stop, cells, entry, entry_start, corner, cell,
                    x + step * tx, y + step * ty, z + step * tz, 12 if tolerance < 0.0 else 3,
                )  # fmt: skip
                if tolerance < 0.0:
                    x, y, z, d2 = qx, qy, qz, 0.0
                    break
                e2 = (qx - px) ** 2 + (qy - py) ** 2 + (qz - pz) ** 2
                if turn > 0 and e2 >= d2:
                    step *= 0.3
                    if step * math.sqrt(tx * tx + ty * ty + tz * tz) < 0.1 * tolerance:
                        break
                    continue
                rx, ry, rz = px - qx, py - qy, pz - qz
                along = rx * mx + ry * my + rz * mz
                ux, uy, uz = rx - along * mx, ry - along * my, rz - along * mz
                size = math.sqrt(ux * ux + uy * uy + uz * uz)
                rate = 1.0 / (1.0 + 0.15 * math.sqrt(e2))
                if turn > 0:  # Barzilai and Borwein's step: the curvature seen over the last one
                    sx, sy, sz = qx - x, qy - y, qz - z
                    bend = sx * (tx - ux) + sy * (ty - uy) + sz * (tz - uz)
                    if bend > 0.0:
                        rate = min((sx * sx + sy * sy + sz * sz) / bend, 6.0)
                x, y, z, d2 = qx, qy, qz, e2
                tx, ty, tz = ux, uy, uz
                if size < tolerance:
                    break
                step = min(rate, 0.8 / size)
            if d2 < best:
                best = d2
                feet[n, 0], feet[n, 1], feet[n, 2] = x, y, z


class SurfaceDistance:
    """One bone's surface samples and the exact distance to it."""

    def __init__(self, bones: Bones, bone: int, grid: CellGrid) -> None:
        """Sample the surface about every millimetre; `grid`: this bone's own cells, 3 mm."""
        self._arguments = (
            bones.table, bones.outline, bones.program, int(bones.starts[bone]), int(bones.starts[bone + 1]),
            grid.program, grid.entry, grid.entry_start, grid.corner_mm, grid.cell_mm,
        )  # fmt: skip
        self._bones, self._bone = bones, bone
        marked = np.argwhere(grid.entry >= 0)
        fine = np.stack(np.meshgrid(*[np.arange(3)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
        points = (grid.corner_mm + (3 * marked[:, None, :] + fine + 0.5)).reshape(-1, 3)
        points = np.ascontiguousarray(points[np.abs(bones.value(bone, points)) < 0.6 * shapes.LIPSCHITZ])
        feet = np.empty_like(points)
        _refine(*self._arguments, points, points[:, None], np.zeros((len(points), 1)), -1.0, feet)
        self.samples_mm: F64 = feet[np.abs(bones.value(bone, feet)) < 1e-6]
        self._tree = cKDTree(self.samples_mm)

    def closest(self, points_mm: F64, tolerance_mm: float = 1e-6) -> F64:
        """The surface's nearest points to (N, 3) points."""
        points = np.ascontiguousarray(points_mm, np.float64)
        d, index = self._tree.query(points, k=SEEDS, workers=2)
        d = np.asarray(d, np.float64)
        feet = np.empty_like(points)
        _refine(*self._arguments, points, self.samples_mm[index], d * d, tolerance_mm, feet)
        return feet

    def signed(self, points_mm: F64) -> F64:
        """Signed true distance, negative inside."""
        points = np.ascontiguousarray(points_mm, np.float64)
        d = np.linalg.norm(points - self.closest(points), axis=1)
        return np.asarray(np.where(self._bones.value(self._bone, points) < 0, -d, d))
