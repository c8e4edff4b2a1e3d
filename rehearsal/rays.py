"""Where a straight drill path meets a bone's surface: every crossing, exactly on the triangles.

Moeller & Trumbore 1997 over all triangles, float64. A crossing through a shared edge is found twice, kept once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spatial.compiled import njit
from spatial.frames import Patient
from spatial.mesh import TriangleMesh
from spatial.rigid import Array
from spatial.shapes import Line

_SAME_MM = 1e-6
_MOST = 256  # crossings of one path with one bone
_SLACK = 1e-9  # barycentric: a path through an edge must hit at least one of its triangles


@dataclass(frozen=True, slots=True)
class Crossing:
    """A path meets a surface `along_mm` from its start; `is_entry` when it goes in there."""

    along_mm: float
    is_entry: bool


def may_meet(line: Line[Patient], bounds_mm: tuple[Array, Array], reach_mm: float) -> bool:
    """Whether the path's first `reach_mm` touch a box (its lowest and highest corner; slab test)."""
    low, high = bounds_mm
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
    along = np.empty(_MOST)
    goes_in = np.empty(_MOST, dtype=np.bool_)
    count = int(_hits(line.point_mm, line.direction, mesh.vertices_mm, mesh.triangles, float(reach_mm), along, goes_in))
    found: list[Crossing] = []
    for row in np.argsort(along[:count], kind="stable"):
        crossing = Crossing(float(along[row]), bool(goes_in[row]))
        last = found[-1] if found else None
        if last and crossing.is_entry == last.is_entry and crossing.along_mm - last.along_mm < _SAME_MM:
            continue
        found.append(crossing)
    return tuple(found)


@njit
def _hits(
    start: Array,
    direction: Array,
    vertices: Array,
    triangles: NDArray[np.int32],
    reach: float,
    along: Array,
    goes_in: NDArray[np.bool_],
) -> int:
    """Fill `along` and `goes_in` with the triangles that are hit; how many."""
    count = 0
    dx, dy, dz = direction[0], direction[1], direction[2]
    for row in range(triangles.shape[0]):
        i, j, k = triangles[row, 0], triangles[row, 1], triangles[row, 2]
        ax, ay, az = vertices[i, 0], vertices[i, 1], vertices[i, 2]
        ux, uy, uz = vertices[j, 0] - ax, vertices[j, 1] - ay, vertices[j, 2] - az
        vx, vy, vz = vertices[k, 0] - ax, vertices[k, 1] - ay, vertices[k, 2] - az
        px, py, pz = dy * vz - dz * vy, dz * vx - dx * vz, dx * vy - dy * vx
        det = ux * px + uy * py + uz * pz
        if abs(det) <= 1e-14:
            continue
        sx, sy, sz = start[0] - ax, start[1] - ay, start[2] - az
        u = (sx * px + sy * py + sz * pz) / det
        if u < -_SLACK or u > 1.0 + _SLACK:
            continue
        qx, qy, qz = sy * uz - sz * uy, sz * ux - sx * uz, sx * uy - sy * ux
        v = (dx * qx + dy * qy + dz * qz) / det
        if v < -_SLACK or u + v > 1.0 + _SLACK:
            continue
        t = (vx * qx + vy * qy + vz * qz) / det
        if t < 0.0 or t > reach or count == along.shape[0]:
            continue
        along[count] = t
        goes_in[count] = det > 0.0  # the path runs against the outward normal
        count += 1
    return count
