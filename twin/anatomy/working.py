"""A CT brought to one shape for analysis: isotropic, axes along Patient (x left, y posterior, z cranial), cropped
to the body.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spatial.compiled import njit, njit_parallel, prange
from spatial.rigid import Array
from twin.scan.volume import Grid, Volume

AIR_HU = -1024
SPACING_MM = 1.5  # the coarsest grid on which canal, discs and joints are still seen


@dataclass(frozen=True, eq=False)
class Working:
    """HU float32 (z, y, x) at `spacing_mm`; voxel (0, 0, 0) stands at `origin_mm` (x, y, z) in Patient."""

    hu: NDArray[np.float32]
    spacing_mm: float
    origin_mm: Array

    def patient_from_index(self, zyx: Array | NDArray[np.int64]) -> Array:
        """Patient points (..., 3) x, y, z of indices (..., 3) in array order z, y, x."""
        return np.asarray(np.asarray(zyx, float)[..., ::-1] * self.spacing_mm + self.origin_mm)

    def index_from_patient(self, xyz_mm: Array) -> Array:
        """Fractional indices (..., 3) in array order z, y, x of patient points (..., 3)."""
        return np.asarray(((xyz_mm - self.origin_mm) / self.spacing_mm)[..., ::-1])

    def around(self, xyz_mm: Array, margin_mm: float = 0.0) -> NDArray[np.int64]:
        """Indices (N, 3), array order z, y, x, of the voxels in the box that holds patient points (..., 3)."""
        index = self.index_from_patient(xyz_mm).reshape(-1, 3)
        margin = margin_mm / self.spacing_mm
        low = np.clip(np.floor(index.min(axis=0) - margin).astype(np.int64), 0, self.hu.shape)
        high = np.clip(np.ceil(index.max(axis=0) + margin).astype(np.int64) + 1, low, self.hu.shape)
        zyx = np.meshgrid(*(np.arange(a, b) for a, b in zip(low, high, strict=True)), indexing="ij")
        return np.column_stack([axis.ravel() for axis in zyx])

    def sample(self, xyz_mm: Array) -> Array:
        """HU (...) at patient points (..., 3), trilinear; air outside."""
        flat = self.index_from_patient(xyz_mm).reshape(-1, 3)
        return interpolate(self.hu, flat).reshape(xyz_mm.shape[:-1])


def prepare(volume: Volume, spacing_mm: float = SPACING_MM) -> Working:
    """Average down to about the working spacing, then resample along Patient's axes over the box of the body."""
    grid = volume.grid
    factor = np.maximum(1, np.floor(spacing_mm / grid.spacing_mm + 0.35)).astype(int)  # i, j, k
    hu = _averaged(volume.hu, int(factor[2]), int(factor[1]), int(factor[0]))
    coarse_spacing = grid.spacing_mm * factor
    coarse_origin = grid.origin_mm + grid.axes @ ((factor - 1) / 2 * grid.spacing_mm)
    solid = hu > -250  # the body, table and clothes: a generous box
    spans = [np.flatnonzero(solid.any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3)]
    low, high = (
        np.array([s[0] if len(s) else 0 for s in spans])[::-1],
        np.array([s[-1] if len(s) else n - 1 for s, n in zip(spans, hu.shape, strict=True)])[::-1],
    )
    corners = np.array(
        [[(low, high)[a][0], (low, high)[b][1], (low, high)[c][2]] for a in (0, 1) for b in (0, 1) for c in (0, 1)]
    )
    at = (corners * coarse_spacing) @ grid.axes.T + coarse_origin
    start, stop = at.min(axis=0), at.max(axis=0)
    n_x, n_y, n_z = (np.floor((stop - start) / spacing_mm + 1e-6) + 1).astype(int)
    index_from_patient = (grid.axes / coarse_spacing).T  # rows: i, j, k per mm
    out = np.empty((n_z, n_y, n_x), dtype=np.float32)
    _resampled(hu, index_from_patient, index_from_patient @ (start - coarse_origin), spacing_mm, out)
    return Working(out, spacing_mm, start)


def on_grid(marks: NDArray[np.uint8], working: Working, grid: Grid) -> NDArray[np.uint8]:
    """Working marks (z, y, x) at the nearest voxels of another grid (k, j, i); 0 outside."""
    out = np.empty(grid.shape, dtype=np.uint8)
    rows = (grid.axes * grid.spacing_mm) / working.spacing_mm  # columns: i, j, k; rows: x, y, z
    if not (rows - np.diag(np.diag(rows))).any():  # along the same axes, an index depends on one index alone
        offset = (grid.origin_mm - working.origin_mm) / working.spacing_mm
        lines = [
            np.floor(offset[a] + rows[a, a] * np.arange(n) + 0.5).astype(np.int64) for a, n in enumerate(grid.size)
        ]
        _nearest_along(marks, lines[0], lines[1], lines[2], out)
        return out
    _nearest(marks, rows, (grid.origin_mm - working.origin_mm) / working.spacing_mm, out)
    return out


def interpolate(field: NDArray[np.float32], zyx: Array) -> Array:
    """Trilinear values (N,) of a field at fractional indices (N, 3); air outside."""
    out = np.empty(len(zyx))
    _interpolate(field, np.ascontiguousarray(zyx), out)
    return out


