"""The compiled loops that ask a distance grid: values, gradients and rays, in mm."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spatial.compiled import njit, njit_parallel, prange
from spatial.rigid import Array

STEP = 0.02  # smallest step of a trace, mm


@njit
def value_at(values: NDArray[np.float32], origin: Array, spacing: float, x: float, y: float, z: float) -> float:
    """Trilinear value at a point in mm; outside the grid the value at its nearest point plus the way there."""
    nx, ny, nz = values.shape
    u, v, w = (x - origin[0]) / spacing, (y - origin[1]) / spacing, (z - origin[2]) / spacing
    cu, cv, cw = min(max(u, 0.0), nx - 1.0), min(max(v, 0.0), ny - 1.0), min(max(w, 0.0), nz - 1.0)
    i, j, k = min(int(cu), nx - 2), min(int(cv), ny - 2), min(int(cw), nz - 2)
    fu, fv, fw = cu - i, cv - j, cw - k
    low = (values[i, j, k] * (1 - fw) + values[i, j, k + 1] * fw) * (1 - fv) + (
        values[i, j + 1, k] * (1 - fw) + values[i, j + 1, k + 1] * fw
    ) * fv
    high = (values[i + 1, j, k] * (1 - fw) + values[i + 1, j, k + 1] * fw) * (1 - fv) + (
        values[i + 1, j + 1, k] * (1 - fw) + values[i + 1, j + 1, k + 1] * fw
    ) * fv
    du, dv, dw = u - cu, v - cv, w - cw
    away = du * du + dv * dv + dw * dw
    inner = low * (1 - fu) + high * fu
    return float(inner if away == 0.0 else inner + np.sqrt(away) * spacing)


@njit_parallel
def lookup(values: NDArray[np.float32], origin: Array, spacing: float, points: Array) -> Array:
    """Values (N,) at points (N, 3) mm."""
    out = np.empty(len(points))
    for n in prange(len(points)):
        out[n] = value_at(values, origin, spacing, points[n, 0], points[n, 1], points[n, 2])
    return out


@njit
def lookup_few(values: NDArray[np.float32], origin: Array, spacing: float, points: Array) -> Array:
    """`lookup` on one thread."""
    out = np.empty(len(points))
    for n in range(len(points)):
        out[n] = value_at(values, origin, spacing, points[n, 0], points[n, 1], points[n, 2])
    return out


@njit
def _slope(
    values: NDArray[np.float32], origin: Array, spacing: float, x: float, y: float, z: float
) -> tuple[float, float, float]:
    h = spacing / 2
    return (
        (value_at(values, origin, spacing, x + h, y, z) - value_at(values, origin, spacing, x - h, y, z)) / spacing,
        (value_at(values, origin, spacing, x, y + h, z) - value_at(values, origin, spacing, x, y - h, z)) / spacing,
        (value_at(values, origin, spacing, x, y, z + h) - value_at(values, origin, spacing, x, y, z - h)) / spacing,
    )


@njit_parallel
def gradient(values: NDArray[np.float32], origin: Array, spacing: float, points: Array) -> Array:
    """Central differences (N, 3) over one spacing at points (N, 3) mm."""
    out = np.empty((len(points), 3))
    for n in prange(len(points)):
        out[n, 0], out[n, 1], out[n, 2] = _slope(values, origin, spacing, points[n, 0], points[n, 1], points[n, 2])
    return out


@njit
def gradient_few(values: NDArray[np.float32], origin: Array, spacing: float, points: Array) -> Array:
    """`gradient` on one thread."""
    out = np.empty((len(points), 3))
    for n in range(len(points)):
        out[n, 0], out[n, 1], out[n, 2] = _slope(values, origin, spacing, points[n, 0], points[n, 1], points[n, 2])
    return out


@njit
def trace_ray(
    values: NDArray[np.float32],
    origin: Array,
    spacing: float,
    x: float,
    y: float,
    z: float,
    ux: float,
    uy: float,
    uz: float,
    max_mm: float,
) -> float:
    """Way to the first change of sign along a unit ray, in mm; inf when there is none within `max_mm`."""
    nx, ny, nz = values.shape
    start, stop = 0.0, max_mm
    inside_box = True
    for axis in range(3):
        p = x if axis == 0 else (y if axis == 1 else z)
        u = ux if axis == 0 else (uy if axis == 1 else uz)
        n = nx if axis == 0 else (ny if axis == 1 else nz)
        low, high = origin[axis], origin[axis] + spacing * (n - 1)
        if abs(u) < 1e-12:
            if p < low or p > high:
                inside_box = False
            continue
        t0, t1 = (low - p) / u, (high - p) / u
        start, stop = max(start, min(t0, t1)), min(stop, max(t0, t1))
    if not inside_box or start > stop:
        return np.inf
    t = start
    d = value_at(values, origin, spacing, x + t * ux, y + t * uy, z + t * uz)
    negative = d < 0.0
    while t < stop:
        before = t
        t = min(t + max(abs(d) * 0.98, STEP), stop)  # interpolated values may exceed the true distance a little
        d = value_at(values, origin, spacing, x + t * ux, y + t * uy, z + t * uz)
        if (d < 0.0) != negative:
            while t - before > 1e-4:
                middle = (before + t) / 2
                d = value_at(values, origin, spacing, x + middle * ux, y + middle * uy, z + middle * uz)
                if (d < 0.0) != negative:
                    t = middle
                else:
                    before = middle
            return (before + t) / 2
    return np.inf


@njit_parallel
def trace(
    values: NDArray[np.float32], origin: Array, spacing: float, starts: Array, directions: Array, max_mm: float
) -> Array:
    """`trace_ray` for rays (N, 3), (N, 3)."""
    out = np.empty(len(starts))
    for n in prange(len(starts)):
        out[n] = trace_ray(
            values, origin, spacing,
            starts[n, 0], starts[n, 1], starts[n, 2], directions[n, 0], directions[n, 1], directions[n, 2], max_mm,
        )  # fmt: skip
    return out


@njit
def trace_few(
    values: NDArray[np.float32], origin: Array, spacing: float, starts: Array, directions: Array, max_mm: float
) -> Array:
    """`trace` on one thread."""
    out = np.empty(len(starts))
    for n in range(len(starts)):
        out[n] = trace_ray(
            values, origin, spacing,
            starts[n, 0], starts[n, 1], starts[n, 2], directions[n, 0], directions[n, 1], directions[n, 2], max_mm,
        )  # fmt: skip
    return out
