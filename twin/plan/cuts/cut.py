"""Cutting a closed bone with planes: every piece is closed again, and nothing is lost or made.

The kernels of `cut_kernels` split the surface; the caps are triangulated by manifold3d, which keeps every point of an
outline, so that cap and surface share all their edges. Booleans of solids (`solid`) are only needed for bounded cuts.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from spatial.faults import Fault
from spatial.frames import A, Patient
from spatial.mesh import TriangleMesh
from spatial.rigid import Array, Points
from spatial.shapes import Plane
from twin.plan.cuts import cut_kernels as kernels

FLAT_MM = 1e-9


class NotCut(Fault):
    """A mesh that can't be cut: it is not closed and oriented."""


def cut_mesh(mesh: TriangleMesh[A], plane: Plane[A]) -> tuple[TriangleMesh[A], TriangleMesh[A]]:
    """The closed pieces above (where the normal shows to) and below; a piece is empty when the plane misses the bone.

    A corner on the plane counts as below it; what would be left flat, without any volume, is no piece. Raises NotCut
    when the mesh is not closed and manifold.
    """
    check_closed(mesh)
    vertices, triangles = mesh.vertices_mm, mesh.triangles
    distance, side, number = kernels.sides_of(vertices, plane.point_mm, plane.normal)
    whole, rows = kernels.crossed(triangles, side)
    if not len(rows):
        # parts that the plane passes between, or a miss
        return _of_side(mesh, side, 1), _of_side(mesh, side, 0)
    ends_up, ends_down, edge_of, paired = kernels.cut_edges(triangles, rows, side)
    path, starts, ended = kernels.loops(rows, triangles, side, edge_of)
    if not (paired and ended):
        raise NotCut("the cut's outline does not close; does the surface touch itself along an edge?")
    new_mm = kernels.crossings(vertices, distance, ends_up, ends_down)
    cap = _cap(new_mm, path, starts, plane)
    below = len(triangles) - whole - len(rows)
    pieces = [
        TriangleMesh[A](*kernels.half(vertices, triangles, side, number, rows, edge_of, new_mm, cap, wanted, uncut))
        for wanted, uncut in ((1, whole), (0, below))
    ]
    if float(np.abs(distance).min()) <= FLAT_MM:  # the plane runs through a corner, perhaps along a whole face
        pieces = [_without_flat(piece, plane) for piece in pieces]
    return pieces[0], pieces[1]


def outlines(mesh: TriangleMesh[A], plane: Plane[A]) -> tuple[list[Array], Array]:
    """The closed outlines (N, 2) mm of a section in the plane's own axes, and these axes (3, 2).

    Bone lies to the left of each outline seen against the normal: outer ones run counter-clockwise, holes clockwise.
    """
    check_closed(mesh)
    axes = plane_axes(plane.normal)
    distance, side, _ = kernels.sides_of(mesh.vertices_mm, plane.point_mm, plane.normal)
    _, rows = kernels.crossed(mesh.triangles, side)
    if not len(rows):
        return [], axes
    ends_up, ends_down, edge_of, paired = kernels.cut_edges(mesh.triangles, rows, side)
    path, starts, ended = kernels.loops(rows, mesh.triangles, side, edge_of)
    if not (paired and ended):
        raise NotCut("the cut's outline does not close; does the surface touch itself along an edge?")
    flat = (kernels.crossings(mesh.vertices_mm, distance, ends_up, ends_down) - plane.point_mm) @ axes
    return [flat[path[a:b]] for a, b in pairwise(starts)], axes


def plane_axes(normal: Array) -> Array:
    """Two unit vectors (3, 2) that make a right-handed set with the normal."""
    u = np.cross(normal, np.eye(3)[int(np.argmin(np.abs(normal)))])
    u /= np.linalg.norm(u)
    return np.column_stack([u, np.cross(normal, u)])


def twice_area(ring: Array) -> float:
    """Twice the signed area of an outline (N, 2): positive counter-clockwise."""
    x, y = ring.T
    return float(np.dot(x, np.roll(y, -1)) - np.dot(np.roll(x, -1), y))


def is_inside(point: Array, ring: Array) -> bool:
    """Whether a place (2,) lies in an outline (N, 2)."""
    x, y = point
    a, b = ring, np.roll(ring, -1, axis=0)
    rises = (a[:, 1] > y) != (b[:, 1] > y)
    a, b = a[rises], b[rises]
    at = a[:, 0] + (y - a[:, 1]) / (b[:, 1] - a[:, 1]) * (b[:, 0] - a[:, 0])
    return bool(np.count_nonzero(at > x) % 2)


@dataclass(frozen=True, eq=False)
class Pieces:
    """A bone cut: `moving` and `staying` (each in one piece), `wedge` (taken out), and `loose` parts cut off.

    The loose parts hang on neither fragment, so they are taken out too. Volumes add up to the whole bone.
    """

    moving: TriangleMesh[Patient]
    staying: TriangleMesh[Patient]
    wedge: TriangleMesh[Patient]
    loose: TriangleMesh[Patient]

    @property
    def removed_ml(self) -> float:
        """Bone that is taken out."""
        return self.wedge.volume_ml + self.loose.volume_ml


