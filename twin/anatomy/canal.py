"""The spinal canal, found first: the axis along which everything else of the spine is read.

In each axial slice every soft voxel looks around itself: bone in most directions (the share of rays that hit), at like
distances left and right, at about a canal's radius, with a vertebral body in front. It looks with several thresholds
and keeps the best: a dense pedicle and a dark sacrum stand in one scan. Dynamic programming then joins the best voxels
of all slices to one smooth path.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from spatial.compiled import njit, njit_parallel, prange
from spatial.faults import Fault
from spatial.rigid import Array
from twin.anatomy.working import Working

RADIUS_MM = 9.5
REACH_MM = 24.0
RAYS = 24
MIDLINE_MM = 12.0  # a scoliotic canal lies this far beside the body's middle and more
MIDLINE_SD_MM = 24.0  # without it the path jumps into the obturator ring
ABOVE_SOFT_HU = (45.0, 85.0, 130.0, 180.0)  # over the scan's muscle; a fixed one fails on low density
CUT_SHARE = 0.3  # of the rows: this much tissue at a side's edge, and the body goes on beyond it
CUT_SD_MM = 80.0
PLAIN = 0.5  # score of a canal that is no other thing
SLICE_STEP_MM = 3.0
BLOCK = 12  # samples of the centreline that are looked at together
CHUNK = 4096  # points that one thread takes
LEAST_SCORE = 0.22


class NoSpine(Fault):
    """No spinal canal in this volume."""


@dataclass(frozen=True, eq=False)
class Canal:
    """The canal's centreline (N, 3) mm Patient, ordered from below upward, with its unit tangent, left and
    anterior (N, 3).

    `along_mm` (N,) is the arc length; samples are 1 mm apart. `score` (N,) 0..1 says how canal-like each place is.
    """

    centre_mm: Array
    tangent: Array
    left: Array
    anterior: Array
    along_mm: Array
    score: Array

    def coordinates(self, points_mm: Array) -> Array:
        """Patient points (N, 3) as (along, left, anterior) mm, each by the sample across whose tangent it lies best."""
        out = np.empty((len(points_mm), 3))
        _coordinates(points_mm, self.centre_mm, self.tangent, self.left, self.anterior, self.along_mm, out)
        return out

    def points(self, along_left_anterior: Array) -> Array:
        """Patient points (..., 3) of canal coordinates (..., 3)."""
        s = along_left_anterior[..., 0]
        at = [
            np.stack([np.interp(s, self.along_mm, v[:, a]) for a in range(3)], axis=-1)
            for v in (self.centre_mm, self.left, self.anterior, self.tangent)
        ]
        beyond = s - np.clip(s, self.along_mm[0], self.along_mm[-1])
        return np.asarray(
            at[0]
            + along_left_anterior[..., 1:2] * at[1]
            + along_left_anterior[..., 2:3] * at[2]
            + beyond[..., None] * at[3]
        )


def find(working: Working, muscle_hu: float = 50.0, noise_hu: float = 15.0) -> Canal:
    """The canal's centreline; raises NoSpine when no path looks like one."""
    smooth = ndimage.gaussian_filter(working.hu, 0.7)
    step = max(1, round(SLICE_STEP_MM / working.spacing_mm))
    slices = np.ascontiguousarray(smooth[::step])
    thresholds = [muscle_hu + above for above in ABOVE_SOFT_HU if above > 2.5 * noise_hu or above == ABOVE_SOFT_HU[-1]]
    middle, is_cut = _midline(slices)
    score, path, total = _searched(slices, thresholds, working.spacing_mm, middle, MIDLINE_SD_MM)
    if is_cut:  # where the canal is plain it tells the middle
        wide, plain, _ = _searched(slices, thresholds, working.spacing_mm, middle, CUT_SD_MM)
        middle = _middle_of(wide, plain, middle)
        other = _searched(slices, thresholds, working.spacing_mm, middle, MIDLINE_SD_MM)
        score, path, total = max((score, path, total), other, key=lambda found: found[2])
    values = score[np.arange(len(path)), path[:, 0], path[:, 1]].astype(np.float64)
    rows = np.arange(len(working.hu)) / step
    whole = np.column_stack([np.interp(rows, np.arange(len(path)), path[:, n]) for n in range(2)])
    return _canal(working, whole, np.interp(rows, np.arange(len(path)), values))


