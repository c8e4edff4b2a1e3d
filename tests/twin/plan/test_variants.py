"""What if: a plan that starts as another one, plans side by side, and one thing put from one into the other."""

import json
import math
import re

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from commands.plan import app
from commands.plan_compare_words import printed
from commands.plan_desk import append
from tests.twin.plan.bodies import block_spine
from tests.twin.plan.test_approval import AUTO, answer, refused, run, screw
from twin.case import Case
from twin.plan.comparison import Column, compared, flat
from twin.plan.cuts.osteotomy import Osteotomy
from twin.plan.measures.measured import Measured
from twin.plan.plan import Plan
from twin.plan.proposals import proposals


@pytest.fixture
def case(tmp_path):
    with Case.create(tmp_path / "case", block_spine(), None, None, ()) as made:
        append(made, "plan", "Eve", [screw("L2-left"), screw("L3-right")], {"L2-left": AUTO})
    return tmp_path / "case"


def variant(case, name, source="plan", code=0):
    result = CliRunner().invoke(app, ["variant", "new", str(case), name, "--from", source, "--json"])
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def test_a_variant_holds_the_same_and_goes_its_own_way(case):
    assert variant(case, "thick")["items"] == ["L2-left", "L3-right"]
    opened = Case.open(case)
    first, second = (Plan.from_json(opened.load_plan(name)) for name in ("plan", "thick"))
    assert second.content() == first.content()
    with opened:
        append(opened, "thick", "Eve", [screw("L2-left", diameter=7.0)])
    again = Case.open(case)
    assert again.load_plan("plan")["screws"]["L2-left"]["diameter_mm"] == 6.0
    assert again.load_plan("thick")["screws"]["L2-left"]["diameter_mm"] == 7.0
    (kept,) = proposals(again.journal.entries(), "thick", again.twin.twin_id)
    assert (kept.key, kept.stands, kept.decision) == (("screw", "L2-left"), "changed", None)
    assert again.check() == []


def test_a_variant_needs_a_free_name_and_a_plan_to_start_from(case):
    variant(case, "b")
    assert "already" in variant(case, "b", code=2)["error"]["message"]
    assert "no plan 'c'; there are: plan, b" in variant(case, "d", "c", code=2)["error"]["message"]
    assert "can't be a plan's name" in variant(case, "../d", code=2)["error"]["message"]


def test_plans_side_by_side_in_numbers_words_and_a_picture(case, tmp_path):
    variant(case, "b")
    with Case.open(case) as opened:
        cut = Osteotomy.pso(opened.twin, "vertebrae_L3", math.radians(25))
        append(opened, "b", "Eve", [screw("L2-left", diameter=8.0), cut])
    picture = tmp_path / "table.png"
    found = answer(case, "compare", "plan", "b", "--picture", str(picture))
    a, b = found["plans"]
    assert (a["grades"], b["grades"]) == ({"A": 2}, {"A": 2})
    assert a["least_margin"]["margin_mm"] == pytest.approx(2.0, abs=0.06)
    assert (b["least_margin"]["id"], b["least_margin"]["margin_mm"]) == ("L2-left", pytest.approx(1.0, abs=0.06))
    assert (a["removed_ml"], a["worst"], a["least_hold"]) == (0.0, None, None)
    assert b["removed_ml"] > 1.0
    assert (b["counts"]["osteotomies"], a["status"]["state"]) == (1, "draft")
    items = {one["id"]: one for one in found["items"]}
    assert {name: one["differs"] for name, one in items.items()} == {
        "L2-left": True, "L3-right": False, "L3-PSO": True,
    }  # fmt: skip
    assert items["L3-PSO"]["in"]["plan"] is None
    assert items["L3-PSO"]["in"]["b"]["angle_deg"] == pytest.approx(25)
    page = np.asarray(Image.open(picture))
    assert page.shape[0] > 400
    assert page.std() > 5  # words are on it
    lines = printed(found)
    assert any(line.startswith("* L2-left") and "8 x 40 mm" in line for line in lines)
    assert any(line.startswith("  L3-right") for line in lines)


