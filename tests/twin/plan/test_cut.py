"""The compiled cut against manifold3d, on random planes and on planes exactly through corners; bounded cuts, kerf."""

import itertools
import math

import manifold3d as m3
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spatial.frames import Patient
from spatial.mesh import TriangleMesh
from spatial.rigid import Points
from spatial.shapes import Line, Plane
from tests.twin.plan.bodies import block, to_mesh, vertebra_solid
from twin.plan.cuts.cut import NotCut, cut_mesh, cut_wedge, joined, outlines, parts_of
from twin.plan.cuts.pieces import box_outline, cut_region, cut_within, slab
from twin.plan.cuts.section import Section
from twin.plan.cuts.solid import mesh_of, solid_of

VERTEBRA = to_mesh(vertebra_solid(5.0))
BALL = m3.Manifold.sphere(20.0, 32) - m3.Manifold.sphere(12.0, 32)  # a hollow in it
RING = m3.Manifold.cylinder(10.0, 14.0, circular_segments=40) - m3.Manifold.cylinder(10.0, 9.0, circular_segments=40)
ALL = joined([VERTEBRA, to_mesh((BALL + RING.translate((60, 0, 0))).translate((80, 0, 0)))])


def check(mesh, plane):
    """Closed pieces on their own sides, whose volumes are manifold3d's and add up."""
    pieces = cut_mesh(mesh, plane)
    peers = solid_of(mesh).split_by_plane(tuple(plane.normal), float(plane.point_mm @ plane.normal))
    for piece, peer, sign in zip(pieces, peers, (1.0, -1.0), strict=True):
        assert piece.volume_ml * 1000 == pytest.approx(peer.volume(), rel=1e-9, abs=1e-6)
        if len(piece.triangles):
            assert piece.is_closed
            assert solid_of(piece).num_tri() > 0  # manifold3d takes it as it is
            assert (sign * plane.signed_distance_mm(Points[Patient](piece.vertices_mm))).min() >= -1e-9
    assert sum(p.volume_ml for p in pieces) == pytest.approx(mesh.volume_ml, rel=1e-11)


@given(st.floats(0, 2 * math.pi), st.floats(-1, 1), st.floats(-60, 160))
@settings(max_examples=25)
def test_any_plane_as_manifold3d_cuts(turn, rise, at):
    flat = math.sqrt(1 - rise**2)
    check(ALL, Plane[Patient]([at, 5.0, 1.0], [flat * math.cos(turn), flat * math.sin(turn), rise]))


@given(st.data())
@settings(max_examples=25)
def test_planes_exactly_through_corners(data):
    chosen = data.draw(st.lists(st.integers(0, len(ALL.vertices_mm) - 1), min_size=3, max_size=3, unique=True))
    a, b, c = ALL.vertices_mm[chosen]
    normal = np.cross(b - a, c - a)
    if np.linalg.norm(normal) > 1e-6:
        check(ALL, Plane[Patient](a, normal))


@pytest.mark.parametrize("axis", range(3))
def test_a_plane_along_whole_faces_and_grid_planes(axis):
    boxes = joined([to_mesh(block((x, 0, 0), (x + 5, 4, 3))) for x in (0, 5.5, 11)])
    normal = np.eye(3)[axis]
    for at in (0.0, 3.0, 4.0, 5.0, 5.5, 16.0):
        check(boxes, Plane[Patient](at * normal, normal))


def test_a_marching_surface_cut_along_its_own_grid():
    import open3d as o3d

    g = np.arange(-14, 15, dtype=np.float32)
    field = 10.0 - np.sqrt(g[:, None, None] ** 2 + g[None, :, None] ** 2 + g[None, None, :] ** 2)
    found = o3d.t.geometry.TriangleMesh.create_isosurfaces(o3d.core.Tensor(np.ascontiguousarray(field)), [1e-4])
    mesh = TriangleMesh[Patient](found.vertex.positions.numpy().astype(float), found.triangle.indices.numpy())
    mesh = mesh if mesh.volume_ml > 0 else TriangleMesh[Patient](mesh.vertices_mm, mesh.triangles[:, ::-1])
    for axis, at in itertools.product(range(3), (9.0, 14.0, 17.5, 20.0)):
        check(mesh, Plane[Patient](at * np.eye(3)[axis], np.eye(3)[axis]))


