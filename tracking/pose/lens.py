"""The lens inside the solver: its numbers as one vector, rays of raw pixels and back, derivatives; compiled.

The same models as spatial/pinhole.py, held against it in tests; the kernels need them without Python in between.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from spatial.compiled import njit
from spatial.pinhole import Pinhole
from spatial.rigid import Array

LENS = 12  # fx fy cx cy k1 k2 p1 p2 k3 k4 k5 k6; a fisheye's k1 k2 k3 k4 stand in the first four places of its bend
BROWN = ("fx", "fy", "cx", "cy", "k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")
FISHEYE = ("fx", "fy", "cx", "cy", "k1", "k2", "k3", "k4")


def lens_vector(pinhole: Pinhole) -> Array:
    """The lens as the kernels take it, (13,): its numbers, and 1 for a fisheye."""
    out = np.zeros(LENS + 1)
    out[LENS] = pinhole.lens == "fisheye"
    out[:4] = pinhole.fx_px, pinhole.fy_px, pinhole.cx_px, pinhole.cy_px
    out[4 : 4 + len(pinhole.distortion)] = pinhole.distortion
    return out


def lens_covariance(pinhole: Pinhole, names: Sequence[str], covariance: Array) -> Array | None:
    """A calibration's covariance as `track_body` takes it, (12, 12); None where the calibration gives none."""
    known = FISHEYE if pinhole.lens == "fisheye" else BROWN
    rows = [k for k, name in enumerate(names) if name in known]
    if not rows:
        return None
    places = [known.index(names[k]) for k in rows]
    out = np.zeros((LENS, LENS))
    out[np.ix_(places, places)] = covariance[np.ix_(rows, rows)]
    return out


def lens_slopes(rays: Array, lens: Array) -> Array:
    """d pixel / d lens (k, 2, 12) at undistorted rays (k, 2)."""
    fx, fy, _, _, k1, k2, p1, p2, k3, k4, k5, k6 = lens[:LENS].tolist()
    x, y = rays[:, 0], rays[:, 1]
    r2 = x * x + y * y
    out = np.zeros((len(rays), 2, LENS))
    if lens[LENS] > 0:
        r = np.maximum(np.sqrt(r2), 1e-12)
        theta = np.arctan(r)
        powers = theta[:, None] ** np.array([3, 5, 7, 9]) / r[:, None]
        bent = rays * (theta / r + powers @ np.array([k1, k2, p1, p2]))[:, None]
        by_bend = rays[:, :, None] * powers[:, None, :]
        columns = [4, 5, 6, 7]
    else:
        top, bottom = 1 + r2 * (k1 + r2 * (k2 + r2 * k3)), 1 + r2 * (k4 + r2 * (k5 + r2 * k6))
        powers = r2[:, None] ** np.array([1, 2, 3])
        cross, squares = 2 * x * y, np.stack([r2 + 2 * x * x, r2 + 2 * y * y], axis=1)
        bent = rays * (top / bottom)[:, None]
        bent += np.stack([p1 * cross + p2 * squares[:, 0], p1 * squares[:, 1] + p2 * cross], axis=1)
        radial = np.concatenate([powers / bottom[:, None], -powers * (top / bottom**2)[:, None]], axis=1)
        tangent = np.stack([np.stack([cross, squares[:, 1]], 1), np.stack([squares[:, 0], cross], 1)], axis=2)
        by_bend = np.concatenate([rays[:, :, None] * radial[:, None, :], tangent], axis=2)
        columns = [4, 5, 8, 9, 10, 11, 6, 7]
    out[:, 0, 0], out[:, 1, 1], out[:, 0, 2], out[:, 1, 3] = bent[:, 0], bent[:, 1], 1.0, 1.0
    out[:, :, columns] = by_bend * np.array([fx, fy])[:, None]
    return out


@njit
def straighten(px: Array, lens: Array) -> Array:
    """Undistorted rays (n, 2) of raw pixels (n, 2); NaN where the lens model folds over. Newton's method."""
    out = np.empty_like(px)
    bent = np.empty(2)
    slope = np.empty((2, 2))
    for i in range(len(px)):
        tx, ty = (px[i, 0] - lens[2]) / lens[0], (px[i, 1] - lens[3]) / lens[1]
        x, y = tx, ty
        det = error = 1.0
        for _ in range(30):
            bend(x, y, lens, bent, slope)
            ex, ey = bent[0] - tx, bent[1] - ty
            error = abs(ex) + abs(ey)
            det = slope[0, 0] * slope[1, 1] - slope[0, 1] * slope[1, 0]
            if error < 1e-12 or det <= 0:
                break
            x -= (slope[1, 1] * ex - slope[0, 1] * ey) / det
            y -= (slope[0, 0] * ey - slope[1, 0] * ex) / det
        good = error < 1e-9 and det > 0 and x * tx > -1e-3 and y * ty > -1e-3
        out[i, 0], out[i, 1] = (x, y) if good else (np.nan, np.nan)
    return out


@njit
def bend(x: float, y: float, lens: Array, bent: Array, slope: Array) -> None:
    """OpenCV's distortion of an ideal ray, and its derivative (2, 2); see spatial/pinhole.py."""
    if lens[12] > 0:
        k1, k2, k3, k4 = lens[4], lens[5], lens[6], lens[7]
        r = math.sqrt(x * x + y * y)
        if r < 1e-8:
            bent[0], bent[1] = x, y
            slope[0, 0] = slope[1, 1] = 1.0
            slope[0, 1] = slope[1, 0] = 0.0
            return
        theta = math.atan(r)
        q = theta * theta
        rolled = theta * (1 + q * (k1 + q * (k2 + q * (k3 + q * k4))))
        steep = (1 + q * (3 * k1 + q * (5 * k2 + q * (7 * k3 + q * 9 * k4)))) / (1 + r * r)
        radial = rolled / r
        grow = (steep - radial) / (r * r)
        bent[0], bent[1] = x * radial, y * radial
        slope[0, 0], slope[1, 1] = radial + grow * x * x, radial + grow * y * y
        slope[0, 1] = slope[1, 0] = grow * x * y
        return
    k1, k2, p1, p2, k3, k4, k5, k6 = lens[4], lens[5], lens[6], lens[7], lens[8], lens[9], lens[10], lens[11]
    r2 = x * x + y * y
    top, bottom = 1 + r2 * (k1 + r2 * (k2 + r2 * k3)), 1 + r2 * (k4 + r2 * (k5 + r2 * k6))
    radial = top / bottom
    grow = ((k1 + r2 * (2 * k2 + 3 * r2 * k3)) * bottom - top * (k4 + r2 * (2 * k5 + 3 * r2 * k6))) / bottom**2
    bent[0] = x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x)
    bent[1] = y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y
    slope[0, 0] = radial + 2 * x * x * grow + 2 * p1 * y + 6 * p2 * x
    slope[0, 1] = 2 * x * y * grow + 2 * p1 * x + 2 * p2 * y
    slope[1, 0] = slope[0, 1]
    slope[1, 1] = radial + 2 * y * y * grow + 6 * p1 * y + 2 * p2 * x
