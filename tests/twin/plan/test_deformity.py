"""A leg's deformity: angles laid out and measured back on both sides, the load line where it was wanted, the bend where
it was made, and a real cadaver against five raters.
"""

import json
import math
from functools import cache
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import loadmat
from scipy.optimize import brentq

from spatial.frames import Patient
from spatial.mesh import TriangleMesh
from spatial.rigid import rotation_exp
from spatial.shapes import Line
from tests.data import shared_data
from tests.twin.plan.standing import bent, leg
from twin.anatomy import landmarks
from twin.anatomy.bone import Bone
from twin.anatomy.build import twin_from_meshes
from twin.anatomy.twin import Levels, Twin
from twin.plan.cuts.limb_cuts import wedge
from twin.plan.measures import leg_angles
from twin.plan.measures.cora import POPULATION, Cora, Usual, find_cora, of_other_leg, two_levels
from twin.plan.measures.deformity import analyse, leg_measures, length_differences, shared_out
from twin.plan.measures.effects import effects
from twin.plan.measures.leg_angles import LEG_FORMULAS, leg_axes
from twin.plan.measures.measured import Marks
from twin.plan.measures.wedge_angle import BadTarget, propose, turn_to_ray, turned, wedge_angle_rad, wedge_mm

SIDES = ("left", "right")


ANGLES = {
    "mldfa": "mldfa_deg", "mpta": "mpta_deg", "jlca": "jlca_deg", "lpfa": "lpfa_deg", "ldta": "ldta_deg",
    "version": "femoral_version_deg", "torsion": "tibial_torsion_deg",
}  # fmt: skip


def values(marks, side):
    return {name: formula(Marks.of(marks), side) for name, formula in LEG_FORMULAS.items()}


@settings(max_examples=25)
@given(
    mldfa=st.floats(80.0, 96.0), mpta=st.floats(78.0, 95.0), jlca=st.floats(-2.0, 6.0), version=st.floats(-10.0, 40.0),
    torsion=st.floats(0.0, 50.0), slope=st.floats(-2.0, 18.0), lpfa=st.floats(80.0, 105.0), ldta=st.floats(80.0, 98.0),
    turn_deg=st.floats(-15.0, 15.0), side=st.sampled_from(SIDES),
)  # fmt: skip
def test_a_leg_s_angles_are_measured_back_however_it_lies(side, turn_deg, **angles):
    found = values(leg(side, turn_deg=turn_deg, **angles), side)
    for name, key in ANGLES.items():
        assert found[key] == pytest.approx(angles[name], abs=1e-6), name
    assert found["tibial_slope_medial_deg"] == pytest.approx(angles["slope"], abs=1e-6)
    assert found["joint_line_obliquity_deg"] == pytest.approx(angles["mldfa"] + angles["mpta"], abs=1e-6)
    assert (found["femur_length_mm"], found["tibia_length_mm"]) == (pytest.approx(430.0), pytest.approx(370.0))


@pytest.mark.parametrize("side", SIDES)
def test_the_whole_leg_is_the_sum_of_its_parts(side):
    """Paley's check: mLDFA - MPTA + JLCA is the varus, but for the small gap between the two knee centres."""
    for mldfa, mpta, jlca in ((88.0, 87.0, 1.0), (92.0, 80.0, 4.0), (82.0, 91.0, 0.0)):
        found = values(leg(side, mldfa=mldfa, mpta=mpta, jlca=jlca), side)
        assert 180.0 - found["hka_deg"] == pytest.approx(mldfa - mpta + jlca, abs=0.2)
        medial = found["weight_bearing_line_percent"] < 50.0
        assert medial == (mldfa - mpta + jlca > 0)


def test_a_turn_about_a_hinge_meets_the_ray():
    """By hand: the hip 5 above, a target straight below it, the ankle on a circle of radius 5 about the hinge."""
    fixed, target, hinge = np.array([3.0, 5.0]), np.array([3.0, 1.0]), np.array([0.0, 0.0])
    turned_by = turn_to_ray(fixed, np.array([0.0, -5.0]), target, hinge)
    assert turned_by == pytest.approx(math.atan2(3.0, 4.0), abs=1e-12)  # to (3, -4)


HINGES = {"tibia": ((30.0, -20.0), (-30.0, -20.0)), "femur": ((30.0, 45.0), (-28.0, 45.0))}


def hinge_at(marks, side, offset, aslant_deg=0.0):
    """A hinge that runs from front to back, or aslant, lateral and above the femur's knee centre by (2,)."""
    axes = leg_axes(marks, side)
    point = leg_angles.knee(marks, side) + offset[0] * axes.across + offset[1] * axes.up
    return Line(point, rotation_exp(math.radians(aslant_deg) * axes.up) @ np.cross(axes.across, axes.up))


