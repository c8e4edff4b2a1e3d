"""Cutting bones in two: against manifold3d, which closes both pieces too, VTK, which closes one half, and Open3D."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import open3d as o3d

from spatial.frames import Patient
from spatial.mesh import TriangleMesh
from spatial.shapes import Plane
from tests.bench.measure import Job, Judgement, Side
from tests.bench.patient import BONE, as_open3d, twin
from tests.twin.plan.phantom_twin import surface
from twin.plan.cuts.cut import cut_mesh, joined
from twin.plan.cuts.making import make
from twin.plan.cuts.reduction import carry_out
from twin.plan.cuts.solid import solid_of

COLUMN = tuple(f"vertebrae_{level}" for level in ("T10", "T11", "T12", "L1", "L2", "L3", "L4", "L5"))
TRIANGLES = 700_000
Pair = tuple[TriangleMesh[Any], TriangleMesh[Any]]


def jobs() -> Iterator[Job]:
    """The cuts' jobs."""
    mesh = column()
    middle = twin().bone(BONE).surface.centroid_mm
    across = Plane[Patient](middle, [0.1, 0.3, 1.0])
    along = Plane[Patient](mesh.centroid_mm, [1.0, 0.05, 0.1])
    yield against_manifold(mesh, across, "across")
    yield against_manifold(mesh, along, "along")
    yield against_vtk(mesh, across)
    yield against_open3d(twin().bone(BONE).surface, Plane[Patient](middle, [0.1, 0.3, 1.0]))
    yield two_levels()


@cache
def column() -> TriangleMesh[Patient]:
    """T10 to L5 as one closed mesh, as fine as gives 700 thousand triangles."""
    coarse = sum(len(surface(name).triangles) for name in COLUMN)
    spacing = 0.8 * math.sqrt(coarse / TRIANGLES)
    mesh: TriangleMesh[Patient] = joined([surface(name, round(spacing, 3)) for name in COLUMN])
    if not mesh.is_closed:  # also asked once by every cut, and kept
        raise AssertionError("the column of the bench is not closed")
    return mesh


def against_manifold(mesh: TriangleMesh[Patient], plane: Plane[Patient], way: str) -> Job:
    """Both close both pieces; manifold3d's solid exists already (it takes as long again to make)."""
    solid = solid_of(mesh)

    def split() -> tuple[Any, Any]:
        pieces = solid.split_by_plane(tuple(plane.normal), float(plane.point_mm @ plane.normal))
        for piece in pieces:
            piece.num_tri()  # it works when it is asked
        return pieces

    def judge(ours: Pair, peer: tuple[Any, Any]) -> Judgement:
        off = max(abs(a.volume_ml / (b.volume() / 1000.0) - 1.0) for a, b in zip(ours, peer, strict=True))
        lost = abs(sum(piece.volume_ml for piece in ours) / mesh.volume_ml - 1.0)
        closed = all(piece.is_closed for piece in ours)
        words = f"volumes equal to {off:.0e}, {lost:.0e} lost; ours {'closed' if closed else 'NOT CLOSED'}"
        return Judgement(bool(closed and off < 1e-9 and lost < 1e-9), words, {"volume_off": off, "volume_lost": lost})

    return Job(
        "plan", f"cut a column of {len(mesh.triangles) // 1000}k triangles in two, {way}",
        Side("cut_mesh (both pieces closed)", lambda: cut_mesh(mesh, plane)),
        Side("manifold3d split_by_plane (solid made before)", split), judge,
    )  # fmt: skip


