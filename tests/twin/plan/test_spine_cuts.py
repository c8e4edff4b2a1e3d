"""SPO, VCR, kerf and bounded cuts of vertebrae made of boxes; Yang and Ondra's angle; what is left for the nerves."""

import math
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spatial.frames import Patient
from spatial.rigid import Points
from tests.twin.plan.bodies import BACK, FRONT, HEIGHT, REAR, WALL, block, block_spine, to_mesh, vertebra_solid
from twin.anatomy.bone import Bone, Landmark
from twin.anatomy.structure import Structure
from twin.anatomy.twin import Levels, NoBone, Twin
from twin.plan.cuts.consequences import consequences
from twin.plan.cuts.contact import collisions, faces
from twin.plan.cuts.making import Options, make
from twin.plan.cuts.osteotomy import BadOsteotomy, Osteotomy, symmetric_wedge_height_mm, wedge_height_mm
from twin.plan.cuts.reduction import carry_out, fragments, planned_landmarks
from twin.plan.cuts.spine_cuts import pso_angle_rad
from twin.plan.cuts.spine_room import room

# (depth mm, angle deg): symmetric wedge about its bisector, and chord along the face, from the fact sheet
PSO_MM = {
    (30, 10): (5.3, 5.2), (30, 25): (14.0, 13.0), (30, 30): (17.3, 15.5), (30, 35): (21.0, 18.0), (34, 10): (6.0, 5.9),
    (34, 25): (15.9, 14.7), (34, 30): (19.6, 17.6), (34, 35): (23.8, 20.4), (38, 10): (6.7, 6.6),
    (38, 25): (17.7, 16.4), (38, 30): (21.9, 19.7), (38, 35): (26.6, 22.9),
}  # fmt: skip
DISC = 10.0  # of the spine made of blocks, 38 mm apart
L3 = "vertebrae_L3"


def plate_of(spine, cut, bone):
    """The planned lower endplate."""
    return next(m for m in planned_landmarks(spine, [cut]) if m.name == "endplate_inferior" and m.bone == bone)


@pytest.mark.parametrize(("key", "heights"), PSO_MM.items())
def test_wedges_of_the_fact_sheet(key, heights):
    depth, angle = key[0], math.radians(key[1])
    # "tri" of the golden file is the wedge with one cut square to the wall: D tan a
    assert depth * math.tan(angle) == pytest.approx(heights[0], abs=0.051)
    assert wedge_height_mm(depth, angle) == pytest.approx(heights[1], abs=0.051)
    assert wedge_height_mm(depth, angle) <= symmetric_wedge_height_mm(depth, angle) <= depth * math.tan(angle)


@given(st.floats(-80, 250), st.floats(150, 600), st.floats(-60, 60))
def test_yang_and_ondra_brings_c7_where_it_is_wanted(forward, up, wanted):
    angle = pso_angle_rad(forward, up, wanted)
    # turn the point back about the hinge, written out
    there = forward * math.cos(angle) - up * math.sin(angle)
    assert there == pytest.approx(wanted, abs=1e-6)


def test_yang_and_ondra_against_the_estimate_by_tangent():
    # an apex in front of the sacral plumb line: the plain tangent gives too little (the fact sheet's words)
    assert math.degrees(pso_angle_rad(120.0, 350.0, 0.0)) == pytest.approx(math.degrees(math.atan(120 / 350)), abs=0.01)
    with pytest.raises(BadOsteotomy, match="can't be reached"):
        pso_angle_rad(10.0, 20.0, 40.0)


ARCH = 18.5  # half the height of the arches of `tall_spine`


@cache
def tall_spine():
    """The spine made of blocks with arches so tall that an SPO's planes cut them."""
    spine = block_spine()
    arch = block((-22, WALL, -ARCH), (22, REAR, ARCH))
    bones = {
        name: Bone(name, to_mesh(vertebra_solid(5.0).translate((0.3, 0.2, z)) + arch.translate((0.3, 0.2, z))))
        for name, z in (("vertebrae_L2", 38.0), (L3, 0.0), ("vertebrae_L4", -38.0))
    }
    return Twin("tall", bones, spine.landmarks, Levels(1.0))


