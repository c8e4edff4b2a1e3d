"""`osteotwin plan …` from the outside: JSON keys, exit codes, one line an error, undo and redo through the journal."""

import json

import numpy as np
import pytest

from tests.twin.plan.bodies import REAR, block_spine
from tests.twin.plan.desk import answer, run
from twin.case import Case
from twin.case_files import CaseCorrupt
from twin.plan.edits import fold

SCREW_KEYS = {
    "id", "bone", "side", "entry_mm", "target_mm", "diameter_mm", "length_mm", "grade", "breach_mm", "breach_direction",
    "margin_mm", "hu", "hold_n", "binding",
}  # fmt: skip
BY_HAND = ("--diameter", "6", "--length", "40")


def test_a_screw_by_hand_with_negative_numbers_is_snapped_to_the_bone_and_graded(case):
    target = "-12,-10,4"
    found = answer(case, "screw", "--bone", "vertebrae_L3", "--side", "right", "--entry", "-11.8,60,4",
                   "--target", target, *BY_HAND)  # fmt: skip
    (screw,) = found["screws"]
    assert set(screw) >= SCREW_KEYS
    assert set(screw["margin_mm"]) == {"medial", "lateral", "superior", "inferior", "anterior"}
    assert screw["entry_mm"][1] == pytest.approx(REAR + 0.2, abs=0.05)
    assert screw["target_mm"] == [-12, -10, 4]
    assert (screw["grade"], screw["breach_direction"], screw["hold_n"]) == ("A", None, None)
    plan = Case.open(case).load_plan("plan")
    assert plan["screws"]["L3-right"]["entry_mm"] == screw["entry_mm"]


def test_a_screw_moved_into_the_canal_breaches_medially(case):
    found = answer(case, "screw", "--bone", "vertebrae_L3", "--side", "left", "--entry", "8.3,60,4", "--target",
                   "8.3,0,4", *BY_HAND)  # fmt: skip
    assert (found["screws"][0]["grade"], found["screws"][0]["breach_direction"]) == ("C", "medial")
    assert found["screws"][0]["breach_mm"] == pytest.approx(2.0, abs=0.06)


def test_auto_proposes_both_sides_and_refuses_missing_bones_as_an_answer(case):
    found = answer(case, "auto", "--levels", "L2-L5")
    assert [s["id"] for s in found["screws"]] == [f"L{n}-{side}" for n in (2, 3, 4) for side in ("left", "right")]
    assert all(s["grade"] == "A" for s in found["screws"])
    assert [(r["bone"], r["side"]) for r in found["refused"]] == [("vertebrae_L5", "left"), ("vertebrae_L5", "right")]
    assert all(r["reason"] and r["instead"] for r in found["refused"])
    again = answer(case, "auto", "--levels", "L2-L5")
    assert again == found
    kinds = [e.kind for e in Case.open(case).journal.entries() if e.kind.endswith("screw")]
    assert kinds == ["place_screw"] * 6  # the same proposal again is no edit


def test_an_edit_made_meanwhile_by_another_program_is_kept(case, monkeypatch):
    """The plan that is saved is the fold of the whole journal, not of what was there when the command began."""
    from twin.plan.auto import autoplan

    proposed = autoplan.propose_screw

    def slow(twin, bone, side, volume=None):
        if side == "right":
            monkeypatch.setattr(autoplan, "propose_screw", proposed)
            run(case, "screw", "--bone", "vertebrae_L2", "--side", "left", "--auto")
        return proposed(twin, bone, side, volume)

    monkeypatch.setattr(autoplan, "propose_screw", slow)
    run(case, "screw", "--bone", "vertebrae_L3", "--side", "right", "--auto")
    opened = Case.open(case)
    assert set(opened.load_plan("plan")["screws"]) == {"L2-left", "L3-right"}
    assert opened.load_plan("plan") == fold(opened.journal.entries(), "plan", opened.twin.twin_id)[0].to_json()
    assert opened.check() == []


def test_a_plan_that_was_not_saved_after_its_last_edit_is_refused_until_it_is(case):
    run(case, "screw", "--bone", "vertebrae_L2", "--side", "left", "--auto")
    with Case.open(case) as opened:  # as if the program had been stopped between the edit and the saving
        opened.journal.append("planner", "remove_screw", {"plan": "plan", "id": "L2-left"})
    stopped = Case.open(case)
    assert any("before its last edit" in problem for problem in stopped.check())
    with pytest.raises(CaseCorrupt, match="before its last edit"):
        stopped.load_plan("plan")
    run(case, "auto", "--levels", "L5")  # this twin has no L5: no edit, yet the file is mended
    assert Case.open(case).load_plan("plan")["screws"] == {}
    assert Case.open(case).check() == []


