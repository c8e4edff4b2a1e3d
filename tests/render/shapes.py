"""Shapes for these tests, written apart from the product's own."""

from itertools import product
from typing import Any

import numpy as np

from spatial.mesh import TriangleMesh
from spatial.rigid import Array


def icosphere(radius_mm: float, rounds: int = 4) -> TriangleMesh[Any]:
    """A ball whose vertices lie on the sphere."""
    g = (1 + 5**0.5) / 2
    v = [np.array(p, float) for s, t in product((1, -1), (g, -g)) for p in ((0, s, t), (s, t, 0), (t, 0, s))]
    vertices = [p / np.linalg.norm(p) for p in v]
    edge = min(np.linalg.norm(a - b) for i, a in enumerate(vertices) for b in vertices[:i])
    near = [[j for j in range(12) if 0 < np.linalg.norm(vertices[i] - vertices[j]) < 1.01 * edge] for i in range(12)]
    faces = [(i, j, k) for i in range(12) for j in near[i] for k in near[i] if i < j < k and k in near[j]]
    for _ in range(rounds):
        middle: dict[tuple[int, int], int] = {}

        def half(a: int, b: int, middle: dict[tuple[int, int], int] = middle) -> int:
            key = (min(a, b), max(a, b))
            if key not in middle:
                p = vertices[a] + vertices[b]
                vertices.append(p / np.linalg.norm(p))
                middle[key] = len(vertices) - 1
            return middle[key]

        split = []
        for a, b, c in faces:
            ab, bc, ca = half(a, b), half(b, c), half(c, a)
            split += [(a, ab, ca), (b, bc, ab), (c, ca, bc), (ab, bc, ca)]
        faces = split
    xyz, t = np.array(vertices), np.array(faces)
    turned = np.einsum("ij,ij->i", np.cross(xyz[t[:, 1]] - xyz[t[:, 0]], xyz[t[:, 2]] - xyz[t[:, 0]]), xyz[t[:, 0]]) < 0
    t[turned] = t[turned][:, ::-1]
    return TriangleMesh(radius_mm * xyz, t.astype(np.int32))


def box(half_mm: Array) -> TriangleMesh[Any]:
    """A closed box about the origin."""
    v = np.array(list(product((-1.0, 1.0), repeat=3))) * half_mm
    quads = ((0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3))
    return TriangleMesh(v, np.array([t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))], dtype=np.int32))


def quad(corners_mm: Array) -> TriangleMesh[Any]:
    """Two triangles."""
    return TriangleMesh(corners_mm, np.array([[0, 2, 1], [0, 3, 2]], dtype=np.int32))
