"""Meshes as manifold3d solids and back: booleans for bounded cuts, overlaps and guides."""

from __future__ import annotations

from typing import Any

import numpy as np

from spatial.frames import A
from spatial.mesh import TriangleMesh
from twin.plan.cuts.cut import NotCut


def solid_of(mesh: TriangleMesh[A]) -> Any:
    """The mesh as a manifold3d solid in double precision; raises NotCut."""
    import manifold3d

    solid = manifold3d.Manifold(manifold3d.Mesh64(np.array(mesh.vertices_mm), mesh.triangles.astype(np.uint64)))
    if solid.status() != manifold3d.Error.NoError or (solid.is_empty() and len(mesh.triangles)):
        raise NotCut(f"the surface can't be cut ({solid.status().name}); is it closed and manifold?")
    return solid


def mesh_of(solid: Any) -> TriangleMesh[Any]:
    """A manifold3d solid as a mesh."""
    found = solid.to_mesh64()
    return TriangleMesh[Any](np.asarray(found.vert_properties)[:, :3], np.asarray(found.tri_verts).astype(np.int32))
