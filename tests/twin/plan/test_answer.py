"""Answers to requests: goals reached to the angle that plain geometry gives, limits kept and named, shortfalls said."""

import json
import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from spatial.frames import Patient
from spatial.mesh import TriangleMesh
from tests.twin.plan.bodies import PEDICLE_X, block, landmarks_of, to_mesh, vertebra_solid
from tests.twin.plan.limbs import FEMUR, TIBIA, box_legs
from tests.twin.plan.standing import pelvis
from tests.twin.plan.test_approval import answer as run_json
from tests.twin.plan.test_approval import refused as run_refused
from twin.anatomy.bone import Bone
from twin.anatomy.structure import Structure
from twin.anatomy.twin import Levels, Twin
from twin.case import Case
from twin.plan.answer import answer
from twin.plan.proposals import proposals
from twin.plan.request import BadRequest, request_from

TILT, SLOPE = 25.0, 30.0  # an upright spine: L1-S1 lordosis is the slope, so PI - LL is the tilt
STEP = 38.0


@cache
def spine():
    """L1 to L5 of blocks, one above the other, over a sacrum that leans by SLOPE."""
    marks = pelvis(TILT, SLOPE)
    plate = next(m.position.mm for m in marks if m.name == "endplate_superior")
    bones = {"sacrum": Bone("sacrum", to_mesh(block((-20, -15, -60), (20, 15, -5)).translate(tuple(plate))))}
    for n, level in enumerate(("L5", "L4", "L3", "L2", "L1")):
        name, centre = f"vertebrae_{level}", plate + np.array([0.0, 0.0, 20.0 + STEP * n])
        bones[name] = Bone(name, to_mesh(vertebra_solid(5.0).translate(tuple(centre))))
        marks += landmarks_of(name, centre)
    return Twin("requested", bones, tuple(marks), Levels(1.0, "Ann Lee"))


def correction(**more):
    return request_from({"procedure": "sagittal_correction", "levels": "L1,L5", **more})


def fixation(levels="L3", **constraints):
    return request_from({"procedure": "fixation", "levels": levels, "constraints": constraints})


def degrees(cuts):
    return [math.degrees(cut.angle_rad) for cut in cuts]


def test_a_goal_is_reached_by_the_degrees_that_are_missing():
    found = answer(spine(), correction(goals={"pi_minus_ll_deg": {"at_most": 10}}))
    assert [(c.kind, c.bone) for c in found.cuts] == [("SPO", "vertebrae_L4"), ("SPO", "vertebrae_L3")]
    assert sum(degrees(found.cuts)) == pytest.approx(TILT - 10, abs=0.2)  # a degree of wedge is a degree of lordosis
    (goal,) = found.goals
    assert goal.now.value == pytest.approx(TILT)
    assert goal.after.value == pytest.approx(10, abs=0.21)
    assert goal.after.value <= 10
    assert goal.short_by == 0
    assert "no more is needed" in found.way.binding
    assert found.others[0].words.startswith("PSO")


@pytest.mark.parametrize(
    ("constraints", "kinds", "total"),
    [
        ({"cuts": ["PSO"]}, ["PSO"], 15.0),
        ({"cuts": ["PSO"], "cut_levels": "L3"}, ["PSO"], 15.0),
        ({"cuts": ["SPO"], "max_angle_deg": 5.5}, ["SPO", "SPO", "SPO"], 15.0),
    ],
)
def test_a_goal_keeps_to_the_cuts_that_are_allowed(constraints, kinds, total):
    found = answer(spine(), correction(goals={"pi_minus_ll_deg": {"at_most": 10}}, constraints=constraints))
    assert [c.kind for c in found.cuts] == kinds
    assert sum(degrees(found.cuts)) == pytest.approx(total, abs=0.3)
    assert all(angle <= constraints.get("max_angle_deg", 60) + 1e-9 for angle in degrees(found.cuts))
    if "cut_levels" in constraints:
        assert found.cuts[0].bone == "vertebrae_L3"


def test_a_goal_beyond_every_way_says_by_how_much_it_falls_short_and_why():
    limits = {"cuts": ["SPO"], "cut_levels": "L3-L4", "max_angle_deg": 6}
    found = answer(spine(), correction(goals={"pi_minus_ll_deg": {"at_most": 0}}, constraints=limits))
    assert degrees(found.cuts) == pytest.approx([6.0, 6.0])
    assert found.goals[0].short_by == pytest.approx(TILT - 12)
    assert found.way.binding == "max_angle_deg 6 of the request"
    assert any("falls short by 13.0" in note for note in found.notes)


