"""Lay a predicted square onto the picture: where along its four sides does the light jump from dark to bright?

Faster than any search: a dozen short profiles across each side, the steepest outward rise in each, and the line that
most of them agree on. The result is a start for the edge fit and is believed only when the code is read there.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spatial.compiled import njit
from spatial.rigid import Array

PROFILES = 12
RISE = 6.0  # grey levels over the profile's step: less is no edge
AGREE = 6  # profiles that must agree on a line


def align(
    picture: NDArray[np.uint8], corners_px: Array, reach_px: Array, inverted: NDArray[np.bool_]
) -> tuple[Array, NDArray[np.int64]]:
    """Move squares (N, 4, 2) by up to `reach_px` (N,) onto the picture's edges; returns them and how many sides held.

    A side without an edge stays where it was predicted. `inverted` (N,): bright squares on dark.
    """
    return _align(
        picture,
        np.ascontiguousarray(corners_px, dtype=np.float64),
        np.ascontiguousarray(reach_px, dtype=np.float64),
        np.ascontiguousarray(inverted),
    )


@njit
def _align(
    picture: NDArray[np.uint8], corners: Array, reach: Array, inverted: NDArray[np.bool_]
) -> tuple[Array, NDArray[np.int64]]:
    n = len(corners)
    out = corners.copy()
    held = np.zeros(n, dtype=np.int64)
    ends = np.zeros((4, 2))
    lines = np.zeros((4, 3))
    for k in range(n):
        sign = -1.0 if inverted[k] else 1.0
        for side in range(4):
            held[k] += _side(picture, corners[k], side, reach[k], sign, ends[side])
        for side in range(4):
            a, b = corners[k, side], corners[k, (side + 1) % 4]
            length = max(np.sqrt((b[0] - a[0]) ** 2 + (b[1] - a[1]) ** 2), 1e-6)
            nx, ny = (b[1] - a[1]) / length, -(b[0] - a[0]) / length
            x0, y0 = a[0] + ends[side, 0] * nx, a[1] + ends[side, 0] * ny
            x1, y1 = b[0] + ends[side, 1] * nx, b[1] + ends[side, 1] * ny
            lines[side, 0], lines[side, 1] = y1 - y0, x0 - x1
            lines[side, 2] = lines[side, 0] * x0 + lines[side, 1] * y0
        for corner in range(4):
            p, q = lines[(corner + 3) % 4], lines[corner]
            det = p[0] * q[1] - p[1] * q[0]
            if abs(det) > 1e-9:
                out[k, corner, 0] = (p[2] * q[1] - q[2] * p[1]) / det
                out[k, corner, 1] = (p[0] * q[2] - q[0] * p[2]) / det
    return out, held


@njit
def _side(picture: NDArray[np.uint8], corners: Array, side: int, reach: float, sign: float, ends: Array) -> int:
    """Fill `ends` with how far outward (px) the side's two ends lie; 1 where an edge was found."""
    ends[0] = ends[1] = 0.0
    height, width = picture.shape
    a, b = corners[side], corners[(side + 1) % 4]
    dx, dy = b[0] - a[0], b[1] - a[1]
    length = np.sqrt(dx * dx + dy * dy)
    if length < 4:
        return 0
    nx, ny = dy / length, -dx / length
    step = max(0.5, reach / 12.0)
    half = int(reach / step)
    greys = np.zeros(2 * half + 5)
    where = np.full(PROFILES, np.nan)
    for i in range(PROFILES):
        s = 0.1 + 0.8 * i / (PROFILES - 1)
        inside = True
        for j in range(len(greys)):
            d = (j - half - 2) * step
            x, y = a[0] + s * dx + d * nx, a[1] + s * dy + d * ny
            if not (x >= 0 and y >= 0 and x < width - 1 and y < height - 1):
                inside = False
                break
            u, v = int(x), int(y)
            fx, fy = x - u, y - v
            top = (1 - fx) * picture[v, u] + fx * picture[v, u + 1]
            greys[j] = (1 - fy) * top + fy * ((1 - fx) * picture[v + 1, u] + fx * picture[v + 1, u + 1])
        if not inside:
            continue
        best = RISE
        for j in range(2, len(greys) - 2):
            rise = sign * (greys[j + 2] + greys[j + 1] - greys[j - 1] - greys[j - 2]) / 2
            if rise > best:
                best, where[i] = rise, (j - half - 2) * step
    near = max(1.0, 1.5 * step)
    most = 0
    for i in range(PROFILES):
        for j in range(i + 3, PROFILES):
            if not (np.isfinite(where[i]) and np.isfinite(where[j])):
                continue
            slope = (where[j] - where[i]) / (j - i)
            count = 0
            sn = sx = sxx = sv = svx = 0.0
            for m in range(PROFILES):
                if np.isfinite(where[m]) and abs(where[m] - where[i] - slope * (m - i)) < near:
                    count += 1
                    s = 0.1 + 0.8 * m / (PROFILES - 1)
                    sn += 1
                    sx += s
                    sxx += s * s
                    sv += where[m]
                    svx += s * where[m]
            if count > most and count >= AGREE:
                most = count
                tilt = (sn * svx - sx * sv) / max(sn * sxx - sx * sx, 1e-9)
                ends[0] = (sv - tilt * sx) / sn
                ends[1] = ends[0] + tilt
    return 1 if most >= AGREE else 0