def test_a_miss_leaves_it_whole_and_a_plane_between_parts_sorts_them():
    two = joined([to_mesh(block((0, 0, 0), (1, 1, 1))), to_mesh(block((0, 0, 3), (1, 1, 5)))])
    above, below = cut_mesh(two, Plane[Patient]([0, 0, 2.0], [0, 0, 1.0]))
    assert (above.volume_ml, below.volume_ml) == (pytest.approx(0.002), pytest.approx(0.001))
    above, below = cut_mesh(two, Plane[Patient]([0, 0, 9.0], [0, 0, 1.0]))
    assert not len(above.triangles)
    assert below.volume_ml == pytest.approx(0.003)


def test_surfaces_with_holes_are_refused():
    torn = TriangleMesh[Patient](VERTEBRA.vertices_mm, VERTEBRA.triangles[1:])
    with pytest.raises(NotCut, match="closed"):
        cut_mesh(torn, Plane[Patient]([0, 0, 0.0], [0, 0, 1.0]))


def test_parts_come_largest_first_and_a_hollow_stays_with_its_body():
    found = parts_of(ALL)
    assert [round(p.volume_ml, 6) for p in found] == sorted((round(p.volume_ml, 6) for p in found), reverse=True)
    assert len(found) == 3
    assert sum(p.volume_ml for p in found) == pytest.approx(ALL.volume_ml)


@given(st.floats(0.2, 3.0), st.floats(4, 60), st.floats(4, 60), st.floats(-8, 8))
@settings(max_examples=25)
def test_a_bounded_cut_takes_the_slab_alone_and_conserves_volume(kerf, across, deep, at):
    plane = Plane[Patient]([0, 0, at], [0.1, 0.2, 1.0])
    outline = box_outline(plane, np.array([2.0, 3.0, at]), np.array([1.0, 0, 0]), across, deep)
    pieces = cut_within(VERTEBRA, plane, outline, kerf)
    parts = [m for m in (pieces.moving, pieces.staying, pieces.wedge, pieces.loose) if len(m.triangles)]
    assert sum(m.volume_ml for m in parts) == pytest.approx(VERTEBRA.volume_ml, rel=1e-9)
    assert all(m.is_closed for m in parts)
    dust = Points[Patient](pieces.wedge.vertices_mm)
    assert np.abs(plane.signed_distance_mm(dust)).max() <= kerf / 2 + 1e-9


def test_a_box_in_a_block_in_closed_form_and_a_bridge_keeps_it_in_one_piece():
    mesh = to_mesh(block((0, 0, 0), (20, 30, 40)))
    plane = Plane[Patient]([0, 0, 25.0], [0, 0, 1.0])
    part = cut_within(mesh, plane, box_outline(plane, np.array([5.0, 15, 25]), np.array([1.0, 0, 0]), 30.0, 40.0), 1.5)
    assert part.moving.volume_ml == pytest.approx(20 * 30 * (15 - 0.75) / 1000)
    assert part.wedge.volume_ml == pytest.approx(20 * 30 * 1.5 / 1000)
    held = cut_within(mesh, plane, box_outline(plane, np.array([0.0, 15, 25]), np.array([1.0, 0, 0]), 30.0, 40.0), 1.5)
    assert not len(held.moving.triangles)
    assert held.wedge.volume_ml == pytest.approx(15 * 30 * 1.5 / 1000)
    assert held.staying.volume_ml == pytest.approx(mesh.volume_ml - held.wedge.volume_ml, rel=1e-9)


def test_a_polygon_of_either_turn_is_the_same_slab():
    plane = Plane[Patient]([1.0, 2, 3], [0.3, -0.5, 1.0])
    star = np.array([plane.point_mm + r * (math.cos(a) * u + math.sin(a) * v)
                     for a, r in zip(np.linspace(0, 2 * math.pi, 10, endpoint=False), (9, 4) * 5, strict=True)
                     for u, v in [_axes(plane)]])  # fmt: skip
    area = 0.5 * 10 * 9 * 4 * math.sin(2 * math.pi / 10)
    for corners in (star, star[::-1]):
        plate = slab(plane, corners, 2.0)
        assert plate.is_closed
        assert plate.volume_ml == pytest.approx(2.0 * area / 1000)


