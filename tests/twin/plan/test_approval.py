"""Who answers for a plan: draft, reviewed, approved; proposals decided one by one; nothing approved in passing."""

import hashlib
import json
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from commands import console
from commands.plan import app
from commands.plan_desk import append
from spatial.frames import Patient
from spatial.rigid import Points
from tests.twin.plan.bodies import REAR, block_spine
from twin.anatomy.twin import SideEvidence
from twin.case import Case
from twin.case_document import CaseCorrupt
from twin.journal import Entry
from twin.plan.approval import authors, same_person, standing
from twin.plan.auto.rods import plan_rod
from twin.plan.coherence import conflicts
from twin.plan.findings import Finding, NotOverridden, findings, overridden
from twin.plan.places import OtherPlaces, ensure_same, places
from twin.plan.plan import Plan
from twin.plan.proposals import NoReason, proposals
from twin.plan.screws.screw import Screw

AUTO = {"by": "plan auto", "binding": "medial"}
ANN = ("--by", "Ann Lee", "--role", "surgeon")
BOB = ("--by", "Bob Ray", "--role", "engineer")
SITES = "L3 left, L3 right"


def screw(name="L3-left", x=12.3, diameter=6.0):
    level, side = name.split("-")
    x = x if side == "left" else 0.6 - x
    z = {"L2": 38.0, "L3": 0.0, "L4": -38.0}[level] + 4.0
    entry, target = Points[Patient]([x, REAR + 0.2, z]), Points[Patient]([x, 0.0, z])
    return Screw(name, f"vertebrae_{level}", side, entry, target, diameter, 40.0)


@pytest.fixture
def case(tmp_path):
    """Two screws that a program proposed for Eve, in a case whose levels are confirmed."""
    made = Case.create(tmp_path / "case", block_spine(), None, None, ())
    with made:
        made.confirm_levels("Ann Lee")
        append(made, "plan", "Eve", [screw("L3-left"), screw("L3-right")], {"L3-left": AUTO, "L3-right": AUTO})
    return tmp_path / "case"


def run(case, command, *options, code=0):
    result = CliRunner().invoke(app, [command, str(case), *options])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


def answer(case, command, *options, code=0):
    return json.loads(run(case, command, *options, "--json", code=code).stdout)


def refused(case, command, *options, code=1):
    return answer(case, command, *options, code=code)["error"]["message"]


def decide_both(case, by="Ann Lee"):
    for side in ("left", "right"):
        answer(
            case, "decide", "--by", by, "--item", f"L3-{side}", "--as", "accepted", "--reason", "checked in 3 planes"
        )


def status(case, name="plan"):
    return standing(Case.open(case).journal.entries(), name)


def test_a_plan_goes_from_draft_over_review_to_approval_and_then_stays_as_it_is(case):
    assert status(case).state == "draft"
    decide_both(case)
    assert answer(case, "review", *BOB)["status"]["state"] == "reviewed"
    found = answer(case, "approve", *ANN, "--confirm", "l3 LEFT; right L3")
    assert (found["status"]["state"], found["status"]["by"], found["status"]["role"]) == (
        "approved", "Ann Lee", "surgeon",
    )  # fmt: skip
    opened = Case.open(case)
    (entry,) = [e for e in opened.journal.entries() if e.kind == "plan_approved"]
    assert entry.payload["confirmed"] == ["L3 left", "L3 right"]
    assert [p["decision"]["decision"] for p in entry.payload["proposals"]] == ["accepted", "accepted"]
    assert entry.payload["program"]["name"] == "osteotwin"
    plan_file = (case / "plans" / "plan.json").read_bytes()
    assert entry.payload["plan_sha256"] == hashlib.sha256(plan_file).hexdigest()
    assert entry.payload["twin_id"] == opened.twin.twin_id

    by_hand = ("--bone", "vertebrae_L2", "--side", "left", "--entry", "12,60,42", "--target", "12,0,42")
    assert "new draft" in refused(case, "screw", *by_hand, "--diameter", "6", "--length", "40")
    assert "new draft" in refused(case, "undo")
    assert "new draft" in refused(case, "review", *BOB)
    assert "new draft" in refused(
        case, "decide", "--by", "Ann Lee", "--item", "L3-left", "--as", "refused", "--reason", "changed my mind"
    )
    assert (case / "plans" / "plan.json").read_bytes() == plan_file
    assert opened.check() == []

    CliRunner().invoke(app, ["variant", "new", str(case), "second", "--from", "plan", "--by", "Eve"])
    assert status(case, "second").state == "draft"
    assert answer(case, "screw", *by_hand, "--diameter", "6", "--length", "40", "--plan", "second", "--by", "Eve")
    listed = {row["plan"]: row for row in answer(case, "list")["plans"]}
    assert listed["plan"]["status"]["state"] == "approved"
    assert listed["second"]["from"] == "plan"
    assert listed["second"]["undecided"] == []  # what was decided stays decided while it stays as it is
    assert listed["second"]["screws"] == ["L2-left", "L3-left", "L3-right"]