@njit_parallel
def _averaged(hu: NDArray[np.int16], fk: int, fj: int, fi: int) -> NDArray[np.float32]:
    fk, fj, fi = min(fk, hu.shape[0]), min(fj, hu.shape[1]), min(fi, hu.shape[2])
    nk, nj, ni = hu.shape[0] // fk, hu.shape[1] // fj, hu.shape[2] // fi
    out = np.empty((nk, nj, ni), dtype=np.float32)
    for k in prange(nk):
        total = np.empty(hu.shape[2], dtype=np.int32)
        for j in range(nj):
            total[:] = 0
            for c in range(fk):
                for b in range(fj):
                    row = hu[k * fk + c, j * fj + b]
                    for i in range(len(row)):
                        total[i] += row[i]
            for i in range(ni):
                of_cell = 0
                for a in range(fi):
                    of_cell += total[i * fi + a]
                out[k, j, i] = of_cell / (fk * fj * fi)
    return out


@njit_parallel
def _resampled(
    hu: NDArray[np.float32], rows: Array, offset: Array, spacing_mm: float, out: NDArray[np.float32]
) -> None:
    nk, nj, ni = hu.shape
    for z in prange(out.shape[0]):
        for y in range(out.shape[1]):
            for x in range(out.shape[2]):
                px, py, pz = x * spacing_mm, y * spacing_mm, z * spacing_mm
                fi = offset[0] + rows[0, 0] * px + rows[0, 1] * py + rows[0, 2] * pz
                fj = offset[1] + rows[1, 0] * px + rows[1, 1] * py + rows[1, 2] * pz
                fk = offset[2] + rows[2, 0] * px + rows[2, 1] * py + rows[2, 2] * pz
                if fi < -0.51 or fj < -0.51 or fk < -0.51 or fi > ni - 0.49 or fj > nj - 0.49 or fk > nk - 0.49:
                    out[z, y, x] = -1024.0
                    continue
                fi = min(max(fi, 0.0), ni - 1.0)
                fj = min(max(fj, 0.0), nj - 1.0)
                fk = min(max(fk, 0.0), nk - 1.0)
                i, j, k = min(int(fi), max(ni - 2, 0)), min(int(fj), max(nj - 2, 0)), min(int(fk), max(nk - 2, 0))
                i1, j1, k1 = min(i + 1, ni - 1), min(j + 1, nj - 1), min(k + 1, nk - 1)
                a, b, c = fi - i, fj - j, fk - k
                lower = (hu[k, j, i] * (1 - a) + hu[k, j, i1] * a) * (1 - b) + (
                    hu[k, j1, i] * (1 - a) + hu[k, j1, i1] * a
                ) * b
                upper = (hu[k1, j, i] * (1 - a) + hu[k1, j, i1] * a) * (1 - b) + (
                    hu[k1, j1, i] * (1 - a) + hu[k1, j1, i1] * a
                ) * b
                out[z, y, x] = lower * (1 - c) + upper * c


@njit_parallel
def _nearest(marks: NDArray[np.uint8], rows: Array, offset: Array, out: NDArray[np.uint8]) -> None:
    nz, ny, nx = marks.shape
    for k in prange(out.shape[0]):
        for j in range(out.shape[1]):
            for i in range(out.shape[2]):
                x = int(np.floor(offset[0] + rows[0, 0] * i + rows[0, 1] * j + rows[0, 2] * k + 0.5))
                y = int(np.floor(offset[1] + rows[1, 0] * i + rows[1, 1] * j + rows[1, 2] * k + 0.5))
                z = int(np.floor(offset[2] + rows[2, 0] * i + rows[2, 1] * j + rows[2, 2] * k + 0.5))
                inside = 0 <= x < nx and 0 <= y < ny and 0 <= z < nz
                out[k, j, i] = marks[z, y, x] if inside else 0


@njit_parallel
def _nearest_along(
    marks: NDArray[np.uint8],
    xs: NDArray[np.int64],
    ys: NDArray[np.int64],
    zs: NDArray[np.int64],
    out: NDArray[np.uint8],
) -> None:
    nz, ny, nx = marks.shape
    for k in prange(out.shape[0]):
        for j in range(out.shape[1]):
            y, z = ys[j], zs[k]
            if 0 <= y < ny and 0 <= z < nz:
                for i in range(out.shape[2]):
                    x = xs[i]
                    out[k, j, i] = marks[z, y, x] if 0 <= x < nx else 0
            else:
                out[k, j, :] = 0


@njit_parallel
def _interpolate(field: NDArray[np.float32], zyx: Array, out: Array) -> None:
    for n in prange(zyx.shape[0]):
        out[n] = value_at(field, zyx[n, 0], zyx[n, 1], zyx[n, 2])


@njit
def value_at(field: NDArray[np.float32], z: float, y: float, x: float) -> float:
    """Trilinear value of a field at a fractional index; air outside."""
    nz, ny, nx = field.shape
    if x < -0.5 or y < -0.5 or z < -0.5 or x > nx - 0.5 or y > ny - 0.5 or z > nz - 0.5:
        return -1024.0
    x, y, z = min(max(x, 0.0), nx - 1.0), min(max(y, 0.0), ny - 1.0), min(max(z, 0.0), nz - 1.0)
    i, j, k = min(int(x), max(nx - 2, 0)), min(int(y), max(ny - 2, 0)), min(int(z), max(nz - 2, 0))
    i1, j1, k1 = min(i + 1, nx - 1), min(j + 1, ny - 1), min(k + 1, nz - 1)
    a, b, c = x - i, y - j, z - k
    lower = (field[k, j, i] * (1 - a) + field[k, j, i1] * a) * (1 - b) + (
        field[k, j1, i] * (1 - a) + field[k, j1, i1] * a
    ) * b
    upper = (field[k1, j, i] * (1 - a) + field[k1, j, i1] * a) * (1 - b) + (
        field[k1, j1, i] * (1 - a) + field[k1, j1, i1] * a
    ) * b
    value: float = lower * (1 - c) + upper * c
    return value
