"""Screw proposals: all A on the phantom by other code, deterministic, and refused with a reason where none fits."""

import numpy as np
import pytest

from spatial.frames import Patient
from spatial.rigid import Points
from tests.twin.plan.bodies import ISTHMUS_Y, PEDICLE_X, block_twin
from tests.twin.plan.phantom_twin import phantom, phantom_twin
from twin.anatomy.local_frame import bone_frame
from twin.anatomy.twin import Levels, NoBone, Twin
from twin.plan.auto.autoplan import (
    CHORD,
    FILL,
    LENGTHS_MM,
    fitting_diameter_mm,
    fitting_length_mm,
    propose_screw,
)
from twin.plan.screws.tolerance import permissible_error

# widths (Zindrick), the largest screw by the 80 % rule, and the permissible errors, from the clinical fact sheet
GOLDEN = {
    "T1": (7.9, 6.0, 0.95, 9.0), "T2": (7.0, 5.5, 0.75, 7.1), "T3": (5.6, 4.0, 0.8, 7.6), "T4": (4.7, None, 0, 0),
    "T5": (4.5, None, 0, 0), "T6": (5.2, 4.0, 0.6, 5.7), "T7": (5.3, 4.0, 0.65, 6.2), "T8": (5.9, 4.5, 0.7, 6.7),
    "T9": (6.1, 4.5, 0.8, 7.6), "T10": (6.3, 5.0, 0.65, 6.2), "T11": (7.8, 6.0, 0.9, 8.5), "T12": (7.1, 5.5, 0.8, 7.6),
    "L1": (8.7, 6.5, 1.1, 10.4), "L2": (8.9, 7.0, 0.95, 9.0), "L3": (10.3, 7.5, 1.4, 13.1),
    "L4": (12.9, 8.5, 2.2, 20.1), "L5": (18.0, 8.5, 4.75, 38.4),
}  # fmt: skip


@pytest.mark.parametrize("level", GOLDEN)
def test_sizes_and_permissible_errors_as_in_the_fact_sheet(level):
    width, diameter, shift, turn = GOLDEN[level]
    assert fitting_diameter_mm(width) == diameter
    if diameter is not None:
        allowed = permissible_error(width, diameter)
        assert allowed.shift_mm == pytest.approx(shift, abs=0.005)
        assert np.degrees(allowed.turn_rad) == pytest.approx(turn, abs=0.05)


def test_length_is_a_five_millimetre_step_within_85_percent():
    assert fitting_length_mm(55.0) == 45.0
    assert fitting_length_mm(53.0) == 45.0
    assert fitting_length_mm(52.0) == 40.0
    assert fitting_length_mm(20.0) is None