def test_an_spo_takes_facets_of_two_bones_about_the_back_of_the_disc():
    spine = tall_spine()
    cut = make(spine, "SPO", L3, math.radians(12))
    assert cut.schwab == 2
    assert cut.also == ("vertebrae_L4",)
    assert cut.hinge.point_mm == pytest.approx([0.3, BACK + 0.2, -(HEIGHT + DISC) / 2], abs=0.05)
    assert cut.depth_mm == pytest.approx(BACK - FRONT, abs=0.05)
    made = fragments(spine, cut)
    assert set(made.moving) == {"vertebrae_L2"}
    for name, pieces in ((L3, made.pieces), ("vertebrae_L4", made.also["vertebrae_L4"])):
        parts = [m for m in (pieces.moving, pieces.staying, pieces.wedge) if len(m.triangles)]
        assert all(m.is_closed for m in parts)
        whole = spine.bone(name).surface.volume_ml
        assert sum(m.volume_ml for m in parts) == pytest.approx(whole, rel=1e-9)
    # behind the hinge the planes leave the disc's height and the wedge; the arches reach 18.5 mm up and down
    tilt = math.tan(math.radians(6.0))
    y = np.linspace(WALL - BACK, REAR - BACK, 4001)
    middle = -(HEIGHT + DISC) / 2
    taken = [np.clip(middle + y * tilt + ARCH, 0, None), np.clip(-38 + ARCH - (middle - y * tilt), 0, None)]
    by_hand = [44.0 * np.trapezoid(height, y) / 1000 for height in taken]
    got = [made.pieces.wedge.volume_ml, made.also["vertebrae_L4"].wedge.volume_ml]
    assert min(by_hand) > 0.1
    assert got == pytest.approx(by_hand, abs=0.02)


def test_after_an_spo_the_upper_plane_lies_on_the_lower_and_nothing_collides():
    spine = block_spine()
    cut = make(spine, "SPO", L3, math.radians(12))
    moved = cut.planes[0].moved(cut.motion)
    assert moved.angle_rad(cut.planes[1]) < 1e-9
    assert not collisions(spine, [cut])
    whole = Osteotomy("x", "plane", L3, cut.planes, cut.hinge, 0.0, 10.0)
    assert not collisions(spine, [whole])
    tilt = plate_of(spine, cut, L3)
    assert math.degrees(math.acos(tilt.direction.unit[2])) == pytest.approx(12, abs=1e-6)


def test_a_vcr_takes_the_vertebra_and_brings_down_what_is_above():
    spine = block_spine()
    cut = make(spine, "VCR", L3, math.radians(10), options=Options(shortening_mm=15.0))
    assert cut.schwab == 5
    made = fragments(spine, cut)
    assert made.pieces.wedge.volume_ml == pytest.approx(spine.bone(L3).surface.volume_ml)
    assert f"{L3}:cranial" not in made.planned_meshes(spine)
    found = consequences(spine, cut)
    assert found.shortening_mm == pytest.approx(15.0)
    assert found.words == "cranial part 10.0\u00b0 extension"
    plate = next(
        m for m in planned_landmarks(spine, [cut]) if m.name == "endplate_inferior" and m.bone == "vertebrae_L2"
    )
    assert math.degrees(math.acos(plate.direction.unit[2])) == pytest.approx(10, abs=1e-6)
    # by hand: turned about the back wall's middle, then down
    a = math.radians(10)
    y, z = 0.0 - BACK, 38 - HEIGHT / 2
    assert plate.position.mm[2] == pytest.approx(-y * math.sin(a) + z * math.cos(a) - 15.0, abs=0.05)
    with pytest.raises(BadOsteotomy, match="gap is 48"):
        make(spine, "VCR", L3, 0.2, options=Options(shortening_mm=60.0))
    with pytest.raises(NoBone, match="above vertebrae_L2"):
        make(spine, "VCR", "vertebrae_L2", 0.2)


