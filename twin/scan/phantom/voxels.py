"""The phantom's CT: HU with partial volume, point spread and noise, and the labels, on any scanner grid.

Near a bone surface the voxel's box is cut exactly by the local tangent planes of the outer surface and of the cortex's
inner border (true depth),
so the half-maximum lies where the surface is. Then the scanner's point spread blurs it (FWHM in
plane and along), and noise is added, slightly correlated in plane as reconstruction leaves it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from spatial.compiled import njit, njit_parallel, prange
from spatial.faults import Misuse
from spatial.progress import Progress, silent
from twin.scan.phantom import shapes
from twin.scan.phantom.field import I32, CellGrid, cell_entry
from twin.scan.phantom.kernels import STANDARD, Kernel, in_plane, noise, point_spread
from twin.scan.phantom.patient import CELL_MM, Phantom
from twin.scan.phantom.streaks import MATERIALS, PIXEL_MM, shares, streaks
from twin.scan.phantom.tissue import STEP_MM, grain, soft_hu, table_of

F64 = NDArray[np.float64]
F32 = NDArray[np.float32]
I16 = NDArray[np.int16]
SLAB = 48  # slices painted at a time


def _label_numbers() -> dict[str, int]:
    numbers = {"sacrum": 25, "femur_left": 75, "femur_right": 76, "hip_left": 77, "hip_right": 78}
    numbers |= {f"vertebrae_L{n}": 32 - n for n in range(1, 6)}
    numbers |= {f"vertebrae_T{n}": 44 - n for n in range(1, 13)}
    numbers |= {f"rib_left_{n}": 91 + n for n in range(1, 13)}
    numbers |= {f"rib_right_{n}": 103 + n for n in range(1, 13)}
    numbers |= {"vertebrae_C7": 44, "vertebrae_L6": 201, "vertebrae_T13": 202, "rib_left_13": 203, "rib_right_13": 204}
    pairs = [f"{bone}_{side}" for bone in ("tibia", "fibula", "patella") for side in ("left", "right")]
    return numbers | {name: 211 + n for n, name in enumerate(pairs)}


LABELS = _label_numbers()  # TotalSegmentator v2 below 200


@dataclass(frozen=True)
class ScanGrid:
    """A stack of slices: origin (centre of the first voxel), unit row and column directions, step between slices.

    A tilted gantry turns the column direction but not the table's travel, so the stack is sheared.
    """

    size: tuple[int, int, int]  # columns, rows, slices
    pixel_mm: float
    slice_mm: float
    origin_mm: F64
    row: F64
    column: F64
    step_mm: F64
    tilt_deg: float = 0.0

    def point(self, i: float, j: float, k: float) -> F64:
        """The patient point of a voxel index."""
        return self.origin_mm + self.pixel_mm * (i * self.row + j * self.column) + k * self.step_mm


@dataclass(frozen=True)
class Scan:
    """Voxels (slice, row, column): HU, labels, and where they are."""

    hu: I16
    labels: NDArray[np.uint8]
    grid: ScanGrid
    metal: NDArray[np.bool_] | None = None  # voxels mostly of metal; None: the patient has none
    kernel: Kernel = STANDARD


def scan_grid(
    phantom: Phantom, *, slice_mm: float = 0.8, pixel_mm: float = 0.74, tilt_deg: float = 0.0,
    box_mm: tuple[Sequence[float], Sequence[float]] | None = None,
) -> ScanGrid:  # fmt: skip
    """The whole phantom on 512 x 512 pixels, or just the voxels of a box (low, high corner)."""
    if not (0.2 <= slice_mm <= 5.0 and 0.2 <= pixel_mm <= 5.0 and abs(tilt_deg) <= 30.0):
        raise Misuse(f"slices {slice_mm} mm, pixels {pixel_mm} mm, tilt {tilt_deg} deg; limits 0.2 to 5 mm, 30 deg")
    a = math.radians(tilt_deg)
    column = np.array([0.0, math.cos(a), math.sin(a)])
    if box_mm is None:
        low, high = phantom.bones.low_mm.min(axis=0), phantom.bones.high_mm.max(axis=0)
        half = 256 * pixel_mm
        back = float(phantom.bones.high_mm[:, 1].max()) + 13.0
        centre_y = back - 100.0
        rise = abs(math.tan(a)) * 115.0
        z0, z1 = float(low[2]) - 2.0 - rise, float(high[2]) + 2.0 + rise
        if phantom.anatomy.region in ("lumbar", "spine"):  # down to the middle of the thighs' beginnings
            z0 = float(phantom.pelvis.hips.origin[2]) - 101.0 * phantom.pelvis.scale - rise
        corner = np.array([phantom.s1.origin[0] - half + pixel_mm / 2, centre_y - half + pixel_mm / 2, z0])
        corner[2] -= half * math.sin(a)
        corner[1] += half * (1.0 - math.cos(a))
        size = (512, 512, math.ceil((z1 - z0) / slice_mm))
    else:
        lo, hi = np.asarray(box_mm[0], float), np.asarray(box_mm[1], float)
        span = hi - lo
        corner = lo.copy()
        size = (
            math.ceil(span[0] / pixel_mm), math.ceil(span[1] / pixel_mm / math.cos(a)), math.ceil(span[2] / slice_mm)
        )  # fmt: skip
    return ScanGrid(
        size, pixel_mm, slice_mm, corner, np.array([1.0, 0.0, 0.0]), column, np.array([0.0, 0.0, slice_mm]), tilt_deg
    )


@njit_parallel
def _paint(
    table: F64, outline: F64, program: I32, corner: F64, cell: float, entry: NDArray[np.int32],
    inside: NDArray[np.int16],
    entry_bone: I32, entry_start: I32, entry_last: NDArray[np.bool_], bone_hu: F64, bone_label: NDArray[np.uint8],
    disc_table: F64, disc_outline: F64, disc_program: I32, disc_low: F64, disc_high: F64, soft: F64, soft_z0: float,
    origin: F64, row: F64, column: F64, step: F64, pixel: float, cortical_hu: float, first_slice: int,
    signal: F32, labels: NDArray[np.uint8],
) -> None:  # fmt: skip
    slices, rows, columns = signal.shape
    nx, ny, nz = entry.shape
    gap = math.sqrt(step[0] ** 2 + step[1] ** 2 + step[2] ** 2)
    radius = 0.5 * math.sqrt(2.0 * pixel * pixel + gap * gap)
    for kj in prange(slices * rows):
        k = kj // rows
        j = kj % rows
        s = k + first_slice
        x0 = origin[0] + j * pixel * column[0] + s * step[0]
        y0 = origin[1] + j * pixel * column[1] + s * step[1]
        z0 = origin[2] + j * pixel * column[2] + s * step[2]
        curves = soft[min(max(int((z0 - soft_z0) / STEP_MM), 0), soft.shape[0] - 1)]
        cj = math.floor((y0 - corner[1]) / cell)
        ck = math.floor((z0 - corner[2]) / cell)
        beside = cj < 0 or cj >= ny or ck < 0 or ck >= nz
        for i in range(columns):
            x = x0 + i * pixel
            y, z = y0, z0
            ci = math.floor((x - corner[0]) / cell)
            e = -1
            whole = -1
            if not beside and 0 <= ci < nx:
                e = entry[ci, cj, ck]
                whole = inside[ci, cj, ck]
            if e < 0 and whole >= 0:
                signal[k, j, i] = bone_hu[whole] + 22.0 * grain(x, y, z, 2.2)
                labels[k, j, i] = bone_label[whole]
                continue
            hu = soft_hu(x, y, z, curves)
            if hu > -500.0:
                for n in range(disc_low.shape[0]):
                    if (
                        disc_low[n, 2] < z < disc_high[n, 2] and disc_low[n, 1] < y < disc_high[n, 1]
                        and disc_low[n, 0] < x < disc_high[n, 0]
                    ):  # fmt: skip
                        f = shapes.fold(disc_table, disc_outline, disc_program, n, n + 1, x, y, z)[0]
                        if f < 0.5:
                            share = min(0.5 - f, 1.0)
                            hu += share * ((82.0 if f < -9.0 else 95.0) - hu)
                        break
            label = 0
            if e >= 0:
                least = 0.0
                left = 1.0
                bone_part = 0.0
                while True:
                    a, b = entry_start[e], entry_start[e + 1]
                    f, cortex, marrow = shapes.fold(table, outline, program, a, b, x, y, z)
                    if f < least:
                        least = f
                        label = bone_label[entry_bone[e]]
                    if f < 2.5:
                        if f < -6.0 * cortex - 2.0:
                            outer = 1.0
                            inner = 1.0
                        else:
                            gx, gy, gz = shapes.gradient(table, outline, program, a, b, x, y, z)
                            g = math.sqrt(gx * gx + gy * gy + gz * gz) + 1e-9
                            d = f / g
                            if d < 1.2 * radius and d > -(cortex + 2.5 * radius) * 1.3:
                                if abs(d) > 0.3:  # second order: where the straight way really ends
                                    fx, fy, fz = x - d * gx / g, y - d * gy / g, z - d * gz / g
                                    q = cell_entry(entry, corner, cell, fx, fy, fz)
                                    while q >= 0 and entry_bone[q] != entry_bone[e]:
                                        q = -1 if entry_last[q] else q + 1
                                    if q >= 0:
                                        rest = shapes.fold(
                                            table, outline, program, entry_start[q], entry_start[q + 1], fx, fy, fz
                                        )[0]
                                        d += min(max(rest / g, -0.5), 0.5)
                                wa = abs(gx * row[0] + gy * row[1] + gz * row[2]) / g * pixel
                                wb = abs(gx * column[0] + gy * column[1] + gz * column[2]) / g * pixel
                                wc = abs(gx * step[0] + gy * step[1] + gz * step[2]) / g
                                outer = shapes.below(d, wa, wb, wc)
                                inner = shapes.below(d + cortex, wa, wb, wc)
                            elif d >= 0.0:
                                outer = 0.0
                                inner = 0.0
                            else:
                                outer = 1.0
                                inner = 1.0
                        if outer > 0.0:
                            left -= outer
                            inner_hu = marrow + (22.0 * grain(x, y, z, 2.2) if inner > 0.0 else 0.0)
                            bone_part += (outer - inner) * cortical_hu + inner * inner_hu
                    if entry_last[e]:
                        break
                    e += 1
                hu = max(left, 0.0) * hu + bone_part
            signal[k, j, i] = hu
            labels[k, j, i] = label


@njit
def _random(index: int, seed: int) -> float:
    """Four 16-bit uniforms of one hash, summed: variance 1, near normal."""
    h = np.uint64(index) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed) * np.uint64(0xD1B54A32D192ED03)
    h ^= h >> np.uint64(30)
    h *= np.uint64(0xBF58476D1CE4E5B9)
    h ^= h >> np.uint64(27)
    h *= np.uint64(0x94D049BB133111EB)
    h ^= h >> np.uint64(31)
    m = np.uint64(0xFFFF)
    total = (
        float(h & m) + float((h >> np.uint64(16)) & m) + float((h >> np.uint64(32)) & m) + float(h >> np.uint64(48))
    )  # fmt: skip
    return (total / 65536.0 - 2.0) * 1.7320508


@njit_parallel
def _finish(
    signal: F32, lead: int, plane: F64, along: F64, noise_hu: float, seed: int, first_slice: int, out: I16
) -> None:
    # Blur a painted slab (with `lead` extra slices either side), add noise, round.
    slices, rows, columns = out.shape
    rp = len(plane) // 2
    ra = len(along) // 2
    for k in prange(slices):
        a = np.empty((rows, columns), np.float32)
        b = np.empty((rows, columns), np.float32)
        for j in range(rows):
            for i in range(columns):
                v = 0.0
                for n in range(-ra, ra + 1):
                    v += along[n + ra] * signal[k + lead + n, j, i]
                a[j, i] = v
        for j in range(rows):
            for i in range(columns):
                if rp <= i < columns - rp:
                    v = 0.0
                    for n in range(-rp, rp + 1):
                        v += plane[n + rp] * a[j, i + n]
                    b[j, i] = v
                else:
                    b[j, i] = a[j, i]
        for j in range(rows):
            inner = rp <= j < rows - rp
            for i in range(columns):
                if inner:
                    v = 0.0
                    for n in range(-rp, rp + 1):
                        v += plane[n + rp] * b[j + n, i]
                    a[j, i] = v
                else:
                    a[j, i] = b[j, i]
        # noise: white, then (1 2 1) / 4 along rows and columns, which keeps 0.375 of its SD
        scale = noise_hu / 0.375
        base = (first_slice + k) * (rows + 2) * (columns + 2)
        for j in range(rows):
            for i in range(columns):
                b[j, i] = _random(base + j * columns + i, seed)
        for j in range(rows):
            p = max(j - 1, 0)
            q = min(j + 1, rows - 1)
            for i in range(columns):
                w = b[p, i] + 2.0 * b[j, i] + b[q, i]
                wl = b[p, i - 1] + 2.0 * b[j, i - 1] + b[q, i - 1] if i > 0 else w
                wr = b[p, i + 1] + 2.0 * b[j, i + 1] + b[q, i + 1] if i < columns - 1 else w
                v = a[j, i] + scale * (wl + 2.0 * w + wr) / 16.0
                out[k, j, i] = math.floor(min(max(v, -1024.0), 3071.0) + 0.5)


def synthesise(
    phantom: Phantom, grid: ScanGrid | None = None, *, noise_hu: float | None = None, fwhm_mm: float | None = None,
    kernel: Kernel = STANDARD, progress: Progress = silent,
) -> Scan:  # fmt: skip
    """Scan the phantom: HU and labels (slice, row, column) on a grid (default: the whole of it).

    `noise_hu` and `fwhm_mm` instead of the kernel's own. Metal saturates at 3071 HU, as scanners do, and its streaks
    are added; a bone keeps its label where a screw runs in it.
    """
    grid = scan_grid(phantom) if grid is None else grid
    kernel = kernel if fwhm_mm is None else replace(kernel, fwhm_mm=fwhm_mm)
    noise_hu = kernel.noise_hu if noise_hu is None else noise_hu
    columns, rows, slices = grid.size
    progress("laying out the bones", 0.0)
    painter = Painter(phantom, grid)
    streaked = Streaked(phantom, grid) if phantom.metal is not None else None
    gap = float(np.linalg.norm(grid.step_mm))
    plane, along = in_plane(kernel, grid.pixel_mm), point_spread(gap, gap)
    lead = len(along) // 2
    hu = np.empty((slices, rows, columns), np.int16)
    labels = np.empty((slices, rows, columns), np.uint8)
    metal = np.zeros(hu.shape, np.bool_) if streaked is not None else None
    for k0 in range(0, slices, SLAB):
        k1 = min(k0 + SLAB, slices)
        progress("scanning", k0 / slices)
        signal = np.empty((k1 - k0 + 2 * lead, rows, columns), np.float32)
        marks = np.empty(signal.shape, np.uint8)
        painter.paint(k0 - lead, signal, marks)
        if streaked is not None and metal is not None:
            metal[k0:k1] = streaked.insert(k0 - lead, signal)[lead : lead + k1 - k0]
        plain = kernel.noise_cut_mm is None
        _finish(signal, lead, plane, along, noise_hu if plain else 0.0, phantom.anatomy.seed, k0, hu[k0:k1])
        if not plain and noise_hu > 0.0:
            for k in range(k0, k1):
                grit = noise(kernel, (rows, columns), grid.pixel_mm, noise_hu, phantom.anatomy.seed, k)
                hu[k] = np.rint(np.clip(hu[k] + grit, -1024.0, 3071.0))
        labels[k0:k1] = marks[lead : lead + k1 - k0]
    progress("scanning", 1.0)
    return Scan(hu, labels, grid, metal, kernel)


class Painter:
    """Paints a patient's slices, without blur or noise, on one grid."""

    def __init__(self, phantom: Phantom, grid: ScanGrid) -> None:
        """Lay out the bones that the grid can see."""
        bones = phantom.bones
        columns, rows, slices = grid.size
        gap = float(np.linalg.norm(grid.step_mm))
        margin = 1.7 + 0.5 * math.sqrt(2 * grid.pixel_mm**2 + gap**2)
        corners = np.array([grid.point(i, j, k) for i in (0, columns) for j in (0, rows) for k in (0, slices)])
        low, high = corners.min(axis=0) - 5.0, corners.max(axis=0) + 5.0
        chosen = [
            b for b in range(len(bones.names)) if (bones.low_mm[b] < high).all() and (bones.high_mm[b] > low).all()
        ]  # fmt: skip
        if not chosen:
            raise Misuse("the box holds no bone of the phantom; its corners are patient LPS, mm")
        self._phantom, self._grid = phantom, grid
        self._cells = CellGrid.build(bones, chosen, CELL_MM, margin)
        self._soft, self._soft_z0 = table_of(phantom, float(low[2]), float(high[2])), float(low[2])
        self._hu = np.array([bones.table[bones.starts[b], 4] for b in range(len(bones.names))])
        self._numbers = np.array([LABELS[name] for name in bones.names], np.uint8)

    def paint(self, first_slice: int, signal: F32, labels: NDArray[np.uint8]) -> None:
        """HU and labels of consecutive slices, into the arrays."""
        bones, discs, cells, grid = self._phantom.bones, self._phantom.discs, self._cells, self._grid
        _paint(
            bones.table, bones.outline, cells.program, cells.corner_mm, cells.cell_mm, cells.entry, cells.inside,
            cells.entry_bone, cells.entry_start, cells.entry_last, self._hu, self._numbers, discs.table, discs.outline,
            discs.program, discs.low_mm, discs.high_mm, self._soft, self._soft_z0, grid.origin_mm, grid.row,
            grid.column, grid.step_mm, grid.pixel_mm, self._phantom.anatomy.cortical_hu, first_slice, signal, labels,
        )  # fmt: skip