def test_the_first_goal_decides_and_the_others_are_said():
    asked = {"lumbar_lordosis_deg": {"target": 40.0}, "pi_minus_ll_deg": {"at_most": 5}}
    found = answer(spine(), correction(goals=asked, priorities=["lumbar_lordosis_deg"]))
    by_name = {goal.name: goal for goal in found.goals}
    assert by_name["lumbar_lordosis_deg"].after.value == pytest.approx(40, abs=0.2)
    assert by_name["pi_minus_ll_deg"].short_by == pytest.approx(10, abs=0.2)
    other = answer(spine(), correction(goals=asked, priorities=["pi_minus_ll_deg"]))
    assert sum(degrees(other.cuts)) == pytest.approx(20, abs=0.3)


def test_a_goal_that_is_reached_or_cannot_be_measured_asks_for_no_cut():
    found = answer(
        spine(), correction(goals={"pi_minus_ll_deg": {"at_most": 30}, "sagittal_vertical_axis_mm": {"at_most": 50}})
    )
    assert found.cuts == ()
    assert [goal.short_by for goal in found.goals] == [0, None]
    assert any("no goal asks for a cut" in note for note in found.notes)


def load_percent(cut):
    """Where the line from hip to ankle crosses the plateau after a wedge below it, by plain plane geometry."""
    x0, z0 = cut.hinge.point_mm[0] - 100.0, cut.hinge.point_mm[2]
    angle = cut.angle_rad * np.sign(-cut.hinge.direction[1])
    dx, dz = 0.0 - x0, -TIBIA - z0
    found = []
    for a in (angle, -angle):
        x = x0 + math.cos(a) * dx + math.sin(a) * dz
        z = z0 - math.sin(a) * dx + math.cos(a) * dz
        found.append(50.0 + 100.0 * (x * FEMUR / (FEMUR - z)) / 70.0)
    return max(found)  # the foot went outward


def high_tibial(side="left", **more):
    goals = {"weight_bearing_line_percent": {"target": 62.5}}
    return request_from({"procedure": "high_tibial_osteotomy", "side": side, "goals": goals, **more})


@pytest.mark.parametrize("kind", ["open-wedge", "close-wedge"])
def test_a_goal_of_the_load_line_is_reached_by_a_wedge_of_the_tibia(kind):
    found = answer(box_legs(), high_tibial(constraints={"cuts": [kind]}))
    (cut,) = found.cuts
    assert (cut.kind, cut.bone) == (kind, "tibia_left")
    assert found.goals[0].now.value == pytest.approx(50)
    assert load_percent(cut) == pytest.approx(62.5, abs=0.5)
    assert found.goals[0].after.value == pytest.approx(load_percent(cut), abs=1e-6)
    assert sum("leads away" in (way.failed or "") for way in found.others) == 1


def test_a_goal_is_bound_by_the_largest_opening_and_left_and_right_are_mirrored():
    left = answer(box_legs(), high_tibial(constraints={"cuts": ["open-wedge"], "max_opening_mm": 2.0}))
    (cut,) = left.cuts
    assert cut.wedge_height_mm == pytest.approx(2.0, abs=0.02)
    assert left.way.binding == "max_opening_mm 2 of the request"
    assert left.goals[0].short_by > 1
    right = answer(box_legs(), high_tibial("right", constraints={"cuts": ["open-wedge"], "max_opening_mm": 2.0}))
    assert right.goals[0].after.value == pytest.approx(left.goals[0].after.value, abs=1e-6)


def test_a_goal_of_version_turns_the_femur_by_what_is_too_much():
    asked = request_from(
        {"procedure": "derotation", "side": "right", "goals": {"femoral_version_deg": {"target": 15.0}}}
    )
    found = answer(box_legs(version_deg=30.0), asked)
    (cut,) = found.cuts
    assert (cut.kind, cut.bone) == ("derotation", "femur_right")
    assert degrees(found.cuts) == pytest.approx([15.0], abs=0.11)
    assert found.goals[0].after.value == pytest.approx(15.0, abs=0.2)


def held(found):
    return {h.proposal.side: h for h in found.screws}


