"""HU along a line through a bone's edge, and where on it the edge is: at half-maximum, or of a fitted blurred shell.

Compiled, one vertex after another, without keeping the profiles: a hip has 300 thousand.
"""

from __future__ import annotations

from math import erf, exp, sqrt

import numpy as np
from numpy.typing import NDArray

from spatial.compiled import njit
from spatial.rigid import Array

STEP_MM = 0.2
REACH_MM = 3.0  # profiles run from -REACH to +REACH along the outward normal
LEAST_CONTRAST_HU = 90.0  # four times the noise of a sharp bone CT: below it there is no edge to follow
FARTHEST_MM = 0.5  # the fitted edge is never further from the half-maximum than this
SAMPLES = 2 * round(REACH_MM / STEP_MM) + 1
MIDDLE = (SAMPLES - 1) // 2
NEAR_MM = 0.9  # of two falls the nearer one counts: sigma of that preference
PEAK_MM = 2.1  # how far inward from the fall the peak may lie
FLOOR_MM = 1.8  # how far outward the surroundings
OFFSET, WEIGHT, PEAK, OUTSIDE, PEAK_AT, OUTSIDE_AT, MISFIT = range(7)  # what is told of a profile
TOLD = 7
_PER_SIGMA = 64
_SIGMAS = 6
# cumulative and density of the normal distribution from -6 to +6 sigma: looked up, they cost a tenth
_NORMAL = np.array(
    [
        (0.5 * (1.0 + erf(x / sqrt(2.0))), exp(-0.5 * x * x) / sqrt(2.0 * np.pi))
        for x in np.arange(-_SIGMAS * _PER_SIGMA, _SIGMAS * _PER_SIGMA + 2) / _PER_SIGMA
    ]
)


@njit
def measure(
    points: Array,
    normals: Array,
    rows: Array,
    origin: Array,
    variance: Array,
    blur_mm: float,
    hu: NDArray[np.int16],
    search_mm: float,
    cortex_hu: float,
    offset: NDArray[np.float32],
    weight: NDArray[np.float32],
) -> None:
    """Offset (mm outward) and weight (0 to 1) of the edge at points (N, 3) with unit normals (N, 3), Patient.

    `rows` (3, 3) gives indices i, j, k per mm from `origin`, `variance` (3,) the mm^2 of blur along i, j, k beyond the
    scanner's own. With `cortex_hu` above 0 the edge is that of a shell of this density, else the half-maximum.
    """
    p = np.empty(SAMPLES, dtype=np.float32)
    told = np.empty(TOLD)
    for v in range(points.shape[0]):
        read(points, normals, v, rows, origin, hu, p)
        half_maximum(p, search_mm, told)
        if cortex_hu > 0.0 and told[WEIGHT] > 0.0:
            fit_shell(p, sigma(normals, v, rows, variance, blur_mm), cortex_hu, True, told)
        offset[v] = told[OFFSET]
        weight[v] = told[WEIGHT]


@njit
def sigma(normals: Array, v: int, rows: Array, variance: Array, blur_mm: float) -> float:
    """Blur (mm) along vertex v's normal."""
    total = blur_mm * blur_mm
    for a in range(3):
        per_mm = rows[a, 0] ** 2 + rows[a, 1] ** 2 + rows[a, 2] ** 2
        along = rows[a, 0] * normals[v, 0] + rows[a, 1] * normals[v, 1] + rows[a, 2] * normals[v, 2]
        total += along * along / per_mm * variance[a]
    return sqrt(total)


