"""The hold estimate: the formula in closed form, its place among cadavers, laws, and when there is none."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spatial.distance import DistanceGrid
from spatial.frames import Patient
from spatial.rigid import Points
from tests.twin.plan.bodies import block_twin
from tests.twin.plan.phantom_twin import phantom_twin
from tests.twin.plan.test_density import ct
from twin.plan.screws.grade import entry_on_bone, grade_screw
from twin.plan.screws.hold import NO_CT, OFF_BONE, OUTSIDE_CT, SCALE, STATUS, Hold, Reading, hold, thread_factor
from twin.plan.screws.screw import Screw
from twin.scan.phantom.patient import Phantom
from twin.scan.phantom.voxels import scan_grid, synthesise
from twin.scan.volume import Grid, Volume

BONE = "vertebrae_L3"
CADAVERS_N = {"normal": (970.0, 400.0), "osteoporotic": (370.0, 140.0), "extremely osteoporotic": (180.0, 110.0)}
PLAIN = Reading(0.775, 0.0, 0.046, 9.1, "uncalibrated HU")


def estimate(hu, length_mm=40.0, diameter_mm=6.5, reading=PLAIN):
    count = int(length_mm / 0.5)
    return hold(np.full(count, float(hu)), np.ones(count), 0.5, diameter_mm, 0.85, 2.7, reading)


def test_the_formula_by_hand():
    assert thread_factor(0.85, 2.7) == pytest.approx(0.5 + 0.57735 * 0.85 / 2.7)
    found = estimate(100.0)
    strength = 21.6 * (0.0775 / 0.598) ** 1.65  # MPa
    assert found.best_n == pytest.approx(SCALE * strength * np.pi * 6.5 * 40.0 * thread_factor(0.85, 2.7))
    assert found.engaged_mm == pytest.approx(40.0)


@given(st.floats(20, 240), st.floats(20, 240), st.floats(20, 60), st.floats(4, 9))
def test_denser_longer_thicker_holds_no_less_and_the_best_lies_in_its_interval(a, b, length, diameter):
    thin, dense = sorted((a, b))
    low, high = estimate(thin, length, diameter), estimate(dense, length, diameter)
    assert low.best_n <= high.best_n
    assert low.low_n <= low.best_n <= low.high_n
    assert estimate(thin, length + 5, diameter).best_n > low.best_n
    assert estimate(thin, length, diameter + 1).best_n > low.best_n
    assert estimate(thin, length, diameter) == low


def test_a_calibration_with_less_spread_narrows_the_interval():
    wide, narrow = estimate(80.0), estimate(80.0, reading=Reading(0.775, 0.0, 0.0, 1.0, "rods"))
    assert narrow.best_n == wide.best_n
    assert narrow.high_n - narrow.low_n < wide.high_n - wide.low_n


def test_a_site_that_is_calibrated_is_named():
    bodies = {
        n: {"mean_hu": hu, "qct_mg_cc": 0.9 * hu - 4.0, "qct_sd_mg_cc": 3.0} for n, hu in (("a", 90.0), ("b", 140.0))
    }
    density = {"calibrated": True, "calibration": "rods, mg/cc of HA", "equivalent": "HA", "bodies": bodies}
    found = Reading.of(density)
    assert (found.slope, found.intercept_mg_cc) == pytest.approx((0.9, -4.0))
    assert (found.slope_sd, found.basis) == (0.0, "rods, mg/cc of HA")
    assert Reading.of({**density, "equivalent": "K2HPO4"}).slope_sd > 0
    assert Reading.of({**density, "calibrated": False}).basis == "uncalibrated HU"
    assert Reading.of(None).basis == "uncalibrated HU"


@cache
def scanned(osteoporosis):
    person = Phantom.make(1, osteoporosis=osteoporosis)
    n = person.index(BONE)
    box = (person.bones.low_mm[n] - 4, person.bones.high_mm[n] + 4)
    scan = synthesise(person, scan_grid(person, slice_mm=1.2, pixel_mm=0.7, box_mm=box))
    return Volume(Grid(scan.grid.size, np.array([0.7, 0.7, 1.2]), scan.grid.origin_mm, np.eye(3)), scan.hu)


def volume(who):
    found = scanned(who != "normal")
    if who != "extremely osteoporotic":
        return found
    return Volume(found.grid, np.where(found.hu > 0, found.hu // 2, found.hu).astype(np.int16))  # half the mineral


@pytest.mark.parametrize("who", list(CADAVERS_N))
@pytest.mark.parametrize(("diameter_mm", "length_mm"), [(5.5, 40.0), (6.5, 45.0)])
def test_it_lands_among_the_cadavers_of_its_density(who, diameter_mm, length_mm):
    mean, sd = CADAVERS_N[who]
    twin = phantom_twin((BONE,))
    for side in ("left", "right"):
        neck = twin.landmark(f"pedicle_{side}", BONE)
        entry = entry_on_bone(DistanceGrid[Patient].of(twin.bone(BONE).surface), neck.position, neck.direction)
        target = Points[Patient](entry.mm + 30 * neck.direction.unit)
        grade = grade_screw(twin, Screw("s", BONE, side, entry, target, diameter_mm, length_mm), volume(who))
        assert mean - sd <= grade.hold_n[1] <= mean + sd
        assert grade.hold_n[0] < grade.hold_n[1] < grade.hold_n[2]


def test_the_report_says_what_it_is_and_why_there_is_none():
    def block_screw(length=45.0):
        return Screw(
            "s", "vertebrae_L4", "left", Points[Patient]([12, 41, 4]), Points[Patient]([12, 0, 4.0]), 6.0, length
        )

    report = grade_screw(block_twin(), block_screw(), ct()).to_json()
    assert report["hold_status"] == STATUS
    assert report["hold"]["density"] == "uncalibrated HU"
    assert report["hold_reason"] is None
    assert len(report["hold_n"]) == 3
    bare = grade_screw(block_twin(), block_screw()).to_json()
    assert (bare["hold_n"], bare["hold_reason"]) == (None, NO_CT)
    cut_off = grade_screw(block_twin(), block_screw(), ct(size=(60, 40, 40))).to_json()
    assert (cut_off["hold_n"], cut_off["hold_reason"]) == (None, OUTSIDE_CT)
    assert hold(np.ones(4), np.zeros(4), 0.5, 6.0, 0.8, 2.7, PLAIN) == OFF_BONE
    assert isinstance(hold(np.ones(4), np.ones(4), 0.5, 6.0, 0.8, 2.7, PLAIN), Hold)
