"""Where a straight drill path meets a bone's surface: every crossing, exactly on the triangles.

Moeller & Trumbore 1997, all triangles at once in float64. A crossing through a shared edge is found twice, kept once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spatial.frames import Patient
from spatial.mesh import TriangleMesh
from spatial.rigid import Array
from spatial.shapes import Line

_SAME_MM = 1e-6
_SLACK = 1e-9  # barycentric: a path through an edge must hit at least one of its triangles


@dataclass(frozen=True, slots=True)
class Crossing:
    """A path meets a surface `along_mm` from its start; `is_entry` when it goes in there."""

    along_mm: float
    is_entry: bool


def may_meet(line: Line[Patient], mesh: TriangleMesh[Patient], reach_mm: float) -> bool:
    """Whether the path's first `reach_mm` touch the mesh's box (slab test)."""
    low, high = mesh.bounds_mm
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        a, b = (low - line.point_mm) / line.direction, (high - line.point_mm) / line.direction
    flat = line.direction == 0.0
    inside = (line.point_mm >= low) & (line.point_mm <= high)
    if (flat & ~inside).any():
        return False
    near = float(np.where(flat, -np.inf, np.minimum(a, b)).max())
    far = float(np.where(flat, np.inf, np.maximum(a, b)).min())
    return near <= min(far, reach_mm) and far >= 0.0


def crossings(line: Line[Patient], mesh: TriangleMesh[Patient], reach_mm: float) -> tuple[Crossing, ...]:
    """All crossings from 0 to `reach_mm` along the path, nearest first."""
    if not len(mesh.triangles) or not may_meet(line, mesh, reach_mm):
        return ()
    a, b, c = (mesh.vertices_mm[mesh.triangles[:, i]] for i in range(3))
    return _crossings(line.point_mm, line.direction, a, b - a, c - a, reach_mm)


def _crossings(start: Array, direction: Array, a: Array, ab: Array, ac: Array, reach_mm: float) -> tuple[Crossing, ...]:
    p = np.cross(direction, ac)
    det = np.einsum("ij,ij->i", ab, p)
    usable = np.abs(det) > 1e-14
    inverse = 1.0 / np.where(usable, det, 1.0)
    s = start - a
    u = np.einsum("ij,ij->i", s, p) * inverse
    q = np.cross(s, ab)
    v = (q @ direction) * inverse
    t = np.einsum("ij,ij->i", ac, q) * inverse
    hit = usable & (u >= -_SLACK) & (v >= -_SLACK) & (u + v <= 1.0 + _SLACK) & (t >= 0.0) & (t <= reach_mm)
    found: list[Crossing] = []
    rows = np.flatnonzero(hit)
    for row in rows[np.argsort(t[rows], kind="stable")]:
        # det > 0: the path runs against the outward normal, so it goes in
        crossing = Crossing(float(t[row]), bool(det[row] > 0.0))
        last = found[-1] if found else None
        if last and crossing.is_entry == last.is_entry and crossing.along_mm - last.along_mm < _SAME_MM:
            continue
        found.append(crossing)
    return tuple(found)
