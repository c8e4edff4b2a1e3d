"""Sub-pixel corners of a square marker: a blurred step edge fitted to the pixels along each of its four sides.

Along a side the picture is modelled as a(s) + (b(s) - a(s)) Phi((v - e(s)) / sigma): v is the distance in px from the
chord between the coarse corners, outward positive, less the bow that the lens gives a straight side; e(s) is the
side's line, linear between its two ends; a and b are the dark and bright levels, linear along the side (uneven
light); sigma is the blur with the pixel's own area in it. Gauss-Newton with Geman-McClure weights on the pixels
themselves is the maximum-likelihood estimate under white noise, so its normal matrix gives the covariance of the two
ends. Corners are where neighbouring sides meet. The four sides are independent measurements, the corners are not:
both ends of a side move together. Light is taken as linear and the edge's blur as symmetric. Pixel centres are at
integers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spatial.compiled import njit
from spatial.frames import Camera
from spatial.pinhole import BadLens, Pinhole
from spatial.rigid import Array, Points

SMALLEST_CELL_PX = 1.2  # thinner, and the black border blends with the code inside it
FLOOR_PX = 0.0025  # what the model leaves out (sampling, slight asymmetry of the blur); added to each end of a side
FAILED_SD_PX = 1.5  # a side that can't be fitted (glare, finger) keeps OpenCV's coarse line with this uncertainty
MAX_PIXELS = 6000


@dataclass(frozen=True, eq=False)
class FittedCorners:
    """Corners (N, 4, 2) px, with what is known of their errors.

    `whitening` (N, 8, 8) times a corner error (x0, y0, ... y3) has unit variance; rows in pairs, a pair a side.
    `fitted` (N, 4): whether side i (from corner i to i + 1) was fitted. `blur_px` (N, 4).
    """

    corners_px: Array
    whitening: Array
    fitted: NDArray[np.bool_]
    blur_px: Array


def fit_corners(picture: NDArray[np.uint8], coarse_px: Array, cells: int, pinhole: Pinhole | None) -> FittedCorners:
    """Refine coarse corners (N, 4, 2) of markers that are `cells` cells wide with their border (36h11: 8).

    `pinhole` gives the bow of the sides; without it they are taken as straight in the raw picture.
    """
    coarse = np.ascontiguousarray(coarse_px, dtype=np.float64)
    bows = np.zeros((len(coarse), 4, 3)) if pinhole is None else side_bows(coarse, pinhole)
    corners, ends_cov, jacobian, fitted, blur = _fit_markers(np.ascontiguousarray(picture), coarse, bows, cells)
    cov = ends_cov + np.eye(2) * FLOOR_PX**2
    root = np.linalg.inv(np.linalg.cholesky(cov))
    blocks = np.zeros((len(coarse), 8, 8))
    for side in range(4):
        blocks[:, 2 * side : 2 * side + 2, 2 * side : 2 * side + 2] = root[:, side]
    return FittedCorners(corners, blocks @ np.linalg.inv(jacobian), fitted, blur)


def side_bows(corners_px: Array, pinhole: Pinhole) -> Array:
    """How far a straight side bends off its chord in the raw picture: (N, 4, 3) coefficients c.

    The bow is s (1 - s) (c0 + c1 s + c2 s^2) px, outward positive, s from 0 to 1 along the chord.
    """
    out = np.zeros((len(corners_px), 4, 3))
    if pinhole.is_ideal or not len(corners_px):
        return out
    for k, corners in enumerate(corners_px):
        try:
            ideal = pinhole.normalised(corners)
        except BadLens:  # the lens model folds over at the picture's rim: straight sides are the best guess there
            continue
        s = np.linspace(0.1, 0.9, 9)[:, None, None]
        chord = ideal * (1 - s) + np.roll(ideal, -1, axis=0) * s
        rays = np.concatenate([chord, np.ones((*chord.shape[:-1], 1))], axis=-1)
        bent = pinhole.project(Points[Camera](rays))
        along = np.roll(corners, -1, axis=0) - corners
        length = np.linalg.norm(along, axis=1)
        tangent = along / length[:, None]
        normal = np.stack([tangent[:, 1], -tangent[:, 0]], axis=1)
        offset = bent - corners
        u = np.einsum("kij,ij->ki", offset, tangent) / length
        v = np.einsum("kij,ij->ki", offset, normal)
        shape = u * (1 - u)
        for side in range(4):
            design = shape[:, side, None] * np.stack([np.ones(9), u[:, side], u[:, side] ** 2], axis=1)
            out[k, side] = np.linalg.lstsq(design, v[:, side], rcond=None)[0]
    return out


@njit
def _fit_markers(
    picture: NDArray[np.uint8], coarse: Array, bows: Array, cells: int
) -> tuple[Array, Array, Array, NDArray[np.bool_], Array]:
    """Corners (N, 4, 2), covariance of the sides' ends (N, 4, 2, 2), d corners / d ends (N, 8, 8), fitted, blur."""
    n = len(coarse)
    corners = np.empty((n, 4, 2))
    cov = np.zeros((n, 4, 2, 2))
    jacobian = np.zeros((n, 8, 8))
    fitted = np.zeros((n, 4), dtype=np.bool_)
    blur = np.zeros((n, 4))
    work = np.empty((3, MAX_PIXELS))
    ends = np.zeros((4, 2))
    for k in range(n):
        for side in range(4):
            result = _fit_side(picture, coarse[k], bows[k, side], side, cells, work)
            fitted[k, side] = result[0] > 0.5
            ends[side, 0], ends[side, 1], blur[k, side] = result[1], result[2], result[3]
            cov[k, side, 0, 0], cov[k, side, 1, 1] = result[4], result[6]
            cov[k, side, 0, 1] = cov[k, side, 1, 0] = result[5]
        for corner in range(4):
            before = (corner + 3) % 4
            x, y = coarse[k, corner, 0], coarse[k, corner, 1]
            for _ in range(4):
                f0, gx0, gy0, s0 = _side_value(coarse[k], bows[k, before], ends[before], before, x, y)
                f1, gx1, gy1, s1 = _side_value(coarse[k], bows[k, corner], ends[corner], corner, x, y)
                det = gx0 * gy1 - gy0 * gx1
                x -= (gy1 * f0 - gy0 * f1) / det
                y -= (gx0 * f1 - gx1 * f0) / det
            corners[k, corner, 0], corners[k, corner, 1] = x, y
            for row in range(2):
                d0 = (gy1 if row == 0 else -gx1) / det
                d1 = (-gy0 if row == 0 else gx0) / det
                jacobian[k, 2 * corner + row, 2 * before] += d0 * (1 - s0)
                jacobian[k, 2 * corner + row, 2 * before + 1] += d0 * s0
                jacobian[k, 2 * corner + row, 2 * corner] += d1 * (1 - s1)
                jacobian[k, 2 * corner + row, 2 * corner + 1] += d1 * s1
    return corners, cov, jacobian, fitted, blur


