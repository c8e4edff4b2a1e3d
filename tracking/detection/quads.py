"""Find dark (and bright) squares in a picture: contours of an adaptive threshold that four straight sides explain.

OpenCV thresholds and follows the contours, on a picture that is halved where it is large; then each contour is split at
its four corners (Ramer 1972, stopped at four) and a line is fitted to each side, so a coarse corner is good to half a
pixel even in the halved picture. A side may be disturbed over a quarter of its length (a thread, a highlight).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from spatial.compiled import njit
from spatial.rigid import Array

SMALLEST_PX = 8.0  # of a side, in the picture that is searched
WINDOWS_PX = (7, 23)  # thin borders need a small neighbourhood, blurred ones a large
DARKER = 6
INLIERS = 0.7


@dataclass(frozen=True, eq=False)
class Quads:
    """Squares: `corners_px` (N, 4, 2), clockwise on the screen; `bright` (N,): a bright square on dark."""

    corners_px: Array
    bright: NDArray[np.bool_]

    def __len__(self) -> int:
        """How many there are."""
        return len(self.bright)


def quads(luma: NDArray[np.uint8], shrink: int = 1, darker: float = DARKER) -> Quads:
    """Every square of a picture (h, w), pixel centres at integers.

    `shrink`: the picture is searched at a `shrink`-th of its size. Sides under 8 px there are not looked at.
    """
    small = luma
    if shrink > 1:
        height, width = luma.shape[0] // shrink, luma.shape[1] // shrink
        small = np.asarray(
            cv2.resize(luma[: height * shrink, : width * shrink], (width, height), interpolation=cv2.INTER_AREA)
        )
    if min(small.shape) < SMALLEST_PX + 2:
        return _none()
    found = []
    least = int(3 * SMALLEST_PX)
    for window in WINDOWS_PX:
        mask = cv2.adaptiveThreshold(
            small, 255, cv2.ADAPTIVE_THRESH_MEAN_C, cv2.THRESH_BINARY_INV, min(window, _odd(min(small.shape))), darker
        )
        contours, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        found += [contour for contour in contours if len(contour) >= least]
    if not found:
        return _none()
    ends = np.cumsum([len(contour) for contour in found])
    corners, misfit, bright = _squares(np.concatenate(found).reshape(-1, 2), ends, SMALLEST_PX)
    good = misfit < np.inf
    order = np.flatnonzero(good)[np.argsort(misfit[good], kind="stable")]
    order = order[_distinct(corners[order], bright[order])]
    return Quads(corners[order] * shrink + (shrink - 1) / 2, bright[order])


def _none() -> Quads:
    return Quads(np.zeros((0, 4, 2)), np.zeros(0, dtype=np.bool_))


def _odd(n: int) -> int:
    return max(3, n - 1 + n % 2)


@njit
def _distinct(corners: Array, bright: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which squares are not the twin of an earlier one (every corner within 6 % of its side)."""
    n = len(corners)
    keep = np.ones(n, dtype=np.bool_)
    for i in range(n):
        if not keep[i]:
            continue
        side = np.sqrt((corners[i, 0, 0] - corners[i, 1, 0]) ** 2 + (corners[i, 0, 1] - corners[i, 1, 1]) ** 2)
        near = max(1.5, 0.06 * side)
        for j in range(i + 1, n):
            if not keep[j] or bright[i] != bright[j] or abs(corners[i, :, 0].mean() - corners[j, :, 0].mean()) > near:
                continue
            for turn in range(4):
                worst = 0.0
                for c in range(4):
                    d = (turn + c) % 4
                    worst = max(
                        worst, abs(corners[i, c, 0] - corners[j, d, 0]), abs(corners[i, c, 1] - corners[j, d, 1])
                    )
                if worst < near:
                    keep[j] = False
                    break
    return keep


