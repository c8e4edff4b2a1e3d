"""Marker plates as a camera sees them: area-sampled through the pixel's own rays, for pictures with a known truth.

Independent of Painter and of the detector: a plate is hit by rays, never drawn as a polygon.
"""

from __future__ import annotations

import math
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

SAMPLES = 128
BLACK, WHITE, BACK = 0.09, 0.86, 0.45  # reflectance of ink, paper, and a plate's back


@dataclass(frozen=True, eq=False)
class Plate:
    """One printed marker with a white margin of one cell: rays (x, y, 1) to cells (3, 3), its pattern."""

    cells_from_ray: Array
    pattern: NDArray[np.uint8]
    facing: bool
    outline_px: Array


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


def plates(body: Body[Any], camera_from_body: Rigid[Camera, Any], pinhole: Pinhole) -> list[Plate]:
    """The body's plates that stand wholly in front of the camera, far ones first."""
    found: list[tuple[float, Plate]] = []
    for marker, corners_mm in body.corners_mm.items():
        c = (camera_from_body @ Points(corners_mm)).mm
        n = len(pattern(body.dictionary, marker))
        right, down = (c[1] - c[0]) / n, (c[3] - c[0]) / n
        rim = [c[0] - right - down, c[1] + right - down, c[2] + right + down, c[3] - right + down]
        outline = np.concatenate([np.linspace(rim[i], rim[(i + 1) % 4], 8, endpoint=False) for i in range(4)])
        if outline[:, 2].min() < 1.0:
            continue
        matrix = np.linalg.inv(np.stack([right, down, c[0]], axis=1))
        facing = bool(np.cross(right, -down) @ c.mean(axis=0) < 0)
        plate = Plate(matrix, pattern(body.dictionary, marker), facing, pinhole.project(Points[Camera](outline)))
        found.append((float(c[:, 2].mean()), plate))
    return [plate for _, plate in sorted(found, key=lambda item: -item[0])]


def lay(plate: Plate, grid: Array, depth_mm: Array, picture: NDArray[np.float32]) -> None:
    """Draw a plate into `picture` (h, w, 3) of reflectances where it stands before `depth_mm` (h, w); updates both.

    `grid` (h, w, 2) has the undistorted ray (x, y, 1) of every pixel centre.
    """
    height, width = depth_mm.shape
    low = np.floor(plate.outline_px.min(axis=0)).astype(int) - 3
    high = np.ceil(plate.outline_px.max(axis=0)).astype(int) + 4
    left, top, right, bottom = max(low[0], 0), max(low[1], 0), min(high[0], width), min(high[1], height)
    if left < right and top < bottom:
        _lay(
            plate.cells_from_ray,
            plate.pattern,
            plate.facing,
            grid,
            depth_mm,
            picture,
            left,
            top,
            right,
            bottom,
            OFFSETS,
        )


def _offsets() -> Array:
    """Low-discrepancy places in a pixel (Roberts' R2 sequence), mirrored so that their mean is the centre exactly."""
    k = np.arange(1, SAMPLES // 2 + 1)[:, None]
    half = np.mod(0.5 + k * np.array([0.7548776662466927, 0.5698402909980532]), 1.0) - 0.5
    return np.concatenate([half, -half])


OFFSETS = _offsets()


@njit
def _lay(
    M: Array, cells: NDArray[np.uint8], facing: bool, grid: Array, depth: Array, picture: NDArray[np.float32],
    left: int, top: int, right: int, bottom: int, offsets: Array,
) -> None:  # fmt: skip
    height, width = depth.shape
    n = len(cells)
    for v in range(top, bottom):
        for u in range(left, right):
            x, y = grid[v, u, 0], grid[v, u, 1]
            w = M[2, 0] * x + M[2, 1] * y + M[2, 2]
            if w <= 0 or 1.0 / w > depth[v, u]:
                continue
            # how the ray changes across this pixel, by differences over the neighbours
            u0, u1, v0, v1 = max(u - 1, 0), min(u + 1, width - 1), max(v - 1, 0), min(v + 1, height - 1)
            xu, yu = (grid[v, u1, 0] - grid[v, u0, 0]) / (u1 - u0), (grid[v, u1, 1] - grid[v, u0, 1]) / (u1 - u0)
            xv, yv = (grid[v1, u, 0] - grid[v0, u, 0]) / (v1 - v0), (grid[v1, u, 1] - grid[v0, u, 1]) / (v1 - v0)
            i0, j0 = 0, 0
            same = True
            for k in range(4):
                du, dv = (0.5 if k & 1 else -0.5), (0.5 if k & 2 else -0.5)
                i, j = _cell(M, x + du * xu + dv * xv, y + du * yu + dv * yv, n)
                if k == 0:
                    i0, j0 = i, j
                elif i != i0 or j != j0:
                    same = False
            cover = value = 0.0
            count = 1 if same else len(offsets)
            for k in range(count):
                du, dv = (0.0, 0.0) if same else (offsets[k, 0], offsets[k, 1])
                i, j = _cell(M, x + du * xu + dv * xv, y + du * yu + dv * yv, n)
                if i < -1 or j < -1 or i > n or j > n:
                    continue
                cover += 1.0
                if not facing:
                    value += BACK
                elif 0 <= i < n and 0 <= j < n and cells[j, i] == 0:
                    value += BLACK
                else:
                    value += WHITE
            if cover > 0:
                for channel in range(3):
                    picture[v, u, channel] = picture[v, u, channel] * (1 - cover / count) + value / count
                if cover * 2 > count:
                    depth[v, u] = 1.0 / w


@njit
def _cell(M: Array, x: float, y: float, n: int) -> tuple[int, int]:
    w = M[2, 0] * x + M[2, 1] * y + M[2, 2]
    i = math.floor((M[0, 0] * x + M[0, 1] * y + M[0, 2]) / w)
    j = math.floor((M[1, 0] * x + M[1, 1] * y + M[1, 2]) / w)
    return int(min(max(i, -2), n + 1)), int(min(max(j, -2), n + 1))
