"""What metal does to a CT: beam hardening, scatter and photon starvation, through the sinogram of each slice.

A slice's water-equivalent and its metal are projected in parallel beams. A spectrum of three energies, a little scatter
and counting noise give what the detector would read; water's beam hardening is corrected as scanners do. What differs
from the ideal reading, on rays through metal, is filtered and projected back: dark bands between implants, bright rims
and fine streaks (De Man et al. 1999, IEEE Trans Nucl Sci 46:691, names these causes). Attenuation: NIST XCOM, rounded.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from spatial.compiled import njit_parallel, prange
from twin.scan.phantom import shapes
from twin.scan.phantom.field import I32
from twin.scan.phantom.implants import COBALT_HU, TITANIUM_HU, Metal

if TYPE_CHECKING:
    from twin.scan.phantom.voxels import ScanGrid

F64 = NDArray[np.float64]
F32 = NDArray[np.float32]

PIXEL_MM = 1.6  # of the slices that are projected
ANGLES = 240
WEIGHTS = np.array([0.30, 0.45, 0.25])  # at 50, 70 and 100 keV
WATER_CM = np.array([0.227, 0.193, 0.171])
METAL_CM = np.array([[5.46, 2.48, 1.22], [17.4, 7.5, 3.5]])  # titanium; cobalt-chrome
MATERIALS = (TITANIUM_HU, COBALT_HU)
PHOTONS = 4.0e6  # a ray, before the patient
SCATTER = 6.0e-6  # of them, in every ray
FEWEST = 12.0  # counts: the electronics' floor


@njit_parallel
def cover(
    table: F64, outline: F64, program: I32, starts: I32, chosen: I32, low: F64, high: F64, origin: F64, row: F64,
    column: F64, step: F64, pixel: float, first_slice: int, share: F32,
) -> None:  # fmt: skip
    """The share of each voxel (slice, row, column) that the chosen solids fill."""
    slices, rows, columns = share.shape
    for kj in prange(slices * rows):
        k = kj // rows
        j = kj % rows
        x0 = origin[0] + j * pixel * column[0] + (k + first_slice) * step[0]
        y0 = origin[1] + j * pixel * column[1] + (k + first_slice) * step[1]
        z0 = origin[2] + j * pixel * column[2] + (k + first_slice) * step[2]
        reach = 2.0 * (abs(step[2]) + pixel)
        for i in range(columns):
            share[k, j, i] = 0.0
        for c in range(len(chosen)):
            n = chosen[c]
            if z0 < low[n, 2] - reach or z0 > high[n, 2] + reach or y0 < low[n, 1] - reach or y0 > high[n, 1] + reach:
                continue
            for i in range(columns):
                x = x0 + i * pixel * row[0]
                if x < low[n, 0] - reach or x > high[n, 0] + reach:
                    continue
                y = y0 + i * pixel * row[1]
                z = z0 + i * pixel * row[2]
                f = shapes.fold(table, outline, program, starts[n], starts[n + 1], x, y, z)[0]
                if f > shapes.LIPSCHITZ * reach:
                    continue
                gx, gy, gz = shapes.gradient(table, outline, program, starts[n], starts[n + 1], x, y, z)
                g = math.sqrt(gx * gx + gy * gy + gz * gz) + 1e-9
                wa = abs(gx * row[0] + gy * row[1] + gz * row[2]) / g * pixel
                wb = abs(gx * column[0] + gy * column[1] + gz * column[2]) / g * pixel
                wc = abs(gx * step[0] + gy * step[1] + gz * step[2]) / g
                share[k, j, i] = max(share[k, j, i], shapes.below(f / g, wa, wb, wc))


def shares(metal: Metal, grid: ScanGrid, first_slice: int, count: int) -> list[F32]:
    """Each material's share of the voxels of some slices."""
    rows, columns = grid.size[1], grid.size[0]
    found = []
    for hu in MATERIALS:
        chosen = np.array([n for n, piece in enumerate(metal.pieces) if piece.hu == hu], np.int32)
        share = np.zeros((count, rows, columns), np.float32)
        s = metal.shapes
        if len(chosen):
            cover(
                s.table, s.outline, s.program, s.starts, chosen, s.low_mm, s.high_mm, grid.origin_mm, grid.row,
                grid.column, grid.step_mm, grid.pixel_mm, first_slice, share,
            )  # fmt: skip
        found.append(share)
    return found


