"""Planes, lines, cylinders and meshes against closed forms."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spatial.frames import Patient, Reference
from spatial.mesh import BadMesh, TriangleMesh
from spatial.rigid import Points, Rigid
from spatial.shapes import BadShape, Cylinder, Line, Plane, angle_between_rad

coordinate = st.floats(-100, 100)
points3 = st.tuples(coordinate, coordinate, coordinate).map(np.array)


def box(size=(10.0, 20.0, 30.0)):
    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)]) * size
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    return TriangleMesh[Patient](corners, [t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))])


@given(points3)
def test_turning_about_a_line_keeps_distance_and_place_along_it(p):
    line = Line[Patient]((1, 2, 3), (1, 1, 0))
    turned = line.rotation(0.7) @ Points[Patient](p)
    assert line.distance_mm(turned) == pytest.approx(line.distance_mm(Points(p)), abs=1e-9)
    assert line.along_mm(turned) == pytest.approx(line.along_mm(Points(p)), abs=1e-9)


def test_points_on_the_hinge_do_not_move():
    line = Line[Patient]((1, 2, 3), (1, 1, 0))
    assert np.allclose((line.rotation(1.0) @ line.at(np.array([0.0, 25.0]))).mm, line.at(np.array([0.0, 25.0])).mm)


@given(points3)
def test_plane_distance_survives_a_change_of_frame(p):
    reference_from_patient = Rigid[Reference, Patient].exp((0.3, -0.5, 1.0), (4, 5, 6))
    plane = Plane[Patient]((0, 0, 5), (0.2, 0.3, 1))
    moved = plane.moved(reference_from_patient)
    there = moved.signed_distance_mm(reference_from_patient @ Points[Patient](p))
    assert there == pytest.approx(plane.signed_distance_mm(Points(p)), abs=1e-9)


def test_plane_fit_recovers_a_noisy_plane_and_refuses_a_line():
    rng = np.random.default_rng(3)
    flat = np.c_[rng.uniform(-20, 20, (400, 2)), rng.normal(0, 0.1, 400)]
    fitted = Plane.fit(Points[Patient](flat))
    assert abs(fitted.normal[2]) > np.cos(np.radians(0.1))
    with pytest.raises(BadShape, match="line"):
        Plane.fit(Points[Patient](np.outer(np.arange(5.0), [1, 2, 3])))


@pytest.mark.parametrize(
    ("point", "distance"),
    [((0, 0, 5), -2.0), ((0, 0, 9.5), -0.5), ((5, 0, 5), 3.0), ((0, 0, 13), 3.0), ((5, 0, 14), 5.0)],
)
def test_cylinder_distance_in_closed_form(point, distance):
    cylinder = Cylinder[Patient]((0, 0, 0), (0, 0, 1), 10.0, 2.0)
    assert cylinder.signed_distance_mm(Points(np.array(point, float))) == pytest.approx(distance)


def test_small_angles_are_exact():
    assert angle_between_rad(np.array([1.0, 0, 0]), np.array([1.0, 1e-9, 0])) == pytest.approx(1e-9, rel=1e-6)


def test_box_volume_area_centroid_and_closedness():
    mesh = box()
    assert mesh.is_closed
    assert mesh.volume_ml == pytest.approx(6.0)
    assert mesh.area_cm2 == pytest.approx(22.0)
    assert np.allclose(mesh.centroid_mm, (5, 10, 15))


def test_a_missing_turned_or_doubled_triangle_is_not_closed():
    mesh = box()
    turned = mesh.triangles.copy()
    turned[0] = turned[0][::-1]
    for triangles in (mesh.triangles[1:], turned, np.vstack([mesh.triangles, mesh.triangles[:1]])):
        assert not TriangleMesh[Patient](mesh.vertices_mm, triangles).is_closed


@given(st.floats(0, np.pi), points3)
def test_volume_is_unchanged_by_motion(angle, shift):
    moved = box().moved(Rigid[Reference, Patient].exp((angle, 0, 0), shift))
    assert moved.volume_ml == pytest.approx(6.0, rel=1e-9)
    assert moved.is_closed


def test_section_of_a_box_runs_once_around():
    segments = box().section(Plane[Patient]((0, 0, 15), (0, 0, 1)))
    length = np.linalg.norm(segments[:, 0] - segments[:, 1], axis=1).sum()
    assert length == pytest.approx(60.0)
    assert np.allclose(segments[..., 2], 15)


def test_index_outside_the_vertices_is_refused():
    with pytest.raises(BadMesh, match="truncated"):
        TriangleMesh[Patient](np.zeros((3, 3)), [[0, 1, 3]])
