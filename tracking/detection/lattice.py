"""The lattice of a marker's cells in the raw picture: a homography of four corners, plus what the lens bends.

A point (u, v) of the unit square lies at sum w_k c_k over the four corners c_k, with w_k = b_k m_k / sum b_j m_j: b are
the bilinear weights and m_k the (signed, doubled) area of the triangle of the other three corners. That is the
homography through the corners, written without a matrix, and it can be differentiated by the corners in closed form.
The lens' share, raw lattice less homography of the raw corners, is smooth and small and hardly changes while corners
move by a pixel; it comes from the camera's own projection, whatever its model.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from spatial.compiled import njit
from spatial.frames import Camera
from spatial.pinhole import BadLens, Pinhole
from spatial.rigid import Array, Points

TABLE_STEP_PX = 16.0


@njit
def corner_masses(corners: Array, mass: Array, d_mass: Array) -> None:
    """Areas m (4,) of the four triangles, and their derivatives (4, 8) by the corners' x0, y0, … y3."""
    d_mass[:] = 0.0
    for k in range(4):
        a, b, c = (k + 1) % 4, (k + 2) % 4, (k + 3) % 4
        ax, ay, bx, by, cx, cy = (
            corners[a, 0],
            corners[a, 1],
            corners[b, 0],
            corners[b, 1],
            corners[c, 0],
            corners[c, 1],
        )
        mass[k] = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        d_mass[k, 2 * a], d_mass[k, 2 * a + 1] = by - cy, cx - bx
        d_mass[k, 2 * b], d_mass[k, 2 * b + 1] = cy - ay, ax - cx
        d_mass[k, 2 * c], d_mass[k, 2 * c + 1] = ay - by, bx - ax


@njit
def place(corners: Array, mass: Array, u: float, v: float) -> tuple[float, float]:
    """Where (u, v) of the unit square lies."""
    b0, b1, b2, b3 = (1 - u) * (1 - v) * mass[0], u * (1 - v) * mass[1], u * v * mass[2], (1 - u) * v * mass[3]
    total = b0 + b1 + b2 + b3
    total = total if abs(total) > 1e-9 else 1e-9  # on the horizon
    x = b0 * corners[0, 0] + b1 * corners[1, 0] + b2 * corners[2, 0] + b3 * corners[3, 0]
    y = b0 * corners[0, 1] + b1 * corners[1, 1] + b2 * corners[2, 1] + b3 * corners[3, 1]
    return x / total, y / total


@njit
def place_slopes(
    corners: Array, mass: Array, d_mass: Array, u: float, v: float, nx: float, ny: float, out: Array
) -> None:
    """Derivative (8,) of the place of (u, v), seen along the direction (nx, ny), by the corners."""
    b0, b1, b2, b3 = (1 - u) * (1 - v), u * (1 - v), u * v, (1 - u) * v
    total = b0 * mass[0] + b1 * mass[1] + b2 * mass[2] + b3 * mass[3]
    total = total if abs(total) > 1e-9 else 1e-9
    x, y = place(corners, mass, u, v)
    for m in range(8):
        out[m] = 0.0
    for k in range(4):
        b = (b0, b1, b2, b3)[k] / total
        lever = b * ((corners[k, 0] - x) * nx + (corners[k, 1] - y) * ny)
        for m in range(8):
            out[m] += lever * d_mass[k, m]
        out[2 * k] += b * mass[k] * nx
        out[2 * k + 1] += b * mass[k] * ny


@njit
def lay_lattice(corners: Array, bend: Array, mass: Array, d_mass: Array, out: Array) -> None:
    """Lattice points (n + 1, n + 1, 2), rows along v, of corners (4, 2) with the lens' share (n + 1, n + 1, 2)."""
    n = len(out) - 1
    corner_masses(corners, mass, d_mass)
    for j in range(n + 1):
        for i in range(n + 1):
            x, y = place(corners, mass, i / n, j / n)
            out[j, i, 0] = x + bend[j, i, 0]
            out[j, i, 1] = y + bend[j, i, 1]