def test_two_psos_meet_in_one_body_and_carry_out_says_what_is_left():
    spine = block_spine()
    cuts = [make(spine, "PSO", f"vertebrae_{n}", math.radians(a)) for n, a in (("L3", 15), ("L4", 20))]
    bodies = {b.name: b for b in carry_out(spine, cuts)}
    whole = sum(b.surface.volume_ml for b in spine.bones.values())
    assert sum(b.mesh.volume_ml for b in bodies.values()) == pytest.approx(whole, rel=1e-9)
    both = cuts[1].motion.matrix() @ cuts[0].motion.matrix()
    assert bodies["vertebrae_L2"].planned_from_patient.matrix() == pytest.approx(both)
    assert bodies["vertebrae_L3:cranial"].planned_from_patient.matrix() == pytest.approx(both)
    assert bodies["vertebrae_L3:caudal"].planned_from_patient.matrix() == pytest.approx(cuts[1].motion.matrix())
    assert bodies["vertebrae_L4:caudal"].planned_from_patient.matrix() == pytest.approx(np.eye(4))
    assert {n for n, b in bodies.items() if b.role == "removed"} >= {"vertebrae_L3:wedge", "vertebrae_L4:wedge"}


def test_schwab_grades_of_a_pso():
    assert make(block_spine(), "PSO", L3, math.radians(25)).schwab == 3
    assert make(block_spine(), "PSO", L3, math.radians(50)).schwab == 4


def test_a_bounded_plane_cuts_the_arch_alone():
    spine = block_spine()
    y, z = (WALL + 0.2, REAR + 5), spine.landmark("endplate_superior", L3).position.mm[2] - HEIGHT / 2
    corners = np.array([[-40.0, y[0], z], [40, y[0], z], [40, y[1], z], [-40, y[1], z]])
    arch = make(spine, "plane", L3, options=Options(outline_mm=corners, kerf_mm=1.0))
    made = fragments(spine, arch).pieces
    assert not len(made.moving.triangles)  # the body holds it
    assert made.wedge.volume_ml == pytest.approx(44 * 10 * 1.0 / 1000, rel=1e-6)
    assert made.staying.is_closed
    box = make(spine, "plane", L3, options=Options(box_mm=(90.0, 90.0)))
    assert fragments(spine, box).pieces.moving.volume_ml > 10.0  # all of it was within the box
    with pytest.raises(BadOsteotomy, match="kerf"):
        Osteotomy("x", "plane", L3, arch.planes, arch.hinge, 0.0, 10.0, outline_mm=corners)
    corners[:, 2] += 1.0
    with pytest.raises(BadOsteotomy, match="off its plane"):
        Osteotomy("x", "plane", L3, arch.planes, arch.hinge, 0.0, 10.0, kerf_mm=1.0, outline_mm=corners)


@cache
def with_canal():
    """The spine of blocks with a tube where a canal would be, clear of all bone by a millimetre at least."""
    spine = block_spine()
    tube = to_mesh(block((-5, BACK + 1.2, -60), (5, WALL - 1, 60)).refine(6))
    return Twin("canal", spine.bones, spine.landmarks, spine.levels,
                structures={"spinal_canal": Structure("spinal_canal", "critical", tube, "bones")})  # fmt: skip


def test_a_closing_wedge_shortens_the_canal_by_the_chord_at_its_middle():
    cut = make(with_canal(), "close-wedge", L3, math.radians(20))
    middle = (BACK + 1.2 + WALL - 1) / 2 - (FRONT + 0.2)
    assert room(with_canal(), cut).canal_shortens_mm == pytest.approx(
        wedge_height_mm(middle, math.radians(20)), abs=0.1
    )


