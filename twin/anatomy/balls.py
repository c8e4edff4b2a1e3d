"""A femoral head on a bone's voxels: the sphere at the upper end that lies beside the shaft."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spatial.rigid import Array
from twin.anatomy.bone import Side

RADIUS_MM = (16.0, 31.0)
UPPER_MM = 75.0  # of the bone's top in which the head lies
SHAFT_MM = 62.0  # the shaft's width below the lesser trochanter, at most
BESIDE_MM = 18.0  # from the shaft's axis to the head's centre, at least
LEAST_SHARE = 0.42  # of the sphere that the surface covers
SPREAD_MM = 1.6  # of the surface about the sphere, for voxels of 1.5 mm
STARTS = 5


@dataclass(frozen=True, eq=False)
class Ball:
    """Centre (3,) mm and radius of a femoral head; the side follows from where the shaft is."""

    side: Side
    centre_mm: Array
    radius_mm: float
    share: float


def upper(points_mm: Array, spacing_mm: float) -> Ball | None:
    """The head at the upper end of a bone given by its voxels (N, 3); None when there is none."""
    top = float(points_mm[:, 2].max())
    near = points_mm[points_mm[:, 2] > top - UPPER_MM]
    below = points_mm[(points_mm[:, 2] < top - UPPER_MM) & (points_mm[:, 2] > top - 2.0 * UPPER_MM)]
    if len(near) < 200 or len(below) < 50:
        return None
    for z in np.arange(below[:, 2].min(), below[:, 2].max(), 10.0):
        section = below[np.abs(below[:, 2] - z - 5.0) < 5.0]
        if len(section) and np.ptp(section[:, :2], axis=0).max() > SHAFT_MM:
            return None
    shaft = below.mean(axis=0)
    best: Ball | None = None
    for side, medial in (("left", -1.0), ("right", 1.0)):
        ball = _fitted(near, medial, spacing_mm)
        if ball is None or medial * (ball[0][0] - shaft[0]) < BESIDE_MM:
            continue
        if best is None or ball[2] > best.share:
            best = Ball("left" if side == "left" else "right", *ball)
    return best


def _fitted(points: Array, medial: float, spacing_mm: float) -> tuple[Array, float, float] | None:
    """Sphere through the surface voxels that look away from its centre, started at the upper medial end."""
    surface = _surface(points, spacing_mm)
    way = np.array([medial, 0.0, 0.6])
    way = way / np.linalg.norm(way)
    reach = surface @ way
    centre = surface[reach > reach.max() - 3.0].mean(axis=0) - 22.0 * way
    radius = 23.0
    for sweep in range(20):
        d = surface - centre
        far = np.linalg.norm(d, axis=1)
        # the neck is on the far side: what looks along the way is the head's
        shell = (np.abs(far - radius) < max(1.3 * spacing_mm, 6.0 * 0.85**sweep)) & (d @ way > -0.35 * far)
        if shell.sum() < 40:
            return None
        A = np.column_stack([2 * surface[shell], np.ones(int(shell.sum()))])
        solution, *_ = np.linalg.lstsq(A, (surface[shell] ** 2).sum(axis=1), rcond=None)
        centre = solution[:3]
        radius = float(np.clip(np.sqrt(max(solution[3] + centre @ centre, 1.0)), *RADIUS_MM))
    off = np.linalg.norm(surface[shell] - centre, axis=1) - radius
    cells = np.unique(np.round((surface[shell] - centre) / radius * 4).astype(int), axis=0)
    share = min(1.0, len(cells) / 200.0)
    if float(off.std()) > SPREAD_MM or share < LEAST_SHARE or not RADIUS_MM[0] < radius < RADIUS_MM[1]:
        return None
    return centre, radius, share


def _surface(points: Array, spacing_mm: float) -> Array:
    """The voxels with a free face."""
    index = np.round((points - points.min(axis=0)) / spacing_mm).astype(int) + 1
    block = np.zeros(index.max(axis=0) + 2, dtype=np.bool_)
    block[tuple(index.T)] = True
    inner = block.copy()
    for axis in range(3):
        inner &= np.roll(block, 1, axis) & np.roll(block, -1, axis)
    return np.asarray(points[~inner[tuple(index.T)]])