def by_search(marks, side, limb, hinge, percent):
    """The same angle found by turning the leg in space until the load is where it was wanted: no closed form."""

    def off(angle):
        after = turned(marks, side, limb, hinge, angle)
        return leg_angles.load_percent(after, side) - percent

    return brentq(off, -0.6, 0.6, xtol=1e-12)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("limb", ["tibia", "femur"])
@pytest.mark.parametrize(("mpta", "percent"), [(80.0, 62.5), (84.0, 50.0), (95.0, 40.0)])
def test_the_closed_form_is_what_a_search_finds_and_puts_the_load_there(side, limb, mpta, percent):
    marks = Marks.of(leg(side, mpta=mpta, turn_deg=6.0))
    for offset, aslant_deg in product(HINGES[limb], (0.0, 11.0)):
        hinge = hinge_at(marks, side, offset, aslant_deg)
        found = wedge_angle_rad(marks, side, limb, hinge, percent)
        assert math.degrees(found) == pytest.approx(
            math.degrees(by_search(marks, side, limb, hinge, percent)), abs=1e-6
        )
        after = turned(marks, side, limb, hinge, found)
        assert leg_angles.load_percent(after, side) == pytest.approx(percent, abs=1e-8)
        assert (found > 0) == (leg_angles.load_percent(marks, side) < percent)


@pytest.mark.parametrize(
    ("length", "angle", "gap"),
    [(55, 5, 4.8), (55, 12, 11.5), (60, 5, 5.2), (60, 8, 8.4), (60, 10, 10.5), (60, 12, 12.5), (65, 8, 9.1),
     (70, 10, 12.2), (70, 12, 14.6)],
)  # fmt: skip
def test_the_golden_gaps(length, angle, gap):
    assert wedge_mm(length, math.radians(angle)) == pytest.approx(gap, abs=0.051)
    corner = length * rotation_exp(np.array([0.0, 0.0, math.radians(angle)]))[:, 0]
    assert wedge_mm(length, math.radians(angle)) == pytest.approx(np.linalg.norm(corner - [length, 0, 0]), abs=1e-9)


@pytest.mark.parametrize("side", SIDES)
def test_a_wedge_changes_the_bone_that_is_cut_and_no_other(side):
    marks = Marks.of(leg(side, mpta=81.0), (), 0.3)
    hinge = hinge_at(marks, side, (30.0, -20.0))
    made = propose(marks, side, "tibia", True, hinge, 60.0, percent=62.5)
    assert made.technique == "medial opening wedge"
    before = leg_measures(marks, side)
    # the ankle goes sideways as well, about a hinge beside the axis: the bone's own axis turns by a little less
    assert made.after["mpta_deg"].value - before["mpta_deg"].value == pytest.approx(made.angle.value, abs=0.6)
    assert made.after["mldfa_deg"].value == pytest.approx(before["mldfa_deg"].value)
    assert made.after["weight_bearing_line_percent"].value == pytest.approx(62.5)
    assert 0.02 < made.angle.sd < 1.5
    femur = propose(marks, side, "femur", False, hinge_at(marks, side, (-28.0, 45.0)), 55.0)
    assert femur.technique == "lateral closing wedge"
    assert femur.after["mpta_deg"].value == pytest.approx(before["mpta_deg"].value)
    assert before["mldfa_deg"].value - femur.after["mldfa_deg"].value == pytest.approx(femur.angle.value, abs=1.5)


def test_what_the_joint_line_gives_by_itself_is_taken_off_as_named():
    marks = Marks.of(leg("left", mpta=82.0, jlca=5.0))
    hinge = hinge_at(marks, "left", (30.0, -20.0))
    none, half, third = (propose(marks, "left", "tibia", True, hinge, 60.0, slack=s) for s in ("none", "half", "third"))
    assert none.angle.value - half.angle.value == pytest.approx(1.5)
    assert none.angle.value - third.angle.value == pytest.approx(1.0)
    assert any("unverified" in note for note in half.notes)
    with pytest.raises(BadTarget, match="none, half, third"):
        propose(marks, "left", "tibia", True, hinge, 60.0, slack="all")
    with pytest.raises(BadTarget, match="0 "):
        wedge_angle_rad(marks, "left", "tibia", hinge, 140.0)


