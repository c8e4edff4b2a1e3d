"""`osteotwin plan auto --rods`, `rod` and `corridor` from the outside."""

import pytest

from tests.twin.plan.desk import answer, run
from twin.case import Case
from twin.surfaces.stl import read_stl


def test_auto_with_rods_places_both_tells_the_limits_and_says_it_in_words(case):
    found = answer(case, "auto", "--levels", "L2-L4", "--rods")
    assert [r["id"] for r in found["rods"]] == ["rod-left", "rod-right"]
    for rod in found["rods"]:
        assert rod["worst_residual_mm"] < 0.5
        assert rod["length_mm"] > 76
        assert [h["screw"] for h in rod["heads"]] == [f"L{n}-{rod['side']}" for n in (2, 3, 4)]
    for screw in found["screws"]:
        assert set(screw["limits"]) == {"diameter", "length", "place"}
        assert screw["alternatives"]
        assert all(set(a) >= {"kind", "trades", "entry_mm", "grade", "margin_mm"} for a in screw["alternatives"])
    plan = Case.open(case).load_plan("plan")
    assert set(plan["rods"]) == {"rod-left", "rod-right"}
    assert len(plan["screws"]) == 6
    assert answer(case, "auto", "--levels", "L2-L4", "--rods") == found
    kinds = [e.kind for e in Case.open(case).journal.entries()]
    assert kinds.count("place_rod") == 2
    assert "move_rod" not in kinds  # the same rods again are no edit
    words = run(case, "auto", "--levels", "L2-L4", "--rods").stdout
    assert "rod-left: 5.5 mm" in words


def test_a_rod_of_its_own_and_a_side_without_screws(case):
    run(case, "auto", "--levels", "L2-L4")
    (rod,) = answer(case, "rod", "--side", "left", "--diameter", "6.35", "--material", "CoCr")["rods"]
    assert (rod["diameter_mm"], rod["material"]) == (6.35, "CoCr")
    assert "rod-right: 5.5 mm Ti-6Al-4V" in run(case, "rod", "--side", "right").stdout
    run(case, "rod", "--side", "up", code=2)
    empty = run(case, "rod", "--side", "left", "--plan", "none", code=2)
    assert "0 screws on the left" in empty.output


def test_a_corridor_is_told_and_written(case, tmp_path):
    out = tmp_path / "corridor.stl"
    options = ("--bone", "vertebrae_L3", "--side", "left", "--diameter", "6", "--length", "40")
    found = answer(case, "corridor", *options, "--margin", "1.0", "--out", str(out))
    mesh = read_stl(out)
    assert mesh.is_closed
    assert mesh.volume_ml == pytest.approx(found["volume_ml"], rel=1e-3)
    assert found["entry_area_mm2"] > 0
    assert set(found["cone_deg"]) == {"medial", "lateral", "cranial", "caudal"}
    assert "mm2" in run(case, "corridor", *options).stdout
    none = run(case, "corridor", "--bone", "vertebrae_L3", "--side", "left", "--diameter", "11", "--out", str(out))
    assert "no axis keeps" in none.stdout
    run(case, "corridor", *options, "--out", str(tmp_path / "corridor.step"), code=2)
    run(case, "corridor", "--bone", "implant", "--side", "left", code=1)
