"""STL: triangles without shared corners; corners at the same place are joined when reading."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spatial.frames import Patient
from spatial.mesh import TriangleMesh
from twin.surfaces.ply import BadSurfaceFile

_FACET = np.dtype([("normal", "<f4", (3,)), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])


def stl_bytes(mesh: TriangleMesh[Any]) -> bytes:
    """The mesh as binary STL (float32)."""
    facets = np.zeros(len(mesh.triangles), _FACET)
    facets["normal"] = mesh.face_normals
    facets["corners"] = mesh.vertices_mm[mesh.triangles]
    return b"osteotwin, LPS mm".ljust(80) + np.uint32(len(facets)).tobytes() + facets.tobytes()


def read_stl(path: Path) -> TriangleMesh[Patient]:
    """Read binary or ascii STL. Raises BadSurfaceFile."""
    data = path.read_bytes()
    count = int(np.frombuffer(data, "<u4", 1, 80)[0]) if len(data) >= 84 else 0
    if len(data) >= 84 and len(data) >= 84 + 50 * count and not (data[:5] == b"solid" and b"vertex" in data[:1000]):
        return joined(np.frombuffer(data, _FACET, count, 84)["corners"].astype(np.float64))
    if data[:5] != b"solid":
        raise BadSurfaceFile(
            f"{count} triangles announced, the file holds {max(0, len(data) - 84) // 50}; is the copy complete?",
            path=path,
        )
    words = data.split()
    starts = [i for i, word in enumerate(words) if word == b"vertex"]
    try:
        corners = np.array([[float(words[i + axis]) for axis in (1, 2, 3)] for i in starts]).reshape(-1, 3, 3)
    except (ValueError, IndexError):
        raise BadSurfaceFile("the text STL ends inside a triangle; is the copy complete?", path=path) from None
    if b"endsolid" not in data[-400:]:
        raise BadSurfaceFile("the text STL has no end; is the copy complete?", path=path)
    return joined(corners)


def joined(corners: NDArray[np.float64]) -> TriangleMesh[Patient]:
    """Loose triangles (M, 3, 3) as a mesh; equal corners become one vertex, triangles without area are dropped."""
    vertices, index = np.unique(corners.reshape(-1, 3), axis=0, return_inverse=True)
    triangles = index.reshape(-1, 3)
    a, b, c = triangles.T
    return TriangleMesh[Patient](vertices, triangles[(a != b) & (b != c) & (c != a)])
