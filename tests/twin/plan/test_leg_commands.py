"""`osteotwin plan osteotomy|guide-block|implant` on legs, from the outside."""

import pytest

from tests.twin.plan.desk import answer, run
from tests.twin.plan.limbs import box_legs
from twin.case import Case
from twin.surfaces.stl import read_stl


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    folder = tmp_path_factory.mktemp("legs") / "case"
    Case.create(folder, box_legs(), None, None, ())
    return folder


def test_a_high_tibial_osteotomy_with_its_plate_and_its_block(case, tmp_path):
    cut = answer(case, "osteotomy", "--kind", "open-wedge", "--bone", "tibia_left", "--angle-deg", "9", "--plan", "hto")
    assert cut["words"] == "distal part 9.0\u00b0 valgus"
    assert cut["bridge_mm"] == pytest.approx(8.0, abs=0.5)
    assert set(cut["gap_mm"]) == {"far cortex", "anterior", "posterior"}
    assert cut["leg"]["mpta_deg"]["change"] > 8
    assert cut["collisions"][0]["at_hinge"]
    (plate,) = answer(case, "implant", "--osteotomy", cut["id"], "--kind", "plate", "--plan", "hto")["implants"]
    assert plate["kind"] == "plate"
    out = tmp_path / "block.stl"
    block = answer(case, "guide-block", "--osteotomy", cut["id"], "--out", str(out), "--plan", "hto")
    assert block["closed"]
    assert read_stl(out).is_closed
    again = answer(case, "guide-block", "--osteotomy", cut["id"], "--out", str(out), "--plan", "hto", code=2)
    assert "already" in again["error"]["message"]
    plan = Case.open(case).load_plan("hto")
    assert set(plan["implants"]) == {plate["id"]}
    assert plan["osteotomies"][cut["id"]]["kerf_mm"] == 0


def test_words_say_direction_gaps_and_cautions(case):
    wide = ("--angle-deg", "14", "--bridge-mm", "4", "--plan", "big")
    said = run(case, "osteotomy", "--kind", "open-wedge", "--bone", "tibia_right", *wide).stdout
    assert "14.0\u00b0 valgus" in said
    assert "CAUTION (unverified limit)" in said
    said = run(
        case, "osteotomy", "--kind", "derotation", "--bone", "femur_right", "--target-deg", "15", "--plan", "big"
    )
    assert "distal part 15.0\u00b0 external" in said.stdout
    both = answer(case, "osteotomy", "--kind", "plane", "--bone", "femur_left", "--plan", "big")
    assert {tuple(c["between"]) for c in both["together"] if c["at_hinge"]} == {
        ("tibia_right:distal", "tibia_right:proximal")
    }
    said = run(case, "assess", "--plan", "big").stdout
    assert "tibia_right-open-wedge" in said
    assert "femur_right-derotation" in said


@pytest.mark.parametrize(
    ("command", "options", "words"),
    [
        ("osteotomy", ("--kind", "derotation", "--bone", "tibia_left", "--angle-deg", "5"), "--toward"),
        ("osteotomy", ("--kind", "open-wedge", "--bone", "tibia_left", "--hinge", "back"), "medial or lateral"),
        ("osteotomy", ("--kind", "open-wedge", "--bone", "tibia_left", "--toward", "external"), "not an option"),
        ("osteotomy", ("--kind", "plane", "--bone", "tibia_left", "--box", "5"), "2 numbers"),
        ("osteotomy", ("--kind", "plane", "--bone", "tibia_left", "--outline", "1,2;3"), "3 numbers"),
        ("guide-block", ("--osteotomy", "none", "--out", "x.stl"), "no osteotomy 'none'"),
        ("implant", ("--osteotomy", "none", "--kind", "plate"), "no osteotomy 'none'"),
        ("implant", ("--osteotomy", "none", "--kind", "nail"), "--diameter-mm"),
        ("implant", ("--osteotomy", "none", "--kind", "cage"), "plate or nail"),
    ],
)
def test_wrong_use_is_one_line(case, command, options, words):
    error = answer(case, command, *options, code=2)["error"]
    assert words in error["message"]
