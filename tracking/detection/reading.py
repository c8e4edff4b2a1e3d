"""What a square says: its cells sampled in the full picture.

A square is read through the homography of its four corners, several samples a cell. The dark level is a plane through
the border's cells and the bright one a plane through the ring just outside it (Wang & Olson 2016, AprilTag 2: light
that falls off over the marker moves both); a cell is bright above their middle. Rotations are rotated code words, so
reading a square for a dictionary more costs a search in a table, no picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spatial.compiled import njit
from spatial.rigid import Array
from tracking.detection.codes import CodeBook

MIN_CONTRAST = 6.0  # grey levels between the dark and the bright plane
MAX_BORDER_SHARE = 0.2  # cells of the border that may be bright: a highlight, a thread, a finger's tip
LEVELS = (0.36, 0.64)  # tried where a square can't be read at half
MIN_PURITY = 0.82  # of a cell's samples on its own side of the threshold: a code read with a wrong grid has less
READ, DIM, BORDER, IMPURE, OUTSIDE = 0, 1, 2, 3, 4


@dataclass(frozen=True, eq=False)
class Readings:
    """What N squares say on a grid of `bits` x `bits` cells.

    `words` (N,) the code from corner 0 on, `verdict` (N,): READ, DIM, BORDER (not dark all round), IMPURE (cells half
    dark, half bright) or OUTSIDE the picture. `inverted` (N,): a bright square on dark. `purity` (N,) 0.5 to 1.
    """

    words: NDArray[np.uint64]
    verdict: NDArray[np.int64]
    inverted: NDArray[np.bool_]
    purity: Array
    contrast: Array


def read(luma: NDArray[np.uint8], corners_px: Array, bits: int, across: int = 4, level: float = 0.5) -> Readings:
    """Read squares (N, 4, 2), corners clockwise on the screen, as codes of `bits` x `bits` cells.

    `across` x `across` samples a cell; with one, nothing is IMPURE. `level`: how far from dark to bright a cell counts
    as bright; blur takes light from lone bright cells and gives it to lone dark ones.
    """
    corners = np.ascontiguousarray(corners_px, dtype=np.float64)
    words, verdict, inverted, purity, contrast = _read(luma, corners, bits, across, level)
    return Readings(words, verdict, inverted, purity, contrast)


def partly(luma: NDArray[np.uint8], corners_px: Array, book: CodeBook, marker: int) -> bool:
    """Whether what can be seen of a square at a predicted place, corners (4, 2) in OpenCV's order, is this marker.

    Half of its cells must be in the picture and clear, and of these three quarters as they ought to be, border and code
    taken together and the code alone: a random code has as much in one of 500 places, and the place is known.
    """
    n = book.cells
    cells, levels = np.zeros((n, n, 2)), np.zeros(6)
    contrast = sampled(luma, np.ascontiguousarray(corners_px, dtype=np.float64), book.bits, 4, 0.5, cells, levels)
    clear = cells[..., 1] > 0.75
    if abs(contrast) < MIN_CONTRAST or clear.mean() < 0.5:
        return False
    truth = np.zeros((n, n), dtype=np.bool_)
    shifts = np.arange(book.bits**2, dtype=np.uint64)[::-1]
    truth[1:-1, 1:-1] = ((book.words[marker, 0] >> shifts) & np.uint64(1)).reshape(book.bits, book.bits) > 0
    right = (cells[..., 0] > 0.5) == truth
    code = clear[1:-1, 1:-1]
    return bool(right[clear].mean() > 0.75 and right[1:-1, 1:-1][code].mean() > 0.75 and code.sum() >= 8)


@njit
def _homography(corners: Array, cells: int) -> Array:
    """3x3 from cells (0 to `cells`, from corner 0 toward 1 and 3) to px; closed form (Heckbert 1989)."""
    x0, y0, x1, y1 = corners[0, 0], corners[0, 1], corners[1, 0], corners[1, 1]
    x2, y2, x3, y3 = corners[2, 0], corners[2, 1], corners[3, 0], corners[3, 1]
    sx, sy = x0 - x1 + x2 - x3, y0 - y1 + y2 - y3
    dx1, dx2, dy1, dy2 = x1 - x2, x3 - x2, y1 - y2, y3 - y2
    det = dx1 * dy2 - dx2 * dy1
    H = np.empty((3, 3))
    if abs(det) < 1e-9:
        H[:] = np.nan
        return H
    g, h = (sx * dy2 - dx2 * sy) / det, (dx1 * sy - sx * dy1) / det
    H[0, 0], H[0, 1], H[0, 2] = (x1 - x0 + g * x1) / cells, (x3 - x0 + h * x3) / cells, x0
    H[1, 0], H[1, 1], H[1, 2] = (y1 - y0 + g * y1) / cells, (y3 - y0 + h * y3) / cells, y0
    H[2, 0], H[2, 1], H[2, 2] = g / cells, h / cells, 1.0
    return H


@njit
def _grey(picture: NDArray[np.uint8], H: Array, x: float, y: float) -> float:
    """Bilinear grey at a place in cells; negative outside the picture."""
    w = H[2, 0] * x + H[2, 1] * y + H[2, 2]
    u, v = (H[0, 0] * x + H[0, 1] * y + H[0, 2]) / w, (H[1, 0] * x + H[1, 1] * y + H[1, 2]) / w
    height, width = picture.shape
    if not (u >= 0.0 and v >= 0.0 and u <= width - 1.0 and v <= height - 1.0):
        return -1.0
    i, j = min(int(v), height - 2), min(int(u), width - 2)
    a, b = u - j, v - i
    top = (1 - a) * picture[i, j] + a * picture[i, j + 1]
    return float((1 - b) * top + b * ((1 - a) * picture[i + 1, j] + a * picture[i + 1, j + 1]))


@njit
def _plane(sums: Array) -> tuple[float, float, float]:
    """Least squares v = p0 + p1 x + p2 y from sums (n, x, y, xx, xy, yy, v, vx, vy); flat where that is not known."""
    n = max(sums[0], 1e-9)
    mx, my, mv = sums[1] / n, sums[2] / n, sums[6] / n
    sxx, sxy, syy = sums[3] - n * mx * mx + 1.0, sums[4] - n * mx * my, sums[5] - n * my * my + 1.0
    bx, by = sums[7] - n * mx * mv, sums[8] - n * my * mv
    det = sxx * syy - sxy * sxy
    p1, p2 = (syy * bx - sxy * by) / det, (sxx * by - sxy * bx) / det
    return mv - p1 * mx - p2 * my, p1, p2


@njit
def _add(sums: Array, x: float, y: float, value: float) -> None:
    sums[0] += 1.0
    sums[1] += x
    sums[2] += y
    sums[3] += x * x
    sums[4] += x * y
    sums[5] += y * y
    sums[6] += value
    sums[7] += value * x
    sums[8] += value * y


@njit
def sampled(
    picture: NDArray[np.uint8], corners: Array, bits: int, across: int, level: float, cells: Array, levels: Array
) -> float:
    """Read one square. Fills `cells` (bits + 2, bits + 2, 2) with each cell's share of bright samples and its purity.

    A cell that is not in the picture has purity -1. `levels` (6,) gets the dark and the bright plane. Returns the
    contrast in grey levels, negative for a bright square on dark, 0 where there is none. Where the border is not dark
    all round the cells stay unread, with purity 0.
    """
    n = bits + 2
    H = _homography(corners, n)
    cells[:, :, 0] = 0.0
    cells[:, :, 1] = -1.0
    if not np.isfinite(H[0, 0]):
        return 0.0
    dark, bright = np.zeros(9), np.zeros(9)
    rim = np.full((4 * n, 3), -1.0)
    for place in (0.5, -0.5, -0.2, -0.07):  # within the border; outside, nearer where the picture or the paper ends
        if place < 0 and bright[0] >= 3 * n:
            break
        bright[:] = 0.0
        for k in range(4 * n):
            a, b, side = k % n + 0.5, place, k // n
            if side == 0:
                x, y = a, b
            elif side == 1:
                x, y = n - b, a
            elif side == 2:
                x, y = a, n - b
            else:
                x, y = b, a
            value = _grey(picture, H, x, y)
            if value >= 0:
                _add(dark if place > 0 else bright, x, y, value)
                if place > 0:
                    rim[k, 0], rim[k, 1], rim[k, 2] = x, y, value
    if dark[0] < 2 * n or bright[0] < n:
        return 0.0
    d0, d1, d2 = _plane(dark)
    b0, b1, b2 = _plane(bright)
    middle = n / 2.0
    contrast = b0 - d0 + (b1 - d1 + b2 - d2) * middle
    levels[0], levels[1], levels[2], levels[3], levels[4], levels[5] = d0, d1, d2, b0, b1, b2
    if abs(contrast) < 1.0:
        return 0.0
    sign = 1.0 if contrast > 0 else -1.0
    # most squares of a room are none of ours, and their border says so before a cell is read
    wrong = 0
    for k in range(4 * n):
        x, y, value = rim[k, 0], rim[k, 1], rim[k, 2]
        wrong += value >= 0 and sign * (2 * value - (d0 + b0 + (d1 + b1) * x + (d2 + b2) * y)) > 0
    if wrong > 2 * MAX_BORDER_SHARE * dark[0]:
        cells[:, :, 1] = 0.0
        return contrast
    least = 0.25 * abs(contrast)  # a plane that runs away must not turn the order of dark and bright
    for row in range(n):
        for column in range(n):
            count = above = 0
            for i in range(across):
                for j in range(across):
                    x = column + 0.5 + (j - 0.5 * (across - 1)) * 0.18
                    y = row + 0.5 + (i - 0.5 * (across - 1)) * 0.18
                    value = _grey(picture, H, x, y)
                    if value < 0:
                        continue
                    low, high = d0 + d1 * x + d2 * y, b0 + b1 * x + b2 * y
                    if sign * (high - low) < least:
                        low, high = d0 + (d1 + d2) * middle, b0 + (b1 + b2) * middle
                    count += 1
                    above += sign * (value - low - level * (high - low)) > 0
            if 2 * count > across * across:
                share = above / count
                cells[row, column, 0] = share
                cells[row, column, 1] = max(share, 1.0 - share)
    return contrast


@njit
def _read(
    picture: NDArray[np.uint8], corners: Array, bits: int, across: int, level: float
) -> tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.bool_], Array, Array]:
    count, n = len(corners), bits + 2
    words = np.zeros(count, dtype=np.uint64)
    verdict = np.zeros(count, dtype=np.int64)
    inverted = np.zeros(count, dtype=np.bool_)
    purity, contrasts = np.zeros(count), np.zeros(count)
    cells, levels = np.zeros((n, n, 2)), np.zeros(6)
    for k in range(count):
        contrast = sampled(picture, corners[k], bits, across, level, cells, levels)
        contrasts[k], inverted[k] = abs(contrast), contrast < 0
        if abs(contrast) < MIN_CONTRAST:
            verdict[k] = DIM
            continue
        if cells[0, 0, 1] == 0.0:
            verdict[k] = BORDER
            continue
        word = np.uint64(0)
        wrong, pure = 0, 0.0
        for row in range(n):
            for column in range(n):
                if cells[row, column, 1] < 0:
                    verdict[k] = OUTSIDE
                bright = cells[row, column, 0] > 0.5
                if row == 0 or column == 0 or row == n - 1 or column == n - 1:
                    wrong += bright
                else:
                    pure += cells[row, column, 1]
                    word = (word << np.uint64(1)) | np.uint64(bright)
        purity[k] = pure / (bits * bits)
        words[k] = word
        if verdict[k] == OUTSIDE:
            continue
        if wrong > MAX_BORDER_SHARE * 4 * (n - 1):
            verdict[k] = BORDER
        elif purity[k] < MIN_PURITY:
            verdict[k] = IMPURE
    return words, verdict, inverted, purity, contrasts
