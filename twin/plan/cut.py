"""Cutting a closed bone with planes: every piece is closed again, and nothing is lost or made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from spatial.faults import Fault
from spatial.frames import A, Patient
from spatial.mesh import TriangleMesh
from spatial.shapes import Plane


class NotCut(Fault):
    """A mesh that can't be cut: it is not closed and oriented."""


def cut_mesh(mesh: TriangleMesh[A], plane: Plane[A]) -> tuple[TriangleMesh[A], TriangleMesh[A]]:
    """The closed pieces above (where the normal shows to) and below; a piece is empty when the plane misses the bone.

    Raises NotCut when the mesh is not closed and manifold.
    """
    above, below = _split(solid_of(mesh), plane)
    return mesh_of(above), mesh_of(below)


@dataclass(frozen=True, eq=False)
class Pieces:
    """A bone cut by a wedge: `cranial`, `caudal` (each in one piece), `wedge`, and `loose` posterior parts cut off.

    The loose parts hang on neither fragment, so they are taken out with the wedge. Volumes add up to the whole bone.
    """

    cranial: TriangleMesh[Patient]
    caudal: TriangleMesh[Patient]
    wedge: TriangleMesh[Patient]
    loose: TriangleMesh[Patient]

    @property
    def removed_ml(self) -> float:
        """Bone that is taken out."""
        return _ml(self.wedge) + _ml(self.loose)


def cut_wedge(
    mesh: TriangleMesh[Patient], upper: Plane[Patient], lower: Plane[Patient], bisector: Plane[Patient]
) -> Pieces:
    """Cut by two planes through a hinge; normals cranial. The wedge lies below `upper` and above `lower`.

    Beyond the hinge, where the planes change places, `bisector` parts cranial from caudal. Raises NotCut.
    """
    top, bottom = _split(solid_of(mesh), bisector)
    cranial, wedge_top = _split(top, upper)
    wedge_bottom, caudal = _split(bottom, lower)
    cranial_main, cranial_loose = _main_part(cranial)
    caudal_main, caudal_loose = _main_part(caudal)
    return Pieces(
        mesh_of(cranial_main),
        mesh_of(caudal_main),
        mesh_of(wedge_top + wedge_bottom),
        _joined([mesh_of(part) for part in (*cranial_loose, *caudal_loose)]),
    )


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


def _split(solid: Any, plane: Plane[Any]) -> tuple[Any, Any]:
    above, below = solid.split_by_plane(tuple(plane.normal), float(plane.point_mm @ plane.normal))
    return above, below


def _main_part(solid: Any) -> tuple[Any, list[Any]]:
    parts = sorted(solid.decompose(), key=lambda part: -part.volume())
    return (parts[0], parts[1:]) if parts else (solid, [])


def _joined(meshes: list[TriangleMesh[Any]]) -> TriangleMesh[Any]:
    starts = np.cumsum([0, *(len(m.vertices_mm) for m in meshes)])
    vertices = [m.vertices_mm for m in meshes] or [np.zeros((0, 3))]
    triangles = [m.triangles + start for m, start in zip(meshes, starts, strict=False)] or [np.zeros((0, 3))]
    return TriangleMesh[Any](np.concatenate(vertices), np.concatenate(triangles).astype(np.int32))


def _ml(mesh: TriangleMesh[Any]) -> float:
    return mesh.volume_ml if len(mesh.triangles) else 0.0