def cut_wedge(
    mesh: TriangleMesh[Patient], upper: Plane[Patient], lower: Plane[Patient], bisector: Plane[Patient]
) -> Pieces:
    """Cut by two planes through a hinge; normals to the side that moves. The wedge is below `upper`, above `lower`.

    Beyond the hinge, where the planes change places, `bisector` parts the fragments. Raises NotCut.
    """
    top, bottom = cut_mesh(mesh, bisector)
    if upper is lower or (
        np.array_equal(upper.point_mm, lower.point_mm) and np.array_equal(upper.normal, lower.normal)
    ):
        moving, staying, taken = top, bottom, []
    else:
        moving, wedge_top = cut_mesh(top, upper)
        wedge_bottom, staying = cut_mesh(bottom, lower)
        taken = [wedge_top, wedge_bottom]
    moving, loose = main_part(moving)
    staying, more = main_part(staying)
    return Pieces(moving, staying, joined(taken), joined([*loose, *more]))


def parts_of(mesh: TriangleMesh[A]) -> list[TriangleMesh[A]]:
    """The connected parts, largest first; a cavity goes with the largest."""
    if not len(mesh.triangles):
        return []
    part, count = kernels.parts(mesh.triangles, len(mesh.vertices_mm))
    if count == 1:
        return [mesh]
    found = [_picked(mesh, part == n) for n in range(count)]
    solid = sorted((m for m in found if m.volume_ml > 0), key=lambda m: -m.volume_ml)
    hollow = [m for m in found if m.volume_ml <= 0]
    return [joined([solid[0], *hollow]), *solid[1:]] if solid else [joined(hollow)]


def main_part(mesh: TriangleMesh[A]) -> tuple[TriangleMesh[A], list[TriangleMesh[A]]]:
    """The largest connected part, and the others."""
    found = parts_of(mesh)
    return (found[0], found[1:]) if found else (mesh, [])


def joined(meshes: list[TriangleMesh[A]]) -> TriangleMesh[A]:
    """Several meshes as one; none give one without triangles."""
    meshes = [m for m in meshes if len(m.triangles)]
    if len(meshes) == 1:
        return meshes[0]
    starts = np.cumsum([0, *(len(m.vertices_mm) for m in meshes)])
    vertices = [m.vertices_mm for m in meshes] or [np.zeros((0, 3))]
    triangles = [m.triangles + start for m, start in zip(meshes, starts, strict=False)] or [np.zeros((0, 3))]
    return TriangleMesh[A](np.concatenate(vertices), np.concatenate(triangles).astype(np.int32))


def check_closed(mesh: TriangleMesh[A]) -> None:
    """Raises NotCut for a surface with holes or doubled edges; asked once a mesh."""
    if len(mesh.triangles) and not mesh.is_closed:
        raise NotCut("the surface can't be cut: it is not closed and manifold")


def _cap(new_mm: Array, path: Any, starts: Any, plane: Plane[Any]) -> Any:
    """Triangles of the section's inside as numbers of crossed edges, facing along the normal."""
    import manifold3d

    flat = (new_mm - plane.point_mm) @ plane_axes(plane.normal)
    rings = [path[a:b] for a, b in pairwise(starts)]
    found = [np.zeros((0, 3), np.int32)]
    for group in _with_holes([flat[ring] for ring in rings]):
        numbers = np.concatenate([rings[n] for n in group])
        triangles = np.asarray(manifold3d.triangulate([flat[rings[n]] for n in group]))
        found.append(numbers[triangles].astype(np.int32))
    return np.ascontiguousarray(np.concatenate(found))


def _with_holes(rings: list[Array]) -> list[list[int]]:
    """Each outer outline with the holes in it, so that the triangulation sees few points at a time."""
    twice = [twice_area(ring) for ring in rings]
    outer = [n for n, area in enumerate(twice) if area > 0]
    groups = {n: [n] for n in outer}
    for n, area in enumerate(twice):
        if area > 0:
            continue
        around = [m for m in outer if is_inside(rings[n][0], rings[m])]
        if not around:  # a hair-thin outline whose turn is lost in rounding
            groups[n] = [n]
        else:
            groups[min(around, key=lambda m: twice[m])].append(n)
    return list(groups.values())


def _of_side(mesh: TriangleMesh[A], side: Any, wanted: int) -> TriangleMesh[A]:
    mine = side[mesh.triangles[:, 0]] == wanted if len(mesh.triangles) else np.zeros(0, bool)
    return mesh if mine.all() and len(mine) else _picked(mesh, mine)


def _without_flat(mesh: TriangleMesh[A], plane: Plane[A]) -> TriangleMesh[A]:
    part, count = kernels.parts(mesh.triangles, len(mesh.vertices_mm))
    off = np.abs(plane.signed_distance_mm(Points[A](mesh.vertices_mm)))[mesh.triangles].max(axis=1)
    thick = np.zeros(count, bool)
    thick[part[off > FLAT_MM]] = True
    return mesh if thick.all() else _picked(mesh, thick[part])


def _picked(mesh: TriangleMesh[A], rows: Any) -> TriangleMesh[A]:
    used = np.zeros(len(mesh.vertices_mm), bool)
    chosen = mesh.triangles[rows]
    used[chosen] = True
    number = np.cumsum(used) - 1
    return TriangleMesh[A](mesh.vertices_mm[used], number[chosen].astype(np.int32))
