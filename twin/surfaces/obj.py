"""Wavefront OBJ: vertices and polygons; materials and textures are passed over."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from spatial.frames import Patient
from spatial.mesh import BadMesh, TriangleMesh
from twin.surfaces.ply import BadSurfaceFile


def obj_bytes(mesh: TriangleMesh[Any], name: str, materials: str | None = None) -> bytes:
    """The mesh as OBJ text, coordinates with every digit; `materials` is the file that has the material `name`."""
    library, use = ([], []) if materials is None else ([f"mtllib {materials}"], [f"usemtl {name}"])
    lines = ["# DICOM patient coordinates (LPS), mm", *library, f"o {name}", *use]
    lines += [f"v {x!r} {y!r} {z!r}" for x, y, z in mesh.vertices_mm.tolist()]
    lines += [f"f {a} {b} {c}" for a, b, c in (mesh.triangles + 1).tolist()]
    return ("\n".join(lines) + "\n").encode()


def mtl_bytes(name: str, rgba: Sequence[float]) -> bytes:
    """A material file with one material."""
    red, green, blue, opacity = (f"{value:.4f}" for value in rgba)
    return f"newmtl {name}\nKd {red} {green} {blue}\nKs 0.05 0.05 0.05\nNs 20\nd {opacity}\nillum 2\n".encode()


def read_obj(path: Path) -> TriangleMesh[Patient]:
    """Read `v` and `f` lines, polygons fanned, indices from the end allowed. Raises BadSurfaceFile."""
    vertices: list[list[float]] = []
    triangles: list[list[int]] = []
    try:
        for line in path.read_text("latin-1").splitlines():
            words = line.split()
            if words[:1] == ["v"]:
                vertices.append([float(w) for w in words[1:4]])
            elif words[:1] == ["f"]:
                corners = [int(w.split("/")[0]) for w in words[1:]]
                corners = [c - 1 if c > 0 else len(vertices) + c for c in corners]
                triangles += [[corners[0], corners[i], corners[i + 1]] for i in range(1, len(corners) - 1)]
        return TriangleMesh[Patient](np.array(vertices).reshape(-1, 3), np.array(triangles, np.int32).reshape(-1, 3))
    except (ValueError, BadMesh) as error:
        raise BadSurfaceFile(f"not a sound OBJ file ({error}); is the copy complete?", path=path) from None
