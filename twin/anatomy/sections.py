"""Plane sections of a closed mesh as separate loops, each with its area and centroid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from spatial.frames import Patient
from spatial.mesh import TriangleMesh
from spatial.rigid import Array


@dataclass(frozen=True, eq=False)
class Loop:
    """One closed outline in a plane: area mm2 (negative: a hole), centroid (3,), segments (K, 2, 3) mm."""

    area_mm2: float
    centroid_mm: Array
    segments_mm: Array

    def widths_mm(self, direction: Array) -> float:
        """Extent along a unit direction (3,)."""
        along = self.segments_mm.reshape(-1, 3) @ direction
        return float(along.max() - along.min())


def near(mesh: TriangleMesh[Patient], centre_mm: Array, reach_mm: float) -> TriangleMesh[Patient]:
    """The triangles within reach of a point: an open patch, for cutting the same place many times."""
    close = np.linalg.norm(mesh.vertices_mm - centre_mm, axis=1) < reach_mm
    return TriangleMesh[Patient](mesh.vertices_mm, mesh.triangles[close[mesh.triangles].any(axis=1)])


def loops(mesh: TriangleMesh[Patient], point_mm: Array, normal: Array) -> list[Loop]:
    """The closed outlines in the plane through a point; open ones (at the edge of a patch) are left out."""
    d = (mesh.vertices_mm - point_mm) @ normal
    d = np.where(d == 0.0, 1e-12, d)
    td = d[mesh.triangles]
    t = mesh.triangles[(td > 0).any(axis=1) & (td < 0).any(axis=1)].astype(np.int64)
    if not len(t):
        return []
    td = d[t]
    # turn each triangle so that its first corner is alone on its side of the plane
    positive = td > 0
    alone = np.argmax(positive == (positive.sum(axis=1) == 1)[:, None], axis=1)
    rows = np.arange(len(t))
    a, b, c = (t[rows, (alone + n) % 3] for n in range(3))
    count = len(mesh.vertices_mm)
    keys = np.stack([np.minimum(a, b) * count + np.maximum(a, b), np.minimum(a, c) * count + np.maximum(a, c)], axis=1)
    unique, index = np.unique(keys, return_inverse=True)
    index = index.reshape(-1, 2)
    low, high = unique // count, unique % count
    w = (d[low] / (d[low] - d[high]))[:, None]
    points = mesh.vertices_mm[low] * (1 - w) + mesh.vertices_mm[high] * w
    # counter-clockwise about the normal with bone on the left
    flip = td[rows, alone] > 0
    start = np.where(flip, index[:, 0], index[:, 1])
    stop = np.where(flip, index[:, 1], index[:, 0])
    graph = sparse.coo_matrix((np.ones(len(start)), (start, stop)), shape=(len(unique), len(unique)))
    number, part = csgraph.connected_components(graph, directed=False)
    found = []
    for n in range(number):
        mine = part[start] == n
        s, e = points[start[mine]], points[stop[mine]]
        if len(np.setdiff1d(start[mine], stop[mine])):
            continue
        origin = s.mean(axis=0)
        cross = np.cross(s - origin, e - origin) @ normal
        area = 0.5 * float(cross.sum())
        if abs(area) < 1e-6:
            continue
        centroid = origin + (cross[:, None] * (s + e - 2 * origin)).sum(axis=0) / (6.0 * area)
        found.append(Loop(area, centroid, np.stack([s, e], axis=1)))
    return found