def test_everything_that_is_missing_is_said_at_once(case):
    words = refused(case, "approve", "--by", "eve.", "--role", "engineer", "--confirm", SITES)
    for part in ("eve. edited this plan", "engineer can't approve", "reviewed first",
                 "2 of the program's proposals: L3-left (as proposed), L3-right"):  # fmt: skip
        assert part in words
    check = answer(case, "approve", *ANN, "--check")
    assert check["places"] == 2
    assert len(check["against"]) == 2  # review and proposals
    assert check["findings"] == []
    assert status(case).state == "draft"


def test_unconfirmed_levels_cannot_be_approved(tmp_path):
    with Case.create(tmp_path / "case", block_spine(), None, None, ()) as made:
        append(made, "plan", "Eve", [screw()])
    answer(tmp_path / "case", "review", *BOB)
    assert "nobody has confirmed the levels" in refused(tmp_path / "case", "approve", *ANN, "--confirm", "L3 left")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--by", "planner", "--role", "surgeon"), "a person's name"),
        (("--by", " . ", "--role", "surgeon"), "a person's name"),
        (("--by", "Ann", "--role", "chief"), "surgeon, assistant"),
    ],
)
def test_a_signature_needs_a_person_in_a_known_role(case, options, words):
    assert words in refused(case, "review", *options, code=2)
    assert words in refused(case, "approve", *options, "--confirm", SITES, code=2)


def test_whoever_edited_can_neither_review_nor_approve_and_an_edit_ends_the_review(case):
    decide_both(case)
    assert "EVE edited this plan" in refused(case, "review", "--by", "EVE", "--role", "surgeon")
    answer(case, "review", *BOB)
    with Case.open(case) as opened:
        append(opened, "plan", "Ann Lee", [screw("L4-left")])
    now = status(case)
    assert now.state == "draft"
    assert "was reviewed by Bob Ray" in now.lapsed
    assert "edited since" in now.lapsed
    answer(case, "review", *BOB)
    assert "Ann Lee edited this plan" in refused(case, "approve", *ANN, "--confirm", f"{SITES}, L4 left")


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("L3 left", "1 of the plan's 2 places"),
        ("L3 left, L3 right, L4 left", "L4 left: not in this plan"),
        ("L3", "L3: not in this plan"),
        ("all", "all: not in this plan"),
        ("", "2 of the plan's 2 places"),
        ("L3 left right", "is no place"),
    ],
)
def test_level_and_side_are_typed_again(case, typed, words):
    decide_both(case)
    answer(case, "review", *BOB)
    assert words in refused(case, "approve", *ANN, "--confirm", typed, code=2)
    assert status(case).state == "reviewed"


def test_without_a_keyboard_the_places_have_to_be_given(case):
    decide_both(case)
    answer(case, "review", *BOB)
    assert "--confirm is needed" in refused(case, "approve", *ANN, code=2)