@njit
def read(
    points: Array, normals: Array, v: int, rows: Array, origin: Array, hu: NDArray[np.int16], p: NDArray[np.float32]
) -> None:
    """Trilinear HU along vertex v's normal, from inside outward; beyond the scan its last voxels count."""
    nk, nj, ni = hu.shape
    dx, dy, dz = points[v, 0] - origin[0], points[v, 1] - origin[1], points[v, 2] - origin[2]
    nx, ny, nz = normals[v, 0] * STEP_MM, normals[v, 1] * STEP_MM, normals[v, 2] * STEP_MM
    ax = rows[0, 0] * dx + rows[0, 1] * dy + rows[0, 2] * dz
    ay = rows[1, 0] * dx + rows[1, 1] * dy + rows[1, 2] * dz
    az = rows[2, 0] * dx + rows[2, 1] * dy + rows[2, 2] * dz
    sx = rows[0, 0] * nx + rows[0, 1] * ny + rows[0, 2] * nz
    sy = rows[1, 0] * nx + rows[1, 1] * ny + rows[1, 2] * nz
    sz = rows[2, 0] * nx + rows[2, 1] * ny + rows[2, 2] * nz
    for s in range(SAMPLES):
        t = s - MIDDLE
        x = min(max(ax + t * sx, 0.0), ni - 1.001)
        y = min(max(ay + t * sy, 0.0), nj - 1.001)
        z = min(max(az + t * sz, 0.0), nk - 1.001)
        i, j, k = max(int(x), 0), max(int(y), 0), max(int(z), 0)
        i1, j1, k1 = min(i + 1, ni - 1), min(j + 1, nj - 1), min(k + 1, nk - 1)
        fx, fy, fz = x - i, y - j, z - k
        c00 = hu[k, j, i] * (1 - fx) + hu[k, j, i1] * fx
        c10 = hu[k, j1, i] * (1 - fx) + hu[k, j1, i1] * fx
        c01 = hu[k1, j, i] * (1 - fx) + hu[k1, j, i1] * fx
        c11 = hu[k1, j1, i] * (1 - fx) + hu[k1, j1, i1] * fx
        p[s] = (c00 * (1 - fy) + c10 * fy) * (1 - fz) + (c01 * (1 - fy) + c11 * fy) * fz


@njit
def half_maximum(p: NDArray[np.float32], search_mm: float, told: Array) -> None:
    """The steepest fall outward within `search_mm`, near ones preferred, and the half-maximum around it."""
    for n in range(TOLD):
        told[n] = 0.0
    window = int(search_mm / STEP_MM + 1e-6)
    best, edge = 0.0, -1
    for s in range(max(2, MIDDLE - window), min(SAMPLES - 2, MIDDLE + window + 1)):
        fall = p[s - 1] + p[s - 2] - p[s + 1] - p[s + 2]
        if fall > best:
            fall *= exp(-0.5 * ((s - MIDDLE) * STEP_MM / NEAR_MM) ** 2)
            if fall > best:
                best, edge = fall, s
    if edge < 0:
        return
    peak, s_peak = p[edge], edge
    for s in range(edge, max(-1, edge - int(PEAK_MM / STEP_MM + 1e-6)), -1):
        if p[s] > peak:
            peak, s_peak = p[s], s
        elif p[s] < peak - max(25.0, 0.25 * (peak - p[edge])):
            break
    floor, s_floor = p[edge], edge
    for s in range(edge, min(SAMPLES, edge + int(FLOOR_MM / STEP_MM + 1e-6))):
        if p[s] < floor:
            floor, s_floor = p[s], s
        elif p[s] > floor + max(25.0, 0.25 * (p[edge] - floor)):
            break
    contrast = peak - floor
    told[PEAK], told[OUTSIDE], told[PEAK_AT], told[OUTSIDE_AT] = peak, floor, s_peak, s_floor
    if contrast < LEAST_CONTRAST_HU:
        return
    half = 0.5 * (peak + floor)
    for s in range(s_peak, s_floor):
        if p[s] >= half > p[s + 1]:
            t = (s - MIDDLE + (p[s] - half) / (p[s] - p[s + 1])) * STEP_MM
            if abs(t) <= search_mm + STEP_MM:
                told[OFFSET] = t
                told[WEIGHT] = min(1.0, contrast / 300.0)
            break


