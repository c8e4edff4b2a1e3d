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

import numpy as np
from numpy.typing import NDArray

from spatial.compiled import njit
from spatial.frames import Patient
from spatial.mesh import TriangleMesh
from spatial.mesh_kernels import vertex_normals
from spatial.rigid import Array, Points
from twin.anatomy import profiles
from twin.anatomy.smoothing import Neighbours, settle, smooth
from twin.scan.volume import Grid

BLURS_MM = (0.15, 0.25, 0.35, 0.45, 0.6, 0.8)  # sigma of the scanner, beyond the voxel's own size
# thereafter: steps of blur (mm) and of density (share), and of how many profiles one is looked at
FINER = ((0.05, 0.08, 3), (0.025, 0.04, 3), (0.025, 0.02, 1))
CORTEX_SHARES = (0.85, 1.0, 1.15, 1.3, 1.5)  # of the brightest hundredth of the peaks
TRIED_PROFILES = 1500  # of each bone
LEAST_CLEAR = 100  # profiles of a bone that are needed to tell anything
ASTRAY_MM = 0.5  # a vertex this far from its surroundings' edge saw something else
HELD = np.float32(100.0)  # weight of what must not move
BEYOND = 0.25  # of a voxel, outside the outermost centres
METAL_HU = 2000.0  # brighter than any cortex
THICKEST_VOXEL_MM = 1.3  # beyond it a shell's thickness can't be told: the half-maximum stays as it is
SEARCH_MM = (1.5, 0.8)  # how far up and down the normal each pass looks


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
    search_mm: tuple[float, ...] | None = None,
) -> TriangleMesh[Patient]:
    """Move a label's surface to the true edge in the HU; where there is none (bones in contact) it stays.

    `hu` (k, j, i) is the scan. Each pass looks at most `search_mm` (SEARCH_MM) up and down the normal; the
    displacement is smoothed over the surface, and single vertices that disagree with their surroundings are dropped.
    Without `cortex` the half-maximum is taken as it is.
    """
    if search_mm is None:
        search_mm = SEARCH_MM if cortex is None else SEARCH_MM[:1]
    triangles = np.array(mesh.triangles)
    vertices = np.array(mesh.vertices_mm)
    neighbours = Neighbours.from_triangles(triangles, len(vertices))
    offset = np.empty(len(vertices), dtype=np.float32)
    weight = np.empty(len(vertices), dtype=np.float32)
    rows, variance = _rows(grid), _variance_mm2(grid)
    cut = _beyond(vertices, grid)
    for sweep, reach in enumerate(search_mm):
        normals = vertex_normals(vertices, triangles)
        last = cortex is not None and sweep == len(search_mm) - 1
        density, blur = (cortex.cortex_hu, cortex.blur_mm) if cortex is not None and last else (0.0, 0.0)
        profiles.measure(
            vertices, normals, rows, grid.origin_mm, variance, blur, hu, reach, density, offset, weight
        )  # fmt: skip
        offset[cut], weight[cut] = 0.0, HELD
        broad = settle(offset, weight, neighbours, 2.0, 6)
        weight[np.abs(offset - broad) > ASTRAY_MM] = 0.0
        moved = settle(offset, weight, neighbours, 0.7, 7)
        vertices += moved[:, None] * normals
        smooth(vertices, neighbours, 3)
    if cut.any():
        vertices[cut] = _flat(vertices[cut], grid)
    return TriangleMesh[Patient](vertices, triangles)