def test_at_a_keyboard_the_plan_is_shown_and_the_places_are_asked_for(case, monkeypatch):
    decide_both(case)
    answer(case, "review", *BOB)
    monkeypatch.setattr(console, "at_keyboard", lambda: True)
    wrong = CliRunner().invoke(app, ["approve", str(case), *ANN], input="L3 left\n")
    assert wrong.exit_code == 2
    assert "1 of the plan's 2 places" in wrong.stderr
    right = CliRunner().invoke(app, ["approve", str(case), *ANN], input="L3 left, L3 right\n")
    assert right.exit_code == 0, right.output
    assert "L3-left: 6 x 40 mm, grade A" in right.stderr
    assert "Plan plan: approved by Ann Lee (surgeon)" in right.stdout


def test_each_proposal_takes_its_own_decision_with_a_reason(case):
    one = ("--by", "Ann Lee", "--item", "L3-left")
    assert "reason in words" in refused(case, "decide", *one, "--as", "accepted", "--reason", "ok", code=2)
    assert "accepted, changed, refused" in refused(case, "decide", *one, "--as", "fine", "--reason", "good", code=2)
    assert "as it was proposed" in refused(case, "decide", *one, "--as", "changed", "--reason", "thicker", code=2)
    assert "L3-left, L3-right" in refused(
        case, "decide", "--by", "Ann", "--item", "L9", "--as", "accepted", "--reason", "looks right", code=2
    )
    assert answer(case, "decide", *one, "--as", "accepted", "--reason", "checked")["undecided"] == ["L3-right"]

    with Case.open(case) as opened:  # the decision was about the screw as it stood
        append(opened, "plan", "Eve", [screw("L3-left", diameter=5.0)])
    assert answer(case, "list")["plans"][0]["undecided"] == ["L3-left", "L3-right"]
    assert "was changed" in refused(case, "decide", *one, "--as", "accepted", "--reason", "checked", code=2)
    answer(case, "decide", *one, "--as", "changed", "--reason", "thinner: narrow isthmus")

    found = answer(
        case, "decide", "--by", "Ann Lee", "--item", "L3-right", "--as", "refused", "--reason", "pedicle is fractured"
    )
    assert found["undecided"] == []
    opened = Case.open(case)
    assert set(opened.load_plan("plan")["screws"]) == {"L3-left"}
    kept = {p.key[1]: p for p in proposals(opened.journal.entries(), "plan", opened.twin.twin_id)}
    assert {name: (p.stands, p.decision["decision"]) for name, p in kept.items()} == {
        "L3-left": ("changed", "changed"), "L3-right": ("removed", "refused"),
    }  # fmt: skip
    assert opened.check() == []


def test_an_undone_proposal_asks_for_no_decision_and_one_removed_by_hand_does(case):
    run(case, "undo")
    assert answer(case, "list")["plans"][0]["undecided"] == ["L3-left"]
    with Case.open(case) as opened:
        opened.journal.append("Eve", "remove_screw", {"plan": "plan", "id": "L3-left"})
    words = refused(case, "approve", *ANN, "--confirm", "L3 left", code=1)
    assert "before its last edit" in words  # the file is older than the journal
    run(case, "undo")
    assert answer(case, "list")["plans"][0]["screws"] == ["L3-left"]