class Streaked:
    """Puts the metal into painted slices, with the streaks that it causes in the whole patient's cross-section."""

    def __init__(self, phantom: Phantom, grid: ScanGrid) -> None:
        """A coarser grid of the same slices, as wide as the body."""
        if phantom.metal is None:
            raise ValueError("this patient has no metal")
        self._metal, self._grid, self._seed = phantom.metal, grid, phantom.anatomy.seed
        wide, deep = 400.0, 310.0
        back = float(phantom.bones.high_mm[:, 1].max()) + 20.0
        middle = np.array([phantom.s1.origin[0], back - deep / 2, 0.0])
        # the slices' own planes: from the grid's origin along row and column to the corner wanted
        lead = (middle[:2] - grid.origin_mm[:2]) @ np.array([grid.row[:2], grid.column[:2]]).T
        corner = lead / [1.0, float(grid.column[1]) ** 2] - [wide / 2, deep / 2]
        origin = grid.origin_mm + corner[0] * grid.row + corner[1] * grid.column
        size = (round(wide / PIXEL_MM), round(deep / PIXEL_MM), grid.size[2])
        self._corner_px = corner / PIXEL_MM
        self._coarse = replace(grid, size=size, pixel_mm=PIXEL_MM, origin_mm=origin)
        self._painter = Painter(phantom, self._coarse)

    def insert(self, first_slice: int, signal: F32) -> NDArray[np.bool_]:
        """Mix the metal into the slices and add its streaks; return which voxels are metal."""
        count = len(signal)
        fine = shares(self._metal, self._grid, first_slice, count)
        for share, hu in zip(fine, MATERIALS, strict=True):
            signal += share * (np.float32(hu) - signal)
        columns, rows = self._coarse.size[:2]
        coarse = shares(self._metal, self._coarse, first_slice, count)
        ratio = self._grid.pixel_mm / PIXEL_MM
        j = np.arange(signal.shape[1]) * ratio - self._corner_px[1]
        i = np.arange(signal.shape[2]) * ratio - self._corner_px[0]
        at = np.stack(np.meshgrid(j, i, indexing="ij"))
        for k in range(count):
            if not any(share[k].any() for share in coarse):
                continue
            tissue = np.empty((1, rows, columns), np.float32)
            self._painter.paint(first_slice + k, tissue, np.empty(tissue.shape, np.uint8))
            found = streaks(tissue[0], [share[k] for share in coarse], self._seed, first_slice + k + 10)
            signal[k] += ndimage.map_coordinates(found, at, order=1, mode="constant").astype(np.float32)
        return np.asarray(np.sum(fine, axis=0) > 0.5)
