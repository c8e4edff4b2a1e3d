"""Laws of edits: undoing gives back the same bytes whatever was done; documents of schema 1 still read."""

import contextlib
import json
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spatial.faults import Fault
from spatial.frames import Instrument, Patient
from spatial.rigid import Points, Rigid
from spatial.shapes import Line, Plane
from twin.anatomy.renaming import RENAMED
from twin.audit import OF_PLANS, against_rules, told
from twin.journal import Entry
from twin.plan.approval import SAVED, authors, standing
from twin.plan.auto.rod import Rod
from twin.plan.cuts.implant import Implant
from twin.plan.cuts.osteotomy import Osteotomy
from twin.plan.edits import (
    APPROVED,
    EDIT_KINDS,
    START_VARIANT,
    Edit,
    EditDoesNotApply,
    PlanClosed,
    apply,
    ensure_open,
    fold,
    redoable,
    undoable,
)
from twin.plan.plan import NOUNS, SCHEMA, BadPlan, Plan
from twin.plan.proposals import proposals
from twin.plan.screws.screw import Screw
from twin.plan.undoing import UNDO
from twin.plan.variants import names

LEVELS = ("L1", "L2", "L3", "L4")


def screw(name, dice):
    level, side = name.split("-")
    entry = Points[Patient]([dice.uniform(-20, 20), 40.0, 5.0])
    target = Points[Patient]([dice.uniform(-20, 20), 0.0, 5.1])
    return Screw(name, f"vertebrae_{level}", side, entry, target, dice.choice((5.5, 6.5)), dice.uniform(30, 55))


def osteotomy(name, dice):
    at = [0.0, dice.uniform(-20, 0), 0.0]
    half = math.radians(dice.uniform(5, 15))
    planes = [Plane[Patient](at, [0.0, sign * math.sin(half), math.cos(half)]) for sign in (-1, 1)]
    bone = f"vertebrae_{name[:2]}"
    return Osteotomy(name, "PSO", bone, tuple(planes), Line[Patient](at, [-1.0, 0, 0]), 2 * half, 30.0)


def rod(name, dice):
    points = [[10.0, dice.uniform(40, 60), z] for z in (40.0, 0.0, -40.0)]
    return Rod(name, name, (f"L2-{name}", f"L3-{name}"), 5.5, "titanium", Points[Patient](points))


def implant(name, dice):
    turn = Rigid[Patient, Instrument].exp([dice.uniform(-1, 1), 0.2, 0.1], [dice.uniform(-20, 20), 30.0, 5.0])
    return Implant(name, "plate", "generic", "tibia_left", dice.uniform(60, 120), 16.0, turn)


MAKE = {
    "screw": (screw, [f"{level}-{side}" for level in LEVELS for side in ("left", "right")]),
    "osteotomy": (osteotomy, ["L2-PSO", "L3-PSO"]),
    "rod": (rod, ["left", "right"]),
    "implant": (implant, ["plate-1", "plate-2"]),
}


def some_edit(plan, dice):
    """An edit that applies to this plan: any noun, any verb."""
    noun = dice.choice(list(MAKE))
    make, names = MAKE[noun]
    name = dice.choice(names)
    if name in plan.of(NOUNS[noun]) and dice.random() < 0.5:
        return Edit(f"remove_{noun}", {"id": name})
    return Edit.placing(plan, make(name, dice))


def entry(n, kind, payload, author="ann"):
    return Entry(n, f"e{n}", author, n, kind, {"plan": "p", **payload}, "0" * 64)


def written(entries, edit):
    entries.append(entry(len(entries), edit.kind, json.loads(json.dumps(dict(edit.outcome)))))


def document(entries):
    plan, skipped = fold(entries, "p", "t")
    assert skipped == ()
    return plan.document()


def test_every_noun_of_a_plan_is_tried_here():
    assert set(MAKE) == set(NOUNS)


@settings(max_examples=8)
@given(st.integers(0, 2**32 - 1), st.integers(0, 20))
def test_undoing_two_hundred_edits_gives_back_the_same_bytes_and_redoing_them_too(seed, before):
    dice = random.Random(seed)
    entries, plan = [], Plan("p", "t")
    for n in range(before + 200):
        if n == before:
            start = plan.document()
            assert document(entries) == start
        edit = some_edit(plan, dice)
        plan = apply(plan, edit)
        written(entries, edit)
    end = plan.document()
    assert document(entries) == end
    for _ in range(200):
        entries.append(entry(len(entries), UNDO, {"undoes": undoable(entries, "p").id}))
    assert document(entries) == start
    for _ in range(200):
        entries.append(entry(len(entries), UNDO, {"undoes": redoable(entries, "p").id}))
    assert document(entries) == end
    assert redoable(entries, "p") is None


@settings(max_examples=8)
@given(st.integers(0, 2**32 - 1))
def test_edits_undos_and_redos_in_any_order_are_what_two_stacks_of_documents_say(seed):
    dice = random.Random(seed)
    entries, done, undone = [], [Plan("p", "t")], []
    for _ in range(200):
        word = dice.choice(("edit", "edit", "undo", "redo"))
        if word == "edit":
            edit = some_edit(done[-1], dice)
            done.append(apply(done[-1], edit))
            undone.clear()
            written(entries, edit)
            continue
        target = (undoable if word == "undo" else redoable)(entries, "p")
        assert (target is None) == (len(done) == 1 if word == "undo" else not undone)
        if target is not None:
            entries.append(entry(len(entries), UNDO, {"undoes": target.id}))
            if word == "undo":
                undone.append(done.pop())
            else:
                done.append(undone.pop())
    assert document(entries) == done[-1].document()