def calibrate(meshes: Sequence[TriangleMesh[Patient]], hu: NDArray[np.int16], grid: Grid) -> Cortex | None:
    """Blur and cortical density that fit the profiles of these bones best; None when too few have a clear edge.

    Thick cortices tell both; thin ones alone leave a denser and thinner shell as good as the true one.
    """
    if float(grid.spacing_mm.max()) > THICKEST_VOXEL_MM:
        return None
    rows, variance = _rows(grid), _variance_mm2(grid)
    taken: list[tuple[NDArray[np.float32], Array, Array]] = []
    for mesh in meshes:
        chosen = slice(None, None, max(1, len(mesh.vertices_mm) // TRIED_PROFILES))
        normals = mesh.vertex_normals[chosen]
        lines = np.empty((len(normals), profiles.SAMPLES), dtype=np.float32)
        told = np.empty((len(normals), profiles.TOLD))
        _read(mesh.vertices_mm[chosen], normals, rows, grid.origin_mm, hu, max(SEARCH_MM), lines, told)
        clear = told[:, profiles.WEIGHT] > 0.5
        if clear.sum() >= LEAST_CLEAR:
            taken.append((lines[clear], told[clear], normals[clear]))
    if not taken:
        return None
    lines, told, normals = (np.concatenate(each) for each in zip(*taken, strict=True))
    peaks = told[:, profiles.PEAK]
    peak = float(np.percentile(peaks[peaks < METAL_HU], 99.0)) if (peaks < METAL_HU).any() else METAL_HU

    def tried(blur_mm: float, cortex_hu: float, every: int) -> tuple[float, Cortex]:
        misfit = np.empty(len(lines[::every]))
        _misfits(lines[::every], told[::every], normals[::every], rows, variance, blur_mm, cortex_hu, misfit)
        return float(np.minimum(misfit, (0.25 * peak) ** 2).mean()), Cortex(cortex_hu, blur_mm)

    coarse = (tried(blur, share * peak, 9) for blur in BLURS_MM for share in CORTEX_SHARES)
    best = min(coarse, key=lambda each: each[0])[1]
    for step_mm, step, every in FINER:  # a long shallow valley: more blur and a denser cortex look nearly alike
        middle = best
        around = [
            tried(middle.blur_mm + i * step_mm, middle.cortex_hu * (1.0 + j * step), every)
            for i in (-1, 0, 1)
            for j in (-1, 0, 1)
            if middle.blur_mm + i * step_mm > 0.0
        ]
        best = min(around, key=lambda each: each[0])[1]
    return best


def _beyond(vertices: Array, grid: Grid) -> NDArray[np.bool_]:
    """Which vertices (N,) lie beyond the centres of the scan's outermost voxels: where the scan cuts the bone."""
    low, high = grid.index_from_patient(Points[Patient](vertices)), np.array(grid.size) - 1.0
    return np.asarray(((low < -BEYOND) | (low > high + BEYOND)).any(axis=1))


def _flat(vertices: Array, grid: Grid) -> Array:
    """The same on the scan's outer faces, half a voxel beyond its outermost centres."""
    index, last = grid.index_from_patient(Points[Patient](vertices)), np.array(grid.size) - 1.0
    index = np.where(index < -BEYOND, -0.5, np.where(index > last + BEYOND, last + 0.5, index))
    return grid.patient_from_index(index).mm


def _rows(grid: Grid) -> Array:
    """Indices i, j, k per mm of Patient (3, 3)."""
    return np.ascontiguousarray((grid.axes / grid.spacing_mm).T)


def _variance_mm2(grid: Grid) -> Array:
    """Blur along i, j, k beyond the scanner's: the voxel's box (1/12) and linear interpolation (1/6), thick slices'
    profile.
    """
    s = grid.spacing_mm
    out = 0.25 * s**2
    out[2] += 0.18 * max(0.0, float(s[2] ** 2 - s[0] ** 2))  # a slice profile as wide as the slice
    return np.asarray(out)


@njit
def _read(
    points: Array, normals: Array, rows: Array, origin: Array, hu: NDArray[np.int16], search_mm: float,
    lines: NDArray[np.float32], told: Array,
) -> None:  # fmt: skip
    for v in range(points.shape[0]):
        profiles.read(points, normals, v, rows, origin, hu, lines[v])
        profiles.half_maximum(lines[v], search_mm, told[v])


@njit
def _misfits(
    lines: NDArray[np.float32], told: Array, normals: Array, rows: Array, variance: Array, blur_mm: float,
    cortex_hu: float, misfit: Array,
) -> None:  # fmt: skip
    one = np.empty(profiles.TOLD)
    for v in range(lines.shape[0]):
        one[:] = told[v]
        profiles.fit_shell(lines[v], profiles.sigma(normals, v, rows, variance, blur_mm), cortex_hu, False, one)
        misfit[v] = one[profiles.MISFIT]