@pytest.mark.parametrize("bone", ["vertebrae_L1", "vertebrae_L2", "vertebrae_L4", "vertebrae_L5", "sacrum"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_on_the_phantom_each_screw_is_a_and_convergent_and_the_truth_says_so_too(bone, side):
    twin = phantom_twin((bone,))
    proposal = propose_screw(twin, bone, side)
    screw, grade = proposal.screw, proposal.grade
    assert screw is not None, proposal.reason
    assert grade.grade == "A"
    assert screw.diameter_mm <= FILL * grade.width_mm
    assert screw.length_mm in LENGTHS_MM
    assert screw.length_mm <= CHORD * grade.chord_mm
    frame = bone_frame(twin, bone)
    way = frame.rotation.T @ screw.axis.direction
    inward = np.degrees(np.arctan2(way[0] if side == "left" else -way[0], way[1]))
    assert 3 <= inward <= 45
    assert abs(np.degrees(np.arcsin(way[2]))) <= 12  # about parallel to the endplates
    # the truth: the thread's surface within the window lies inside the analytic bone, and so does the tip's rim
    at = grade.isthmus_mm + np.linspace(-6, 6, 25)
    across = np.cross(screw.axis.direction, [1.0, 0.3, 0.2])
    across /= np.linalg.norm(across)
    angle = np.radians(np.arange(0, 360, 10.0))[:, None]
    ring = np.cos(angle) * across + np.sin(angle) * np.cross(screw.axis.direction, across)
    thread = screw.axis.at(at).mm[:, None] + screw.diameter_mm / 2 * ring
    assert phantom().value(bone, thread).max() < 0
    rim = screw.tip.mm + screw.diameter_mm / 2 * ring
    assert phantom().crossings(bone, rim, np.broadcast_to(screw.axis.direction, ring.shape), 20.0).min() >= 1.9
    assert phantom().crossings(bone, rim, ring, 20.0).min() >= 0.9
    # the entry is on the true surface, behind and lateral of the isthmus
    neck = twin.landmark(f"pedicle_{side}", bone).position
    back = (frame.inverse() @ screw.entry).mm - (frame.inverse() @ neck).mm
    out = phantom().crossings(bone, screw.axis.at(3.0).mm[None], -screw.axis.direction[None], 20.0)
    assert out[0] == pytest.approx(3.0, abs=0.15)
    assert 8 <= -back[1] <= 22
    assert (-back[0] if side == "left" else back[0]) > 0


def test_the_same_twin_gives_the_same_screw_and_a_mirror_image_the_mirrored_one():
    first, again = (propose_screw(block_twin(), "vertebrae_L4", "left") for _ in range(2))
    assert first.screw.to_json() == again.screw.to_json()
    other = propose_screw(block_twin(), "vertebrae_L4", "right")
    assert other.screw.diameter_mm == first.screw.diameter_mm
    assert other.screw.length_mm == first.screw.length_mm
    assert other.screw.entry.mm * [-1, 1, 1] == pytest.approx(first.screw.entry.mm, abs=0.15)


def test_the_screw_keeps_away_from_the_canal_and_the_root_below():
    found = propose_screw(block_twin(), "vertebrae_L4", "left")
    isthmus = found.screw.axis.at(found.grade.isthmus_mm).mm
    assert isthmus[0] - PEDICLE_X == pytest.approx(0.15, abs=0.1)  # lateral, on the left
    assert isthmus[2] - 4.0 == pytest.approx(0.12, abs=0.1)
    tall = propose_screw(phantom_twin(("vertebrae_L1",)), "vertebrae_L1", "left").grade
    assert tall.margin_mm["medial"] == pytest.approx(tall.margin_mm["lateral"] + 0.5, abs=0.15)


def test_a_landmark_off_the_middle_is_corrected():
    twin = block_twin(4.5)
    off = tuple(
        type(m)(m.name, m.bone, m.side, Points[Patient](m.position.mm + np.array([0.0, 0.5, 1.2])), m.direction, 1.0)
        if m.name == "pedicle_left"
        else m
        for m in twin.landmarks
    )
    moved = Twin("off", twin.bones, off, Levels(1.0))
    grade = propose_screw(moved, "vertebrae_L4", "left").grade
    assert grade.grade == "A"
    assert abs(grade.margin_mm["superior"] - grade.margin_mm["inferior"]) < 0.7


def test_a_thin_pedicle_is_refused_with_numbers_and_an_alternative():
    proposal = propose_screw(block_twin(2.2), "vertebrae_L4", "right")
    assert proposal.screw is None
    answer = proposal.refusal()
    assert (answer["bone"], answer["side"]) == ("vertebrae_L4", "right")
    assert "4.4 mm wide" in answer["reason"]
    assert "hooks" in answer["instead"]


def test_a_missing_landmark_is_an_answer_and_a_missing_bone_a_fault():
    twin = block_twin()
    bare = Twin("bare", twin.bones, twin.landmarks[2:], Levels(1.0))
    assert "pedicle_left" in propose_screw(bare, "vertebrae_L4", "left").reason
    with pytest.raises(NoBone, match="it has vertebrae_L4"):
        propose_screw(twin, "vertebrae_L1", "left")


def test_a_landmark_in_the_air_is_refused():
    twin = block_twin()
    wrong = tuple(
        type(m)(m.name, m.bone, m.side, Points[Patient]([0.0, ISTHMUS_Y, 4.0]), m.direction, 0.0)
        if m.name == "pedicle_left"
        else m
        for m in twin.landmarks
    )
    proposal = propose_screw(Twin("w", twin.bones, wrong, Levels(1.0)), "vertebrae_L4", "left")
    assert "outside the bone" in proposal.reason


def test_bone_axes_are_right_handed_and_stand_where_they_should():
    frame = bone_frame(block_twin(), "vertebrae_L4")
    assert np.linalg.det(frame.rotation) == pytest.approx(1)
    assert frame.rotation[:, 0] == pytest.approx([-1, 0, 0])
    assert frame.rotation[:, 1] == pytest.approx([0, -1, 0])
    assert frame.translation_mm == pytest.approx([0, 0, 0])
