"""Endplates: the plane through the middle of a body's upper or lower face, fitted to its surface."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spatial.frames import Patient
from spatial.mesh import TriangleMesh
from spatial.rigid import Array

MIDDLE_SHARE = 0.70  # of the face's width and depth: inside the rim and its osteophytes
FACING = 0.75  # least cosine between a triangle's normal and the face's
LIP_MM = 3.5  # between the face's plane and its rim
LEAST_TRIANGLES = 12


@dataclass(frozen=True, eq=False)
class Endplate:
    """Centre (3,), cranial unit normal (3,), the surface's spread about the plane (one sigma), the face's size; mm."""

    centre_mm: Array
    normal: Array
    spread_mm: float
    width_mm: float
    depth_mm: float


def fit(
    mesh: TriangleMesh[Patient], centre_mm: Array, axes: Array, outward: float, chosen: NDArray[np.bool_] | None = None
) -> Endplate | None:
    """The face that looks along `outward` (+1 cranial, -1 caudal) of `axes` (columns right, anterior, cranial).

    `chosen` (M,) marks the triangles of the body; None: all. Returns None when the face is not there.
    """
    corners = mesh.vertices_mm[mesh.triangles]
    middle = corners.mean(axis=1)
    twice = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = 0.5 * np.linalg.norm(twice, axis=1)
    normals = twice / np.maximum(2 * area, 1e-12)[:, None]
    usable = np.ones(len(middle), dtype=np.bool_) if chosen is None else chosen.copy()
    up = axes[:, 2]
    plate: Endplate | None = None
    for _ in range(6):
        facing = usable & (outward * (normals @ up) > FACING)
        local = (middle - centre_mm) @ axes
        height = outward * local[:, 2]
        facing &= height > 0
        if plate is None:  # the highest third of the face's area marks its level, not the processes below it
            order = np.argsort(height[facing])
            share = np.cumsum(area[facing][order]) / max(float(area[facing].sum()), 1e-9)
            level = height[facing][order][min(int(np.searchsorted(share, 0.75)), len(order) - 1)] if len(order) else 0.0
            facing &= np.abs(height - level) < 6.0
        else:
            facing &= np.abs((middle - plate.centre_mm) @ plate.normal) < LIP_MM
        if facing.sum() < LEAST_TRIANGLES:
            return None
        weight = area * np.abs(normals @ up)
        # the face's outline, a few triangles' noise aside
        x_low, x_high = _extent(local[facing, 0], weight[facing])
        y_low, y_high = _extent(local[facing, 1], weight[facing])
        width, depth = x_high - x_low, y_high - y_low
        u = (local[:, 0] - 0.5 * (x_low + x_high)) / (0.5 * width)
        v = (local[:, 1] - 0.5 * (y_low + y_high)) / (0.5 * depth)
        inner = facing & (u * u + v * v < MIDDLE_SHARE**2)
        if inner.sum() < LEAST_TRIANGLES:
            return None
        p, w = middle[inner], weight[inner]
        centre, normal = _plane(p, w)
        for _ in range(2):
            off = (p - centre) @ normal
            spread = float(np.sqrt((w * off**2).sum() / w.sum()))
            kept = np.abs(off) < max(2.5 * spread, 0.1)
            centre, normal = _plane(p[kept], w[kept])
        if normal @ up < 0:
            normal = -normal
        up = normal
        plate = Endplate(centre, normal, spread, float(width), float(depth))
    return plate


def _extent(values: Array, weight: Array) -> tuple[float, float]:
    order = np.argsort(values)
    share = np.cumsum(weight[order]) / weight.sum()
    low = values[order[min(int(np.searchsorted(share, 0.003)), len(order) - 1)]]
    high = values[order[min(int(np.searchsorted(share, 0.997)), len(order) - 1)]]
    return float(low), max(float(high), float(low) + 1e-3)


def _plane(points: Array, weight: Array) -> tuple[Array, Array]:
    centre = (weight[:, None] * points).sum(axis=0) / weight.sum()
    d = points - centre
    _, vectors = np.linalg.eigh((weight[:, None] * d).T @ d)
    return centre, vectors[:, 0]
