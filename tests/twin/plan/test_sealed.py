"""Own plan first: proposals stay unread until the surgeon's screw is there, and what is revealed is what was sealed."""

import json
from dataclasses import replace

import pytest

from tests.twin.plan.bodies import block_spine, block_twin
from tests.twin.plan.desk import answer, run
from twin.anatomy.renaming import RENAMED
from twin.case import Case
from twin.plan.auto.autoplan import propose_screw
from twin.plan.sealed import BrokenSeal, Seal, sealing, seals

OWN = ("--bone", "vertebrae_L3", "--side", "left", "--entry", "12.4,60,4.2", "--target", "12.4,-10,4.2", "--diameter",
       "6", "--length", "40")  # fmt: skip


def test_a_proposal_is_sealed_waits_for_the_own_screw_and_is_held_against_it(case):
    sealed = answer(case, "auto", "--levels", "L3", "--sealed")
    assert [one["id"] for one in sealed["sealed"]] == ["L3-left", "L3-right"]
    assert "entry_mm" not in json.dumps(sealed)
    assert (case / "journal.jsonl").read_text().count("entry_mm") == 0
    before = answer(case, "reveal")
    assert (before["revealed"], before["waiting"]) == ([], ["L3-left", "L3-right"])
    assert "wait for your own" in run(case, "auto", "--levels", "L2-L3", code=2).output
    run(case, "screw", *OWN)
    after = answer(case, "reveal")
    (both,) = after["revealed"]
    assert after["waiting"] == ["L3-right"]
    assert both["sha256"] == sealed["sealed"][0]["sha256"]
    expected = propose_screw(block_spine(), "vertebrae_L3", "left").screw
    assert both["proposed"]["diameter_mm"] == expected.diameter_mm
    assert both["own"]["entry_mm"] != both["proposed"]["entry_mm"]
    assert 0 < both["differs"]["entry_mm"] < 2
    assert both["own"]["grade"] == both["proposed"]["grade"] == "A"
    assert "apart" in run(case, "reveal").stdout
    kinds = [e.kind for e in Case.open(case).journal.entries()]
    assert kinds.count("proposal_revealed") == 1  # looking again is no event
    plan = Case.open(case).load_plan("plan")
    assert plan["screws"]["L3-left"]["diameter_mm"] == 6.0  # the own one stays


def test_a_seal_can_be_opened_without_an_own_screw_and_a_strange_one_is_refused(case):
    run(case, "auto", "--levels", "L3", "--sealed")
    run(case, "reveal", "--give-up", "L9-left", code=2)
    (shown,) = answer(case, "reveal", "--give-up", "L3-right")["revealed"]
    assert shown["own"] is None
    assert shown["differs"] is None
    assert shown["proposed"]["grade"] == "A"
    run(case, "screw", "--bone", "vertebrae_L3", "--side", "left", "--auto")
    assert answer(case, "reveal")["waiting"] == ["L3-left"]  # a program's screw is not one's own
    run(case, "auto", "--levels", "L3", "--sealed", "--rods", code=2)


def test_a_refusal_is_sealed_too_and_a_changed_content_is_found():
    payload = sealing("plan", [propose_screw(block_twin(2.2), "vertebrae_L4", "right")])
    one = payload["seals"]["L4-right"]
    seal = Seal("L4-right", one["sha256"], one["content"])
    assert "4.4 mm wide" in seal.read()["reason"]
    again = sealing("plan", [propose_screw(block_twin(2.2), "vertebrae_L4", "right")])
    assert again == payload  # the same twin, the same hash
    with pytest.raises(BrokenSeal, match="not what was sealed"):
        replace(seal, content=seal.content[:-8] + "AAAAAAA=").read()
    with pytest.raises(BrokenSeal):
        replace(seal, sha256="0" * 64).read()


def test_seals_are_void_after_the_levels_were_renamed(case):
    run(case, "auto", "--levels", "L3", "--sealed")
    with Case.open(case) as opened:
        assert set(seals(opened.journal.entries(), "plan")) == {"L3-left", "L3-right"}
        assert seals(opened.journal.entries(), "other") == {}
        opened.journal.append("planner", RENAMED, {"renamed": {}})
        assert seals(opened.journal.entries(), "plan") == {}
