"""Screws by a rule: closed forms on blocks, usual angles on the phantom, a sacrum and an ilium made of beams."""

import manifold3d as m3
import numpy as np
import pytest

from spatial.frames import Patient
from spatial.rigid import Directions, Points
from spatial.shapes import Plane
from tests.twin.plan import bodies
from tests.twin.plan.bodies import PEDICLE_X, block, block_twin, to_mesh
from tests.twin.plan.phantom_twin import phantom_twin
from twin.anatomy.bone import Bone, Landmark
from twin.anatomy.local_frame import bone_frame
from twin.anatomy.twin import Levels, NoLandmark, Twin
from twin.plan.screws.grade import OffBone, grade_screw
from twin.plan.screws.notch import notch_points
from twin.plan.screws.placements import Aim, NoRoom, along_axis, cortical, lag
from twin.plan.screws.sacroiliac import PelvicAim, s2ai
from twin.plan.screws.screw import BadScrew, Screw

L4 = "vertebrae_L4"


@pytest.mark.parametrize("side", ["left", "right"])
def test_along_the_axis_takes_80_percent_of_the_isthmus_and_85_of_the_chord(side):
    screw = along_axis(block_twin(5.0), L4, side)
    sign = 1.0 if side == "left" else -1.0
    assert screw.entry.mm == pytest.approx([sign * PEDICLE_X, bodies.REAR, 4.0], abs=0.05)
    assert screw.axis.direction == pytest.approx([0, -1, 0], abs=1e-6)
    assert (screw.diameter_mm, screw.length_mm) == (7.5, 45.0)  # of 8.0 and 49.3 mm
    assert (screw.kind, screw.id) == ("pedicle", f"L4-{side}")
    assert along_axis(block_twin(5.0), L4, side, diameter_mm=5.0, length_mm=30.0).diameter_mm == 5.0


def test_what_does_not_fit_is_said():
    with pytest.raises(NoRoom, match=r"3\.0 mm wide"):
        along_axis(block_twin(1.5), L4, "left")
    bare = Twin("bare", block_twin().bones, (), Levels(1.0))
    with pytest.raises(NoLandmark, match="pedicle_left"):
        along_axis(bare, L4, "left")
    with pytest.raises(NoRoom, match="no cortical trajectory"):
        cortical(block_twin(2.0), L4, "left")


@pytest.mark.parametrize(("bone", "side"), [("vertebrae_L4", "left"), ("vertebrae_L5", "right")])
def test_a_cortical_screw_runs_outward_and_up_as_published_and_stays_in(bone, side):
    twin = phantom_twin((bone,))
    screw = cortical(twin, bone, side)
    aim, grade = Aim.of(screw.axis.direction, bone_frame(twin, bone), side), grade_screw(twin, screw)
    assert 4.9 <= aim.lateral_deg <= 21.1  # Santoni 8 to 10; 13.8 to 20.9 in a population
    assert 14.9 <= aim.cranial_deg <= 30.1
    assert (screw.kind, screw.family_name) == ("cortical", "cortical")
    assert 25.0 <= screw.length_mm <= 40.0
    assert grade.grade == "A"
    assert grade.margin_mm["anterior"] >= 2.0
    start = bone_frame(twin, bone).inverse() @ screw.entry
    neck = bone_frame(twin, bone).inverse() @ twin.landmark(f"pedicle_{side}", bone).position
    assert start.mm[2] < neck.mm[2]  # from below
    assert abs(start.mm[0]) < abs(neck.mm[0])  # and from within
    assert screw.to_json() == cortical(twin, bone, side).to_json()


def beam_twin():
    """A beam of 20 x 30 mm, 120 mm long, along z: a shaft."""
    return Twin(
        "beam", {"femur_left": Bone("femur_left", to_mesh(block((-10, -15, -60), (10, 15, 60))))}, (), Levels(1.0)
    )


def placed(entry, target, **given):
    return lag(beam_twin(), "femur_left", "left", np.array(entry, float), np.array(target, float), **given)


