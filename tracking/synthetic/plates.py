"""Marker plates as a camera sees them: each pixel's exact share of each printed cell, over its own exposure.

Independent of Painter and of the detector. A pixel is carried through the bent lens onto the plate (its four corners,
by the slope of its ray) and cut along the cells' lines; what moves is integrated over the pixel's own exposure, row by
row where the shutter rolls.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spatial.compiled import njit
from spatial.frames import Camera
from spatial.pinhole import Pinhole
from spatial.rigid import Array, Points, Rigid
from tracking.bodies.body import BadBody, Body
from tracking.detection.markers import find_dictionary

STEP_PX = 1.0  # a moving plate is drawn once each pixel of its way: the lens' blur levels that; twice without blur
STEPS = 64
BLACK, WHITE, BACK = 0.09, 0.86, 0.45  # reflectance of ink, paper, and a plate's back


@dataclass(frozen=True, eq=False)
class Plate:
    """One printed marker with a white margin of one cell.

    `cells_from_ray` (K, 3, 3) takes rays (x, y, 1) to cells, at K instants evenly over the frame's time (1: it stands
    still); `outline_px` (K, 32, 2) is where its rim is then.
    """

    cells_from_ray: Array
    pattern: NDArray[np.uint8]
    facing: bool
    outline_px: Array
    far_mm: float

    def box(self, width_px: int, height_px: int, margin_px: int = 3) -> tuple[int, int, int, int] | None:
        """Left, top, right, bottom (the last two not in it) of the pixels around it; None when out of the picture."""
        low = np.floor(self.outline_px.min(axis=(0, 1))).astype(int) - margin_px
        high = np.ceil(self.outline_px.max(axis=(0, 1))).astype(int) + margin_px + 1
        left, top = max(int(low[0]), 0), max(int(low[1]), 0)
        right, bottom = min(int(high[0]), width_px), min(int(high[1]), height_px)
        return (left, top, right, bottom) if left < right and top < bottom else None


def pattern(dictionary: str, marker: int) -> NDArray[np.uint8]:
    """A marker's cells with its black border, (n, n), 1 white and 0 black, as OpenCV's generateImageMarker draws it.

    Raises UnknownDictionary, and BadBody for an id that the dictionary does not have.
    """
    book = find_dictionary(dictionary)
    known = len(book.bytesList)
    if not 0 <= marker < known:
        raise BadBody(f"marker {marker} is not in {dictionary}; its ids are 0 to {known - 1}")
    cells = int(book.markerSize) + 2
    return np.asarray(book.generateImageMarker(marker, cells) > 127, dtype=np.uint8)


def plates(body: Body[Any], camera_from_body: Sequence[Rigid[Camera, Any]], pinhole: Pinhole) -> list[Plate]:
    """The body's plates that stand wholly in front of the camera at all instants of the frame, far ones first."""
    found: list[Plate] = []
    for marker, corners_mm in body.corners_mm.items():
        cells = pattern(body.dictionary, marker)
        n = len(cells)
        c = np.stack([(pose @ Points(corners_mm)).mm for pose in camera_from_body])
        right, down = (c[:, 1] - c[:, 0]) / n, (c[:, 3] - c[:, 0]) / n
        rim = [c[:, 0] - right - down, c[:, 1] + right - down, c[:, 2] + right + down, c[:, 3] - right + down]
        sides = [np.linspace(rim[i], rim[(i + 1) % 4], 8, endpoint=False) for i in range(4)]
        outline = np.swapaxes(np.concatenate(sides), 0, 1)
        if outline[..., 2].min() < 1.0:
            continue
        matrices = np.ascontiguousarray(np.linalg.inv(np.stack([right, down, c[:, 0]], axis=2)))
        middle = len(c) // 2
        facing = bool(np.cross(right[middle], -down[middle]) @ c[middle].mean(axis=0) < 0)
        found.append(
            Plate(matrices, cells, facing, pinhole.project(Points[Camera](outline)), float(c[middle, :, 2].mean()))
        )
    return sorted(found, key=lambda plate: -plate.far_mm)


def lay(
    plate: Plate,
    grid: Array,
    depth_mm: Array,
    picture: NDArray[np.float32],
    corner_px: tuple[int, int] = (0, 0),
    fine: int = 1,
    exposure_ns: float = 0.0,
    readout_ns: float = 0.0,
) -> None:
    """Draw a plate into `picture` of reflectances where it stands before `depth_mm` (h, w); updates both.

    `grid` (H, W, 2) has the undistorted ray (x, y, 1) of every pixel centre of the whole picture; `depth_mm` and
    `picture` (h fine, w fine, C) are a part of it from pixel `corner_px` (left, top) on. The plate's instants span
    exposure and readout.
    """
    left, top = corner_px
    height, width = depth_mm.shape
    box = plate.box(left + width, top + height)
    if box is None or box[2] <= left or box[3] <= top:
        return
    span_ns = exposure_ns + abs(readout_ns)
    steps, exposed, rolled = 1, 0.0, 0.0
    if len(plate.cells_from_ray) > 1 and span_ns > 0:
        exposed, rolled = exposure_ns / span_ns, readout_ns / span_ns
        way_px = float(np.linalg.norm(np.diff(plate.outline_px, axis=0), axis=2).sum(axis=0).max()) * exposed
        steps = min(max(math.ceil(way_px / STEP_PX * (1 if fine > 1 else 2)), 1), STEPS)
    _lay(
        plate.cells_from_ray, plate.pattern, plate.facing, grid, depth_mm, picture, left, top,
        max(box[0], left), max(box[1], top), box[2], box[3], fine, steps, exposed, rolled,
    )  # fmt: skip


