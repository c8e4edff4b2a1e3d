"""Margins and grades: closed forms on round pedicles, other code on the phantom, left against right."""

import numpy as np
import open3d as o3d
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spatial.distance import DistanceGrid
from spatial.frames import Patient
from spatial.rigid import Directions, Points
from tests.twin.plan import bodies
from tests.twin.plan.bodies import ISTHMUS_Y, PEDICLE_X, block_twin
from tests.twin.plan.phantom_twin import phantom, phantom_twin
from twin.anatomy.twin import Levels, NoBone, Twin
from twin.plan.auto.autoplan import propose_screw
from twin.plan.screws.grade import OffBone, entry_on_bone, grade_letter, grade_screw
from twin.plan.screws.screw import BadScrew, Screw

R, D = 5.0, 6.0
BOUND_MM = 0.05


def screw(side="left", medial=0.0, up=0.0, diameter=D, length=45.0, turn=0.0):
    """Parallel to the pedicle, shifted medially and up; `turn` is dx/dy toward the midline."""
    sign = 1.0 if side == "left" else -1.0
    x, z = sign * (PEDICLE_X - medial), 4.0 + up
    y = bodies.REAR
    entry = np.array([x + sign * turn * (y - ISTHMUS_Y), y, z])
    way = np.array([-sign * turn, -1.0, 0.0])
    return Screw("s", "vertebrae_L4", side, Points[Patient](entry), Points[Patient](entry + 30 * way), diameter, length)


def closed_form(medial, up):
    """Distances from a point off the centre of a circle to it, smallest within 45 degrees of each direction."""
    angle = np.radians(np.arange(-45, 315, 0.1))
    along = medial * np.cos(angle) + up * np.sin(angle)
    wall = -along + np.sqrt(along**2 + R**2 - medial**2 - up**2)
    names = ("medial", "superior", "lateral", "inferior")
    return {name: float(wall[900 * n : 900 * (n + 1)].min()) for n, name in enumerate(names)}


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize(("medial", "up"), [(0, 0), (1.3, 0), (-1.3, 0), (0, 1.3), (0, -1.3), (0.8, -0.6), (2.9, 0.4)])
def test_margins_are_exact_on_a_round_pedicle(side, medial, up):
    grade = grade_screw(block_twin(), screw(side, medial, up))
    for name, wall in closed_form(medial, up).items():
        assert grade.margin_mm[name] == pytest.approx(wall - D / 2, abs=BOUND_MM)
    assert grade.margin_mm["anterior"] == pytest.approx(bodies.REAR - bodies.FRONT - 45.0, abs=BOUND_MM)
    assert grade.breach_mm == pytest.approx(max(0.0, D / 2 + np.hypot(medial, up) - R), abs=BOUND_MM)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize(
    ("direction", "medial", "up"), [("medial", 1, 0), ("lateral", -1, 0), ("superior", 0, 1), ("inferior", 0, -1)]
)
@pytest.mark.parametrize(("shift", "letter"), [(1.8, "A"), (3.0, "B"), (5.5, "C"), (7.2, "D"), (8.6, "E")])
def test_grade_and_direction_of_a_shifted_screw(side, direction, medial, up, shift, letter):
    grade = grade_screw(block_twin(), screw(side, medial * shift, up * shift))
    assert grade.grade == letter
    assert grade.breach_direction == (None if letter == "A" else direction)
    assert grade.breach_mm == pytest.approx(max(0.0, shift + D / 2 - R), abs=BOUND_MM)


def test_a_screw_that_runs_free_in_the_canal_is_e_medial_and_has_no_width():
    grade = grade_screw(block_twin(), screw(medial=10.0))
    assert (grade.grade, grade.breach_direction) == ("E", "medial")
    assert grade.breach_mm == pytest.approx(10 + D / 2 - R, abs=BOUND_MM)
    assert grade.width_mm is None


def test_a_turned_screw_is_graded_at_the_ends_of_the_window_only():
    turn = 0.2
    grade = grade_screw(block_twin(), screw(turn=turn))
    # a circle of radius R across y is an ellipse across the turned axis; its end of the window is off by 6 sin(turn)
    way = np.arctan(turn)
    off = 6.0 * np.sin(way)
    assert grade.margin_mm["medial"] == pytest.approx((R - off) / np.cos(way) - D / 2, abs=BOUND_MM)
    assert grade.margin_mm["lateral"] == pytest.approx((R - off) / np.cos(way) - D / 2, abs=BOUND_MM)


