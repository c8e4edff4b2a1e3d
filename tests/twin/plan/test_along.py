"""`plan screw --along …` from the outside: what the rules need, what they say, and a maker's own screws."""

import json

import pytest

from tests.twin.plan.bodies import block, block_spine, to_mesh
from tests.twin.plan.test_commands import answer, run
from tests.twin.plan.test_implants import vendor
from twin.anatomy.bone import Bone
from twin.anatomy.twin import Twin
from twin.case import Case
from twin.plan.screws.implants import ENVIRONMENT

L3 = ("--bone", "vertebrae_L3", "--side", "left")


@pytest.fixture
def case(tmp_path):
    spine = block_spine()
    shaft = Bone("femur_left", to_mesh(block((90, -15, -60), (110, 15, 60))))
    twin = Twin("spine", {**spine.bones, "femur_left": shaft}, spine.landmarks, spine.levels)
    Case.create(tmp_path / "case", twin, None, None, ())
    return tmp_path / "case"


def test_a_screw_along_the_axis_says_its_aim_scales_and_facet(case):
    (screw,) = answer(case, "screw", *L3, "--along", "axis")["screws"]
    assert (screw["kind"], screw["family"], screw["grade"], screw["neo"]) == ("pedicle", "polyaxial", "A", 0)
    assert screw["aim_deg"] == {"lateral": pytest.approx(0, abs=0.1), "cranial": pytest.approx(0, abs=0.1)}
    assert "facet_superior_left" in screw["facet_reason"]
    assert screw["breach_whole_mm"]["canal"] == 0
    assert (screw["hold_n"], screw["hold_reason"]) == (None, "the twin has no CT")
    assert Case.open(case).load_plan("plan")["screws"]["L3-left"]["diameter_mm"] == screw["diameter_mm"]


def test_a_lag_screw_goes_into_any_bone_and_keeps_its_kind_in_the_plan(case):
    (screw,) = answer(
        case, "screw", "--bone", "femur_left", "--side", "left", "--along", "lag", "--entry", "110,0,5", "--target",
        "80,0,5", "--diameter", "4", "--length", "25", "--fracture", "104,0,0,1,0,0",
    )["screws"]  # fmt: skip
    assert (screw["kind"], screw["thread_mm"], screw["grade"]) == ("lag", 16.0, "A")
    assert screw["margin_mm"]["anterior"] == pytest.approx(-5.0, abs=0.1)
    kept = Case.open(case).load_plan("plan")["screws"]["femur_left-left-lag"]
    assert (kept["kind"], kept["thread_mm"]) == ("lag", 16.0)
    assert "femur_left-left-lag: 4 x 25 mm" in run(case, "screw", "--bone", "femur_left", "--side", "left", "--along",
        "lag", "--entry", "110,0,5", "--target", "80,0,5", "--diameter", "4", "--length", "25").stdout  # fmt: skip


def test_a_trajectory_without_room_is_an_answer_with_what_to_do_instead(case):
    found = answer(case, "screw", *L3, "--along", "cbt", "--diameter", "9.5")
    assert found["screws"] == []
    (refused,) = found["refused"]
    assert "cortical trajectory" in refused["reason"]
    assert refused["alternatives"][0]["way"] == "smaller"


def test_a_makers_screw_is_planned_where_its_file_is_named(case, tmp_path, monkeypatch):
    (tmp_path / "acme.json").write_text(json.dumps(vendor()), encoding="utf-8")
    refused = run(case, "screw", *L3, "--along", "axis", "--family", "acme", code=2)
    assert "OSTEOTWIN_IMPLANTS" in refused.output
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "acme.json"))
    (screw,) = answer(case, "screw", *L3, "--along", "axis", "--family", "acme")["screws"]
    assert (screw["family"], screw["diameter_mm"], screw["length_mm"]) == ("acme", 6.2, 42.0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--along", "magic"), "axis, cbt, s2ai, lag"),
        (("--along", "axis", "--auto"), "give one"),
        (("--along", "axis", "--entry", "1,2,3"), "finds its own way"),
        (("--along", "lag", "--entry", "1,2,3"), "--target, --diameter"),
        (("--along", "s2ai"), "sacrum"),
        (("--auto", "--family", "polyaxial"), "belong to --along"),
        (("--along", "lag", "--entry", "1,2,3", "--target", "1,9,3", "--diameter", "4", "--fracture", "1,2"), "normal"),
    ],
)
def test_wrong_use_is_told(case, options, words):
    assert words in run(case, "screw", *L3, *options, code=2).output