@njit
def _side_value(
    corners: Array, bow: Array, ends: Array, side: int, x: float, y: float
) -> tuple[float, float, float, float]:
    """Distance of (x, y) from a fitted side, its gradient, and the place s along the side."""
    x0, y0 = corners[side, 0], corners[side, 1]
    dx, dy = corners[(side + 1) % 4, 0] - x0, corners[(side + 1) % 4, 1] - y0
    length = math.sqrt(dx * dx + dy * dy)
    tx, ty = dx / length, dy / length
    s = ((x - x0) * tx + (y - y0) * ty) / length
    curve = s * (1 - s) * (bow[0] + s * (bow[1] + s * bow[2])) + ends[0] * (1 - s) + ends[1] * s
    slope = (
        (1 - 2 * s) * (bow[0] + s * (bow[1] + s * bow[2])) + s * (1 - s) * (bow[1] + 2 * s * bow[2]) + ends[1] - ends[0]
    )
    v = (x - x0) * ty - (y - y0) * tx
    return v - curve, ty - tx * slope / length, -tx - ty * slope / length, s


@njit
def _collect(
    picture: NDArray[np.uint8],
    corners: Array,
    bow: Array,
    e0: float,
    e1: float,
    side: int,
    margin: float,
    half: float,
    work: Array,
) -> int:
    """Gather (s, v, grey) of pixels within `half` px of the side, `margin` px off its ends; returns how many."""
    x0, y0 = corners[side, 0], corners[side, 1]
    x1, y1 = corners[(side + 1) % 4, 0], corners[(side + 1) % 4, 1]
    length = math.sqrt((x1 - x0) ** 2 + (y1 - y0) ** 2)
    tx, ty = (x1 - x0) / length, (y1 - y0) / length
    reach = half + 2.0 + abs(bow[0]) + abs(bow[1]) + abs(bow[2])
    height, width = picture.shape
    top, bottom = max(0, int(np.floor(min(y0, y1) - reach))), min(height - 1, int(np.ceil(max(y0, y1) + reach)))
    left, right = max(0, int(np.floor(min(x0, x1) - reach))), min(width - 1, int(np.ceil(max(x0, x1) + reach)))
    steep = abs(ty) > abs(tx)
    step = max(1, int(length * (2 * half + 1) / MAX_PIXELS) + 1)
    outer = range(top, bottom + 1, step) if steep else range(left, right + 1, step)
    count = 0
    for a in outer:
        # walk across the side only: where its chord passes this row or column, plus the reach
        if steep:
            middle = x0 + tx / ty * (a - y0)
            spread = reach / abs(ty)
            low, high = max(left, int(middle - spread)), min(right, int(middle + spread) + 1)
        else:
            middle = y0 + ty / tx * (a - x0)
            spread = reach / abs(tx)
            low, high = max(top, int(middle - spread)), min(bottom, int(middle + spread) + 1)
        for b in range(low, high + 1):
            x, y = (b, a) if steep else (a, b)
            u = (x - x0) * tx + (y - y0) * ty
            if u < margin or u > length - margin:
                continue
            s = u / length
            v = (x - x0) * ty - (y - y0) * tx - s * (1 - s) * (bow[0] + s * (bow[1] + s * bow[2]))
            if abs(v - e0 * (1 - s) - e1 * s) <= half and count < MAX_PIXELS:
                work[0, count], work[1, count], work[2, count] = s, v, picture[y, x]
                count += 1
    return count