def test_a_threshold_takes_a_written_override_of_its_own(case):
    run(case, "undo")
    run(case, "undo")
    with Case.open(case) as opened:  # in a round pedicle of 10 mm: 9 mm thick, and 3 mm thick at its medial wall
        append(opened, "plan", "Eve", [screw("L3-left", 12.3, 9.0), screw("L3-right", 9.2, 3.0)])
    answer(case, "review", *BOB)
    found = {f["key"]: f for f in answer(case, "approve", *ANN, "--check")["findings"]}
    assert set(found) == {"L3-left:margin", "L3-right:margin"}
    assert found["L3-left:margin"]["value"] == pytest.approx(0.5, abs=0.06)
    assert (found["L3-left:margin"]["limit"], found["L3-left:margin"]["unit"]) == (1.0, "mm")
    one = ("--override", "L3-right:margin=dysplastic pedicle, no other anchor")
    words = refused(case, "approve", *ANN, "--confirm", SITES, *one)
    assert "--override 'L3-left:margin=REASON'" in words
    assert "L3-right:margin=" not in words
    answer(case, "approve", *ANN, "--confirm", SITES, *one, "--override", "L3-left:margin=cortical contact is wanted")
    entry = Case.open(case).journal.entries()[-1]
    assert {o["key"]: o["reason"] for o in entry.payload["overrides"]} == {
        "L3-left:margin": "cortical contact is wanted",
        "L3-right:margin": "dysplastic pedicle, no other anchor",
    }


def test_a_medial_breach_of_grade_c_is_a_finding(case):
    with Case.open(case) as opened:
        append(opened, "plan", "Eve", [screw("L3-left", 8.3)])
    keys = {f["key"]: f["words"] for f in answer(case, "approve", *ANN, "--check")["findings"]}
    assert set(keys) == {"L3-left:grade", "L3-left:margin", "L3-left:canal"}
    assert "grade C, breach 2.0 mm medial" in keys["L3-left:grade"]


def test_an_approval_ends_with_other_level_names_and_can_be_taken_back(case):
    decide_both(case)
    answer(case, "review", *BOB)
    answer(case, "approve", *ANN, "--confirm", SITES)
    short = ("--by", "Ann Lee", "--role", "surgeon")
    assert "reason in words" in refused(case, "withdraw", *short, "--reason", "no", code=2)
    assert answer(case, "withdraw", *short, "--reason", "new MRI shows a fracture")["status"]["state"] == "withdrawn"
    assert "no approval to take back" in refused(case, "withdraw", *short, "--reason", "once more please")
    assert "new draft" in refused(case, "undo")


def test_an_approval_ends_with_other_level_names(case):
    decide_both(case)
    answer(case, "review", *BOB)
    answer(case, "approve", *ANN, "--confirm", SITES)
    with Case.open(case) as opened:
        opened.rename_levels({"vertebrae_L2": "vertebrae_L1", "vertebrae_L3": "vertebrae_L2"}, "Cleo")
    now = status(case)
    assert now.state == "draft"
    assert "before levels were given other names" in now.lapsed
    row = answer(case, "list")["plans"][0]
    assert row["screws"] == row["undecided"] == ["L2-left", "L2-right"]  # decided under the wrong names: decide again


def test_names_are_the_same_but_for_case_points_and_blanks():
    assert same_person("Dr. Ann  Lee", "dr ann lee")
    assert not same_person("Ann Lee", "Anna Lee")


def test_who_made_the_plan_that_a_variant_started_from_is_its_author_too(case):
    CliRunner().invoke(app, ["variant", "new", str(case), "second", "--from", "plan", "--by", "Zoe"])
    assert set(authors(Case.open(case).journal.entries(), "second")) == {"Zoe", "Eve"}
    assert "Eve edited this plan" in refused(case, "review", "--by", "Eve", "--role", "surgeon", "--plan", "second")


def test_places_of_legs_and_spines_and_what_is_typed_for_them():
    plan = Plan("p", "t").plus(screw("L3-left")).plus(screw("L2-right"))
    assert places(plan) == ("L2 right", "L3 left")
    assert ensure_same(plan, "l2 RIGHT\nl3 left") == ("L2 right", "L3 left")
    leg = Plan("p", "t").plus(replace(screw(), id="lag", bone="tibia_left"))
    assert places(leg) == ("tibia left",)
    with pytest.raises(OtherPlaces, match="tibia right"):
        ensure_same(leg, "tibia right")