def test_a_lag_screw_across_a_beam_is_graded_along_its_way():
    screw = placed((10, 3, 5), (-6, 3, 5), diameter_mm=4.5, length_mm=16.0)
    assert screw.entry.mm == pytest.approx([10, 3, 5], abs=0.02)
    grade = grade_screw(beam_twin(), screw)
    assert grade.grade == "A"
    assert grade.margin_mm["anterior"] == pytest.approx(20.0 - 16.0, abs=0.05)
    assert sorted(round(v) for k, v in grade.margin_mm.items() if k != "anterior")[0] == round(12 - 2.25)
    assert "whole shaft" in grade.scale
    low = grade_screw(beam_twin(), placed((10, 13.5, 5), (-6, 13.5, 5), diameter_mm=4.5, length_mm=16.0))
    assert (low.grade, low.breach_mm) == ("B", pytest.approx(2.25 - 1.5, abs=0.05))
    through = grade_screw(beam_twin(), placed((10, 0, 5), (-30, 0, 5), diameter_mm=4.5, length_mm=25.0))
    assert through.margin_mm["anterior"] == pytest.approx(-5.0, abs=0.05)
    assert through.grade == "A"


def test_along_the_bone_the_walls_are_front_and_back():
    screw = placed((2, 4, 60), (2, 4, -40), diameter_mm=6.5, length_mm=100.0)
    margin = grade_screw(beam_twin(), screw).margin_mm
    assert margin["back"] == pytest.approx(15 - 4 - 3.25, abs=0.05)  # LPS: +y is posterior
    assert (10 - 2) / np.sin(np.pi / 4) - 3.25 - 0.1 <= margin["front"] <= 15 + 4 - 3.25  # the corner is nearer
    assert margin["lateral"] == pytest.approx(10 - 2 - 3.25, abs=0.05)
    assert margin["medial"] == pytest.approx(10 + 2 - 3.25, abs=0.05)


def test_the_thread_of_a_lag_screw_lies_beyond_the_fracture():
    across = Plane[Patient](np.array([3.0, 0, 0]), np.array([1.0, 0, 0]))
    screw = placed((10, 0, 5), (-10, 0, 5), diameter_mm=4.0, length_mm=25.0, fracture=across)
    assert (screw.kind, screw.thread_mm) == ("lag", 16.0)  # 18 mm lie beyond it; threads have 16 and 32
    slanted = Plane[Patient](np.array([3.0, 0, 5]), np.array([1.0, 0, 1.0]))
    with pytest.raises(NoRoom, match=r"15\.0 mm of the screw lie wholly beyond"):  # 17 less half of 4 mm at 45 degrees
        placed((10, 0, 5), (-10, 0, 5), diameter_mm=4.0, length_mm=24.0, fracture=slanted)
    with pytest.raises(NoRoom, match="does not cross"):
        placed(
            (10, 0, 5),
            (-10, 0, 5),
            diameter_mm=4.0,
            length_mm=25.0,
            fracture=Plane[Patient](np.zeros(3), np.array([0, 1.0, 0])),
        )
    with pytest.raises(NoRoom, match="the screw ends at"):
        placed(
            (10, 0, 5),
            (-10, 0, 5),
            diameter_mm=4.0,
            length_mm=25.0,
            fracture=Plane[Patient]([-40.0, 0, 0], np.array([1.0, 0, 0])),
        )
    assert placed((10, 0, 5), (-10, 0, 5), diameter_mm=4.0).length_mm == 20.0
    with pytest.raises(BadScrew, match="same point"):
        placed((10, 0, 5), (10, 0, 5), diameter_mm=4.0)


def test_a_lag_screw_that_misses_its_bone_is_refused():
    missed = Screw(
        "s", "femur_left", "left", Points[Patient]([40.0, 0, 0]), Points[Patient]([40.0, 10, 0]), 4.0, 20.0, kind="lag"
    )
    with pytest.raises(OffBone):
        grade_screw(beam_twin(), missed)