def own(mpta=87.0, ldta=89.0, mldfa=88.0, lpfa=90.0, sd=0.3):
    """A reference that is the bone's own before it was bent."""
    normal = {"mpta_deg": mpta, "ldta_deg": ldta, "mldfa_deg": mldfa, "lpfa_deg": lpfa}
    return {**POPULATION, **{n: Usual(v - 3, v, v + 3, sd, "itself", "verified") for n, v in normal.items()}}


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("varus_deg", [12.0, -9.0])
@pytest.mark.parametrize("share", [0.3, 0.6])
def test_the_bend_is_found_where_it_was_made(side, varus_deg, share):
    """A straight tibia broken on its axis and healed in varus: angle and level come back."""
    straight = leg(side, mldfa=90.0, mpta=90.0, jlca=0.0, ldta=90.0, lpfa=90.0)
    marks = Marks.of(straight)
    top, foot = leg_angles.tibial_knee(marks, side), leg_angles.ankle(marks, side)
    at = top + share * (foot - top)
    broken = bent(straight, side, "tibia", at[2], varus_deg, at)
    found = find_cora(Marks.of(broken), side, "tibia", own(mpta=90.0, ldta=90.0))
    assert isinstance(found, Cora)
    assert found.angle.value == pytest.approx(varus_deg, abs=1e-6)
    assert np.linalg.norm(np.array(found.place_mm) - at) < 1e-6
    assert found.within
    assert found.is_placed
    assert "one level" in found.words()


def test_two_levels_that_undo_each_other_meet_outside_the_bone():
    """Varus high, valgus low: the ends are shifted against each other, and no single level explains it."""
    straight = leg("left", mldfa=90.0, mpta=90.0, jlca=0.0, ldta=90.0, lpfa=90.0)
    marks = Marks.of(straight)
    top, foot = leg_angles.tibial_knee(marks, "left"), leg_angles.ankle(marks, "left")
    high, low = (top + share * (foot - top) for share in (0.25, 0.75))
    once = bent(straight, "left", "tibia", high[2], 20.0, high)
    there = high + rotation_exp(np.array([0.0, math.radians(20.0), 0.0])) @ (low - high)
    twice = bent(once, "left", "tibia", there[2] + 3.0, -13.0, there)
    found = find_cora(Marks.of(twice), "left", "tibia", own(mpta=90.0, ldta=90.0, sd=0.05))
    assert isinstance(found, Cora)
    assert found.angle.value == pytest.approx(7.0, abs=1e-6)
    assert not found.within
    assert "two levels" in found.words()


def rings(stations, radius_mm=11.0, n=40):
    """A closed tube with its middles at the stations, from the lowest up, its rings level."""
    around = np.linspace(0.0, 2 * np.pi, n, endpoint=False)
    circle = radius_mm * np.column_stack([np.cos(around), np.sin(around), np.zeros(n)])
    points = np.concatenate([*(s + circle for s in stations), stations[:1], stations[-1:]])
    k, m = n * len(stations), len(stations)
    faces = []
    for i in range(n):
        j = (i + 1) % n
        faces += [[k, j, i], [k + 1, (m - 1) * n + i, (m - 1) * n + j]]
        for r in range(m - 1):
            a, b, c, d = r * n + i, r * n + j, (r + 1) * n + i, (r + 1) * n + j
            faces += [[a, b, c], [b, d, c]]
    return TriangleMesh[Patient](points, np.array(faces, np.int32))


@pytest.mark.parametrize(("high_deg", "low_deg"), [(10.0, 12.0), (14.0, -11.0)])
def test_a_shaft_that_follows_neither_end_shows_both_levels(high_deg, low_deg):
    """Broken a quarter down and again at three quarters: the middle piece is a line of its own."""
    straight = leg("left", mldfa=90.0, mpta=90.0, jlca=0.0, ldta=90.0, lpfa=90.0)
    marks = Marks.of(straight)
    top, foot = leg_angles.tibial_knee(marks, "left"), leg_angles.ankle(marks, "left")
    high, low = (top + share * (foot - top) for share in (0.25, 0.75))
    turn = rotation_exp(np.array([0.0, math.radians(high_deg), 0.0]))
    there = high + turn @ (low - high)
    once = bent(straight, "left", "tibia", high[2], high_deg, high)
    twice = bent(once, "left", "tibia", there[2] + 3.0, low_deg, there)
    end = leg_angles.ankle(Marks.of(twice), "left")
    found = two_levels(rings(np.array([end, there, high, top])), Marks.of(twice), "left", own(mpta=90.0, ldta=90.0))
    assert found is not None
    for bend, degrees, place in zip(found, (high_deg, low_deg), (high, there), strict=True):
        assert bend.angle.value == pytest.approx(degrees, abs=0.05)
        assert np.linalg.norm(np.array(bend.place_mm) - place) < 0.5
        assert "of two" in bend.words() or not bend.is_placed
    single = bent(straight, "left", "tibia", high[2], high_deg, high)
    alone = leg_angles.ankle(Marks.of(single), "left")
    bone = rings(np.array([alone, high, top]))
    assert two_levels(bone, Marks.of(single), "left", own(mpta=90.0, ldta=90.0)) is None


