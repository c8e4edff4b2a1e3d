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
from twin.scan.phantom.field import I32, Bones, CellGrid

F64 = NDArray[np.float64]
SEEDS = 4


@njit
def _onto(
    table: F64, outline: F64, program: I32, start: int, stop: int, x: float, y: float, z: float, steps: int
) -> tuple[float, float, float, float, float, float]:
    # Newton along the gradient: the point on the surface and its unit normal.
    nx = ny = nz = 0.0
    for _ in range(steps):
        f = shapes.fold(table, outline, program, start, stop, x, y, z)[0]
        gx, gy, gz = shapes.gradient(table, outline, program, start, stop, x, y, z)
        g2 = gx * gx + gy * gy + gz * gz + 1e-12
        g = math.sqrt(g2)
        nx, ny, nz = gx / g, gy / g, gz / g
        step = min(max(f / g, -2.0), 2.0)
        x -= step * nx
        y -= step * ny
        z -= step * nz
        if abs(step) < 1e-9:
            break
    return x, y, z, nx, ny, nz


@njit_parallel
def _project(table: F64, outline: F64, program: I32, start: int, stop: int, points: F64) -> None:
    for n in prange(points.shape[0]):
        x, y, z, _a, _b, _c = _onto(table, outline, program, start, stop, points[n, 0], points[n, 1], points[n, 2], 12)
        points[n, 0], points[n, 1], points[n, 2] = x, y, z


@njit_parallel
def _refine(
    table: F64, outline: F64, program: I32, start: int, stop: int, points: F64, seeds: F64, squared: F64, tolerance: float,
    feet: F64,
) -> None:  # fmt: skip
    # points (N, 3), seeds (N, SEEDS, 3) on the surface with their squared distances; the best foot into feet (N, 3)
    for n in prange(points.shape[0]):
        px, py, pz = points[n, 0], points[n, 1], points[n, 2]
        best = 1e30
        for s in range(seeds.shape[1]):
            if math.sqrt(squared[n, s]) > math.sqrt(squared[n, 0]) + 1.2:
                break
            x, y, z, nx, ny, nz = _onto(
                table, outline, program, start, stop, seeds[n, s, 0], seeds[n, s, 1], seeds[n, s, 2], 2
            )
            d2 = (x - px) ** 2 + (y - py) ** 2 + (z - pz) ** 2
            damping = 1.0
            for _ in range(60):
                rx, ry, rz = px - x, py - y, pz - z
                along = rx * nx + ry * ny + rz * nz
                tx, ty, tz = rx - along * nx, ry - along * ny, rz - along * nz
                size = math.sqrt(tx * tx + ty * ty + tz * tz)
                if size * damping < tolerance:
                    break
                step = damping * min(1.0, 0.8 / size)
                qx, qy, qz, mx, my, mz = _onto(
                    table, outline, program, start, stop, x + step * tx, y + step * ty, z + step * tz, 3
                )
                e2 = (qx - px) ** 2 + (qy - py) ** 2 + (qz - pz) ** 2
                if e2 < d2:
                    x, y, z, nx, ny, nz, d2 = qx, qy, qz, mx, my, mz, e2
                    damping = min(1.0, damping * 1.5)
                else:
                    damping *= 0.4
                    if damping < 1e-3:
                        break
            if d2 < best:
                best = d2
                feet[n, 0], feet[n, 1], feet[n, 2] = x, y, z


class SurfaceDistance:
    """One bone's surface samples and the exact distance to it."""

    def __init__(self, bones: Bones, bone: int, spacing_mm: float = 1.0) -> None:
        """Sample the surface; takes a few tenths of a second."""
        self._arguments = (
            bones.table, bones.outline, bones.program, int(bones.starts[bone]), int(bones.starts[bone + 1])
        )  # fmt: skip
        self._bones, self._bone = bones, bone
        grid = CellGrid.build(bones, [bone], spacing_mm, 0.0)
        marked = np.argwhere(grid.entry >= 0)
        points = grid.corner_mm + (marked + 0.5) * spacing_mm
        near = np.abs(bones.value(bone, points)) < shapes.LIPSCHITZ * spacing_mm * 0.9
        points = np.ascontiguousarray(points[near])
        _project(*self._arguments, points)
        self.samples_mm: F64 = points[np.abs(bones.value(bone, points)) < 1e-6]
        self._tree = cKDTree(self.samples_mm)

    def closest(self, points_mm: F64, tolerance_mm: float = 1e-5) -> F64:
        """The surface's nearest points to (N, 3) points."""
        points = np.ascontiguousarray(points_mm, np.float64)
        d, index = self._tree.query(points, k=SEEDS, workers=2)
        feet = np.empty_like(points)
        _refine(*self._arguments, points, self.samples_mm[index], d * d, tolerance_mm, feet)
        return feet

    def signed(self, points_mm: F64) -> F64:
        """Signed true distance, negative inside."""
        points = np.ascontiguousarray(points_mm, np.float64)
        d = np.linalg.norm(points - self.closest(points), axis=1)
        return np.where(self._bones.value(self._bone, points) < 0, -d, d)