def test_a_plan_of_schema_1_is_read_without_loss_and_a_later_one_is_refused():
    dice = random.Random(1)
    now = Plan("p", "t").plus(screw("L2-left", dice)).plus(osteotomy("L3-PSO", dice))
    old = {**now.to_json(), "schema": 1}
    del old["rods"], old["implants"]
    assert Plan.from_json(old) == now
    assert Plan.from_json(json.loads(now.document())).document() == now.document()
    for schema in (0, SCHEMA + 1, True, "2", None):
        with pytest.raises(BadPlan, match="schema"):
            Plan.from_json({**now.to_json(), "schema": schema})
    with pytest.raises(BadPlan, match="a plan lacks"):
        Plan.from_json({**old, "schema": 2})


def test_each_kind_has_its_own_names_and_rods_follow_new_level_names():
    dice = random.Random(2)
    plan = Plan("p", "t").plus(screw("L2-left", dice)).plus(screw("L3-left", dice)).plus(rod("left", dice))
    assert not plan.without("rod", "left").rods
    assert plan.without("screw", "left") == plan
    plan = plan.plus(implant("plate-1", dice))
    after = plan.renamed({"tibia_left": "tibia_right", "vertebrae_L2": "vertebrae_L3", "vertebrae_L3": "vertebrae_L4"})
    assert set(after.screws) == {"L3-left", "L4-left"}
    assert after.rods["left"].screws == ("L3-left", "L4-left")
    assert after.implants["plate-1"].bone == "tibia_right"
    with pytest.raises(EditDoesNotApply, match="no rod 'right'"):
        apply(plan, Edit("remove_rod", {"id": "right"}))


def test_a_variant_starts_in_an_empty_plan_and_can_be_undone():
    dice = random.Random(3)
    first = Plan("a", "t").plus(screw("L2-left", dice)).plus(rod("left", dice))
    start = Edit(START_VARIANT, {"from": "a", "content": first.content()})
    entries = []
    written(entries, start)
    plan, _ = fold(entries, "p", "t")
    assert plan.content() == first.content()
    with pytest.raises(EditDoesNotApply, match="empty"):
        apply(plan, start)
    entries.append(entry(1, UNDO, {"undoes": "e0"}))
    assert not fold(entries, "p", "t")[0].items()
    assert START_VARIANT in EDIT_KINDS
    with pytest.raises(EditDoesNotApply, match="content"):
        Edit(START_VARIANT, {"from": "a"})


def test_what_comes_after_an_approval_changes_nothing_until_levels_get_other_names():
    dice = random.Random(4)
    entries = []
    written(entries, Edit.placing(Plan("p", "t"), screw("L2-left", dice)))
    approved = document(entries)
    entries.append(entry(1, APPROVED, {}))
    written(entries, Edit("remove_screw", {"id": "L2-left"}))
    entries.append(entry(3, UNDO, {"undoes": "e0"}))
    plan, skipped = fold(entries, "p", "t")
    assert plan.document() == approved
    assert [s.entry_id for s in skipped] == ["e2", "e3"]
    assert all("new draft" in s.reason for s in skipped)
    assert undoable(entries, "p").id == "e0"
    with pytest.raises(PlanClosed, match="variant new"):
        ensure_open(entries, "p")
    ensure_open(entries, "other")
    entries.append(Entry(4, "e4", "ann", 4, RENAMED, {"renamed": {"vertebrae_L2": "vertebrae_L3"}}, "0" * 64))
    ensure_open(entries, "p")
    written(entries, Edit("remove_screw", {"id": "L3-left"}))
    assert not fold(entries, "p", "t")[0].screws


PARTS = {
    "id": "L2-left", "plan": "p", "noun": "screw", "undoes": "e0", "renamed": {"vertebrae_L2": "vertebrae_L3"},
    "screw": screw("L2-left", random.Random(5)).to_json(), "proposed": {"by": "x"}, "content": {"screws": {}},
    "decision": "accepted", "item_sha256": None, "proposal": "e0", "reason": "why", "role": "surgeon", "sha256": "0",
    "overrides": [{"key": "a", "reason": "b"}], "confirmed": ["L2 left"], "from": "q", "authors": ["eve"], "name": "p",
    "request": {"procedure": "fixation"}, "plan_sha256": "0", "twin_id": "t",
}  # fmt: skip
odd = st.none() | st.integers(-1, 1) | st.text(max_size=3) | st.lists(st.text(max_size=2), max_size=2)
odd |= st.dictionaries(st.sampled_from([*PARTS, "screws"]), odd, max_size=3)
payloads = st.fixed_dictionaries({}, optional={key: st.just(value) | odd for key, value in PARTS.items()})


@settings(max_examples=100, report_multiple_bugs=False)
@given(st.lists(st.tuples(st.sampled_from([*OF_PLANS, SAVED]), payloads), max_size=6))
def test_whatever_another_program_wrote_is_skipped_or_a_fault_and_never_a_crash(rows):
    entries = [entry(n, kind, {**payload, "plan": "p"}) for n, (kind, payload) in enumerate(rows)]
    for read in (
        lambda: fold(entries, "p", "t"),
        lambda: proposals(entries, "p", "t"),
        lambda: standing(entries, "p").words,
        lambda: authors(entries, "p"),
        lambda: told(entries, "p"),
        lambda: names(entries),
        lambda: undoable(entries, "p"),
        lambda: [against_rules(e, entries[: e.seq]) for e in entries if e.kind == APPROVED],
    ):
        with contextlib.suppress(Fault):
            read()
    with contextlib.suppress(Fault):
        found, _ = fold(entries, "p", "t")
        assert Plan.from_json(found.to_json()) == found  # what was taken over is a plan that can be kept
