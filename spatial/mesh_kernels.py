"""Compiled passes over a mesh's triangles: who follows whom along the edges, normals of the vertices."""

from __future__ import annotations

from math import sqrt

import numpy as np
from numpy.typing import NDArray

from spatial.compiled import njit
from spatial.rigid import Array

MOST_EDGES = 64  # of one vertex; beyond it looking through a vertex's edges one by one takes too long


@njit
def half_edges(triangles: NDArray[np.int32], count: int) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """The ends of the edges that leave vertex v are `of[start[v]:start[v + 1]]`, in the order of the triangles."""
    start = np.zeros(count + 1, dtype=np.int64)
    of = np.empty(3 * triangles.shape[0], dtype=np.int32)
    for t in range(triangles.shape[0]):
        for c in range(3):
            start[triangles[t, c] + 1] += 1
    for v in range(count):
        start[v + 1] += start[v]
    cursor = start[:-1].copy()
    for t in range(triangles.shape[0]):
        for c in range(3):
            v = triangles[t, c]
            of[cursor[v]] = triangles[t, (c + 1) % 3]
            cursor[v] += 1
    return start, of


@njit
def is_closed(start: NDArray[np.int64], of: NDArray[np.int32]) -> bool:
    """Each edge is run once each way: by exactly two triangles, in opposite directions."""
    for v in range(start.shape[0] - 1):
        for e in range(start[v], start[v + 1]):
            u = of[e]
            if u == v:
                return False
            for other in range(start[v], e):
                if of[other] == u:
                    return False
            back = False
            for other in range(start[u], start[u + 1]):
                if of[other] == v:
                    back = True
                    break
            if not back:
                return False
    return True


@njit
def vertex_normals(vertices: Array, triangles: NDArray[np.int32]) -> Array:
    """Unit normals (N, 3), area-weighted over the adjoining triangles; zero where there is none."""
    out = np.zeros((vertices.shape[0], 3))
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ux, uy, uz = vertices[b, 0] - vertices[a, 0], vertices[b, 1] - vertices[a, 1], vertices[b, 2] - vertices[a, 2]
        vx, vy, vz = vertices[c, 0] - vertices[a, 0], vertices[c, 1] - vertices[a, 1], vertices[c, 2] - vertices[a, 2]
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for v in (a, b, c):
            out[v, 0] += nx
            out[v, 1] += ny
            out[v, 2] += nz
    for v in range(out.shape[0]):
        length = max(sqrt(out[v, 0] ** 2 + out[v, 1] ** 2 + out[v, 2] ** 2), 1e-30)
        for n in range(3):
            out[v, n] /= length
    return out