def test_the_tip_through_the_front_is_told_apart_from_the_grade():
    grade = grade_screw(block_twin(), screw(length=60.0))
    assert grade.margin_mm["anterior"] == pytest.approx(-2.0, abs=BOUND_MM)
    assert (grade.grade, grade.breach_mm, grade.binding) == ("A", 0.0, "anterior")


def test_width_chord_and_binding():
    grade = grade_screw(block_twin(), screw(medial=0.5, length=30.0))
    assert grade.width_mm == pytest.approx(2 * np.sqrt(R**2 - 0.25), abs=BOUND_MM)
    assert grade.chord_mm == pytest.approx(bodies.REAR - bodies.FRONT, abs=BOUND_MM)
    assert grade.binding == "medial"
    assert grade.hold_n is None
    assert grade.hu == {"body": None, "pedicle": None, "thread": None}


@given(st.floats(0, 12), st.floats(0, 12))
def test_grade_letters_never_get_better_with_more_breach(a, b):
    small, large = sorted((a, b))
    assert grade_letter(small) <= grade_letter(large)


@pytest.mark.parametrize(
    ("breach", "letter"), [(0, "A"), (1e-6, "B"), (1.99, "B"), (2, "C"), (3.99, "C"), (4, "D"), (5.99, "D"), (6, "E")]
)
def test_grade_borders(breach, letter):
    assert grade_letter(breach) == letter


@given(st.floats(-2, 2), st.floats(-2, 2), st.floats(-0.15, 0.15))
@settings(max_examples=15)
def test_left_and_right_are_mirror_images(medial, up, turn):
    left, right = (grade_screw(block_twin(), screw(side, medial, up, turn=turn)) for side in ("left", "right"))
    for name, value in left.margin_mm.items():
        assert right.margin_mm[name] == pytest.approx(value, abs=BOUND_MM)


def brute_force(bone, side, axis_point, way, isthmus, stations, angles):
    """Walls by Open3D's rays against the mesh, directions from the landmarks: none of the code under test."""
    twin = phantom_twin((bone,))
    scene = o3d.t.geometry.RaycastingScene()
    mesh = twin.bone(bone).surface
    scene.add_triangles(
        o3d.core.Tensor(mesh.vertices_mm.astype(np.float32)), o3d.core.Tensor(mesh.triangles.astype(np.uint32))
    )
    return rays_around(twin, bone, side, axis_point, way, isthmus, stations, angles, lambda o, d: scene.cast_rays(
        o3d.core.Tensor(np.hstack([o, d]).astype(np.float32)))["t_hit"].numpy())  # fmt: skip


def rays_around(twin, bone, side, axis_point, way, isthmus, stations, angles, cast):
    """Smallest wall distance in each direction, with rays cast by `cast(origins, directions)`."""
    up = np.mean([m.direction.unit for m in twin.landmarks if m.bone == bone and m.name.startswith("endplate")], axis=0)
    across = twin.landmark("pedicle_right", bone).position.mm - twin.landmark("pedicle_left", bone).position.mm
    inward = across if side == "left" else -across
    superior = up - (up @ way) * way
    superior /= np.linalg.norm(superior)
    medial = np.cross(superior, way)
    medial *= np.sign(medial @ inward)
    at = axis_point + ((isthmus - axis_point) @ way + stations)[:, None] * way
    fan = np.cos(angles)[:, None] * medial + np.sin(angles)[:, None] * superior
    origins = np.repeat(at, len(angles), axis=0)
    ways = np.tile(fan, (len(at), 1))
    wall = cast(origins, ways).reshape(len(at), len(angles)).min(axis=0)
    degrees = np.degrees(angles) % 360
    near = {"medial": 0.0, "superior": 90.0, "lateral": 180.0, "inferior": 270.0}
    gap = {name: np.abs((degrees - middle + 180) % 360 - 180) for name, middle in near.items()}
    return {name: float(wall[gap[name] <= 45].min()) for name in near}


