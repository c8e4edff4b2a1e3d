"""The separate pieces of a mesh: hollows and specks are dropped, the bone itself is kept."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spatial.compiled import njit
from spatial.rigid import Array


def outer(
    vertices: Array, triangles: NDArray[np.int32], least_volume: float
) -> tuple[Array, NDArray[np.int32], NDArray[np.float64]]:
    """Vertices and triangles of the pieces that enclose at least `least_volume`, or of the largest, and the volumes of
    those left out (in the vertices' own units cubed). A hollow has a negative volume.
    """
    piece, count = _pieces(triangles, len(vertices))
    if count < 2:
        return vertices, triangles, np.zeros(0)
    volume = _volumes(vertices, triangles, piece, count)
    kept = volume >= least_volume
    kept[int(np.argmax(volume))] = True
    if kept.all():
        return vertices, triangles, np.zeros(0)
    of_vertex = kept[piece]
    number = np.cumsum(of_vertex, dtype=np.int32) - np.int32(1)
    left = triangles[of_vertex[triangles[:, 0]]]
    return vertices[of_vertex], number[left], volume[~kept & (volume > 0)]


@njit
def _pieces(triangles: NDArray[np.int32], vertices: int) -> tuple[NDArray[np.int32], int]:
    """The piece of each vertex, numbered by their first vertices (union-find)."""
    root = np.arange(vertices).astype(np.int32)
    for t in range(triangles.shape[0]):
        a = triangles[t, 0]
        while root[a] != a:
            root[a] = root[root[a]]
            a = root[a]
        for c in range(1, 3):
            b = triangles[t, c]
            while root[b] != b:
                root[b] = root[root[b]]
                b = root[b]
            if b < a:
                root[a] = b
                a = b
            else:
                root[b] = a
    count = 0
    piece = np.empty(vertices, dtype=np.int32)
    for v in range(vertices):  # a root is the lowest vertex of its piece
        if root[v] == v:
            piece[v] = count
            count += 1
        else:
            piece[v] = piece[root[v]]
    return piece, count


@njit
def _volumes(vertices: Array, triangles: NDArray[np.int32], piece: NDArray[np.int32], count: int) -> Array:
    out = np.zeros(count)
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        out[piece[a]] += (
            vertices[a, 0] * (vertices[b, 1] * vertices[c, 2] - vertices[b, 2] * vertices[c, 1])
            + vertices[a, 1] * (vertices[b, 2] * vertices[c, 0] - vertices[b, 0] * vertices[c, 2])
            + vertices[a, 2] * (vertices[b, 0] * vertices[c, 1] - vertices[b, 1] * vertices[c, 0])
        ) / 6.0
    return out