@njit
def _fit_side(
    picture: NDArray[np.uint8], corners: Array, bow: Array, side: int, cells: int, work: Array
) -> tuple[float, float, float, float, float, float, float]:
    """(1 if fitted, e0, e1, blur, var e0, cov, var e1)."""
    failed = (0.0, 0.0, 0.0, 0.0, FAILED_SD_PX**2, 0.0, FAILED_SD_PX**2)
    x0, y0 = corners[side, 0], corners[side, 1]
    dx, dy = corners[(side + 1) % 4, 0] - x0, corners[(side + 1) % 4, 1] - y0
    length = math.sqrt(dx * dx + dy * dy)
    if length < 4:
        return failed
    depth = 1e9
    for other in range(2, 4):
        c = (side + other) % 4
        depth = min(depth, abs((corners[c, 0] - x0) * dy - (corners[c, 1] - y0) * dx) / length)
    cell = min(depth, length) / cells
    if cell < SMALLEST_CELL_PX:
        return failed
    half = min(max(0.55 * cell, 1.3), 3.5)
    margin = min(half + 1.0, 0.25 * length)
    p = np.zeros(7)
    wide = min(half + 0.8, 0.8 * cell)
    count = _collect(picture, corners, bow, 0.0, 0.0, side, margin, wide, work)
    if not _start(work, count, wide, p):
        return failed
    normal = np.zeros((7, 7))
    noise = _gauss_newton(work, count, p, normal, 8, 2)
    if noise < 0 or abs(p[0]) > 3.0 or abs(p[1]) > 3.0:
        return failed
    count = _collect(picture, corners, bow, p[0], p[1], side, margin, half, work)
    noise = _gauss_newton(work, count, p, normal, 6, 0)
    if noise < 0 or p[5] - p[3] < 10 or abs(p[0]) > 3.0 or abs(p[1]) > 3.0:
        return failed
    covariance = np.linalg.inv(normal)
    noise = max(noise, 0.3)  # below a third of a grey level the digitising itself is the noise
    # thin borders: the code's light reaches across (fitted on rendered tags)
    bleed = (0.025 * max(0.0, 3.0 - cell)) ** 2
    e00, e01, e11 = covariance[0, 0] * noise**2, covariance[0, 1] * noise**2, covariance[1, 1] * noise**2
    return 1.0, p[0], p[1], p[2], e00 + bleed, e01, e11 + bleed