def test_room_in_the_canal_before_and_after():
    found = room(with_canal(), make(with_canal(), "PSO", L3, math.radians(20)))
    assert found.canal_mm[0] == pytest.approx(1.0, abs=0.05)
    assert found.canal_mm[1] < found.canal_mm[0] + 0.1
    assert room(block_spine(), make(block_spine(), "PSO", L3, math.radians(20))).canal_mm is None


def test_the_foramen_after_a_pso_runs_from_pedicle_to_pedicle():
    found = room(with_canal(), make(with_canal(), "PSO", L3, math.radians(25)))
    assert found.foramen_between == ("vertebrae_L2", "vertebrae_L4")
    assert set(found.foramen_mm) == {"left", "right"}
    # by hand, in the plane of y and z about the hinge: the upper axis turns, and each pedicle takes its slanted radius
    a, y, z = math.radians(25), 24.2 - (FRONT + 0.2), 38 + 4.0
    above = np.array([y * math.cos(a) + z * math.sin(a), -y * math.sin(a) + z * math.cos(a)])
    line = np.array([y, -38 + 4.0]) - above
    whole = float(np.linalg.norm(line))
    lean = math.atan2(line[0], -line[1])
    assert found.foramen_mm["left"] == pytest.approx(whole - 5 / math.cos(lean) - 5 / math.cos(lean + a), abs=0.1)


def test_faces_of_a_pso_lie_on_each_other_and_a_vertebra_runs_into_none():
    cut = make(block_spine(), "close-wedge", L3, math.radians(10))
    met = faces(block_spine(), cut)
    assert 0.9 < met.share <= 1.0
    assert faces(block_spine(), make(block_spine(), "open-wedge", L3, math.radians(10))) is None


def test_an_arch_that_is_not_freed_collides():
    cut = make(block_spine(), "open-wedge", L3, math.radians(10))
    (met,) = collisions(block_spine(), [cut])
    assert {met.first, met.second} == {f"{L3}:cranial", f"{L3}:caudal"}
    # the arch and the pedicles lie behind the hinge: angle times first moment of their section
    assert met.volume_mm3 > 500
    moved = (cut.motion @ Points[Patient](np.array([0.0, REAR + 0.2, 0.0]))).mm
    assert met.depth_mm < abs(moved[2])


@pytest.mark.parametrize("kind", ["PSO", "close-wedge"])
@pytest.mark.parametrize("wanted", [20.0, 60.0])
def test_a_wanted_sva_gives_the_angle_that_leaves_it(kind, wanted):
    spine = block_spine()

    def mark(name, bone, place, side=None):
        return Landmark(name, bone, side, Points[Patient](np.array(place, float)), None, 0.0)

    more = (
        mark("endplate_superior", "vertebrae_C7", [0.3, -100.0, 410.0]),
        mark("endplate_inferior", "vertebrae_C7", [0.3, -100.0, 390.0]),
        mark("posterior_corner", "sacrum", [0.3, 22.0, -80.0]),
        mark("femoral_head", "femur_left", [90.0, 0, -160.0], "left"),
        mark("femoral_head", "femur_right", [-90.0, 0, -160.0], "right"),
    )
    twin = Twin("leaning", spine.bones, (*spine.landmarks, *more), spine.levels)
    cut = make(twin, kind, L3, options=Options(target_sva_mm=wanted))
    after = {(m.name, m.bone): m.position.mm for m in planned_landmarks(twin, [cut])}
    c7 = (after["endplate_superior", "vertebrae_C7"] + after["endplate_inferior", "vertebrae_C7"]) / 2
    assert after["posterior_corner", "sacrum"][1] - c7[1] == pytest.approx(wanted, abs=0.01)
    with pytest.raises(BadOsteotomy, match="leave the angle out"):
        make(twin, kind, L3, 0.3, options=Options(target_sva_mm=wanted))
    with pytest.raises(BadOsteotomy, match="no further forward"):
        make(twin, kind, L3, options=Options(target_sva_mm=200.0))
    with pytest.raises(BadOsteotomy, match="can't be measured"):
        make(spine, kind, L3, options=Options(target_sva_mm=wanted))
