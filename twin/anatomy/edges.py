"""Where a bone ends in a CT, to a fraction of a voxel: half way between the bone and its surroundings, not at a
fixed HU.

A profile is read along each vertex's normal. The half-maximum between its peak and the dark outside gives a first
place. A cortex thinner than the blur has too low a peak, and its half-maximum lies outside the true edge (0.2 mm at
1 mm of cortex and 1.1 mm of blur). So the profile is fitted with what a blurred shell looks like: outside, cortex of
one density but any thickness, marrow (Treece et al. 2010, Med Image Anal 14:276). Its outer edge is where the
unblurred profile is at half-maximum. Blur and cortical density are found on the bone itself, as those that explain
its profiles best.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import erf, exp, sqrt

import numpy as np
from numpy.typing import NDArray

from spatial.compiled import njit, njit_parallel, prange
from spatial.frames import Patient
from spatial.mesh import TriangleMesh
from spatial.rigid import Array
from twin.anatomy.smoothing import Neighbours, settle, taubin
from twin.scan.volume import Grid

STEP_MM = 0.15
REACH_MM = 3.0  # profiles run from -REACH to +REACH along the outward normal
LEAST_CONTRAST_HU = 90.0  # four times the noise of a sharp bone CT: below it there is no edge to follow
FARTHEST_MM = 0.5  # the fitted edge is never further from the half-maximum than this
BLURS_MM = (0.15, 0.25, 0.35, 0.45, 0.6, 0.8)  # sigma of the scanner, beyond the voxel's own size
CORTEX_SHARES = (0.85, 1.0, 1.15, 1.3, 1.5)  # of the brightest hundredth of the peaks
TRIED_VERTICES = 1500
METAL_HU = 2000.0  # brighter than any cortex
THICKEST_VOXEL_MM = 1.3  # beyond it a shell's thickness can't be told: the half-maximum stays as it is
_SAMPLES = 2 * round(REACH_MM / STEP_MM) + 1
_MIDDLE = (_SAMPLES - 1) // 2


@dataclass(frozen=True, eq=False)
class Edge:
    """What the profiles said, one a vertex: offset (N,) mm along the normal, weight (N,) 0..1 (0: no edge there)."""

    offset_mm: Array
    weight: Array


@dataclass(frozen=True)
class Cortex:
    """How this bone shows in this CT: density of its cortex, and the scanner's blur beyond the voxel's size (sigma)."""

    cortex_hu: float
    blur_mm: float


def refine(
    mesh: TriangleMesh[Patient],
    hu: NDArray[np.int16],
    grid: Grid,
    cortex: Cortex | None = None,
    *,
    search_mm: tuple[float, ...] = (1.5, 0.8),
) -> TriangleMesh[Patient]:
    """Move a label's surface to the true edge in the HU; where there is none (bones in contact) it stays.

    `hu` (k, j, i) covers the mesh with a margin. Each pass looks at most `search_mm` up and down the normal; the
    displacement is smoothed over the surface, and single vertices that disagree with their surroundings are dropped.
    Without `cortex` the half-maximum is taken as it is.
    """
    neighbours = Neighbours.from_triangles(mesh.triangles, len(mesh.vertices_mm))
    for sweep, reach in enumerate(search_mm):
        normals = mesh.vertex_normals
        profiles = sample(mesh.vertices_mm, normals, hu, grid)
        found = _half_maxima(profiles, reach)
        if cortex is not None and sweep == len(search_mm) - 1:
            found = _fitted(profiles, found, _sigma_mm(normals, grid, cortex.blur_mm), cortex.cortex_hu)
        edge = Edge(found[:, 0], found[:, 1])
        smooth = settle(edge.offset_mm, edge.weight, neighbours, stiffness=2.0, iterations=12)
        astray = np.abs(edge.offset_mm - smooth) > 0.5
        moved = settle(edge.offset_mm, np.where(astray, 0.0, edge.weight), neighbours, stiffness=0.7, iterations=15)
        mesh = TriangleMesh[Patient](mesh.vertices_mm + moved[:, None] * normals, mesh.triangles)
        mesh = taubin(mesh, 3)
    return mesh


def sample(points_mm: Array, normals: Array, hu: NDArray[np.int16], grid: Grid) -> NDArray[np.float32]:
    """HU profiles (N, samples) along normals (N, 3) through points (N, 3), from inside outward every STEP_MM."""
    at = ((points_mm - grid.origin_mm) @ grid.axes) / grid.spacing_mm
    step = (normals @ grid.axes) / grid.spacing_mm * STEP_MM
    out = np.empty((len(at), _SAMPLES), dtype=np.float32)
    _profiles(at, step, hu, out)
    return out


def calibrate(surfaces: Sequence[tuple[TriangleMesh[Patient], NDArray[np.int16], Grid]]) -> Cortex | None:
    """Blur and cortical density that fit the profiles of these bones best; None when too few have a clear edge.

    Thick cortices tell both; thin ones alone leave a denser and thinner shell as good as the true one.
    """
    taken: list[tuple[NDArray[np.float32], Array, Array, Grid]] = []
    for mesh, hu, grid in surfaces:
        if float(grid.spacing_mm.max()) > THICKEST_VOXEL_MM:
            continue
        chosen = slice(None, None, max(1, len(mesh.vertices_mm) // (2 * TRIED_VERTICES)))
        normals = mesh.vertex_normals[chosen]
        profiles = sample(mesh.vertices_mm[chosen], normals, hu, grid)
        found = _half_maxima(profiles, 1.5)
        clear = found[:, 1] > 0.5
        if clear.sum() >= 100:
            taken.append((profiles[clear], found[clear], normals[clear], grid))
    if not taken:
        return None
    peaks = np.concatenate([found[:, 2] for _, found, _, _ in taken])
    peak = float(np.percentile(peaks[peaks < METAL_HU], 99.0)) if (peaks < METAL_HU).any() else METAL_HU
    best: tuple[float, Cortex] | None = None

    def tried(blur_mm: float, cortex_hu: float) -> tuple[float, Cortex]:
        misfits = [
            _fitted(profiles, found, _sigma_mm(normals, grid, blur_mm), cortex_hu, lifted=False)[:, 6]
            for profiles, found, normals, grid in taken
        ]
        return float(np.minimum(np.concatenate(misfits), (0.25 * peak) ** 2).mean()), Cortex(cortex_hu, blur_mm)

    for blur in BLURS_MM:
        for share in CORTEX_SHARES:
            trial = tried(blur, share * peak)
            best = trial if best is None or trial[0] < best[0] else best
    assert best is not None
    middle = best[1].cortex_hu
    for share in (0.92, 0.96, 1.04, 1.08):
        trial = tried(best[1].blur_mm, share * middle)
        best = trial if trial[0] < best[0] else best
    return best[1]


def _sigma_mm(normals: Array, grid: Grid, blur_mm: float) -> Array:
    """Blur (N,) along each normal: the scanner's, the voxel's box (1/12) and linear interpolation (1/6), thick
    slices' profile.
    """
    along = (normals @ grid.axes) ** 2
    s = grid.spacing_mm
    slice_mm2 = 0.18 * max(0.0, float(s[2] ** 2 - s[0] ** 2))  # a slice profile as wide as the slice
    return np.asarray(np.sqrt(blur_mm**2 + 0.25 * (along @ s**2) + along[:, 2] * slice_mm2))


def _half_maxima(profiles: NDArray[np.float32], search_mm: float) -> Array:
    """(N, 7): offset mm, weight, peak and outside HU, sample of the peak and of the outside, mean square misfit."""
    out = np.zeros((len(profiles), 7))
    _half_maximum(profiles, search_mm, out)
    return out


def _fitted(
    profiles: NDArray[np.float32], found: Array, sigma_mm: Array, cortex_hu: float, *, lifted: bool = True
) -> Array:
    """The same with the offset of the fitted shell's outer edge; the last column is the mean squared misfit.

    `lifted`: where a profile's peak is above the cortex's density, that peak is its cortex.
    """
    out = found.copy()
    _fit_shell(profiles, found, sigma_mm, cortex_hu, lifted, out)
    return out


@njit_parallel
def _profiles(at: Array, step: Array, hu: NDArray[np.int16], out: NDArray[np.float32]) -> None:
    nk, nj, ni = hu.shape
    for v in prange(at.shape[0]):
        for s in range(_SAMPLES):
            t = s - _MIDDLE
            x = min(max(at[v, 0] + t * step[v, 0], 0.0), ni - 1.001)
            y = min(max(at[v, 1] + t * step[v, 1], 0.0), nj - 1.001)
            z = min(max(at[v, 2] + t * step[v, 2], 0.0), nk - 1.001)
            i, j, k = int(x), int(y), int(z)
            i1, j1, k1 = min(i + 1, ni - 1), min(j + 1, nj - 1), min(k + 1, nk - 1)
            fx, fy, fz = x - i, y - j, z - k
            c00 = hu[k, j, i] * (1 - fx) + hu[k, j, i1] * fx
            c10 = hu[k, j1, i] * (1 - fx) + hu[k, j1, i1] * fx
            c01 = hu[k1, j, i] * (1 - fx) + hu[k1, j, i1] * fx
            c11 = hu[k1, j1, i] * (1 - fx) + hu[k1, j1, i1] * fx
            out[v, s] = (c00 * (1 - fy) + c10 * fy) * (1 - fz) + (c01 * (1 - fy) + c11 * fy) * fz


@njit_parallel
def _half_maximum(profiles: NDArray[np.float32], search_mm: float, out: Array) -> None:
    window = int(search_mm / STEP_MM)
    for v in prange(profiles.shape[0]):
        p = profiles[v]
        # the steepest fall outward, near ones preferred
        best, edge = 0.0, -1
        for s in range(max(2, _MIDDLE - window), min(_SAMPLES - 2, _MIDDLE + window + 1)):
            near = np.exp(-0.5 * ((s - _MIDDLE) * STEP_MM / 0.9) ** 2)
            fall = (p[s - 1] + p[s - 2] - p[s + 1] - p[s + 2]) * near
            if fall > best:
                best, edge = fall, s
        if edge < 0:
            continue
        peak, s_peak = p[edge], edge
        for s in range(edge, max(-1, edge - 14), -1):
            if p[s] > peak:
                peak, s_peak = p[s], s
            elif p[s] < peak - max(25.0, 0.25 * (peak - p[edge])):
                break
        floor, s_floor = p[edge], edge
        for s in range(edge, min(_SAMPLES, edge + 12)):
            if p[s] < floor:
                floor, s_floor = p[s], s
            elif p[s] > floor + max(25.0, 0.25 * (p[edge] - floor)):
                break
        contrast = peak - floor
        out[v, 2], out[v, 3], out[v, 4], out[v, 5] = peak, floor, s_peak, s_floor
        if contrast < LEAST_CONTRAST_HU:
            continue
        half = 0.5 * (peak + floor)
        for s in range(s_peak, s_floor):
            if p[s] >= half > p[s + 1]:
                t = (s - _MIDDLE + (p[s] - half) / (p[s] - p[s + 1])) * STEP_MM
                if abs(t) <= search_mm + STEP_MM:
                    out[v, 0] = t
                    out[v, 1] = min(1.0, contrast / 300.0)
                break


@njit
def _phi(x: float) -> float:
    return 0.5 * (1.0 + erf(x * 0.7071067811865476))


@njit_parallel
def _fit_shell(
    profiles: NDArray[np.float32], found: Array, sigma_mm: Array, cortex_hu: float, lifted: bool, out: Array
) -> None:
    """Levenberg-Marquardt in the outer edge t0, the thickness w and the marrow's HU; outside and cortex are given.

    p(t) = out Phi((t - t0)/s) + cortex [Phi((t0 - t)/s) - Phi((t0 - w - t)/s)] + marrow Phi((t0 - w - t)/s)
    """
    for v in prange(profiles.shape[0]):
        out[v, 6] = 0.0
        if found[v, 1] <= 0.0:
            continue
        p = profiles[v]
        sigma = sigma_mm[v]
        outside = found[v, 3]
        cortex = max(cortex_hu, found[v, 2] + 1.0) if lifted else max(cortex_hu, outside + 50.0)
        first = max(0, int(found[v, 4]) - int(1.6 * sigma / STEP_MM + 3))
        last = int(found[v, 5]) + 1
        if last - first < 6:
            continue
        ratio = min(0.98, (found[v, 2] - outside) / (cortex - outside))
        t0, w, marrow = found[v, 0] - 0.1, 2.4 * sigma * ratio + 0.2, float(p[first])
        damp, previous = 1e-2, 1e30
        A = np.zeros((3, 3))
        b = np.zeros(3)
        trial = np.array([t0, w, marrow])
        for _ in range(14):
            # misfit and normal equations at the trial
            A[:] = 0.0
            b[:] = 0.0
            misfit = 0.0
            x0, xw, xm = trial[0], trial[1], trial[2]
            for s in range(first, last):
                t = (s - _MIDDLE) * STEP_MM
                u = (x0 - t) / sigma
                q = (x0 - xw - t) / sigma
                pu, pq = _phi(u), _phi(q)
                gu, gq = exp(-0.5 * u * u) * 0.3989422804 / sigma, exp(-0.5 * q * q) * 0.3989422804 / sigma
                e = outside * (1.0 - pu) + cortex * (pu - pq) + xm * pq - p[s]
                j0 = (cortex - outside) * gu - (cortex - xm) * gq
                j1 = (cortex - xm) * gq
                j2 = pq
                misfit += e * e
                A[0, 0] += j0 * j0
                A[0, 1] += j0 * j1
                A[0, 2] += j0 * j2
                A[1, 1] += j1 * j1
                A[1, 2] += j1 * j2
                A[2, 2] += j2 * j2
                b[0] += j0 * e
                b[1] += j1 * e
                b[2] += j2 * e
            # weak belief: marrow near its first sample, a shell within a few millimetres
            A[2, 2] += 0.05
            b[2] += 0.05 * (xm - p[first])
            if misfit < previous:
                gain = previous - misfit
                previous = misfit
                t0, w, marrow = x0, xw, xm
                damp = max(damp * 0.3, 1e-6)
                A00, A01, A02, A11, A12, A22 = A[0, 0], A[0, 1], A[0, 2], A[1, 1], A[1, 2], A[2, 2]
                b0, b1, b2 = b[0], b[1], b[2]
                if gain < 1e-4 * misfit:
                    break
            else:
                damp *= 8.0
            d00, d11, d22 = A00 * (1 + damp) + 1e-9, A11 * (1 + damp) + 1e-3, A22 * (1 + damp) + 1e-9
            det = d00 * (d11 * d22 - A12 * A12) - A01 * (A01 * d22 - A12 * A02) + A02 * (A01 * A12 - d11 * A02)
            if abs(det) < 1e-30:
                break
            c0 = b0 * (d11 * d22 - A12 * A12) - A01 * (b1 * d22 - A12 * b2) + A02 * (b1 * A12 - d11 * b2)
            c1 = d00 * (b1 * d22 - b2 * A12) - b0 * (A01 * d22 - A12 * A02) + A02 * (A01 * b2 - b1 * A02)
            c2 = d00 * (d11 * b2 - A12 * b1) - A01 * (A01 * b2 - b1 * A02) + b0 * (A01 * A12 - d11 * A02)
            trial[0] = t0 - min(max(c0 / det, -0.5), 0.5)
            trial[1] = min(max(w - c1 / det, 0.1), 6.0)
            trial[2] = min(max(marrow - c2 / det, -150.0), cortex)
        out[v, 6] = previous / (last - first)
        moved = min(max(t0 - found[v, 0], -FARTHEST_MM), FARTHEST_MM)
        out[v, 0] = found[v, 0] + moved
        if abs(t0 - found[v, 0]) > FARTHEST_MM or sqrt(out[v, 6]) > 0.25 * (found[v, 2] - outside):
            out[v, 1] = 0.3 * found[v, 1]
