"""What to do where no usual screw fits: pedicles of known width, a rib, a lamina of known thickness."""

from dataclasses import replace

import pytest

from tests.twin.plan.bodies import PEDICLE_X, WALL, block, block_twin, landmarks_of, to_mesh, vertebra_solid
from tests.twin.plan.phantom_twin import phantom_twin
from twin.anatomy.bone import Bone
from twin.anatomy.structure import Structure
from twin.anatomy.twin import Levels, NoBone, Twin
from twin.plan.screws.ladder import LEAST_MARGIN_MM, MOST_OUT_MM, alternatives

T5 = "vertebrae_T5"
L4 = "vertebrae_L4"


def rungs(twin, bone):
    found = alternatives(twin, bone, "left")
    assert [r.rank for r in found] == list(range(1, len(found) + 1))
    assert [r.fits for r in found] == sorted((r.fits for r in found), reverse=True)
    return {r.way: r for r in found}


def twin_of(solid, bone):
    return Twin("solid", {bone: Bone(bone, to_mesh(solid))}, landmarks_of(bone), Levels(1.0))


@pytest.mark.parametrize(("radius_mm", "diameter_mm"), [(2.2, 3.5), (2.55, 4.0), (3.2, 5.0)])
def test_the_thinner_screw_is_the_thickest_that_the_pedicle_takes(radius_mm, diameter_mm):
    found = rungs(block_twin(radius_mm), L4)["smaller"]
    assert found.fits
    assert found.screw.diameter_mm == diameter_mm
    assert found.grade.grade == "A"
    assert min(v for k, v in found.grade.margin_mm.items() if k != "anterior") >= LEAST_MARGIN_MM
    assert found.grade.margin_mm["anterior"] >= 2.0
    assert (found.screw.family == "polyaxial-small") == (diameter_mm == 3.5)


def test_a_hopeless_pedicle_leads_out_beside_it_and_never_into_the_canal():
    found = rungs(block_twin(1.2, T5), T5)
    assert not found["smaller"].fits
    assert "needs 2.0 mm" in found["smaller"].reason  # half of 3.5 mm and the margin
    way = found["in-out-in"]
    assert way.fits
    assert way.rank == 1
    assert way.grade.breach_direction == "lateral"
    assert 0 < way.grade.breach_mm <= MOST_OUT_MM
    assert way.grade.margin_mm["medial"] >= LEAST_MARGIN_MM
    assert way.grade.margin_mm["anterior"] >= 2.0
    assert "rib_left_5 is not in this twin" in way.reason


def test_a_rib_that_covers_the_screw_is_named():
    bare = block_twin(1.2, T5)
    rib = Bone("rib_left_5", to_mesh(block((PEDICLE_X + 2, 14, -8), (PEDICLE_X + 14, 32, 16))))
    covered = Twin("rib", {**bare.bones, "rib_left_5": rib}, bare.landmarks, Levels(1.0))
    assert "its thread meets rib_left_5" in rungs(covered, T5)["in-out-in"].reason


def test_no_lumbar_screw_goes_in_out_in():
    assert "in-out-in" not in rungs(block_twin(1.2), L4)


def test_the_hook_is_the_smallest_that_takes_the_lamina():
    thin = vertebra_solid(1.2) - block((-30, WALL + 4.0, -20), (30, 60, 20))
    hook = rungs(twin_of(thin, T5), T5)["hook"]
    assert hook.lamina_mm == pytest.approx(4.0, abs=0.1)
    assert (hook.hook.use, hook.hook.throat_mm) == ("pedicle", 6.5)
    lumbar = rungs(twin_of(thin, L4), L4)["hook"]
    assert (lumbar.hook.use, lumbar.hook.throat_mm) == ("laminar", 5.0)
    fat = vertebra_solid(1.2) + block((-22, WALL, -20), (22, WALL + 26, 20))
    refused = rungs(twin_of(fat, T5), T5)["hook"]
    assert not refused.fits
    assert "open to 10 mm" in refused.reason


def test_a_critical_structure_in_the_way_leaves_hook_and_nothing():
    box = to_mesh(block((PEDICLE_X - 9, 18, -10), (PEDICLE_X + 12, 30, 16)))
    vessel = Structure("vessel", "critical", box, "drawn")
    found = rungs(replace(block_twin(2.2, T5), structures={"vessel": vessel}), T5)
    assert not found["smaller"].fits
    assert "vessel (critical)" in found["smaller"].reason
    assert not found["in-out-in"].fits
    assert found["skip"].fits


def test_without_a_landmark_it_says_so_and_unknown_bones_are_refused():
    twin = block_twin()
    bare = Twin("bare", twin.bones, tuple(m for m in twin.landmarks if "pedicle" not in m.name), Levels(1.0))
    found = rungs(bare, L4)
    assert "could not be measured" in found["smaller"].reason
    assert found["skip"].rank == 1
    with pytest.raises(NoBone, match=L4):
        alternatives(twin, "vertebrae_L9", "left")


def test_the_answer_is_json_and_the_same_each_time():
    twin = phantom_twin(("vertebrae_L2",))
    first, again = ([r.to_json() for r in alternatives(twin, "vertebrae_L2", "left")] for _ in range(2))
    assert first == again
    assert first[0]["screw"]["grade"] == "A"
    assert 4.0 < next(r for r in first if r["way"] == "hook")["lamina_mm"] < 9.0


def test_a_hook_is_judged_where_the_other_pedicle_was_not_measured():
    both = block_twin(1.2, T5)
    one = Twin("one", both.bones, tuple(m for m in both.landmarks if m.name != "pedicle_right"), Levels(1.0))
    assert rungs(one, T5)["hook"].lamina_mm == pytest.approx(rungs(both, T5)["hook"].lamina_mm)