def _searched(
    slices: NDArray[np.float32], thresholds: list[float], spacing_mm: float, middle: Array, sd_mm: float
) -> tuple[NDArray[np.float32], NDArray[np.int64], float]:
    """The slices' scores, the best path through them and its sum."""
    score = np.zeros(slices.shape, dtype=np.float32)
    for threshold in thresholds:
        _slice_scores(slices, threshold, spacing_mm, middle, sd_mm, score)
    return score, *_best_path(score)


def _midline(hu: NDArray[np.float32]) -> tuple[Array, bool]:
    """Column of the body's middle a slice, along the slices smoothed: half of its soft tissue lies on either side. And
    whether the scan cuts the body off at a side, so that it need not.
    """
    tissue = hu > -200
    columns = tissue.sum(axis=1).astype(float)
    sides = [tissue[:, :, edge].any(axis=2).sum(axis=1).max() for edge in (slice(0, 2), slice(-2, None))]
    mass = np.maximum(columns.sum(axis=1), 1.0)
    middle = np.array([np.searchsorted(np.cumsum(row), 0.5 * row.sum()) for row in columns], dtype=float)
    middle[mass < 2.0] = 0.5 * hu.shape[2]
    return np.asarray(ndimage.gaussian_filter1d(middle, 10.0, mode="nearest")), max(sides) > CUT_SHARE * hu.shape[1]


def _middle_of(score: NDArray[np.float32], path: NDArray[np.int64], middle: Array) -> Array:
    """The path's column along its longest plain run, and on from its ends."""
    rows = np.arange(len(path))
    plain = ndimage.uniform_filter1d(score[rows, path[:, 0], path[:, 1]].astype(float), 5, mode="nearest") > PLAIN
    runs, count = ndimage.label(plain)
    if count == 0:
        return middle
    longest = runs == 1 + int(np.argmax(np.bincount(runs.ravel())[1:]))
    return np.asarray(np.interp(rows, rows[longest], path[longest, 1]))


def _canal(working: Working, path: Array, values: Array) -> Canal:
    smooth_score = ndimage.uniform_filter1d(values, max(1, round(20.0 / working.spacing_mm)), mode="nearest")
    good = smooth_score > LEAST_SCORE
    runs, count = ndimage.label(good)
    if count == 0:
        raise NoSpine(
            f"no spinal canal: the best path scores {float(smooth_score.max()):.2f}, {LEAST_SCORE} is needed; "
            "does the scan hold a spine, and are its values HU?"
        )
    longest = 1 + int(np.argmax(np.bincount(runs.ravel())[1:]))
    rows = np.flatnonzero(runs == longest)
    zyx = np.column_stack([rows, path[rows]]).astype(float)
    width = 18.0 / working.spacing_mm
    if len(rows) > 3:
        for axis in (1, 2):
            zyx[:, axis] = _smooth_line(zyx[:, axis], values[rows] + 0.02, width / 2)
    points = working.patient_from_index(zyx)
    kept = _lowest_true(points)
    points, rows = points[kept:], rows[kept:]
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    s = np.arange(0.0, max(along[-1], 1.0), 1.0)
    centre = np.column_stack([np.interp(s, along, points[:, a]) for a in range(3)])
    tangent = np.gradient(centre, axis=0) if len(s) > 1 else np.array([[0.0, 0.0, 1.0]])
    if len(s) > 9:
        tangent = ndimage.gaussian_filter1d(tangent, 6.0, axis=0, mode="nearest")
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    left = np.array([1.0, 0.0, 0.0]) - tangent[:, :1] * tangent
    left /= np.linalg.norm(left, axis=1, keepdims=True)
    anterior = np.cross(left, tangent)
    anterior *= np.where(anterior[:, 1:2] > 0, -1.0, 1.0)  # Patient: +y is posterior
    return Canal(centre, tangent, left, anterior, s, np.interp(s, along, smooth_score[rows]))


def _lowest_true(points: Array) -> int:
    """First sample that is still canal: below the lordosis it only runs backward, so a turn forward means it was
    lost in S1.
    """
    lower = points[:, 2] < points[0, 2] + 130.0
    y = points[lower, 1]
    rearmost = int(np.argmax(y[: max(1, int(np.argmin(y)))])) if len(y) > 3 else 0
    came_back = y[rearmost] - y[: rearmost + 1].min()
    return rearmost if came_back > 2.5 and len(points) - rearmost > 20 else 0