def against_vtk(mesh: TriangleMesh[Patient], plane: Plane[Patient]) -> Job:
    """vtkClipClosedSurface caps one half; its edges are counted."""
    from vtkmodules.util.numpy_support import numpy_to_vtk, numpy_to_vtkIdTypeArray, vtk_to_numpy
    from vtkmodules.vtkCommonCore import vtkPoints
    from vtkmodules.vtkCommonDataModel import vtkCellArray, vtkPlane, vtkPlaneCollection, vtkPolyData
    from vtkmodules.vtkFiltersCore import vtkFeatureEdges, vtkTriangleFilter
    from vtkmodules.vtkFiltersGeneral import vtkClipClosedSurface

    points, cells, data = vtkPoints(), vtkCellArray(), vtkPolyData()
    points.SetData(numpy_to_vtk(mesh.vertices_mm, deep=True))
    faces = np.column_stack([np.full(len(mesh.triangles), 3), mesh.triangles]).astype(np.int64)
    cells.SetCells(len(faces), numpy_to_vtkIdTypeArray(faces.ravel(), deep=True))
    data.SetPoints(points)
    data.SetPolys(cells)
    where, planes = vtkPlane(), vtkPlaneCollection()
    where.SetOrigin(*plane.point_mm)
    where.SetNormal(*plane.normal)
    planes.AddItem(where)

    def clip() -> Any:
        cut = vtkClipClosedSurface()
        cut.SetInputData(data)
        cut.SetClippingPlanes(planes)
        cut.Update()
        return cut.GetOutput()

    def judge(ours: Pair, peer: Any) -> Judgement:
        flat = vtkTriangleFilter()
        flat.SetInputData(peer)
        flat.PassLinesOff()
        flat.PassVertsOff()
        flat.Update()
        out = flat.GetOutput()
        found = TriangleMesh[Any](
            vtk_to_numpy(out.GetPoints().GetData()).astype(float),
            vtk_to_numpy(out.GetPolys().GetConnectivityArray()).reshape(-1, 3).astype(np.int32),
        )
        edges = vtkFeatureEdges()
        edges.SetInputData(out)
        edges.FeatureEdgesOff()
        edges.ManifoldEdgesOff()
        edges.NonManifoldEdgesOn()
        edges.BoundaryEdgesOn()
        edges.Update()
        torn = int(edges.GetOutput().GetNumberOfLines())
        off = abs(found.volume_ml / ours[0].volume_ml - 1.0)
        closed = all(piece.is_closed for piece in ours)
        words = f"the half's volume equal to {off:.0e}; ours closed, VTK's leaves {torn} edges open or doubled"
        return Judgement(bool(closed and off < 1e-6), words, {"volume_off": off, "peer_open_edges": float(torn)})

    return Job(
        "plan", f"cut a column of {len(mesh.triangles) // 1000}k triangles, the peer one half",
        Side("cut_mesh (both pieces closed)", lambda: cut_mesh(mesh, plane)),
        Side("vtkClipClosedSurface (one half)", clip), judge,
    )  # fmt: skip


def against_open3d(mesh: TriangleMesh[Patient], plane: Plane[Patient]) -> Job:
    """A vertebra in two: ours closes both pieces, open3d leaves them open and has to clip twice."""
    middle, normal = plane.point_mm, plane.normal
    tensor = o3d.t.geometry.TriangleMesh.from_legacy(as_open3d(mesh))

    def clip() -> list[TriangleMesh[Any]]:
        pieces = []
        for way in (normal, -normal):
            piece = tensor.clip_plane(middle.astype(np.float32), way.astype(np.float32))
            points, faces = piece.vertex.positions.numpy(), piece.triangle.indices.numpy()
            pieces.append(TriangleMesh[Any](points.astype(float), faces.astype(np.int32)))
        return pieces

    def judge(ours: Pair, peer: Any) -> Judgement:
        off = 0.0
        for a, b in zip(ours, peer, strict=True):
            corners = a.vertices_mm[a.triangles]
            skin = (np.abs((corners - middle) @ normal) > 1e-6).any(axis=1)  # without the cap
            area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
            off = max(off, abs(area[skin].sum() / 200.0 / b.area_cm2 - 1.0))
        closed = all(piece.is_closed for piece in ours)
        words = f"outer surfaces equal to {off:.0e}; ours {'closed' if closed else 'NOT CLOSED'}, the peer's open"
        return Judgement(bool(off < 1e-4 and closed), words, {"area_off": off})

    return Job(
        "plan", f"cut {len(mesh.triangles) // 1000}k triangles in two",
        Side("cut_mesh (with caps)", lambda: cut_mesh(mesh, plane)),
        Side("open3d clip_plane, twice (no caps)", clip), judge,
    )  # fmt: skip


def two_levels() -> Job:
    """Pedicle subtraction of L2 and L4 at once: every bone's parts and where they go."""
    cuts = [make(twin(), "PSO", f"vertebrae_{level}", math.radians(25.0)) for level in ("L2", "L4")]
    whole = sum(bone.surface.volume_ml for bone in twin().bones.values())

    def judge(ours: Any, _: None) -> Judgement:
        lost = abs(sum(body.mesh.volume_ml for body in ours) / whole - 1.0)
        closed = all(body.mesh.is_closed for body in ours)
        words = f"{len(ours)} parts, {'closed' if closed else 'NOT CLOSED'}, {lost:.0e} of the bone lost"
        return Judgement(bool(closed and lost < 1e-9), words, {"volume_lost": lost})

    return Job(
        "plan", "carry out two pedicle subtractions", Side("carry_out", lambda: carry_out(twin(), cuts)), None, judge,
        no_peer="no open library carries out an osteotomy of the spine",
    )  # fmt: skip
