"""A scan without its metal's streaks: what each ray through metal would have read is bridged from the rays beside it.

Every slice with metal is projected again in parallel beams, along the rays through metal alone. What a prior image
(air, soft tissue, bone) leaves to explain there is replaced by a straight line between the rays next to the metal; the
difference, filtered and projected back, is what the streaks had added (normalised interpolation: Meyer et al. 2010,
Med Phys 37:5482; here by difference, so what the prior explains needs no division). The prior comes from the same on
voxels twice as large. Streaks finer than PIXEL_MM stay, and so does what the scanner cut off at its brightest value.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from spatial.compiled import njit, njit_parallel, prange
from spatial.frames import Patient
from spatial.rigid import Array, Points
from twin.anatomy.working import Working
from twin.scan.volume import Grid, Volume

F32 = NDArray[np.float32]

METAL_HU = 2500  # enamel and the densest cortex stay below
CORE_HU = 2000.0  # of pixels averaged: the metal without most of its blur
PIXEL_MM = 1.5  # of the slices that are projected
ANGLES = 180
FIRST_ANGLES = 90  # for the prior
SOFT = 1.04  # muscle's density beside water's
AIR_BELOW, BONE_ABOVE = 0.75, 1.3
NEAR_MM = 25.0  # what is dark so near to metal is its streak, not air
RIM_MM = 2.0  # beside metal nothing is changed: its own blur is no streak
BRIDGE = 2  # rays on either side of metal that a bridge stands on
WINDOW_MM = 10.0
BATCH = 16  # slices at a time


@dataclass(frozen=True, eq=False)
class Stain:
    """How strong the streaks were about each place: HU (slice, y, x), the root mean square over WINDOW_MM, in pixels
    of `across` (j, i) of the scan's; `row` says for each of the scan's slices which of these it is, -1 none.
    """

    grid: Grid
    hu: F32
    across: tuple[float, float]
    row: NDArray[np.int64]

    def on(self, working: Working) -> F32:
        """The same on a working grid (z, y, x); 0 in slices without metal."""
        out = np.zeros(working.hu.shape, dtype=np.float32)
        rows = self.grid.axes.T * (working.spacing_mm / self.grid.spacing_mm)[:, None]  # i, j, k; columns x, y, z
        start = self.grid.index_from_patient(Points[Patient](working.origin_mm))
        _sampled(self.hu, self.row, np.ascontiguousarray(rows), start, *self.across, out)
        return out


def cleared(volume: Volume) -> tuple[Volume, Stain | None]:
    """The scan with the streaks of its metal taken out, and where they were; the metal itself stays. The same scan
    where there is none.
    """
    import edt
    from scipy import ndimage

    hu = volume.hu
    found = [k for k in range(len(hu)) if int(hu[k].max()) > METAL_HU]
    if not found:
        return volume, None
    i_mm, j_mm = (float(mm) for mm in volume.grid.spacing_mm[:2])
    across = (max(1.0, PIXEL_MM / j_mm), max(1.0, PIXEL_MM / i_mm))
    pixel_mm = (across[0] * j_mm, across[1] * i_mm)
    window = (1, *(max(3, round(WINDOW_MM / mm)) for mm in pixel_mm))
    clean = hu.copy()
    strong = []
    for at in range(0, len(found), BATCH):
        slices = np.array(found[at : at + BATCH])
        mean = _averaged(hu, slices, *across)
        core: NDArray[np.bool_] = np.asarray(mean > CORE_HU)
        away = np.stack([edt.edt(np.logical_not(plane), anisotropy=pixel_mm) for plane in core])
        change = added(mean, core, away < NEAR_MM)
        change[(away <= RIM_MM) | ~np.any(core, axis=(1, 2), keepdims=True)] = 0.0
        _subtract(change, slices, *across, clean)
        mean_square = ndimage.uniform_filter(change * change, window)  # its running sum may fall below 0
        strong.append(np.sqrt(np.maximum(mean_square, 0.0)))
    row = np.full(len(hu), -1, dtype=np.int64)
    row[found] = np.arange(len(found))
    return replace(volume, hu=clean), Stain(volume.grid, np.concatenate(strong), across, row)


def added(hu: F32, metal: NDArray[np.bool_], near: NDArray[np.bool_]) -> F32:
    """What the streaks of `metal` add to slices (n, y, x) in HU. What is dark `near` the metal is no air."""
    f = np.clip(hu / np.float32(1000.0) + np.float32(1.0), 0.0, 4.0).astype(np.float32)
    ny, nx = hu.shape[1:]
    half = _halved(f)
    flat = np.full_like(half, SOFT)
    flat[(half < AIR_BELOW) & ~(_halved(near.astype(np.float32)) > 0)] = 0.0
    first = half - _explained(half, _halved(metal.astype(np.float32)) > 0, flat, FIRST_ANGLES)
    first = np.repeat(np.repeat(first, 2, axis=1), 2, axis=2)[:, :ny, :nx]
    prior = np.full_like(f, SOFT)
    air, bone = (first < AIR_BELOW) & ~near, (first > BONE_ABOVE) & ~metal
    prior[air], prior[bone] = first[air], first[bone]
    return _explained(f, metal, prior, ANGLES) * np.float32(1000.0)


def _halved(f: F32) -> F32:
    n, ny, nx = f.shape
    padded = np.pad(f, [(0, 0), (0, ny % 2), (0, nx % 2)], mode="edge")
    return np.asarray(padded.reshape(n, (ny + 1) // 2, 2, (nx + 1) // 2, 2).mean(axis=(2, 4)), dtype=np.float32)


def _explained(f: F32, metal: NDArray[np.bool_], prior: F32, angles: int) -> F32:
    turn = np.arange(angles) * np.pi / angles + 1e-4
    bins = math.ceil(math.hypot(*f.shape[1:])) + 6
    out = np.zeros_like(f)
    _find(f, metal, prior, np.cos(turn).astype(np.float32), np.sin(turn).astype(np.float32), bins, out)
    return out


@njit_parallel
def _averaged(hu: NDArray[np.int16], slices: NDArray[np.int64], across_j: float, across_i: float) -> F32:
    """Slices in pixels of `across` of theirs a side, which need not be whole."""
    rows, columns = int(hu.shape[1] / across_j), int(hu.shape[2] / across_i)
    out = np.empty((len(slices), rows, columns), np.float32)
    for n in prange(len(slices)):
        of = hu[slices[n]]
        for y in range(rows):
            top, bottom = y * across_j, (y + 1) * across_j
            for x in range(columns):
                left, right = x * across_i, (x + 1) * across_i
                total, area = 0.0, 0.0
                for j in range(int(top), min(math.ceil(bottom - 1e-9), of.shape[0])):
                    high = min(bottom, j + 1.0) - max(top, float(j))
                    for i in range(int(left), min(math.ceil(right - 1e-9), of.shape[1])):
                        share = high * (min(right, i + 1.0) - max(left, float(i)))
                        total += share * of[j, i]
                        area += share
                out[n, y, x] = total / area
    return out


@njit_parallel
def _find(f: F32, metal: NDArray[np.bool_], prior: F32, cosines: F32, sines: F32, bins: int, out: F32) -> None:
    slices, rows, columns = f.shape
    angles = len(cosines)
    y0, x0, t0 = 0.5 * (rows - 1), 0.5 * (columns - 1), 0.5 * (bins - 1)
    for slice_ in prange(slices):
        k = np.int64(slice_)  # a parallel index is unsigned
        js, is_ = np.nonzero(metal[k])
        if len(js) == 0:
            continue
        change = np.zeros((angles, bins), np.float32)
        rest = f[k] - prior[k]
        through = np.zeros(bins, np.bool_)
        taken = np.zeros(bins, np.float32)
        for a in range(angles):
            c, s = cosines[a], sines[a]
            through[:] = False
            for m in range(len(js)):
                n = int((is_[m] - x0) * c + (js[m] - y0) * s + t0)
                through[n] = True
                through[n + 1] = True
            _bridge(rest, through, taken, c, s)
            # Ram-Lak in space: a quarter in the middle, -1 / (pi n)^2 at odd distances
            for n in range(bins):
                if taken[n] != 0.0:
                    change[a, n] += np.float32(0.25) * taken[n]
                    for m in range((n + 1) % 2, bins, 2):
                        d = np.float32(m - n)
                        change[a, m] -= taken[n] / (np.float32(9.8696044) * d * d)
        _project_back(change, cosines, sines, out[k])


@njit
def _bridge(rest: F32, through: NDArray[np.bool_], taken: F32, c: float, s: float) -> None:
    """By how much each ray through metal reads more than the line between its neighbours."""
    bins = len(through)
    taken[:] = 0.0
    n = 0
    while n < bins:
        if not through[n]:
            n += 1
            continue
        e = n
        while e < bins and through[e]:
            e += 1
        low, high = np.float32(0.0), np.float32(0.0)
        for d in range(1, BRIDGE + 1):
            low += _line(rest, c, s, n - d, bins) / BRIDGE
            high += _line(rest, c, s, e - 1 + d, bins) / BRIDGE
        for q in range(n, e):
            w = np.float32(q - n + 1) / np.float32(e - n + 1)
            taken[q] = _line(rest, c, s, q, bins) - (low + (high - low) * w)
        n = e


@njit
def _line(picture: F32, c: float, s: float, at: int, bins: int) -> float:
    """The sum along one ray, in pixels (Joseph 1982): a step a row or a column, linear between neighbours."""
    rows, columns = picture.shape
    t = at - 0.5 * (bins - 1)
    y0, x0 = 0.5 * (rows - 1), 0.5 * (columns - 1)
    total = 0.0
    if abs(c) >= abs(s):
        step = -s / c
        x = t / c + y0 * s / c + x0
        for j in range(rows):
            if 0.0 <= x < columns - 1:
                i = int(x)
                w = np.float32(x - i)
                total += picture[j, i] + w * (picture[j, i + 1] - picture[j, i])
            x += step
        return total / abs(c)
    step = -c / s
    y = t / s + x0 * c / s + y0
    for i in range(columns):
        if 0.0 <= y < rows - 1:
            j = int(y)
            w = np.float32(y - j)
            total += picture[j, i] + w * (picture[j + 1, i] - picture[j, i])
        y += step
    return total / abs(s)


@njit
def _project_back(change: F32, cosines: F32, sines: F32, out: F32) -> None:
    rows, columns = out.shape
    bins = change.shape[1]
    scale = np.float32(math.pi / len(cosines))
    row = np.empty(columns, np.float32)
    y0, x0, t0 = 0.5 * (rows - 1), 0.5 * (columns - 1), 0.5 * (bins - 1)
    for j in range(rows):
        row[:] = 0.0
        for a in range(len(cosines)):
            c = cosines[a]
            base = np.float32((j - y0) * sines[a] + t0 - x0 * c)
            for i in range(columns):
                t = base + np.float32(i) * c
                n = int(t)
                w = t - np.float32(n)
                row[i] += change[a, n] + w * (change[a, n + 1] - change[a, n])
        for i in range(columns):
            out[j, i] = scale * row[i]


@njit_parallel
def _subtract(change: F32, slices: NDArray[np.int64], across_j: float, across_i: float, hu: NDArray[np.int16]) -> None:
    """Take the changes of averaged slices off the slices themselves, bilinear."""
    ny, nx = change.shape[1:]
    for n in prange(len(slices)):
        plane, of = change[n], hu[slices[n]]
        for j in range(of.shape[0]):
            y = min(max((j + 0.5) / across_j - 0.5, 0.0), ny - 1.001)
            b = int(y)
            v = np.float32(y - b)
            for i in range(of.shape[1]):
                x = min(max((i + 0.5) / across_i - 0.5, 0.0), nx - 1.001)
                a = int(x)
                u = np.float32(x - a)
                low = plane[b, a] + u * (plane[b, a + 1] - plane[b, a])
                high = plane[b + 1, a] + u * (plane[b + 1, a + 1] - plane[b + 1, a])
                value = of[j, i] - (low + v * (high - low))
                of[j, i] = math.floor(min(max(value, -1024.0), 3071.0) + 0.5)


@njit_parallel
def _sampled(
    field: F32, row: NDArray[np.int64], rows: Array, start: Array, across_j: float, across_i: float, out: F32
) -> None:
    nz, ny, nx = out.shape
    for z in prange(nz):
        for y in range(ny):
            for x in range(nx):
                k = math.floor(start[2] + rows[2, 0] * x + rows[2, 1] * y + rows[2, 2] * z + 0.5)
                if k < 0 or k >= len(row) or row[k] < 0:
                    continue
                j = (start[1] + rows[1, 0] * x + rows[1, 1] * y + rows[1, 2] * z + 0.5) / across_j
                i = (start[0] + rows[0, 0] * x + rows[0, 1] * y + rows[0, 2] * z + 0.5) / across_i
                if 0.0 <= j < field.shape[1] and 0.0 <= i < field.shape[2]:
                    out[z, y, x] = field[row[k], int(j), int(i)]