@njit
def _start(work: Array, count: int, half: float, p: Array) -> bool:
    """First guess by areas: in each half of the side, the share of dark pixels tells where the edge lies."""
    if count < 16:
        return False
    sums = np.zeros((2, 6))
    for i in range(count):
        part = 0 if work[0, i] < 0.5 else 1
        v, grey = work[1, i], work[2, i]
        if v < -0.6 * half:
            sums[part, 0] += grey
            sums[part, 1] += 1
        elif v > 0.6 * half:
            sums[part, 2] += grey
            sums[part, 3] += 1
        sums[part, 4] += grey
        sums[part, 5] += 1
    place = np.zeros(2)
    dark = bright = 0.0
    for part in range(2):
        if sums[part, 1] < 3 or sums[part, 3] < 3:
            return False
        a, b = sums[part, 0] / sums[part, 1], sums[part, 2] / sums[part, 3]
        if b - a < 8:
            return False
        share = (sums[part, 4] / sums[part, 5] - a) / (b - a)
        place[part] = half - 2 * half * min(max(share, 0.05), 0.95)
        dark += a / 2
        bright += b / 2
    p[0], p[1] = 1.5 * place[0] - 0.5 * place[1], 1.5 * place[1] - 0.5 * place[0]
    p[2] = 0.9
    p[3], p[4], p[5], p[6] = dark, 0.0, bright, 0.0
    return True


@njit
def _gauss_newton(work: Array, count: int, p: Array, normal: Array, iterations: int, careful: int) -> float:
    """Improve p = (e0, e1, sigma, a, a slope, b, b slope) in place; returns the noise in grey levels.

    The noise is negative on failure. `normal` receives the weighted normal matrix at the solution.
    """
    if count < 16:
        return -1.0
    J = np.zeros(7)
    right = np.zeros(7)
    scale = 1e9
    noise = -1.0
    for iteration in range(iterations):
        normal[:] = 0.0
        right[:] = 0.0
        total = squares = absolute = 0.0
        for i in range(count):
            s = work[0, i]
            z = (work[1, i] - p[0] * (1 - s) - p[1] * s) / p[2]
            phi = 0.5 * math.erfc(-z * 0.7071067811865476)
            density = 0.3989422804014327 * math.exp(-0.5 * z * z)
            a, b = p[3] + p[4] * (s - 0.5), p[5] + p[6] * (s - 0.5)
            r = work[2, i] - (a + (b - a) * phi)
            slope = -(b - a) * density / p[2]
            J[0], J[1], J[2] = slope * (1 - s), slope * s, slope * z
            J[3], J[5] = 1 - phi, phi
            J[4], J[6] = (1 - phi) * (s - 0.5), phi * (s - 0.5)
            w = 1.0 / (1.0 + (r / scale) ** 2) ** 2
            total += w
            squares += w * r * r
            absolute += abs(r)
            for row in range(7):
                wj = w * J[row]
                right[row] += wj * r
                for column in range(row + 1):
                    normal[row, column] += wj * J[column]
        for row in range(7):
            normal[row, row] += 1e-9
            for column in range(row):
                normal[column, row] = normal[row, column]
        damped = normal.copy()
        if iteration < careful:
            # place and levels first: blur and slopes, left free at once, run away from a poor start
            for row in (2, 4, 6):
                damped[row, row] = damped[row, row] * 1e3 + 1.0
        step = np.linalg.solve(damped, right)
        longest = max(abs(step[0]), abs(step[1]))
        shorten = 0.8 / longest if longest > 0.8 else 1.0
        for row in range(7):
            if row != 2:
                p[row] += step[row] * shorten
        p[2] = min(max(p[2] + step[2] * shorten, 0.7 * p[2], 0.29), 1.4 * p[2], 3.0)  # 0.29 px: the pixel's own width
        noise = math.sqrt(squares / max(total - 7, 1.0))
        # mean absolute deviation is 0.8 sd; four sd keep nearly all good pixels at nearly full weight
        scale = max(4.0 * 1.25 * absolute / count, 2.0)
        if not math.isfinite(p[0] + p[1] + p[2]) or abs(p[0]) > 8 or abs(p[1]) > 8:
            return -1.0
        if iteration > careful and abs(step[0]) + abs(step[1]) < 2e-4:
            break
    return noise
