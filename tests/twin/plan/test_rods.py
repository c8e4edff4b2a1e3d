"""Rods: through the heads as far as they can be bent, with what is left over and what is in the way."""

from itertools import pairwise

import numpy as np
import pytest

from spatial.frames import Patient
from spatial.rigid import Points
from tests.twin.plan.bodies import PEDICLE_X, REAR, block_spine
from twin.plan.auto.rods import MOST_STRAIN, NoRod, head_centre_mm, plan_rod, plan_rods, rod_line
from twin.plan.screws.implants import load_library
from twin.plan.screws.screw import Screw

HEAD = load_library().screws().head


def screw(level, z, side="left", y=REAR + 0.2, x=PEDICLE_X, tilt=0.0):
    entry = np.array([x if side == "left" else -x, y, z])
    target = entry + 30.0 * np.array([0.0, -np.cos(tilt), np.sin(tilt)])
    ends = Points[Patient](entry), Points[Patient](target)
    return Screw(f"{level}-{side}", f"vertebrae_{level}", side, *ends, 6.0, 40.0)


STRAIGHT = (screw("L2", 42.0), screw("L3", 4.0), screw("L4", -34.0))


def test_heads_in_a_line_take_a_straight_rod_with_nothing_left_over():
    found = plan_rod(block_spine(), reversed(STRAIGHT), "left")
    assert found.rod.screws == ("L2-left", "L3-left", "L4-left")
    assert max(seat.residual_mm for seat in found.seats) < 1e-6
    assert max(seat.tilt_deg for seat in found.seats) < 1e-6
    assert found.rod.length_mm == pytest.approx(76.0 + 12.0, abs=1e-6)
    assert found.stock_mm == 100
    assert found.to_json()["radius_mm"] is None or found.rod.radius_mm > 1e4
    assert [seat.gap_mm for seat in found.seats] == [pytest.approx(38.0 - HEAD.diameter_mm)] * 2 + [None]
    assert np.allclose(found.rod.centreline.mm[:, 1], REAR + 0.2 + HEAD.height_mm / 2)


def test_a_rod_follows_an_arc_and_its_length_and_radius_are_the_arcs():
    angle = np.linspace(-0.5, 0.5, 7)
    centres = 150.0 * np.column_stack([np.zeros(7), np.cos(angle), -np.sin(angle)])
    line = rod_line(centres, 50.0)
    assert np.linalg.norm(line[6:-6], axis=1) == pytest.approx(150.0, abs=0.6)
    assert np.linalg.norm(np.diff(line, axis=0), axis=1).sum() == pytest.approx(150.0 + 12.0, abs=0.5)


def test_a_head_out_of_line_bends_the_rod_to_its_limit_and_the_rest_is_told():
    crooked = (*STRAIGHT, screw("L1", 62.0, x=PEDICLE_X + 14.0))
    found = plan_rod(block_spine(), crooked, "left")
    limit = 5.5 / (2 * MOST_STRAIN)
    assert found.least_radius_mm == pytest.approx(limit)
    line = found.rod.centreline.mm
    assert found.to_json()["worst_residual_mm"] > 0.3
    centres = np.array([head_centre_mm(s, HEAD) for s in sorted(crooked, key=lambda s: -s.entry.mm[2])])
    for seat, centre in zip(found.seats, centres, strict=True):  # by brute force over a finer line
        fine = np.vstack([a + np.linspace(0, 1, 50)[:, None] * (b - a) for a, b in pairwise(line)])
        assert seat.residual_mm == pytest.approx(np.linalg.norm(fine - centre, axis=1).min(), abs=0.01)
    a, b = line[3:-3] - line[:-6], line[6:] - line[3:-3]
    turn = np.arccos(np.clip((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1), -1, 1 - 1e-12))
    assert (np.linalg.norm(a, axis=1) / turn).min() > 0.95 * limit
    stiff = plan_rod(block_spine(), crooked, "left", diameter_mm=6.35)
    assert stiff.to_json()["worst_residual_mm"] > found.to_json()["worst_residual_mm"]


def test_a_tilted_head_and_bone_in_the_way_are_told():
    found = plan_rod(block_spine(), (*STRAIGHT[:2], screw("L4", -34.0, tilt=np.radians(20))), "left")
    assert found.seats[2].tilt_deg == pytest.approx(20.0, abs=4.0)
    assert found.contacts == ()
    sunk = [screw(level, z, y=REAR - 6.0) for level, z in (("L2", 42.0), ("L3", 4.0), ("L4", -34.0))]
    contacts = plan_rod(block_spine(), sunk, "left").contacts
    rod = next(c for c in contacts if c.part == "rod-left")
    # the rod's middle is 7 mm behind an entry 6.2 mm deep in the block: 1.0 mm off its rear, 2.75 thick
    assert rod.depth_mm == pytest.approx(2.75 - (HEAD.height_mm / 2 - 6.2), abs=0.1)
    heads = {c.part for c in contacts if c.part.startswith("head")}
    assert heads == {"head of L2-left", "head of L3-left", "head of L4-left"}


def test_sides_sizes_and_too_few_screws():
    both = {s.id: s for s in (*STRAIGHT, screw("L2", 42.0, "right"))}
    assert [r.rod.id for r in plan_rods(block_spine(), both)] == ["rod-left"]
    with pytest.raises(NoRod, match="1 screws on the right"):
        plan_rod(block_spine(), both.values(), "right")
    with pytest.raises(NoRod, match=r"no rod of 7 mm.*5\.5"):
        plan_rod(block_spine(), STRAIGHT, "left", diameter_mm=7.0)
    with pytest.raises(NoRod, match="CoCr"):
        plan_rod(block_spine(), STRAIGHT, "left", material="wood")
    found = plan_rod(block_spine(), STRAIGHT[:2], "left", material="CoCr", diameter_mm=4.75)
    assert (found.rod.material, found.rod.diameter_mm, len(found.seats)) == ("CoCr", 4.75, 2)
