"""A bone in pieces, by the kind of its osteotomy. Every piece is closed and the volumes add up to the whole bone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spatial.frames import A, Patient
from spatial.mesh import TriangleMesh
from spatial.rigid import Array, Points
from spatial.shapes import Plane
from twin.anatomy.twin import Twin
from twin.plan.cuts.cut import Pieces, check_closed, cut_wedge, joined, main_part, parts_of, plane_axes, twice_area
from twin.plan.cuts.osteotomy import Osteotomy
from twin.plan.cuts.solid import mesh_of, solid_of

REACH_MM = 2000.0  # a half-space as a box: larger than any patient


def pieces_of(twin: Twin, cut: Osteotomy, bone: str, mesh: TriangleMesh[Patient] | None = None) -> Pieces:
    """The pieces of one bone (or of `mesh`, a part of it left by another cut). Raises NoBone, NotCut."""
    whole = twin.bone(bone).surface if mesh is None else mesh
    first, second = cut.planes
    nothing: TriangleMesh[Patient] = joined([])
    if cut.kind == "VCR":
        return Pieces(nothing, nothing, whole, nothing)
    if cut.kind == "SPO":
        (behind,) = cut.more
        mine = bone == cut.bone
        taken, rest = cut_region(whole, [behind, first.flipped() if mine else second])
        return Pieces(rest if mine else nothing, nothing if mine else rest, taken, nothing)
    if cut.kind == "PAO":
        fragment, rest = cut_region(whole, [first, second, *cut.more])
        moving, loose = main_part(fragment)
        return Pieces(moving, rest, nothing, joined(loose))  # the planes may part the rest, which the operation doesn't
    if cut.outline_mm is not None:
        return cut_within(whole, cut.bisector, cut.outline_mm, cut.kerf_mm)
    if cut.more:
        (ascending,) = cut.more
        staying, moving = cut_region(whole, [second.flipped(), ascending.flipped()])
        return _in_two(moving, staying)
    return cut_wedge(whole, first, second, cut.bisector)


def cut_region(mesh: TriangleMesh[A], planes: Sequence[Plane[A]]) -> tuple[TriangleMesh[A], TriangleMesh[A]]:
    """What of a bone lies on the positive side of every plane, and the rest."""
    import manifold3d

    check_closed(mesh)
    middle = np.mean([plane.point_mm for plane in planes], axis=0)
    region = manifold3d.Manifold.cube((REACH_MM,) * 3, True).translate(tuple(middle))
    for plane in planes:
        region = region.trim_by_plane(tuple(plane.normal), float(plane.point_mm @ plane.normal))
    inside, outside = solid_of(mesh).split(region)
    return mesh_of(inside), mesh_of(outside)


def cut_within(mesh: TriangleMesh[Patient], plane: Plane[Patient], outline_mm: Array, kerf_mm: float) -> Pieces:
    """A cut that ends within the bone: the blade's slab, as wide as its kerf, inside an outline (N, 3) in the plane.

    The bone stays in one piece (`staying`) where the outline leaves a bridge; `wedge` is what became saw dust.
    """
    check_closed(mesh)
    dust, rest = solid_of(mesh).split(solid_of(slab(plane, outline_mm, kerf_mm)))
    parts = parts_of(mesh_of(rest))
    beyond = [float(plane.signed_distance_mm(Points[Patient](part.centroid_mm))) > 0 for part in parts]
    if len(parts) < 2 or all(beyond) or not any(beyond):
        return Pieces(joined([]), joined(parts), mesh_of(dust), joined([]))
    moving = [part for part, is_moving in zip(parts, beyond, strict=True) if is_moving]
    staying = [part for part, is_moving in zip(parts, beyond, strict=True) if not is_moving]
    return Pieces(moving[0], staying[0], mesh_of(dust), joined([*moving[1:], *staying[1:]]))


def slab(plane: Plane[A], outline_mm: Array, thickness_mm: float) -> TriangleMesh[A]:
    """A polygon (N, 3) in a plane as a plate of some thickness, half on each side."""
    import manifold3d

    axes = plane_axes(plane.normal)
    flat = (outline_mm - plane.point_mm) @ axes
    way_round = manifold3d.FillRule.Positive if twice_area(flat) > 0 else manifold3d.FillRule.Negative
    solid = manifold3d.Manifold.extrude(manifold3d.CrossSection([flat], way_round), thickness_mm)
    made = mesh_of(solid)
    local = made.vertices_mm - [0.0, 0.0, thickness_mm / 2]
    return TriangleMesh[A](plane.point_mm + local[:, :2] @ axes.T + np.outer(local[:, 2], plane.normal), made.triangles)


def box_outline(plane: Plane[A], middle_mm: Array, along: Array, length_mm: float, width_mm: float) -> Array:
    """The corners (4, 3) of a rectangle in a plane, `length_mm` along a direction."""
    u = along - (along @ plane.normal) * plane.normal
    u = u / np.linalg.norm(u)
    v = np.cross(plane.normal, u)
    at = middle_mm - ((middle_mm - plane.point_mm) @ plane.normal) * plane.normal
    return np.array(
        [at + a * length_mm / 2 * u + b * width_mm / 2 * v for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
    )


def _in_two(moving: TriangleMesh[Patient], staying: TriangleMesh[Patient]) -> Pieces:
    moving, loose = main_part(moving)
    staying, more = main_part(staying)
    return Pieces(moving, staying, joined([]), joined([*loose, *more]))