def test_screws_keep_to_the_thickest_and_the_least_margin_and_say_which_binds():
    free = held(answer(spine(), fixation()))["left"]
    assert free.proposal.screw.diameter_mm == 7.5  # 80 % of a round pedicle of 10 mm
    thin = held(answer(spine(), fixation(max_diameter_mm=6.0)))["left"]
    assert (thin.proposal.screw.diameter_mm, thin.binding) == (6.0, "max_diameter_mm")
    wide = held(answer(spine(), fixation(min_margin_mm=1.9)))["left"]
    assert (wide.proposal.screw.diameter_mm, wide.binding) == (6.0, "min_margin_mm")
    assert min(v for n, v in wide.proposal.grade.margin_mm.items() if n != "anterior") >= 1.9
    none = held(answer(spine(), fixation(min_margin_mm=4.0)))["left"]
    assert none.proposal.screw is None
    assert "min_margin_mm asks 4" in none.proposal.reason


def test_a_side_and_a_missing_level_are_answered():
    asked = request_from({"procedure": "fixation", "levels": "L5-S1", "side": "left"})
    found = answer(replace(spine(), bones={n: b for n, b in spine().bones.items() if n != "sacrum"}), asked)
    assert [(h.proposal.bone, h.proposal.side) for h in found.screws] == [("vertebrae_L5", "left"), ("sacrum", "left")]
    assert "sacrum is not in this twin" in found.screws[1].proposal.reason


def test_a_fixation_bends_a_rod_a_side_and_a_correction_none():
    found = answer(spine(), fixation("L3,L4"))
    assert [one.rod.id for one in found.rods] == ["rod-left", "rod-right"]
    assert set(found.bindings) == {item.id for item in found.items}
    moved = answer(spine(), correction(goals={"pi_minus_ll_deg": {"at_most": 10}}))
    assert moved.rods == ()
    assert any("no rod is bent" in note for note in moved.notes)


def test_nothing_comes_near_a_no_go_structure_whatever_its_role():
    plate = spine().landmark("pedicle_left", "vertebrae_L3").position.mm
    ball = to_mesh(block((-4, -4, -4), (4, 4, 4)).translate((PEDICLE_X, float(plate[1]) - 6.0, float(plate[2]))))
    with_it = replace(spine(), structures={"tumour": Structure("tumour", "context", TriangleMesh[Patient](
        ball.vertices_mm, ball.triangles), "test")})  # fmt: skip
    free, kept = answer(with_it, fixation()), answer(with_it, fixation(no_go=["tumour"]))
    assert held(free)["left"].proposal.screw is not None
    assert held(kept)["left"].proposal.screw is None
    assert "tumour" in held(kept)["left"].proposal.reason
    assert held(kept)["right"].proposal.screw is not None
    with pytest.raises(BadRequest, match="not a structure of this twin; there are: tumour"):
        answer(with_it, fixation(no_go=["aorta"]))
    with pytest.raises(BadRequest, match="thinnest screw to choose from has 4 mm"):
        answer(spine(), fixation(max_diameter_mm=2.0))


def test_the_command_places_proposals_that_wait_for_a_decision(tmp_path):
    Case.create(tmp_path / "case", spine(), None, None, ()).close()
    form = tmp_path / "request.yaml"
    form.write_text(
        "procedure: sagittal_correction\nlevels: L2,L3,L4\nside: left\ngoals: {pi_minus_ll_deg: {at_most: 5}}\n"
        "constraints: {cuts: [PSO]}\n"
    )
    case = tmp_path / "case"
    dry = run_json(case, "request", str(form), "--dry-run")
    assert dry["applied"] is False
    assert Case.open(case).plan_names == ()
    found = run_json(case, "request", str(form), "--by", "Eve")
    assert {key: value for key, value in found.items() if key != "applied"} == {
        key: value for key, value in dry.items() if key != "applied"
    }
    assert [o["id"] for o in found["osteotomies"]] == ["L3-PSO"]
    assert "no more is needed" in found["osteotomies"][0]["binding"]
    assert [s["id"] for s in found["screws"]] == ["L2-left", "L4-left"]
    assert all(s["binding"] for s in found["screws"])
    assert "L3-PSO takes the pedicle out" in found["refused"][0]["reason"]
    opened = Case.open(case)
    kept = proposals(opened.journal.entries(), "plan", opened.twin.twin_id)
    assert {p.key[1]: p.decision for p in kept} == {"L2-left": None, "L4-left": None, "L3-PSO": None}
    assert all(p.origin["request_sha256"] == found["request_sha256"] for p in kept)
    asked = [e for e in opened.journal.entries() if e.kind == "plan_requested"]
    assert asked[0].payload["request"] == found["request"]
    assert "unknown field pi_ll" in run_refused(case, "request", _wrong(tmp_path), code=2)
    assert json.dumps(found)


def _wrong(folder):
    path = folder / "wrong.yaml"
    path.write_text("procedure: fixation\nlevels: L3\npi_ll: 3\n")
    return str(path)