@njit
def _homographies(corners: Array, cells: int) -> Array:
    """Lattices (N, n + 1, n + 1, 2) of corners (N, 4, 2) without a lens."""
    out = np.empty((len(corners), cells + 1, cells + 1, 2))
    nothing = np.zeros((cells + 1, cells + 1, 2))
    mass, d_mass = np.zeros(4), np.zeros((4, 8))
    for k in range(len(corners)):
        lay_lattice(corners[k], nothing, mass, d_mass, out[k])
    return out


def lens_bend(corners_px: Array, pinhole: Pinhole | None, cells: int) -> Array:
    """The lens' share (N, n + 1, n + 1, 2) px of markers with raw corners (N, 4, 2).

    Zero where the lens model can't be undone: straight sides are the best guess there.
    """
    out = np.zeros((len(corners_px), cells + 1, cells + 1, 2))
    if pinhole is None or pinhole.is_ideal or not len(corners_px):
        return out
    ideal = _undistort(corners_px, pinhole)
    good = np.isfinite(ideal).all(axis=(1, 2))
    lattice = _homographies(np.ascontiguousarray(ideal[good]), cells)
    rays = np.empty((*lattice.shape[:-1], 3))
    rays[..., :2], rays[..., 2] = lattice, 1.0
    raw = pinhole.project(Points[Camera](rays))
    # of the corners as this lattice has them: what the table rounds drops out
    own = np.ascontiguousarray(raw[:, [0, 0, -1, -1], [0, -1, -1, 0]])
    out[good] = np.nan_to_num(raw - _homographies(own, cells))
    return out


def _undistort(corners_px: Array, pinhole: Pinhole) -> Array:
    """Undistorted places (N, 4, 2), z = 1, to some hundredths of a pixel; NaN where there is none."""
    table = _undistortion(pinhole)
    at = (corners_px + 2 * TABLE_STEP_PX) / TABLE_STEP_PX
    last = np.array(table.shape[1::-1]) - 2
    low = np.clip(at.astype(np.int64), 0, last)
    f = at - low
    i, j = low[..., 0], low[..., 1]
    fx, fy = f[..., :1], f[..., 1:]
    top = table[j, i] * (1 - fx) + table[j, i + 1] * fx
    bottom = table[j + 1, i] * (1 - fx) + table[j + 1, i + 1] * fx
    return np.asarray(top * (1 - fy) + bottom * fy)


@lru_cache(maxsize=16)
def _undistortion(pinhole: Pinhole) -> NDArray[np.float64]:
    """Undistorted places of a net of raw pixels, two steps wider than the picture; NaN where the model folds over."""
    rows = np.arange(-2 * TABLE_STEP_PX, pinhole.height_px + 3 * TABLE_STEP_PX, TABLE_STEP_PX)
    columns = np.arange(-2 * TABLE_STEP_PX, pinhole.width_px + 3 * TABLE_STEP_PX, TABLE_STEP_PX)
    net = np.stack(np.meshgrid(columns, rows), axis=-1)
    out = np.full(net.shape, np.nan)
    parts = [(slice(0, len(rows)), slice(0, len(columns)))]
    while parts:  # what can't be undone as a whole is halved until only the bad points are left out
        down, across = parts.pop()
        try:
            out[down, across] = pinhole.normalised(net[down, across])
        except BadLens:
            tall, wide = down.stop - down.start, across.stop - across.start
            if tall >= wide and tall > 1:
                middle = down.start + tall // 2
                parts += [(slice(down.start, middle), across), (slice(middle, down.stop), across)]
            elif wide > 1:
                middle = across.start + wide // 2
                parts += [(down, slice(across.start, middle)), (down, slice(middle, across.stop))]
    return out