@njit
def fit_shell(p: NDArray[np.float32], sigma: float, cortex_hu: float, lifted: bool, told: Array) -> None:
    """Levenberg-Marquardt in the outer edge t0, the thickness w and the marrow's HU; outside and cortex are given.

    p(t) = out Phi((t - t0)/s) + cortex [Phi((t0 - t)/s) - Phi((t0 - w - t)/s)] + marrow Phi((t0 - w - t)/s)
    """
    found, peak, outside = told[OFFSET], told[PEAK], told[OUTSIDE]
    cortex = max(cortex_hu, peak + 1.0) if lifted else max(cortex_hu, outside + 50.0)
    first = max(0, int(told[PEAK_AT]) - int((1.6 * sigma + 0.45) / STEP_MM))
    last = int(told[OUTSIDE_AT]) + 1
    if last - first < 5:
        return
    ratio = min(0.98, (peak - outside) / (cortex - outside))
    t0, w, marrow = found - 0.1, 2.4 * sigma * ratio + 0.2, float(p[first])
    inner = float(p[first])
    damp, previous = 1e-2, 1e30
    x0, xw, xm = t0, w, marrow
    A00 = A01 = A02 = A11 = A12 = A22 = b0 = b1 = b2 = 0.0
    for _ in range(14):
        a00 = a01 = a02 = a11 = a12 = a22 = g0 = g1 = g2 = misfit = 0.0
        for s in range(first, last):
            u = min(
                max(((x0 - (s - MIDDLE) * STEP_MM) / sigma + _SIGMAS) * _PER_SIGMA, 0.0), 2.0 * _SIGMAS * _PER_SIGMA
            )
            q = min(max(u - xw / sigma * _PER_SIGMA, 0.0), 2.0 * _SIGMAS * _PER_SIGMA)
            nu, nq = int(u), int(q)
            fu, fq = u - nu, q - nq
            pu = _NORMAL[nu, 0] + fu * (_NORMAL[nu + 1, 0] - _NORMAL[nu, 0])
            pq = _NORMAL[nq, 0] + fq * (_NORMAL[nq + 1, 0] - _NORMAL[nq, 0])
            gu = (_NORMAL[nu, 1] + fu * (_NORMAL[nu + 1, 1] - _NORMAL[nu, 1])) / sigma
            gq = (_NORMAL[nq, 1] + fq * (_NORMAL[nq + 1, 1] - _NORMAL[nq, 1])) / sigma
            e = outside * (1.0 - pu) + cortex * (pu - pq) + xm * pq - p[s]
            j1 = (cortex - xm) * gq
            j0 = (cortex - outside) * gu - j1
            misfit += e * e
            a00 += j0 * j0
            a01 += j0 * j1
            a02 += j0 * pq
            a11 += j1 * j1
            a12 += j1 * pq
            a22 += pq * pq
            g0 += j0 * e
            g1 += j1 * e
            g2 += pq * e
        if misfit < previous:
            gain = previous - misfit
            previous = misfit
            settled = abs(x0 - t0) < 0.004 and abs(xw - w) < 0.01
            t0, w, marrow = x0, xw, xm
            damp = max(damp * 0.3, 1e-6)
            # weak belief: marrow near its first sample, a shell within a few millimetres
            A00, A01, A02, A11, A12, A22 = a00, a01, a02, a11, a12, a22 + 0.05
            b0, b1, b2 = g0, g1, g2 + 0.05 * (xm - inner)
            if gain < 1e-4 * misfit or (settled and _ > 0):
                break
        else:
            damp *= 8.0
            if damp > 1e5:
                break
        d00, d11, d22 = A00 * (1 + damp) + 1e-9, A11 * (1 + damp) + 1e-3, A22 * (1 + damp) + 1e-9
        det = d00 * (d11 * d22 - A12 * A12) - A01 * (A01 * d22 - A12 * A02) + A02 * (A01 * A12 - d11 * A02)
        if abs(det) < 1e-30:
            break
        c0 = b0 * (d11 * d22 - A12 * A12) - A01 * (b1 * d22 - A12 * b2) + A02 * (b1 * A12 - d11 * b2)
        c1 = d00 * (b1 * d22 - b2 * A12) - b0 * (A01 * d22 - A12 * A02) + A02 * (A01 * b2 - b1 * A02)
        c2 = d00 * (d11 * b2 - A12 * b1) - A01 * (A01 * b2 - b1 * A02) + b0 * (A01 * A12 - d11 * A02)
        x0 = t0 - min(max(c0 / det, -0.5), 0.5)
        xw = min(max(w - c1 / det, 0.1), 6.0)
        xm = min(max(marrow - c2 / det, -150.0), cortex)
    told[MISFIT] = previous / (last - first)
    told[OFFSET] = found + min(max(t0 - found, -FARTHEST_MM), FARTHEST_MM)
    if abs(t0 - found) > FARTHEST_MM or sqrt(told[MISFIT]) > 0.25 * (peak - outside):
        told[WEIGHT] *= 0.3