def test_osteotomy_assess_undo_and_redo(case):
    run(case, "auto", "--levels", "L2,L4")
    cut = answer(case, "osteotomy", "--kind", "PSO", "--bone", "vertebrae_L3", "--angle-deg", "25")
    assert cut["moving"] == ["implant", "vertebrae_L2"] or set(cut["moving"]) == {"implant", "vertebrae_L2"}
    total = cut["cranial_ml"] + cut["caudal_ml"] + cut["removed_ml"]
    assert total == pytest.approx(block_spine().bone("vertebrae_L3").volume_ml, rel=1e-6)
    assert np.linalg.det(np.array(cut["planned_from_patient"]["rotation"])) == pytest.approx(1)
    assert cut["lordosis_change_deg"] is None  # no sacrum here
    report = answer(case, "assess")
    assert [s["id"] for s in report["screws"]] == ["L2-left", "L2-right", "L4-left", "L4-right"]
    assert [o["id"] for o in report["osteotomies"]] == ["L3-PSO"]
    assert report["alignment"]["before"]["posture"] == "supine"
    assert report["skipped"] == []
    before = Case.open(case).load_plan("plan")
    assert answer(case, "undo")["osteotomies"] == []
    assert answer(case, "undo", "--redo")["osteotomies"] == ["L3-PSO"]
    assert Case.open(case).load_plan("plan") == before
    assert not Case.open(case).check()


def test_a_screw_in_a_pedicle_that_the_wedge_takes_is_pointed_out(case):
    run(case, "osteotomy", "--kind", "PSO", "--bone", "vertebrae_L3")
    found = answer(case, "screw", "--bone", "vertebrae_L3", "--side", "left", "--auto")
    assert found["conflicts"] == ["L3-left sits in a pedicle that L3-PSO takes out"]


def test_words_without_json(case):
    assert "grade A" in run(case, "screw", "--bone", "vertebrae_L3", "--side", "left", "--auto").stdout
    assert (
        "25.0\u00b0 extension"
        in run(case, "osteotomy", "--kind", "PSO", "--bone", "vertebrae_L3", "--angle-deg", "25").stdout
    )
    assert "L3-left" in run(case, "assess").stdout
    assert "Undone" in run(case, "undo").stdout


L3 = ("--bone", "vertebrae_L3", "--side", "left")


def by_hand(entry, target, size=BY_HAND):
    return (*L3, "--entry", entry, "--target", target, *size)


@pytest.mark.parametrize(
    ("command", "options", "code", "words"),
    [
        ("screw", ("--bone", "vertebrae_L9", "--side", "left", "--auto"), 2, "vertebrae_L2, vertebrae_L3"),
        ("screw", ("--bone", "vertebrae_L3", "--side", "middle", "--auto"), 2, "left or right"),
        ("screw", L3, 2, "--entry, --target, --diameter, --length"),
        ("screw", (*L3, "--auto", "--length", "40"), 2, "leave out --length"),
        ("screw", by_hand("-1,2", "1,2,3"), 2, "x,y,z"),
        ("screw", by_hand("1,2,nan", "1,2,3"), 2, "x,y,z"),
        ("screw", by_hand("1,2,3", "1,2,3"), 2, "same point"),
        ("screw", by_hand("99,2,3", "99,2,9"), 1, "LPS"),
        ("screw", by_hand("12,90,4", "12,60,4"), 2, "before"),
        ("screw", by_hand("12,41,4", "12,0,4", ("--diameter", "60", "--length", "40")), 2, "3 to 12 mm"),
        ("auto", ("--levels", "L7-S1"), 2, "C1-C7"),
        ("osteotomy", ("--kind", "chevron", "--bone", "vertebrae_L3"), 2, "PSO, SPO, VCR"),
        ("osteotomy", ("--kind", "PSO", "--bone", "vertebrae_L3", "--angle-deg", "90"), 2, "1 to 60"),
        ("assess", (), 2, "no plan"),
        ("undo", (), 1, "nothing to undo"),
    ],
)
def test_wrong_use_is_one_line_and_an_error_object(case, command, options, code, words):
    result = run(case, command, *options, "--json", code=code)
    error = json.loads(result.stdout)["error"]
    assert words in error["message"]
    assert len([line for line in result.stderr.splitlines() if line]) == 1
    assert "plan" not in Case.open(case).plan_names
