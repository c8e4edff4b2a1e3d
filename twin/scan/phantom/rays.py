"""Rays on the analytic surfaces: what the second renderer and the truth measurements stand on."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from spatial.compiled import njit, njit_parallel, prange
from twin.scan.phantom import shapes
from twin.scan.phantom.field import I32, Bones, CellGrid, cell_entry

F64 = NDArray[np.float64]


@njit_parallel
def _cast(
    table: F64, outline: F64, program: I32, corner: F64, cell: float, entry: NDArray[np.int32],
    skip: NDArray[np.float32],
    entry_bone: I32, entry_start: I32, entry_last: NDArray[np.bool_], origins: F64, directions: F64, t_max: float,
    t_out: F64, bone_out: I32, normal_out: F64,
) -> None:  # fmt: skip
    nx, ny, nz = entry.shape
    for n in prange(origins.shape[0]):
        ox, oy, oz = origins[n, 0], origins[n, 1], origins[n, 2]
        dx, dy, dz = directions[n, 0], directions[n, 1], directions[n, 2]
        t_out[n] = math.inf
        bone_out[n] = -1
        t0 = 0.0
        t1 = t_max
        for axis in range(3):
            o = origins[n, axis] - corner[axis]
            d = directions[n, axis]
            size = entry.shape[axis] * cell
            if abs(d) < 1e-12:
                if o < 0.0 or o > size:
                    t1 = -1.0
            else:
                a = -o / d
                b = (size - o) / d
                t0 = max(t0, min(a, b))
                t1 = min(t1, max(a, b))
        t = t0 + 1e-7
        found = False
        while t < t1 and not found:
            x, y, z = ox + t * dx, oy + t * dy, oz + t * dz
            i = min(max(int((x - corner[0]) / cell), 0), nx - 1)
            j = min(max(int((y - corner[1]) / cell), 0), ny - 1)
            k = min(max(int((z - corner[2]) / cell), 0), nz - 1)
            leave = 1e9
            if dx > 1e-12:
                leave = min(leave, (corner[0] + (i + 1) * cell - x) / dx)
            elif dx < -1e-12:
                leave = min(leave, (corner[0] + i * cell - x) / dx)
            if dy > 1e-12:
                leave = min(leave, (corner[1] + (j + 1) * cell - y) / dy)
            elif dy < -1e-12:
                leave = min(leave, (corner[1] + j * cell - y) / dy)
            if dz > 1e-12:
                leave = min(leave, (corner[2] + (k + 1) * cell - z) / dz)
            elif dz < -1e-12:
                leave = min(leave, (corner[2] + k * cell - z) / dz)
            leave = max(leave, 0.0) + 1e-6
            e0 = entry[i, j, k]
            if e0 < 0:
                t += max(leave, float(skip[i, j, k]))
                continue
            end = min(t + leave, t1)
            last_t = t
            first = True
            while t < end and not found:
                x, y, z = ox + t * dx, oy + t * dy, oz + t * dz
                e = e0
                best = 1e9
                owner = e0
                while True:
                    f = shapes.fold(table, outline, program, entry_start[e], entry_start[e + 1], x, y, z)[0]
                    if f < best:
                        best = f
                        owner = e
                    if entry_last[e]:
                        break
                    e += 1
                if best <= 0.0:
                    lo = last_t
                    hi = t
                    s0 = entry_start[owner]
                    s1 = entry_start[owner + 1]
                    if not first:
                        for _ in range(30):
                            mid = 0.5 * (lo + hi)
                            if (
                                shapes.fold(
                                    table, outline, program, s0, s1, ox + mid * dx, oy + mid * dy, oz + mid * dz
                                )[0]
                                > 0.0
                            ):
                                lo = mid
                            else:
                                hi = mid
                            if hi - lo < 1e-7:
                                break
                    found = True
                    t_out[n] = hi
                    bone_out[n] = entry_bone[owner]
                    gx, gy, gz = shapes.gradient(
                        table, outline, program, s0, s1, ox + hi * dx, oy + hi * dy, oz + hi * dz
                    )
                    g = math.sqrt(gx * gx + gy * gy + gz * gz) + 1e-300
                    normal_out[n, 0] = gx / g
                    normal_out[n, 1] = gy / g
                    normal_out[n, 2] = gz / g
                else:
                    first = False
                    last_t = t
                    t += max(best / shapes.LIPSCHITZ, 0.004)
            if not found:
                t = max(t, end)


def cast(bones: Bones, grid: CellGrid, origins_mm: F64, directions: F64, t_max_mm: float) -> tuple[F64, I32, F64]:
    """First hits from outside: distance (inf: none), bone index (-1: none), outward unit normals (zero: none)."""
    origins = np.ascontiguousarray(np.broadcast_to(origins_mm, directions.shape), np.float64)
    count = len(directions)
    t, bone, normal = np.empty(count), np.empty(count, np.int32), np.zeros((count, 3))
    _cast(
        bones.table, bones.outline, grid.program, grid.corner_mm, grid.cell_mm, grid.entry, grid.skip_mm,
        grid.entry_bone,
        grid.entry_start, grid.entry_last, origins, np.ascontiguousarray(directions, np.float64), float(t_max_mm), t,
        bone, normal,
    )  # fmt: skip
    t[t > t_max_mm] = np.inf
    missed = ~np.isfinite(t)
    bone[missed] = -1
    normal[missed] = 0.0
    return t, bone, normal


@njit
def _value(
    table: F64, outline: F64, program: I32, start: int, stop: int, cells: I32, entry: NDArray[np.int32],
    entry_start: I32,
    corner: F64, cell: float, x: float, y: float, z: float,
) -> float:  # fmt: skip
    e = cell_entry(entry, corner, cell, x, y, z)
    if e >= 0:  # the few rows that matter here
        return shapes.fold(table, outline, cells, entry_start[e], entry_start[e + 1], x, y, z)[0]
    return shapes.fold(table, outline, program, start, stop, x, y, z)[0]


@njit_parallel
def _crossings(
    table: F64, outline: F64, program: I32, start: int, stop: int, cells: I32, entry: NDArray[np.int32],
    entry_start: I32,
    corner: F64, cell: float, origins: F64, directions: F64, t_max: float, out: F64,
) -> None:  # fmt: skip
    for n in prange(origins.shape[0]):
        ox, oy, oz = origins[n, 0], origins[n, 1], origins[n, 2]
        dx, dy, dz = directions[n, 0], directions[n, 1], directions[n, 2]
        t = 0.0
        before = 0.0
        after = -1.0  # the far end of the bracket, once crossed
        sign = 0.0
        while t < t_max:
            f = _value(
                table, outline, program, start, stop, cells, entry, entry_start, corner, cell, ox + t * dx,
                oy + t * dy, oz + t * dz
            )  # fmt: skip
            if sign == 0.0:
                sign = 1.0 if f > 0.0 else -1.0
            if sign * f <= 0.0 and t > 0.0:
                after = t
            elif after < 0.0:
                before = t
                t += max(sign * f / shapes.LIPSCHITZ, 0.004)
                continue
            else:
                before = t
            if after - before < 1e-9:
                break
            t = 0.5 * (before + after)
        out[n] = after if after >= 0.0 else math.inf


def crossings(
    bones: Bones, bone: int, grid: CellGrid, origins_mm: F64, directions: F64, t_max_mm: float = 200.0
) -> F64:
    """Distance along each ray to where one bone's surface is first crossed, from inside or outside (inf: never)."""
    directions = np.ascontiguousarray(directions, np.float64)
    origins = np.ascontiguousarray(np.broadcast_to(origins_mm, directions.shape), np.float64)
    out = np.empty(len(directions))
    _crossings(
        bones.table, bones.outline, bones.program, int(bones.starts[bone]), int(bones.starts[bone + 1]), grid.program,
        grid.entry, grid.entry_start, grid.corner_mm, grid.cell_mm, origins, directions, t_max_mm, out,
    )  # fmt: skip
    return out