def test_an_override_is_for_what_was_found_and_says_why():
    found = [Finding("a:margin", "words", 0.4, 1.0, "mm"), Finding("b:margin", "words", 0.2, 1.0, "mm")]
    kept, left = overridden(found, ["a:margin=a good reason"])
    assert [one["key"] for one in kept] == ["a:margin"]
    assert left == found[1:]
    for wrong in ("c:margin=a good reason", "a:margin"):
        with pytest.raises(NotOverridden):
            overridden(found, [wrong])
    with pytest.raises(NoReason):
        overridden(found, ["a:margin=..."])


def test_a_thin_hinge_a_cut_vessel_and_a_doubtful_side_are_findings_and_an_opened_canal_is_not():
    passed = [{"name": "spinal_canal", "role": "critical"}, {"name": "aorta", "role": "critical"}]
    cuts = [
        {"id": "L3-PSO", "kind": "PSO", "bridge_mm": None, "passes_through": passed},
        {"id": "tibia_left-open-wedge", "kind": "open-wedge", "bridge_mm": 4.2, "passes_through": passed[:1]},
    ]
    sure = SideEvidence("order", True, "left bones lie left")
    doubt = SideEvidence("laterality", False, "the scan says the other side")
    twin = replace(block_spine(), sides=(sure, doubt))
    found = {f.key: f for f in findings(twin, [], cuts, ["L3-left sits in a pedicle that L3-PSO takes out"], [])}
    assert set(found) == {
        "L3-PSO:aorta", "tibia_left-open-wedge:hinge", "tibia_left-open-wedge:spinal_canal", "L3-left:conflict",
        "sides:laterality",
    }  # fmt: skip
    assert (found["tibia_left-open-wedge:hinge"].value, found["tibia_left-open-wedge:hinge"].limit) == (4.2, 5.0)


def test_a_rod_whose_screw_went_or_moved_away_is_a_conflict():
    plan = Plan("p", "t").plus(screw("L2-left")).plus(screw("L3-left")).plus(screw("L4-left"))
    plan = plan.plus(plan_rod(block_spine(), plan.screws.values(), "left").rod)
    assert conflicts(plan) == []
    assert conflicts(plan.without("screw", "L4-left")) == [
        "rod-left joins L4-left, which is not in the plan: bend it anew"
    ]
    (line,) = conflicts(plan.plus(screw("L3-left", 22.3)))
    assert line.startswith("rod-left passes the head of L3-left by 1")


def test_threads_in_the_canal_or_a_foramen_are_findings():
    whole = {"canal": 0.4, "foramen_superior": 0.0, "foramen_inferior": 1.1, "pedicle_lateral": 2.0, "disc": 0.0}
    report = {
        "id": "a", "grade": "A", "breach_mm": 0.0, "breach_direction": None, "structures": [],
        "margin_mm": {"medial": 2.0, "anterior": -0.5}, "breach_whole_mm": whole,
    }  # fmt: skip
    found = findings(block_spine(), [report], [], [], [])
    assert [f.key for f in found] == ["a:anterior", "a:canal", "a:foramen_inferior"]


def test_a_plan_of_another_twin_is_refused(case, tmp_path):
    other = Case.create(tmp_path / "other", replace(block_spine(), twin_id="another"), None, None, ())
    document = Case.open(case).load_plan("plan")
    with pytest.raises(CaseCorrupt, match="another twin"), other:
        other.save_plan("plan", document)
    (tmp_path / "other" / "plans" / "plan.json").write_bytes((case / "plans" / "plan.json").read_bytes())
    assert "not in the journal" in refused(tmp_path / "other", "assess")
    assert "not in the journal" in refused(tmp_path / "other", "review", *BOB)


def test_an_entry_about_another_plan_changes_nothing():
    entries = [Entry(0, "e0", "ann", 0, "plan_approved", {"plan": "other", "role": "surgeon"}, "0" * 64)]
    assert standing(entries, "plan").state == "draft"
