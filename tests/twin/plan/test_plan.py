"""Plans, edits, undo and redo; deviations; levels."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spatial.frames import Patient, Planned
from spatial.rigid import Points, Rigid
from spatial.shapes import Line, Plane
from tests.twin.plan.bodies import block_spine
from twin.anatomy.local_frame import bone_frame
from twin.journal import Entry, canonical_json
from twin.plan.cuts.osteotomy import Osteotomy
from twin.plan.deviation import NoDeviation, motion_deviation, plane_deviation, screw_deviation
from twin.plan.edits import Edit, EditDoesNotApply, apply, fold, redoable, undoable
from twin.plan.levels import UnknownLevel, bone_of, level_of, levels_between, rank
from twin.plan.plan import BadPlan, Plan
from twin.plan.screws.screw import Screw
from twin.plan.undoing import UNDO

NAMES = ("L2-left", "L2-right", "L3-left")


def screw(name="L2-left", x=10.0, diameter=6.0):
    bone, side = f"vertebrae_{name[:2]}", name[3:]
    entry, target = Points[Patient]([x, 40.0, 5.0]), Points[Patient]([x, 0.0, 5.1])
    return Screw(name, bone, side, entry, target, diameter, 45.0)


def osteotomy():
    return Osteotomy.pso(block_spine(), "vertebrae_L3", math.radians(30))


def entry(n, kind, payload, author="ann"):
    return Entry(n, f"e{n}", author, n, kind, {"plan": "p", **payload}, "0" * 64)


def chain(*edits):
    """Journal entries of edits and undos; an undo is given as the number of what it takes back."""
    return [
        entry(n, UNDO, {"undoes": f"e{e}"}) if isinstance(e, int) else entry(n, e.kind, dict(e.outcome))
        for n, e in enumerate(edits)
    ]


def place(name, x=10.0):
    return Edit("place_screw", {"screw": screw(name, x).to_json()})


actions = st.lists(
    st.one_of(
        st.tuples(st.just("place"), st.sampled_from(NAMES), st.floats(-20, 20)),
        st.tuples(st.just("move"), st.sampled_from(NAMES), st.floats(-20, 20)),
        st.tuples(st.just("remove"), st.sampled_from(NAMES), st.just(0.0)),
    ),
    max_size=8,
)


def edits_of(found):
    for verb, name, x in found:
        outcome = {"id": name} if verb == "remove" else {"screw": screw(name, x).to_json()}
        yield Edit(f"{verb}_screw", outcome)


@given(actions)
def test_the_fold_is_applying_one_after_the_other_and_skips_what_does_not_apply(found):
    edits = list(edits_of(found))
    plan, skipped_ids = Plan("p", "t"), []
    for n, edit in enumerate(edits):
        try:
            plan = apply(plan, edit)
        except EditDoesNotApply:
            skipped_ids.append(f"e{n}")
    folded, skipped = fold(chain(*edits), "p", "t")
    assert folded == plan
    assert [s.entry_id for s in skipped] == skipped_ids


@given(actions, st.data())
def test_undo_is_leaving_the_edit_out_and_redo_brings_it_back(found, data):
    edits = list(edits_of([("place", "L2-left", 1.0), *found]))
    n = data.draw(st.integers(0, len(edits) - 1))
    whole, _ = fold(chain(*edits), "p", "t")
    undone, _ = fold(chain(*edits, n), "p", "t")
    assert undone == fold(chain(*edits[:n], *edits[n + 1 :]), "p", "t")[0]
    redone, _ = fold(chain(*edits, n, len(edits)), "p", "t")
    assert redone == whole
    again, _ = fold(chain(*edits, n, len(edits), len(edits) + 1), "p", "t")
    assert again == undone


def test_undo_and_redo_walk_back_and_forth_like_a_desk():
    entries = chain(place("L2-left"), place("L2-right"))

    def press(finder):
        found = finder(entries, "p")
        if found is not None:
            entries.append(entry(len(entries), UNDO, {"undoes": found.id}))
        return sorted(fold(entries, "p", "t")[0].screws)

    assert press(redoable) == ["L2-left", "L2-right"]  # nothing to redo
    assert press(undoable) == ["L2-left"]
    assert press(undoable) == []
    assert press(undoable) == []
    assert press(redoable) == ["L2-left"]
    assert press(redoable) == ["L2-left", "L2-right"]
    assert press(undoable) == ["L2-left"]
    entries.append(entry(len(entries), "place_screw", {"screw": screw("L3-left").to_json()}))
    assert press(redoable) == ["L2-left", "L3-left"]  # a new edit ends the redoing


def test_undo_goes_by_author_and_an_edit_without_its_ground_is_reported():
    ann = entry(0, "place_screw", {"screw": screw("L2-left").to_json()})
    bob = entry(1, "move_screw", {"screw": screw("L2-left", 12.0).to_json()}, "bob")
    assert undoable([ann, bob], "p", "ann").id == "e0"
    plan, skipped = fold([ann, bob, entry(2, UNDO, {"undoes": "e0"})], "p", "t")
    assert not plan.screws
    assert [(s.entry_id, s.kind) for s in skipped] == [("e1", "move_screw")]
    assert "L2-left" in skipped[0].reason


def test_an_undo_that_another_author_took_back_is_not_redone_twice():
    placed = entry(0, "place_screw", {"screw": screw("L2-left").to_json()}, "ann")
    undo = entry(1, UNDO, {"undoes": "e0"}, "ann")
    assert redoable([placed, undo], "p", "ann").id == "e1"
    assert redoable([placed, undo], "p", "bob") is None
    assert redoable([placed, undo, entry(2, UNDO, {"undoes": "e1"}, "bob")], "p", "ann") is None


@pytest.mark.parametrize("outcome", [{}, {"screw": None}, {"screw": "L2-left"}])
def test_an_edit_without_its_outcome_is_refused(outcome):
    with pytest.raises(EditDoesNotApply, match="needs 'screw'"):
        Edit("place_screw", outcome)


def test_undoing_nothing_or_the_future_is_reported_and_other_plans_are_left_alone():
    entries = [
        entry(0, UNDO, {"undoes": "e1"}), entry(1, "place_screw", {"screw": screw().to_json()}),
        entry(2, UNDO, {"undoes": "nobody"}),
        Entry(3, "e3", "ann", 3, "place_screw", {"plan": "other", "screw": screw("L2-right").to_json()}, "0" * 64),
        Entry(4, "e4", "ann", 4, "plan_saved", {"name": "p", "sha256": "0"}, "0" * 64),
        entry(5, "place_screw", {"screw": {"id": "x"}}),
    ]  # fmt: skip
    plan, skipped = fold(entries, "p", "t")
    assert list(plan.screws) == ["L2-left"]
    assert [s.entry_id for s in skipped] == ["e0", "e2", "e5"]


def test_an_edit_knows_whether_it_places_or_moves_and_unknown_ones_are_refused():
    empty = Plan("p", "t")
    first = Edit.placing(empty, screw())
    assert first.kind == "place_screw"
    assert Edit.placing(apply(empty, first), screw(x=11.0)).kind == "move_screw"
    cut = Edit.placing(empty, osteotomy())
    assert list(apply(empty, cut).osteotomies) == ["L3-PSO"]
    assert not apply(apply(empty, cut), Edit("remove_osteotomy", {"id": "L3-PSO"})).osteotomies
    with pytest.raises(EditDoesNotApply, match="place_screw"):
        Edit("paint_screw", {})
    with pytest.raises(EditDoesNotApply, match="screw"):
        Edit("place_screw", {})
    with pytest.raises(EditDoesNotApply, match="already"):
        apply(apply(empty, first), first)


def test_the_same_plan_is_the_same_bytes_and_survives_json():
    one = Plan("p", "t").plus(screw("L2-left")).plus(screw("L2-right")).plus(osteotomy())
    two = Plan("p", "t").plus(osteotomy()).plus(screw("L2-right")).plus(screw("L2-left"))
    assert one.document() == two.document()
    again = Plan.from_json(json.loads(one.document()))
    assert again.document() == one.document()
    assert again == one
    assert canonical_json(one.to_json()) == one.document()
    assert one.without("screw", "L2-left").without("screw", "L2-right").without("osteotomy", "L3-PSO") == Plan("p", "t")
    with pytest.raises(BadPlan, match="schema"):
        Plan.from_json({"schema": 99})
    with pytest.raises(BadPlan, match="filed"):
        Plan("p", "t", {"x": screw()})


@given(st.floats(-4, 4), st.floats(-4, 4), st.floats(-10, 10))
def test_a_parallel_axis_deviates_by_its_offset_and_depth(left, up, deep):
    planned = screw()
    tip = planned.tip.mm + np.array([left, 0, up]) + deep * planned.axis.direction
    found = screw_deviation(planned, Line[Patient](tip, planned.axis.direction))
    across = np.hypot(left, up) if up == 0 else None
    d = planned.axis.direction
    offset = np.array([left, 0, up]) - (np.array([left, 0, up]) @ d) * d
    assert found.entry_mm == pytest.approx(np.linalg.norm(offset), abs=1e-9)
    assert found.tip_mm == pytest.approx(found.entry_mm, abs=1e-9)
    assert found.angle_rad == pytest.approx(0, abs=1e-12)
    assert found.depth_mm == pytest.approx(deep + np.array([left, 0, up]) @ d, abs=1e-9)
    assert across is None or across == pytest.approx(found.entry_mm, abs=1e-9)


def test_a_turn_about_the_entry_leaves_it_and_moves_the_tip_by_length_times_tangent():
    planned = screw()
    angle = math.radians(5)
    way = np.array([math.sin(angle), -math.cos(angle), 0.0])  # tip to the left: lateral on the left side
    level = Screw(planned.id, planned.bone, "left", planned.entry, Points([10.0, 0.0, 5.0]), 6.0, 45.0)
    frame = bone_frame(block_spine(), "vertebrae_L2")
    found = screw_deviation(level, Line[Patient](level.entry.mm + 45 * way, way), frame)
    assert found.entry_mm == pytest.approx(0, abs=1e-9)
    assert found.tip_mm == pytest.approx(45 * math.tan(angle))
    assert math.degrees(found.angle_rad) == pytest.approx(5)
    assert found.depth_mm == pytest.approx(45 * (math.cos(angle) - 1))
    assert found.tip_offset_mm == pytest.approx((-45 * math.tan(angle), 0), abs=1e-9)
    assert found.turn_rad == pytest.approx((-angle, 0), abs=1e-9)
    assert found.to_json()["turn_deg"]["medial"] == pytest.approx(-5)
    mirrored = Screw("r", planned.bone, "right", Points([-10.0, 40, 5]), Points([-10.0, 0.0, 5.0]), 6.0, 45.0)
    same = way * [-1, 1, 1]
    right = screw_deviation(mirrored, Line[Patient](mirrored.entry.mm + 45 * same, same), frame)
    assert right.tip_offset_mm == pytest.approx(found.tip_offset_mm, abs=1e-9)
    with pytest.raises(NoDeviation, match="square"):
        screw_deviation(level, Line[Patient](level.entry.mm, [1.0, 0, 0]))


def test_plane_and_motion_deviations_in_closed_form():
    planned = Plane[Patient]([0, 0, 0.0], [0, 0, 1.0])
    cut = np.array([[x, y, 0.0] for x in (-10, 0, 10) for y in (-10, 0, 10)])
    shifted = plane_deviation(planned, Plane[Patient]([0, 0, 1.5], [0, 0, 1.0]), Points(cut))
    assert (shifted.angle_rad, shifted.offset_mm, shifted.mean_mm) == (0, pytest.approx(1.5), pytest.approx(1.5))
    turned = plane_deviation(planned, Plane[Patient]([0, 0, 0.0], [0, -math.sin(0.1), -math.cos(0.1)]), Points(cut))
    assert turned.angle_rad == pytest.approx(0.1)
    assert turned.offset_mm == pytest.approx(0, abs=1e-12)
    assert turned.mean_mm == pytest.approx(2 / 3 * 10 * math.sin(0.1))
    plan = Rigid[Planned, Patient].exp([0.5, 0, 0], [1, 2, 3])
    done = Rigid[Planned, Patient].exp([0.5 + 0.02, 0, 0], [1, 2, 4])
    found = motion_deviation(plan, done, Points[Patient]([7.0, 0, 0]))
    assert found.angle_rad == pytest.approx(0.02)
    assert found.shift_mm == pytest.approx(1.0)


def test_levels_and_their_order():
    assert levels_between("L1-S1") == ("L1", "L2", "L3", "L4", "L5", "L6", "S1")
    assert levels_between("s1, L4") == ("L4", "S1")
    assert levels_between("L3-L1") == ("L1", "L2", "L3")
    assert (bone_of("S1"), bone_of("l3"), level_of("vertebrae_T12"), level_of("hip_left")) == (
        "sacrum", "vertebrae_L3", "T12", None,
    )  # fmt: skip
    assert rank("vertebrae_T12") == rank("rib_left_12") < rank("vertebrae_L1") < rank("sacrum") < rank("hip_left")
    assert rank("implant") is None
    for wrong in ("L9", "L1-L2-L3", "", "sacrum"):
        with pytest.raises(UnknownLevel):
            levels_between(wrong)