def test_a_bend_within_its_error_has_no_place():
    found = find_cora(Marks.of(leg("left", mpta=86.0)), "left", "tibia")
    assert isinstance(found, str)
    assert "nothing to place" in found


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(
    ("angles", "part"),
    [({"mpta": 80.0}, "proximal tibia"), ({"mldfa": 94.0}, "distal femur"), ({"jlca": 6.0}, "joint line")],
)
def test_the_part_at_fault_is_named(side, angles, part):
    shares = shared_out(leg_measures(Marks.of(leg(side, **angles), (), 0.2), side), POPULATION)
    assert [s.part for s in shares if s.outside] == [part]
    assert next(s for s in shares if s.outside).varus_deg > 4.0
    assert next(s for s in shares if s.outside).sure


def test_the_other_leg_says_what_is_usual():
    marks = Marks.of([*leg("left", mpta=80.0, mldfa=86.0), *leg("right", mpta=84.5, mldfa=86.0, femur_mm=436.0)])
    usual = of_other_leg(marks, "left")
    assert usual["mpta_deg"].normal == pytest.approx(84.5)
    assert usual["mpta_deg"].status == "verified"
    shares = {s.part: s.varus_deg for s in shared_out(leg_measures(marks, "left"), usual)}
    none = pytest.approx(0.0, abs=1e-6)
    assert shares == {"distal femur": none, "proximal tibia": pytest.approx(4.5), "joint line": none}
    assert length_differences(marks, "left")["femur_difference_mm"].value == pytest.approx(-6.0)


@cache
def cadaver():
    bones = loadmat(shared_data("bones_vsd_z013/z013.mat"), simplify_cells=True)["B"]
    found = {}
    for bone in bones:
        kind, _, side = bone["name"].partition("_")
        name = kind.lower() + {"L": "_left", "R": "_right", "": ""}[side]
        if name.startswith(("hip", "femur", "tibia", "fibula", "sacrum")):
            mesh = bone["mesh"]
            found[name] = TriangleMesh[Patient](
                np.asarray(mesh["vertices"], float), np.asarray(mesh["faces"], np.int32) - 1
            )
    marks, warnings = landmarks.measure(found)
    return Twin("z013", {n: Bone(n, m) for n, m in found.items()}, marks, Levels(0.9), warnings=warnings)


def rater_angles():
    """Version and mLDFA of the left femur, by each trial of each rater; written out anew."""
    found = []
    for rater in json.loads(shared_data("bones_vsd_z013/landmarks_z013.json").read_text())["femur"].values():
        for trial in rater:
            points = {k: np.array(v) for k, v in trial.items()}
            head = np.array([p for k, p in points.items() if "Femoral Head" in k])
            A = np.column_stack([2 * head, np.ones(len(head))])
            centre = np.linalg.lstsq(A, (head**2).sum(1), rcond=None)[0][:3]
            neck = np.mean([p for k, p in points.items() if "Neck Isthmus" in k], axis=0)
            up = centre - points["Intercondylar Notch (ICN)"]
            up /= np.linalg.norm(up)
            across = points["Posterior Lateral Condyle (PLC)"] - points["Posterior Medial Condyle (PMC)"]
            across -= (across @ up) * up
            across /= np.linalg.norm(across)
            way, line = neck - centre, points["Distal Lateral Condyle (DLC)"] - points["Distal Medial Condyle (DMC)"]
            found.append(
                (
                    math.degrees(math.atan2(way @ np.cross(up, across), way @ across)),
                    90.0 - math.degrees(math.atan2(line @ up, line @ across)),
                )
            )
    return np.array(found)


def test_a_real_femur_s_angles_are_the_raters():
    found = leg_measures(Marks.of_twin(cadaver()), "left")
    rated = rater_angles()
    for name, column, least in (("femoral_version_deg", 0, 1.0), ("mldfa_deg", 1, 0.5)):
        off = found[name].value - rated[:, column].mean()
        assert abs(off) < max(least, rated[:, column].std()), name