LATERAL, CAUDAL = np.radians(40.0), np.radians(27.0)


def pelvis(gap_mm=3.0, half=(11.0, 13.0)):
    """A sacrum of one block, and an ilium that is a beam along 40 degrees lateral, 27 caudal, a joint between them."""
    way = np.array([np.cos(CAUDAL) * np.sin(LATERAL), -np.cos(CAUDAL) * np.cos(LATERAL), -np.sin(CAUDAL)])
    aside = np.cross(way, [0, 0, 1.0])
    aside /= np.linalg.norm(aside)
    axes = np.column_stack([aside, np.cross(way, aside), way])
    beam = m3.Manifold.cube((2 * half[0], 2 * half[1], 125.0)).translate((-half[0], -half[1], -5.0))
    if np.linalg.det(axes) < 0:
        axes[:, 0] *= -1
    beam = beam.transform(np.column_stack([axes, [20.0, 30.0, 0.0]]))
    sacrum = block((-38, -15, -60), (38, 30, 32))
    ilium = beam - block((-60, -15 - gap_mm, -60 - gap_mm), (38 + gap_mm, 90, 32 + gap_mm))
    up = Directions[Patient](np.array([0, 0, 1.0]))
    mark = Landmark("endplate_superior", "sacrum", None, Points[Patient]([0, 0, 32.0]), up, 0.0)
    bones = {"sacrum": Bone("sacrum", to_mesh(sacrum)), "hip_left": Bone("hip_left", to_mesh(ilium))}
    return Twin("pelvis", bones, (mark,), Levels(1.0))


def test_an_s2ai_screw_finds_the_ilium_through_the_joint():
    twin = pelvis()
    screw = s2ai(twin, "left")
    aim, grade = PelvicAim.of(screw.axis.direction, "left"), grade_screw(twin, screw)
    assert (screw.kind, screw.bone, screw.id) == ("s2ai", "sacrum", "S2AI-left")
    assert aim.lateral_deg == pytest.approx(40.0, abs=10.0)  # the beam leaves room for that over 90 mm
    assert aim.caudal_deg == pytest.approx(27.0, abs=10.0)
    assert 80.0 <= screw.length_mm <= 90.0
    assert grade.grade == "A"
    assert grade.notch_mm is None  # a beam has none
    assert grade.margin_mm["anterior"] >= 5.0
    assert grade.facet == "not a pedicle screw"


def test_a_wide_gap_is_no_joint_and_an_ilium_that_is_too_thin_takes_nothing():
    with pytest.raises(NoRoom):
        s2ai(pelvis(gap_mm=9.0), "left")
    with pytest.raises(NoRoom):
        s2ai(pelvis(half=(2.0, 13.0)), "left")


def test_the_notch_is_the_bay_in_the_back_of_the_hip():
    plate = block((0, -40, -70), (10, 40, 80))
    bay = m3.Manifold.cylinder(12.0, 20.0, circular_segments=96).rotate((0, 90, 0)).translate((-1, 40, 20))
    hip = Bone("hip_left", to_mesh((plate - bay).refine_to_length(2.0)))
    femur = Bone("femur_left", to_mesh(block((20, -10, -20), (40, 10, 10))))
    head = Landmark("femoral_head", "femur_left", "left", Points[Patient]([10.0, 0, 0]), None, 0.5)
    twin = Twin("notch", {"hip_left": hip, "femur_left": femur}, (head,), Levels(1.0))
    found = notch_points(twin, "hip_left")
    assert found is not None
    far = np.hypot(found[:, 1] - 40.0, found[:, 2] - 20.0)
    assert np.abs(far - 20.0).max() < 6.0
    assert found[:, 2].max() > 32.0
    straight = Bone("hip_left", to_mesh(plate.refine_to_length(2.0)))
    flat = Twin("flat", {"hip_left": straight, "femur_left": femur}, (head,), Levels(1.0))
    assert notch_points(flat, "hip_left") is None
