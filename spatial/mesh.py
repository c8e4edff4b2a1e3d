"""A triangle mesh in a named frame, and what can be said of it exactly."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Generic

import numpy as np
from numpy.typing import NDArray

from spatial import mesh_kernels
from spatial.faults import Fault
from spatial.frames import A, B
from spatial.rigid import Array, Points, Rigid, Similarity, readonly
from spatial.shapes import Plane


class BadMesh(Fault):
    """A mesh whose arrays do not fit together."""


@dataclass(frozen=True, eq=False)
class TriangleMesh(Generic[A]):
    """Vertices (N, 3) mm and triangles (M, 3) int32, counter-clockwise seen from outside. Arrays are read-only."""

    vertices_mm: Array
    triangles: NDArray[np.int32]

    def __post_init__(self) -> None:
        """Validate indices and freeze."""
        vertices = readonly(np.asarray(self.vertices_mm).reshape(-1, 3), None, "TriangleMesh.vertices_mm")
        triangles = np.array(self.triangles, dtype=np.int32).reshape(-1, 3)
        if len(triangles) and (int(triangles.min()) < 0 or int(triangles.max()) >= len(vertices)):
            raise BadMesh(
                f"triangle index {int(triangles.max())} (or a negative one) with {len(vertices)} vertices; "
                "is the file truncated?"
            )
        triangles.flags.writeable = False
        object.__setattr__(self, "vertices_mm", vertices)
        object.__setattr__(self, "triangles", triangles)

    @cached_property
    def is_closed(self) -> bool:
        """Every edge borders exactly two triangles that run it in opposite directions (closed, manifold, oriented)."""
        if not len(self.triangles):
            return False
        n = len(self.vertices_mm)
        if int(np.bincount(self.triangles.ravel()).max()) <= mesh_kernels.MOST_EDGES:
            return bool(mesh_kernels.is_closed(*mesh_kernels.half_edges(self.triangles, n)))
        t = self.triangles.astype(np.int64)
        start, stop = t.ravel(), t[:, [1, 2, 0]].ravel()
        forward = np.sort(start * n + stop)
        backward = np.sort(stop * n + start)
        return bool((np.diff(forward) > 0).all() and np.array_equal(forward, backward))

    @cached_property
    def volume_ml(self) -> float:
        """Enclosed volume by the divergence theorem; signed (negative when inside out). Meaningful if closed."""
        a, b, c = self._corners()
        shift = self.vertices_mm.mean(axis=0) if len(self.vertices_mm) else np.zeros(3)
        return float(np.einsum("ij,ij->i", a - shift, np.cross(b - shift, c - shift)).sum() / 6000.0)

    @cached_property
    def area_cm2(self) -> float:
        """Surface area."""
        a, b, c = self._corners()
        return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 200.0)

    @cached_property
    def centroid_mm(self) -> Array:
        """Centre of the enclosed volume (3,); of the vertices when the mesh encloses none."""
        a, b, c = self._corners()
        shift = self.vertices_mm.mean(axis=0)
        six = np.einsum("ij,ij->i", a - shift, np.cross(b - shift, c - shift))
        total = six.sum()
        if abs(total) < 1e-9:
            return np.asarray(shift)
        return np.asarray(shift + (six[:, None] * (a + b + c - 3 * shift)).sum(axis=0) / (4.0 * total))

    @property
    def bounds_mm(self) -> tuple[Array, Array]:
        """Lowest and highest corner of the axis-parallel box."""
        if not len(self.vertices_mm):
            raise BadMesh("the mesh has no vertices")
        return self.vertices_mm.min(axis=0), self.vertices_mm.max(axis=0)

    @cached_property
    def face_normals(self) -> Array:
        """Unit normals (M, 3); zero for a degenerate triangle."""
        a, b, c = self._corners()
        n = np.cross(b - a, c - a)
        return np.asarray(n / np.maximum(np.linalg.norm(n, axis=1, keepdims=True), 1e-30))

    @cached_property
    def vertex_normals(self) -> Array:
        """Unit normals (N, 3), area-weighted over the adjoining triangles."""
        return mesh_kernels.vertex_normals(self.vertices_mm, self.triangles)

    def moved(self, b_from_a: Rigid[B, A] | Similarity[B, A]) -> TriangleMesh[B]:
        """The same mesh in frame B."""
        return TriangleMesh[B]((b_from_a @ Points[A](self.vertices_mm)).mm, self.triangles)

    def section(self, plane: Plane[A]) -> Array:
        """Cut lines with a plane: segments (K, 2, 3) mm, one a crossed triangle."""
        d = plane.signed_distance_mm(Points[A](self.vertices_mm))
        d = np.where(d == 0.0, 1e-12, d)  # a vertex on the plane counts as above it, so each cut triangle has two edges
        td = d[self.triangles]
        crossed = (td > 0).any(axis=1) & (td < 0).any(axis=1)
        t, td = self.triangles[crossed], td[crossed]
        segments = np.zeros((len(t), 2, 3))
        filled = np.zeros(len(t), dtype=np.int64)
        for i, j in ((0, 1), (1, 2), (2, 0)):
            rows = np.flatnonzero(td[:, i] * td[:, j] < 0)
            w = (td[rows, i] / (td[rows, i] - td[rows, j]))[:, None]
            p = self.vertices_mm[t[rows, i]] * (1 - w) + self.vertices_mm[t[rows, j]] * w
            segments[rows, filled[rows]] = p
            filled[rows] += 1
        return segments

    def _corners(self) -> tuple[Array, Array, Array]:
        v, t = self.vertices_mm, self.triangles
        return v[t[:, 0]], v[t[:, 1]], v[t[:, 2]]