def test_the_raters_neck_and_trochanter_are_found():
    raters = json.loads(shared_data("bones_vsd_z013/landmarks_z013.json").read_text())["femur"]
    trials = [trial for rater in raters.values() for trial in rater]
    tip = np.array([t["Superior Greater Trochanter (SGT)"] for t in trials])
    neck = np.array([np.mean([p for k, p in t.items() if "Neck Isthmus" in k], axis=0) for t in trials])
    for name, points in (("greater_trochanter", tip), ("femoral_neck", neck)):
        at = cadaver().landmark(name, "femur_left").position.mm
        spread = np.sqrt(((points - points.mean(0)) ** 2).sum(1).mean())
        assert np.linalg.norm(at - points.mean(0)) < max(1.5, spread), name


@pytest.mark.parametrize("side", SIDES)
def test_a_real_leg_is_plausible_and_its_answer_readable(side):
    found = analyse(cadaver(), side, percent=62.5)
    value = {n: m.value for n, m in found.measures.items()}
    assert 174.0 < value["hka_deg"] < 186.0
    assert 83.0 < value["mldfa_deg"] < 92.0
    assert 83.0 < value["mpta_deg"] < 92.0
    assert -2.0 < value["jlca_deg"] < 4.0
    assert 0.0 < value["tibial_slope_medial_deg"] < 14.0
    assert 0.0 < value["femoral_version_deg"] < 35.0
    assert value["leg_length_mm"] == pytest.approx(726.0, abs=8.0)
    assert abs(found.differences["leg_length_difference_mm"].value) < 12.0
    text = "\n".join(found.words())
    assert "unloaded" in text
    assert "unverified" in text
    assert "wedge of" in text
    for made in found.corrections:
        assert made.after["weight_bearing_line_percent"].value == pytest.approx(62.5, abs=1e-6)
        assert 30.0 < made.length_mm < 80.0
    json.dumps(found.to_json(), allow_nan=False)


@pytest.mark.parametrize(("side", "percent"), [("left", 30.0), ("right", 80.0)])
def test_the_cut_that_is_proposed_puts_the_load_there_when_it_is_carried_out(side, percent):
    """The other way round: planes, fragments and landmarks as a plan moves them, then the same leg measured."""
    for made in analyse(cadaver(), side, percent=percent).corrections:
        base, _, kind = made.technique.partition(" ")
        cut = wedge(
            cadaver(), "open-wedge" if kind.startswith("opening") else "close-wedge", f"{made.limb}_{side}",
            math.radians(abs(made.angle.value)), hinge_side="lateral" if base == "medial" else "medial",
        )  # fmt: skip
        done = effects(cadaver(), [cut])
        assert done.legs_after[side]["weight_bearing_line_percent"].value == pytest.approx(percent, abs=1e-6)
        other = "right" if side == "left" else "left"
        assert all(abs(m.value) < 1e-9 for m in done.leg_changes[other].values() if m.value is not None)
        assert 2.0 * cut.depth_mm * math.sin(cut.angle_rad / 2) == pytest.approx(made.height_mm, abs=0.01)


def test_both_legs_of_the_cadaver_are_nearly_alike():
    left, right = (leg_measures(Marks.of_twin(cadaver()), side) for side in SIDES)
    for name, most in (("mldfa_deg", 3.0), ("mpta_deg", 3.0), ("tibial_slope_medial_deg", 3.0), ("hka_deg", 4.0)):
        assert abs(left[name].value - right[name].value) < most, name


def test_a_mirrored_leg_has_the_same_angles():
    """The left leg's meshes mirrored are a right leg: every number stays."""
    bones = {n: b.surface for n, b in cadaver().bones.items() if n.endswith("left")}
    mirror = {
        n.replace("left", "right"): TriangleMesh[Patient](m.vertices_mm * [-1.0, 1.0, 1.0], m.triangles[:, ::-1])
        for n, m in bones.items()
    }
    marks = Marks.of(landmarks.measure(mirror)[0])
    for name, m in leg_measures(Marks.of_twin(cadaver()), "left").items():
        assert LEG_FORMULAS[name](marks, "right") == pytest.approx(m.value, abs=0.05), name


def test_what_a_femur_alone_can_tell():
    twin = twin_from_meshes({n: b.surface for n, b in cadaver().bones.items() if n == "femur_left"})
    found = analyse(twin, "left")
    assert found.measures["mldfa_deg"].value is not None
    assert found.measures["mldfa_deg"].sd is None  # the scan behind the surfaces is not known
    assert found.corrections == ()
    assert "tibia left" in found.measures["hka_deg"].reason
    assert "not measured" in found.verdict()