@njit_parallel
def _project(picture: F64, angles: F64, out: F64) -> None:
    # parallel beams: line sums in pixels, (angle, bin); each pixel is shared between its two bins
    rows, columns = picture.shape
    bins = out.shape[1]
    for a in prange(len(angles)):
        c = math.cos(angles[a])
        s = math.sin(angles[a])
        for n in range(bins):
            out[a, n] = 0.0
        for j in range(rows):
            for i in range(columns):
                v = picture[j, i]
                if v == 0.0:
                    continue
                t = (i - 0.5 * (columns - 1)) * c + (j - 0.5 * (rows - 1)) * s + 0.5 * (bins - 1)
                n = math.floor(t)
                u = t - n
                if 0 <= n < bins - 1:
                    out[a, n] += (1.0 - u) * v
                    out[a, n + 1] += u * v


@njit_parallel
def _project_back(filtered: F64, angles: F64, out: F64) -> None:
    rows, columns = out.shape
    bins = filtered.shape[1]
    cosines = np.cos(angles)
    sines = np.sin(angles)
    for j in prange(rows):
        for i in range(columns):
            total = 0.0
            for a in range(len(angles)):
                t = (
                    (i - 0.5 * (columns - 1)) * cosines[a] + (j - 0.5 * (rows - 1)) * sines[a] + 0.5 * (bins - 1)
                )  # fmt: skip
                n = int(t)
                if 0 <= n < bins - 1:
                    u = t - n
                    total += (1.0 - u) * filtered[a, n] + u * filtered[a, n + 1]
            out[j, i] = total * math.pi / len(angles)


def _read(water_cm: F64, metal_cm: list[F64]) -> F64:
    # what leaves the patient, as a share of what entered, scatter included
    total = np.full(water_cm.shape, SCATTER)
    for n, weight in enumerate(WEIGHTS):
        depth = WATER_CM[n] * water_cm
        for m, path in enumerate(metal_cm):
            depth = depth + METAL_CM[m, n] * path
        total += weight * np.exp(-depth)
    return total


def streaks(tissue_hu: NDArray[np.float32], metal: list[NDArray[np.float32]], seed: int, index: int) -> F64:
    """The artefact (HU) that metal leaves in one slice of PIXEL_MM pixels.

    `tissue_hu` without the metal, `metal` the share of each material in a pixel.
    """
    rows, columns = tissue_hu.shape
    bins = math.ceil(math.hypot(rows, columns)) + 4
    angles = np.arange(ANGLES) * np.pi / ANGLES
    outside = 1.0 - np.clip(np.sum(metal, axis=0, dtype=np.float64), 0.0, 1.0)
    water = np.maximum(tissue_hu / 1000.0 + 1.0, 0.0) * outside
    cm = PIXEL_MM / 10.0
    sinograms = []
    for picture in (water, *(share.astype(np.float64) for share in metal)):
        line = np.empty((ANGLES, bins))
        _project(picture, angles, line)
        sinograms.append(line * cm)
    through, paths = sinograms[0], sinograms[1:]
    crossed = np.sum(paths, axis=0) > 0.02
    if not crossed.any():
        return np.zeros((rows, columns))
    depths = np.linspace(0.0, 90.0, 1801)
    readings = -np.log(_read(depths, []))  # the water correction: from reading to cm of water
    share = _read(through, paths)
    clean = _read(through, [])
    counts = np.maximum(PHOTONS * share, FEWEST)
    excess = np.sqrt(np.maximum(1.0 / counts - 1.0 / np.maximum(PHOTONS * clean, FEWEST), 0.0))
    rng = np.random.default_rng([20268, seed, index])
    noisy = -np.log(counts / PHOTONS) + excess * rng.standard_normal(share.shape)
    error = np.interp(noisy, readings, depths) - np.interp(-np.log(clean), readings, depths)
    for m, path in enumerate(paths):
        error -= (MATERIALS[m] / 1000.0 + 1.0) * path
    error = np.where(crossed, error, 0.0)
    size = 1 << math.ceil(math.log2(2 * bins))
    ramp = np.abs(np.fft.fftfreq(size)) * (0.5 + 0.5 * np.cos(2 * np.pi * np.fft.fftfreq(size)))
    filtered = np.fft.ifft(np.fft.fft(error, size, axis=1) * ramp, axis=1).real[:, :bins]
    out = np.empty((rows, columns))
    _project_back(np.ascontiguousarray(filtered), angles, out)
    return np.asarray(out / cm * 1000.0)