def test_two_plans_are_needed_and_they_must_be_there(case, tmp_path):
    assert "two or more" in refused(case, "compare", "plan", "plan", code=2)
    assert "no plan 'x'" in refused(case, "compare", "plan", "x", code=2)
    variant(case, "b")
    assert "PNG" in refused(case, "compare", "plan", "b", "--picture", str(tmp_path / "t.jpg"), code=2)
    assert "no plan 'x'" in refused(case, "merge", "--from", "x", "--item", "L2-left", "--into", "b", code=2)
    assert "it holds L2-left, L3-right" in refused(
        case, "merge", "--from", "plan", "--item", "L9", "--into", "b", code=2
    )


def test_one_screw_of_a_plan_goes_into_another_with_where_it_came_from(case):
    variant(case, "b")
    with Case.open(case) as opened:
        append(opened, "b", "Eve", [screw("L2-left", diameter=8.0), screw("L4-left")])
    found = answer(case, "merge", "--from", "b", "--item", "L4-left", "--into", "plan")
    assert (found["edit"], found["item"]["id"]) == ("place_screw", "L4-left")
    assert answer(case, "merge", "--from", "b", "--item", "L2-left", "--into", "plan")["edit"] == "move_screw"
    opened = Case.open(case)
    assert opened.load_plan("plan")["screws"] == opened.load_plan("b")["screws"]
    last = [e for e in opened.journal.entries() if e.kind == "move_screw"][-1]
    assert last.payload["merged_from"]["plan"] == "b"
    run(case, "undo")
    assert Case.open(case).load_plan("plan")["screws"]["L2-left"]["diameter_mm"] == 6.0


def test_a_proposal_that_is_merged_stays_one(case):
    with Case.open(case) as opened:
        append(opened, "other", "Eve", [screw("L4-left")])
    run(case, "merge", "--from", "plan", "--item", "L2-left", "--into", "other")
    opened = Case.open(case)
    (kept,) = proposals(opened.journal.entries(), "other", opened.twin.twin_id)
    assert (kept.key[1], kept.stands, kept.origin["by"]) == ("L2-left", "as proposed", "plan auto")


def test_alignment_stands_in_rows_with_its_spread_and_legs_only_where_a_plan_changes_them():
    def measured(value, sd=0.5):
        return Measured("x_deg", value, sd)

    before = flat({"pi_minus_ll_deg": measured(14.0), "sacral_slope_deg": Measured("x_deg", None, None, "no")},
                  {"left": {"hka_deg": measured(171.0), "mpta_deg": measured(82.0, None)}})  # fmt: skip
    assert set(before) == {"pi_minus_ll_deg", "left hka_deg", "left mpta_deg"}
    after = {**before, "pi_minus_ll_deg": measured(-4.0), "left hka_deg": measured(180.0)}
    columns = [Column(Plan(name, "t"), (), (), marks) for name, marks in (("a", before), ("b", after))]
    report = compared(columns, before)
    for one in report["plans"]:
        one["status"] = {"state": "draft"}
    lines = printed(report)
    (line,) = [line for line in lines if "PI - LL" in line]
    assert line.startswith("* PI - LL, now 14.0° ± 1.0")
    assert re.split(r"\s{2,}", line)[-2:] == ["14.0° ± 1.0", "-4.0° ± 1.0"]
    assert any("Left: Hip-knee-ankle" in line for line in lines)
    assert not any("MPTA" in line for line in lines)


def test_the_least_hold_and_the_worst_breach_are_the_weakest_screws():
    def report(name, hold, breach):
        return {
            "id": name, "grade": "B", "breach_mm": breach, "breach_direction": "medial",
            "margin_mm": {"medial": -breach}, "margin_sd_mm": 0.2, "hold_n": hold, "diameter_mm": 6.0,
            "length_mm": 40.0,
        }  # fmt: skip

    screws = [report("a", [300, 500, 800], 0.5), report("b", [100, 400, 900], 1.5), report("c", None, 1.0)]
    column = Column(Plan("p", "t"), screws, [{"removed_ml": 2.0}, {"removed_ml": 0.5}], {})
    found = compared([column], {})["plans"][0]
    assert found["least_hold"] == {"id": "b", "hold_n": [100, 400, 900]}
    assert (found["worst"]["id"], found["removed_ml"]) == ("b", 2.5)