@pytest.mark.parametrize("bone", ["vertebrae_L2", "vertebrae_L5"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_on_the_phantom_it_agrees_with_rays_on_the_mesh_and_on_the_analytic_surface(bone, side):
    twin = phantom_twin((bone,))
    neck = twin.landmark(f"pedicle_{side}", bone)
    rng = np.random.default_rng(7)
    way = neck.direction.unit + rng.normal(0, 0.04, 3)
    way /= np.linalg.norm(way)
    through = neck.position.mm + rng.normal(0, 0.6, 3)
    grid = DistanceGrid[Patient].of(twin.bone(bone).surface)
    entry = entry_on_bone(grid, Points[Patient](through), Directions[Patient](way))
    planned = Screw("s", bone, side, entry, Points[Patient](entry.mm + 20 * way), 5.5, 40.0)
    grade = grade_screw(twin, planned)
    stations, angles = np.linspace(-6, 6, 61), np.radians(np.arange(0, 360, 3.0))
    mesh = brute_force(bone, side, through, way, neck.position.mm, stations, angles)
    truth = rays_around(
        twin, bone, side, through, way, neck.position.mm, stations, angles,
        lambda o, d: phantom().crossings(bone, o, d, 60.0),
    )  # fmt: skip
    for name in mesh:
        assert grade.margin_mm[name] == pytest.approx(mesh[name] - 2.75, abs=BOUND_MM)
        assert grade.margin_mm[name] == pytest.approx(truth[name] - 2.75, abs=0.12)


def test_without_a_landmark_the_isthmus_is_the_narrowest_section():
    twin = block_twin()
    bare = Twin("bare", twin.bones, tuple(m for m in twin.landmarks if "pedicle" not in m.name), Levels(1.0))
    known, found = grade_screw(twin, screw(medial=1.0)), grade_screw(bare, screw(medial=1.0))
    assert (known.isthmus_from, found.isthmus_from) == ("landmark", "section")
    assert found.isthmus_mm == pytest.approx(known.isthmus_mm, abs=1.0)
    for name, value in known.margin_mm.items():
        assert found.margin_mm[name] == pytest.approx(value, abs=BOUND_MM)
    twin = phantom_twin(("vertebrae_L2",))
    axis = propose_screw(twin, "vertebrae_L2", "left").screw
    bare = Twin("bare", twin.bones, tuple(m for m in twin.landmarks if "pedicle" not in m.name), Levels(1.0))
    known, found = grade_screw(twin, axis), grade_screw(bare, axis)
    assert found.isthmus_mm == pytest.approx(known.isthmus_mm, abs=2.0)
    assert found.grade == "A"


def test_entry_is_moved_along_the_axis_onto_the_bone():
    grid = DistanceGrid[Patient].of(block_twin().bone("vertebrae_L4").surface)
    forward = Directions[Patient](np.array([0, -1.0, 0]))
    for y in (60.0, bodies.REAR + 0.5, 36.0):  # in the air, just off the bone, inside the block
        found = entry_on_bone(grid, Points[Patient]([PEDICLE_X, y, 4.0]), forward)
        assert found.mm == pytest.approx([PEDICLE_X, bodies.REAR, 4.0], abs=0.02)
    with pytest.raises(OffBone, match="LPS"):
        entry_on_bone(grid, Points[Patient]([80.0, 60.0, 4.0]), forward)


def test_wrong_screws_are_refused_with_what_would_be_right():
    with pytest.raises(NoBone, match="vertebrae_L4"):
        grade_screw(block_twin(), Screw("s", "vertebrae_L9", "left", Points([0, 0, 0.0]), Points([0, 1, 0.0]), 6, 40))
    with pytest.raises(BadScrew, match="same point"):
        Screw("s", "vertebrae_L4", "left", Points([0, 0, 0.0]), Points([0, 0, 0.0]), 6, 40)
    with pytest.raises(BadScrew, match="3 to 12"):
        screw(diameter=60.0)
    with pytest.raises(BadScrew, match="10 to 120"):
        screw(length=4.0)
    with pytest.raises(BadScrew, match="left or right"):
        Screw("s", "vertebrae_L4", "middle", Points([0, 0, 0.0]), Points([0, 1, 0.0]), 6, 40)
    with pytest.raises(OffBone, match="target"):
        grade_screw(block_twin(), Screw("s", "vertebrae_L4", "left", Points([12, 41.5, 4]), Points([12, 60, 4]), 6, 40))


def test_a_screw_survives_json():
    first = screw(medial=0.123456789, turn=0.1)
    again = Screw.from_json(first.to_json())
    assert again.to_json() == first.to_json()
    with pytest.raises(BadScrew, match="entry_mm"):
        Screw.from_json({"id": "s", "bone": "b", "side": "left"})