def _smooth_line(values: Array, weight: Array, sigma: float) -> Array:
    """Local linear regression with Gaussian weights: no pull toward the middle at the ends."""
    t = np.arange(len(values), dtype=float)
    kernel = np.exp(-0.5 * ((t[:, None] - t[None, :]) / sigma) ** 2) * weight[None, :]
    d = t[None, :] - t[:, None]
    s0, s1, s2 = kernel.sum(1), (kernel * d).sum(1), (kernel * d * d).sum(1)
    y0, y1 = kernel @ values, (kernel * d) @ values
    return np.asarray((y0 * s2 - y1 * s1) / np.maximum(s0 * s2 - s1 * s1, 1e-9))


@njit_parallel
def _slice_scores(
    hu: NDArray[np.float32],
    threshold: float,
    spacing_mm: float,
    midline: Array,
    midline_sd_mm: float,
    out: NDArray[np.float32],
) -> None:
    """Raises `out` (z, y, x) to the score 0..1 of each voxel that this threshold gives, where it is higher."""
    nz, ny, nx = hu.shape
    cos = np.cos(2 * np.pi * np.arange(RAYS) / RAYS)
    sin = np.sin(2 * np.pi * np.arange(RAYS) / RAYS)
    reach = int(REACH_MM / spacing_mm)
    ahead = int(26.0 / spacing_mm)
    half = int(10.0 / spacing_mm)
    for z in prange(nz):
        hits = np.empty(RAYS)
        for y in range(ahead + 2, ny - 4):
            for x in range(half + 1, nx - half - 1):
                off = abs(x - midline[z]) * spacing_mm
                if off > 70.0 or hu[z, y, x] > threshold or hu[z, y, x] < -150.0:
                    continue
                # a body in front: bone within 9 to 40 mm ahead
                bone = 0
                for b in range(1, 6):
                    if hu[z, y - b * ahead // 4 - 2 if y - b * ahead // 4 - 2 > 0 else 0, x] > threshold - 60.0:
                        bone += 1
                if bone == 0:
                    continue
                if bone < 2 and out[z, y, x] > 0.6:
                    continue
                share = 0
                for r in range(RAYS):
                    hits[r] = -1.0
                    for d in range(2, reach):
                        yy, xx = int(y + d * sin[r] + 0.5), int(x + d * cos[r] + 0.5)
                        if yy < 0 or xx < 0 or yy >= ny or xx >= nx:
                            break
                        if hu[z, yy, xx] > threshold:
                            hits[r] = d * spacing_mm
                            share += 1
                            break
                    if r == RAYS // 2 and share < RAYS // 8:
                        break
                if share < RAYS // 2:
                    continue
                alike, pairs, radius = 0.0, 0, 0.0
                for r in range(RAYS):
                    if hits[r] > 0:
                        radius += np.exp(-0.5 * ((hits[r] - RADIUS_MM) / 4.0) ** 2)
                    mirror = (RAYS // 2 - r) % RAYS
                    if mirror > r:
                        pairs += 1
                        if hits[r] > 0 and hits[mirror] > 0:
                            alike += np.exp(-0.5 * ((hits[r] - hits[mirror]) / 5.0) ** 2)
                        elif hits[r] < 0 and hits[mirror] < 0:
                            alike += 0.5
                value = (share / RAYS) * (radius / share) * (0.3 + 0.7 * alike / pairs)
                value *= np.exp(-0.5 * (max(0.0, off - MIDLINE_MM) / midline_sd_mm) ** 2) * (0.5 + 0.1 * bone)
                if value > out[z, y, x]:
                    out[z, y, x] = value


@njit
def _best_path(score: NDArray[np.float32]) -> tuple[NDArray[np.int64], float]:
    nz, ny, nx = score.shape
    step = 3  # voxels a slice: 56 degrees
    total = score[0].copy()
    came = np.zeros((nz, ny, nx), dtype=np.int16)
    for z in range(1, nz):
        new = np.zeros((ny, nx), dtype=np.float32)
        for y in range(step, ny - step):
            for x in range(step, nx - step):
                best, where = -1.0, 0
                for b in range(-step, step + 1):
                    for a in range(-step, step + 1):
                        value = total[y + b, x + a] - 0.0075 * (a * a + b * b)
                        if value > best:
                            best, where = value, (b + step) * (2 * step + 1) + (a + step)
                new[y, x] = best + score[z, y, x]
                came[z, y, x] = where
        total = new
    path = np.zeros((nz, 2), dtype=np.int64)
    flat = int(np.argmax(total))
    y, x = flat // nx, flat % nx
    for z in range(nz - 1, -1, -1):
        path[z, 0], path[z, 1] = y, x
        if z > 0:
            where = came[z, y, x]
            y += where // (2 * step + 1) - step
            x += where % (2 * step + 1) - step
            y, x = min(max(y, 0), ny - 1), min(max(x, 0), nx - 1)
    return path, float(total.max())


@njit_parallel
def _coordinates(
    points: Array, centre: Array, tangent: Array, left: Array, anterior: Array, along: Array, out: Array
) -> None:
    n = centre.shape[0]
    blocks = (n + BLOCK - 1) // BLOCK
    spread = np.zeros((blocks, 2))  # how far centres and tangents of a block are from its middle's, at most
    for b in range(blocks):
        m = min(b * BLOCK + BLOCK // 2, n - 1)
        for s in range(b * BLOCK, min((b + 1) * BLOCK, n)):
            for c, line in enumerate((centre, tangent)):
                ex, ey, ez = line[s, 0] - line[m, 0], line[s, 1] - line[m, 1], line[s, 2] - line[m, 2]
                spread[b, c] = max(spread[b, c], np.sqrt(ex * ex + ey * ey + ez * ez) + 1e-9)
    chunks = (points.shape[0] + CHUNK - 1) // CHUNK
    for chunk in prange(chunks):
        where = 0
        for p in range(chunk * CHUNK, min((chunk + 1) * CHUNK, points.shape[0])):
            # the sample whose plane holds the point; by distance to the plane among near samples, else the nearest
            # end. A block that can't hold a sample as good as the last point's is passed over.
            bound = _misfit(points, p, centre, tangent, where)
            best, where = 1e30, 0
            for b in range(blocks):
                m = min(b * BLOCK + BLOCK // 2, n - 1)
                dx, dy, dz = points[p, 0] - centre[m, 0], points[p, 1] - centre[m, 1], points[p, 2] - centre[m, 2]
                away = np.sqrt(dx * dx + dy * dy + dz * dz)
                h = abs(dx * tangent[m, 0] + dy * tangent[m, 1] + dz * tangent[m, 2])
                h = max(h - spread[b, 0] - (away + spread[b, 0]) * spread[b, 1], 0.0)
                if h * h + 1e-3 * max(away - spread[b, 0], 0.0) ** 2 > bound:
                    continue
                for s in range(b * BLOCK, min((b + 1) * BLOCK, n)):
                    value = _misfit(points, p, centre, tangent, s)
                    if value < best:
                        best, where = value, s
                bound = min(bound, best)
            _place(points, p, centre, tangent, left, anterior, along, where, out)


@njit
def _misfit(points: Array, p: int, centre: Array, tangent: Array, s: int) -> float:
    dx, dy, dz = points[p, 0] - centre[s, 0], points[p, 1] - centre[s, 1], points[p, 2] - centre[s, 2]
    h = dx * tangent[s, 0] + dy * tangent[s, 1] + dz * tangent[s, 2]
    value: float = h * h + 1e-3 * (dx * dx + dy * dy + dz * dz)
    return value


@njit
def _place(
    points: Array, p: int, centre: Array, tangent: Array, left: Array, anterior: Array, along: Array, s: int, out: Array
) -> None:
    dx, dy, dz = points[p, 0] - centre[s, 0], points[p, 1] - centre[s, 1], points[p, 2] - centre[s, 2]
    h = dx * tangent[s, 0] + dy * tangent[s, 1] + dz * tangent[s, 2]
    out[p, 0] = along[s] + h
    out[p, 1] = dx * left[s, 0] + dy * left[s, 1] + dz * left[s, 2]
    out[p, 2] = dx * anterior[s, 0] + dy * anterior[s, 1] + dz * anterior[s, 2]
