"""Several levels planned together: heads in line, walls kept, the same bytes again, alternatives that are others."""

from functools import cache

import numpy as np
import pytest

from tests.twin.plan.bodies import block_spine, block_twin
from tests.twin.plan.phantom_twin import phantom_twin
from twin.journal import canonical_json
from twin.plan.auto.autoplan import LEAST_MARGIN_MM, propose_screw
from twin.plan.auto.construct import propose_construct

BONES = ("vertebrae_L1", "vertebrae_L2", "vertebrae_L4", "vertebrae_L5", "sacrum")
ASKED = tuple((bone, side) for bone in BONES for side in ("left", "right"))
HEAD_MM = 7.0


@cache
def twin():
    return phantom_twin(BONES)


@cache
def proposals():
    return propose_construct(twin(), ASKED)


def heads(found, side):
    screws = [p.screw for p in found if p.side == side]
    return np.array([s.entry.mm - HEAD_MM * s.axis.direction for s in screws])


def bend(points):
    """How far each inner point is off the line of its neighbours, sideways (the phantom stands straight)."""
    above, middle, below = points[:-2], points[1:-1], points[2:]
    part = ((middle - above)[:, 2] / (below - above)[:, 2])[:, None]
    return np.abs((middle - above - part * (below - above))[:, 0])


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_heads_come_into_line_without_a_wall_getting_too_near(side):
    alone = [propose_screw(twin(), bone, which) for bone, which in ASKED]
    assert bend(heads(proposals(), side)).max() < 0.8 * bend(heads(alone, side)).max()
    for joint, single in zip(proposals(), alone, strict=True):
        assert joint.grade.grade == "A"
        assert min(v for k, v in joint.grade.margin_mm.items() if k != "anterior") >= LEAST_MARGIN_MM
        assert joint.screw.diameter_mm == single.screw.diameter_mm
        assert joint.screw.length_mm >= single.screw.length_mm - 5.0


def test_the_answer_keeps_the_order_and_says_what_bound_it():
    assert [(p.bone, p.side) for p in proposals()] == list(ASKED)
    for proposal in proposals():
        assert set(proposal.limits) == {"diameter", "length", "place"}
    by_id = {p.screw.id: p for p in proposals()}
    assert "largest of the set" in by_id["L5-left"].limits["diameter"]
    assert "rod's line" in by_id["L5-left"].limits["place"]


def test_alternatives_are_other_screws_and_say_what_they_trade():
    for proposal in proposals():
        assert 1 <= len(proposal.alternatives) <= 3
        for other in proposal.alternatives:
            assert other.grade.grade == "A"
            assert other.screw.to_json() != proposal.screw.to_json()
            assert other.trades["diameter_mm"] == other.screw.diameter_mm - proposal.screw.diameter_mm
            if other.kind == "thinner":
                assert other.trades["least_margin_mm"] == pytest.approx(-other.trades["diameter_mm"] / 2, abs=1e-6)


def test_the_same_twin_gives_the_same_bytes():
    def document(found):
        return canonical_json([[p.screw.to_json(), *(a.to_json() for a in p.alternatives)] for p in found])

    some = [pair for pair in ASKED if pair[1] == "left"]
    assert document(propose_construct(twin(), some)) == document(propose_construct(twin(), some))


def test_sides_do_not_touch_each_other_and_no_rod_is_needed_for_two():
    left = propose_construct(twin(), [pair for pair in ASKED if pair[1] == "left"])
    both = [p for p in proposals() if p.side == "left"]
    assert [p.screw.to_json() for p in left] == [p.screw.to_json() for p in both]
    two = propose_construct(block_spine(), [("vertebrae_L2", "left"), ("vertebrae_L3", "left")], alternatives=0)
    assert all("rod_line_mm" not in a.trades for p in two for a in p.alternatives)
    assert all(p.limits["place"] == "its own best axis" for p in two)


def test_a_refused_pedicle_keeps_its_place_in_the_answer():
    found = propose_construct(block_spine(), [("vertebrae_L2", "left"), ("implant", "left"), ("vertebrae_L3", "left")])
    assert [p.screw is None for p in found] == [False, True, False]
    assert "pedicle_left" in found[1].reason


def test_where_no_screw_fits_the_ways_out_are_ranked():
    found = propose_construct(block_twin(2.2), [("vertebrae_L4", "right")])[0]
    ways = found.refusal()["alternatives"]
    assert [one["rank"] for one in ways] == list(range(1, len(ways) + 1))
    assert {"hook", "skip"} <= {one["way"] for one in ways}
    assert found.instead