@njit
def _squares(
    points: NDArray[np.int32], ends: NDArray[np.int64], smallest: float
) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Corners (N, 4, 2) of each contour, the misfit of its sides in px (inf: no square), and whether it is bright."""
    n = len(ends)
    bright = np.zeros(n, dtype=np.bool_)
    corners = np.zeros((n, 4, 2))
    misfit = np.full(n, np.inf)
    start = 0
    for k in range(n):
        misfit[k], bright[k] = _square(points[start : ends[k]], smallest, corners[k])
        start = ends[k]
    return corners, misfit, bright


@njit
def _square(P: NDArray[np.int32], smallest: float, out: Array) -> tuple[float, bool]:
    m = len(P)
    area = cx = cy = 0.0
    for i in range(m):
        j = i + 1 if i + 1 < m else 0
        area += 0.5 * (P[i, 0] * P[j, 1] - P[j, 0] * P[i, 1])
        cx += P[i, 0] / m
        cy += P[i, 1] / m
    if abs(area) < 0.5 * smallest * smallest:
        return np.inf, False
    # corners: the point farthest out, the one farthest from it, then twice where the contour leaves its chords most
    at = np.zeros(4, dtype=np.int64)
    far = -1.0
    for i in range(m):
        d = (P[i, 0] - cx) ** 2 + (P[i, 1] - cy) ** 2
        if d > far:
            far, at[0] = d, i
    far = -1.0
    for i in range(m):
        d = float((P[i, 0] - P[at[0], 0]) ** 2 + (P[i, 1] - P[at[0], 1]) ** 2)
        if d > far:
            far, at[1] = d, i
    for known in range(2, 4):
        best, place = -1.0, 0
        for arc in range(known):
            first, last = at[arc], at[(arc + 1) % known]
            off, i = _farthest(P, first, last)
            if off > best:
                best, place = off, i
        at[known] = place
        at[: known + 1].sort()
    sides = np.zeros((4, 3))  # outward normal n and n . x
    total = 0.0
    for side in range(4):
        error = _line(P, at[side], (at[(side + 1) % 4] - at[side]) % m, smallest, cx, cy, sides[side])
        if error < 0:
            return np.inf, False
        total += error / 4
        # a contour runs through the centres of the outermost dark pixels, their edge is half a pixel on: outward of
        # a dark square, inward of a bright one (OpenCV follows holes clockwise on the screen, others the other way)
        sides[side, 2] += -0.5 if area > 0 else 0.5
    shortest, longest = 1e9, 0.0
    for corner in range(4):
        a, b = sides[(corner + 3) % 4], sides[corner]
        det = a[0] * b[1] - a[1] * b[0]
        if abs(det) < 0.1:  # neighbours nearly parallel: no square seen from where its code could be read
            return np.inf, False
        place = corner if area > 0 else (4 - corner) % 4
        out[place, 0] = (a[2] * b[1] - b[2] * a[1]) / det
        out[place, 1] = (a[0] * b[2] - b[0] * a[2]) / det
    for c in range(4):
        d, e = (c + 1) % 4, (c + 2) % 4
        ax, ay = out[d, 0] - out[c, 0], out[d, 1] - out[c, 1]
        bx, by = out[e, 0] - out[d, 0], out[e, 1] - out[d, 1]
        if ax * by - ay * bx <= 0:
            return np.inf, False
        length = np.sqrt(ax * ax + ay * ay)
        shortest, longest = min(shortest, length), max(longest, length)
    if shortest < smallest or longest > 12 * shortest:
        return np.inf, False
    return total, area > 0


@njit
def _farthest(P: NDArray[np.int32], first: int, last: int) -> tuple[float, int]:
    """The point between two of a closed contour that is farthest from their chord: its distance in px, its place."""
    m = len(P)
    dx, dy = float(P[last, 0] - P[first, 0]), float(P[last, 1] - P[first, 1])
    length = max(np.sqrt(dx * dx + dy * dy), 1e-9)
    best, place = -1.0, first
    for step in range(1, (last - first) % m):
        i = (first + step) % m
        d = abs((P[i, 0] - P[first, 0]) * dy - (P[i, 1] - P[first, 1]) * dx) / length
        if d > best:
            best, place = d, i
    return best, place


@njit
def _line(P: NDArray[np.int32], first: int, count: int, smallest: float, cx: float, cy: float, line: Array) -> float:
    """Fit a side to `count` points from `first` on; its mean distance from them in px, negative where it is none."""
    m = len(P)
    last = (first + count) % m
    length = np.sqrt(float((P[first, 0] - P[last, 0]) ** 2 + (P[first, 1] - P[last, 1]) ** 2))
    if count < 4 or length < 0.5 * smallest:
        return -1.0
    skip = max(1, count // 10)  # a corner rounds off the ends
    near = max(1.2, 0.03 * length)  # the lens bends a side, the pixels make steps of it
    nx = ny = c = 0.0
    error = -1.0
    for attempt in range(3):
        n = sx = sy = sxx = sxy = syy = 0.0
        for step in range(skip, count - skip + 1):
            i = (first + step) % m
            if attempt > 0 and abs(nx * P[i, 0] + ny * P[i, 1] - c) > (2 if attempt == 1 else 1) * near:
                continue
            n += 1
            sx += P[i, 0]
            sy += P[i, 1]
            sxx += P[i, 0] * P[i, 0]
            sxy += P[i, 0] * P[i, 1]
            syy += P[i, 1] * P[i, 1]
        if n < max(2.0, INLIERS * (count - 2 * skip)):
            return -1.0
        mx, my = sx / n, sy / n
        a, b, d = sxx / n - mx * mx, sxy / n - mx * my, syy / n - my * my
        angle = 0.5 * np.arctan2(2 * b, a - d)  # the direction of the points' longer axis
        nx, ny = -np.sin(angle), np.cos(angle)
        c = nx * mx + ny * my
        error = np.sqrt(max(0.0, (a + d) / 2 - np.sqrt((a - d) ** 2 / 4 + b * b)))
    if nx * cx + ny * cy > c:
        nx, ny, c = -nx, -ny, -c
    line[0], line[1], line[2] = nx, ny, c
    return error