def _axes(plane):
    u = np.cross(plane.normal, [1.0, 0, 0])
    u /= np.linalg.norm(u)
    return u, np.cross(plane.normal, u)


def test_a_region_of_planes_and_the_rest():
    mesh = to_mesh(block((0, 0, 0), (10, 10, 10)))
    planes = [Plane[Patient]([5.0, 0, 0], [1.0, 0, 0]), Plane[Patient]([0, 4.0, 0], [0, 1.0, 0])]
    inside, outside = cut_region(mesh, planes)
    assert inside.volume_ml == pytest.approx(0.3)
    assert outside.volume_ml == pytest.approx(0.7)
    assert inside.is_closed
    assert outside.is_closed


@given(st.floats(-10, 10), st.floats(-0.4, 0.4))
@settings(max_examples=20)
def test_a_section_measures_what_manifold3d_slices(at, lean):
    plane = Plane[Patient]([0, 0, at], [lean, 0.1, 1.0])
    section = Section.of(VERTEBRA, plane)
    # turned so that the plane is z = 0, then manifold3d's own slice
    u, v = _axes(plane)
    flat = TriangleMesh[Patient](
        (VERTEBRA.vertices_mm - plane.point_mm) @ np.column_stack([u, v, plane.normal]), VERTEBRA.triangles
    )
    slice_ = solid_of(flat).slice(0.0)
    assert section.area_mm2 == pytest.approx(slice_.area(), rel=1e-6)


def test_a_section_in_closed_form():
    mesh = to_mesh(block((0, 0, 0), (40, 30, 20)))
    section = Section.of(mesh, Plane[Patient]([10.0, 10.0, 8.0], [0, 0, 1.0]))
    assert section.area_mm2 == pytest.approx(1200)
    assert section.centroid_mm == pytest.approx([20, 15, 8])
    x = np.array([1.0, 0, 0])
    assert section.reach_mm(np.array([10.0, 10, 8]), x) == pytest.approx(30)
    assert section.reach_mm(np.array([10.0, 10, 8]), -x) == pytest.approx(10)
    hinge = Line[Patient]([4.0, 15.0, 8.0], [0, 1.0, 0])
    assert section.chord_mm(hinge) == pytest.approx((-15, 15))
    # the room over the bone beyond the hinge: angle x first moment of 36 x 30
    assert section.opening_ml(hinge, x, 0.1) == pytest.approx(0.1 * 36 * 30 * 18 / 1000)
    assert section.opening_ml(hinge, -x, 0.1) == pytest.approx(0.1 * 4 * 30 * 2 / 1000)


def test_outlines_run_about_bone_and_back_about_holes():
    tube = to_mesh(
        m3.Manifold.cylinder(20, 10, circular_segments=64) - m3.Manifold.cylinder(20, 6, circular_segments=64)
    )
    rings, _ = outlines(tube, Plane[Patient]([0, 0, 10.0], [0, 0, 1.0]))
    twice = sorted(float(np.sum(r[:, 0] * np.roll(r[:, 1], -1) - np.roll(r[:, 0], -1) * r[:, 1])) for r in rings)
    assert len(twice) == 2
    assert twice[0] < 0 < twice[1]


def test_kerf_is_lost_between_the_fragments():
    mesh = to_mesh(block((0, 0, 0), (20, 30, 40)))
    normal = np.array([0.0, 0, 1])
    planes = [Plane[Patient](np.array([0, 0, 20.0]) + s * 0.6 * normal, normal) for s in (1, -1)]
    pieces = cut_wedge(mesh, planes[0], planes[1], Plane[Patient]([0, 0, 20.0], normal))
    assert pieces.wedge.volume_ml == pytest.approx(20 * 30 * 1.2 / 1000)
    assert pieces.moving.volume_ml == pytest.approx(20 * 30 * 19.4 / 1000)


def test_solids_and_meshes_are_each_others():
    again = mesh_of(solid_of(VERTEBRA))
    assert again.volume_ml == pytest.approx(VERTEBRA.volume_ml, rel=1e-12)