@njit
def _lay(
    M: Array, cells: NDArray[np.uint8], facing: bool, grid: Array, depth: Array, picture: NDArray[np.float32],
    left: int, top: int, u_low: int, v_low: int, u_high: int, v_high: int, fine: int, steps: int, exposed: float,
    rolled: float,
) -> None:  # fmt: skip
    height, width = grid.shape[:2]
    n = len(cells)
    knots = len(M) - 1
    m = np.empty((steps, 3, 3))
    quad, work = np.empty((4, 2)), np.empty((4, 16, 2))
    cover, value = np.empty(fine * fine), np.empty(fine * fine)
    for v in range(v_low, v_high):
        row = (v / max(height - 1, 1) - 0.5) * rolled
        for k in range(steps):
            place = (row + ((k + 0.5) / steps - 0.5) * exposed + 0.5) * knots
            a = min(int(place), max(knots - 1, 0))
            b = min(a + 1, knots)
            for i in range(3):
                for j in range(3):
                    m[k, i, j] = M[a, i, j] + (place - a) * (M[b, i, j] - M[a, i, j])
        middle = steps // 2
        for u in range(u_low, u_high):
            x, y = grid[v, u, 0], grid[v, u, 1]
            w = m[middle, 2, 0] * x + m[middle, 2, 1] * y + m[middle, 2, 2]
            if w <= 0 or 1.0 / w > depth[v - top, u - left]:
                continue
            # how the ray changes across this pixel, by differences over the neighbours
            u0, u1, v0, v1 = max(u - 1, 0), min(u + 1, width - 1), max(v - 1, 0), min(v + 1, height - 1)
            xu, yu = (grid[v, u1, 0] - grid[v, u0, 0]) / (u1 - u0), (grid[v, u1, 1] - grid[v, u0, 1]) / (u1 - u0)
            xv, yv = (grid[v1, u, 0] - grid[v0, u, 0]) / (v1 - v0), (grid[v1, u, 1] - grid[v0, u, 1]) / (v1 - v0)
            # most pixels stay in cells of one tone while they are exposed; then so they do on the way between
            i_low, i_high, j_low, j_high = n + 1, -2, n + 1, -2
            ahead = True
            for k in (0, middle, steps - 1):
                before, a, b, c, d = _span(m[k], x, y, xu, yu, xv, yv, n, quad)
                ahead = ahead and before
                i_low, i_high, j_low, j_high = min(i_low, a), max(i_high, b), min(j_low, c), max(j_high, d)
                if steps == 1:
                    break
            if ahead and (i_high < -1 or j_high < -1 or i_low > n or j_low > n):
                continue
            tone = _one_tone(cells, facing, i_low, i_high, j_low, j_high, n) if ahead else -1.0
            top_row, first = (v - top) * fine, (u - left) * fine
            if tone >= 0:
                picture[top_row : top_row + fine, first : first + fine] = tone
                depth[v - top, u - left] = 1.0 / w
                continue
            cover[:], value[:] = 0.0, 0.0
            for k in range(steps):
                ahead, i_low, i_high, j_low, j_high = _span(m[k], x, y, xu, yu, xv, yv, n, quad)
                if not ahead or i_high < -1 or j_high < -1 or i_low > n or j_low > n:
                    continue
                here = _one_tone(cells, facing, i_low, i_high, j_low, j_high, n)
                if here >= 0:
                    cover += 1.0
                    value += here
                    continue
                for part in range(fine * fine):
                    du, dv = (part % fine + 0.5) / fine - 0.5, (part // fine + 0.5) / fine - 0.5
                    share, shade = _share(
                        m[k], x + du * xu + dv * xv, y + du * yu + dv * yv, xu / fine, yu / fine, xv / fine, yv / fine,
                        cells, facing, quad, work,
                    )  # fmt: skip
                    cover[part] += share
                    value[part] += shade
            covered = 0.0
            for part in range(fine * fine):
                share, shade = min(cover[part] / steps, 1.0), value[part] / steps
                covered += share
                r, c = top_row + part // fine, first + part % fine
                for channel in range(picture.shape[2]):
                    picture[r, c, channel] = picture[r, c, channel] * (1 - share) + shade
            if covered > 0.5 * fine * fine:
                depth[v - top, u - left] = 1.0 / w


@njit
def _share(
    m: Array, x: float, y: float, xu: float, yu: float, xv: float, yv: float, cells: NDArray[np.uint8], facing: bool,
    quad: Array, work: Array,
) -> tuple[float, float]:  # fmt: skip
    """How much of a pixel, or of a part of it, the plate covers, and the tone that it adds."""
    n = len(cells)
    ahead, i_low, i_high, j_low, j_high = _span(m, x, y, xu, yu, xv, yv, n, quad)
    if not ahead or i_high < -1 or j_high < -1 or i_low > n or j_low > n:
        return 0.0, 0.0
    tone = _one_tone(cells, facing, i_low, i_high, j_low, j_high, n)
    if tone >= 0:
        return 1.0, tone
    whole = _area(quad, 4)
    cover = value = 0.0
    if whole <= 0:
        return 0.0, 0.0
    for i in range(max(i_low, -1), min(i_high, n) + 1):
        column, count = quad, 4
        if i > i_low:
            count = _cut(column, count, work[0], 0, float(i), 1.0)
            column = work[0]
        if i < i_high:
            count = _cut(column, count, work[1], 0, float(i + 1), -1.0)
            column = work[1]
        for j in range(max(j_low, -1), min(j_high, n) + 1):
            cell, corners = column, count
            if j > j_low:
                corners = _cut(cell, corners, work[2], 1, float(j), 1.0)
                cell = work[2]
            if j < j_high:
                corners = _cut(cell, corners, work[3], 1, float(j + 1), -1.0)
                cell = work[3]
            share = _area(cell, corners) / whole
            cover += share
            value += share * _tone(cells, facing, i, j, n)
    return cover, value


@njit
def _span(
    m: Array, x: float, y: float, xu: float, yu: float, xv: float, yv: float, n: int, quad: Array
) -> tuple[bool, int, int, int, int]:
    """Carry a pixel's corners onto the plate (into `quad`): is it before the camera, and the cells that it spans."""
    i_low, i_high, j_low, j_high = n + 1, -2, n + 1, -2
    for c in range(4):
        du, dv = (0.5 if c == 1 or c == 2 else -0.5), (0.5 if c >= 2 else -0.5)
        a, b = x + du * xu + dv * xv, y + du * yu + dv * yv
        w = m[2, 0] * a + m[2, 1] * b + m[2, 2]
        if w <= 0:
            return False, 0, 0, 0, 0
        p = (m[0, 0] * a + m[0, 1] * b + m[0, 2]) / w
        q = (m[1, 0] * a + m[1, 1] * b + m[1, 2]) / w
        quad[c, 0], quad[c, 1] = p, q
        i, j = min(max(math.floor(p), -2), n + 1), min(max(math.floor(q), -2), n + 1)
        i_low, i_high, j_low, j_high = min(i_low, i), max(i_high, i), min(j_low, j), max(j_high, j)
    return True, i_low, i_high, j_low, j_high


@njit
def _tone(cells: NDArray[np.uint8], facing: bool, i: int, j: int, n: int) -> float:
    if not facing:
        return BACK
    return BLACK if 0 <= i < n and 0 <= j < n and cells[j, i] == 0 else WHITE


@njit
def _one_tone(
    cells: NDArray[np.uint8], facing: bool, i_low: int, i_high: int, j_low: int, j_high: int, n: int
) -> float:
    """The tone of these cells and of all between; -1 where they differ or some lie beyond the plate."""
    if i_low < -1 or j_low < -1 or i_high > n or j_high > n:
        return -1.0
    tone = _tone(cells, facing, i_low, j_low, n)
    for i in range(i_low, i_high + 1):
        for j in range(j_low, j_high + 1):
            if _tone(cells, facing, i, j, n) != tone:
                return -1.0
    return tone


@njit
def _cut(points: Array, count: int, out: Array, axis: int, line: float, sign: float) -> int:
    """The part of a convex polygon where sign * (coordinate - line) >= 0 (Sutherland and Hodgman 1974)."""
    kept = 0
    for k in range(count):
        following = k + 1 if k + 1 < count else 0
        here, there = sign * (points[k, axis] - line), sign * (points[following, axis] - line)
        if here >= 0:
            out[kept] = points[k]
            kept += 1
        if (here > 0 and there < 0) or (here < 0 and there > 0):
            s = here / (here - there)
            out[kept, 0] = points[k, 0] + s * (points[following, 0] - points[k, 0])
            out[kept, 1] = points[k, 1] + s * (points[following, 1] - points[k, 1])
            kept += 1
    return kept


@njit
def _area(points: Array, count: int) -> float:
    total = 0.0
    for k in range(count):
        following = k + 1 if k + 1 < count else 0
        total += points[k, 0] * points[following, 1] - points[following, 0] * points[k, 1]
    return abs(total) / 2
