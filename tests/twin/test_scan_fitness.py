"""Fitness follows from what a scan is: coarse, old, smooth, tilted, cut, operated on since; each said by name."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from tests.data import shared_data
from tests.twin.written_series import write_series
from twin.scan.coverage import bone_at_edge
from twin.scan.fitness import Facts, Fitness, FitnessLimits, judge_fitness
from twin.scan.kernels import SHARP, SMOOTH, edge_character
from twin.scan.load import load_volume

TODAY = date(2026, 6, 1)
GOOD = Facts(0.8, 0.6, 200.0, 0.8, "B60s", study_date=date(2026, 5, 1), slices=250)

AGAINST = {
    "slices apart": ({"slice_mm": 1.5, "thickness_mm": 1.5}, (True, True, False), "slices are 1.50 mm apart"),
    "slices thick": ({"thickness_mm": 2.0}, (True, True, False), "slices are 2.00 mm thick, the limit is 1.25 mm"),
    "at the limit": ({"slice_mm": 1.25, "thickness_mm": 1.25}, (True, True, True), "1.25 mm apart"),
    "too coarse to plan": ({"slice_mm": 5.0, "thickness_mm": 5.0}, (True, False, False), "the limit is 3 mm"),
    "too coarse to see": ({"slice_mm": 12.0, "thickness_mm": 12.0}, (False, False, False), "the limit is 10 mm"),
    "wide pixels": ({"pixel_mm": 2.0}, (True, True, False), "pixels are 2.00 mm wide"),
    "unknown thickness": ({"thickness_mm": None}, (True, True, False), "thickness is not known"),
    "gaps": ({"slice_mm": 1.2, "thickness_mm": 0.6}, (True, False, False), "tissue between was not seen"),
    "short": ({"cover_mm": 30.0}, (True, False, False), "the slices cover 30 mm"),
    "incomplete": ({"announced": 300}, (True, False, False), "250 of 300 announced images"),
    "resampled": ({"is_resampled": True}, (True, True, False), "interpolated"),
    "smooth": ({"kernel": "B10f"}, (True, True, False), "very smooth"),
    "lung": ({"kernel": "LUNG"}, (True, True, False), "very sharp"),
    "lossy": ({"lossy": "10"}, (True, True, False), "compressed with loss (ratio 10)"),
    "old": ({"study_date": date(2025, 11, 1)}, (True, True, False), "212 days old, the limit is 180"),
    "very old": ({"study_date": date(2024, 1, 1)}, (True, False, False), "the limit is 365"),
    "of tomorrow": ({"study_date": date(2026, 6, 2)}, (True, True, False), "1 days after today"),
    "undated": ({"study_date": None}, (True, True, False), "its age is not"),
    "undated phantom": ({"study_date": None, "is_phantom": True}, (True, True, True), "a phantom"),
    "tilted": ({"tilt_deg": 12.0}, (True, True, True), "gantry tilt of 12.0 degrees"),
    "cut sideways": ({"edge_share": 0.5}, (True, True, True), "cut off sideways"),
}  # fmt: skip


@pytest.mark.parametrize("name", AGAINST)
def test_each_reason_counts_where_it_should(name):
    changed, fits, words = AGAINST[name]
    found = judge_fitness(replace(GOOD, **changed), today=TODAY)
    assert (found.view.fit, found.plan.fit, found.guide.fit) == fits
    assert any(words in reason for use in (found.view, found.plan, found.guide) for reason in use.reasons)
    assert found.guide.reasons
    assert Fitness.from_json(found.to_json()) == found


def test_a_good_scan_is_fit_and_says_on_what_that_rests():
    found = judge_fitness(GOOD, today=TODAY)
    assert found.guide.fit
    assert found.guide.reasons == ("slices 0.80 mm apart and 0.8 mm thick, pixels of 0.60 mm",)


def test_surgery_since_the_scan():
    for day, fit in ((date(2026, 4, 30), True), (date(2026, 5, 1), False), (date(2026, 5, 20), False)):
        found = judge_fitness(GOOD, today=TODAY, surgery_since=day)
        assert (found.plan.fit, found.guide.fit) == (fit, fit)
        assert fit or "surgery since the scan" in found.plan.reasons[0]
    undated = judge_fitness(replace(GOOD, study_date=None), today=TODAY, surgery_since=date(2026, 4, 1))
    assert not undated.plan.fit


def test_a_site_may_have_other_limits():
    limits = FitnessLimits(guide_slice_mm=0.7, guide_age_days=10)
    found = judge_fitness(GOOD, today=TODAY, limits=limits)
    assert [("0.7 mm" in reason or "limit is 10" in reason) for reason in found.guide.reasons] == [True] * 3


@pytest.mark.parametrize(
    ("kernel", "character"),
    [
        ("B10f", SMOOTH), ("B20s", SMOOTH), ("SOFT", SMOOTH), ("FC01", SMOOTH), ("A", SMOOTH), ("Br20d\\2", SMOOTH),
        ("B30f", ""), ("B60s", ""), ("B70f", ""), ("Br64d\\3", ""), ("STANDARD", ""), ("STD+", ""), ("BONEPLUS", ""),
        ("BONE", ""), ("FC30", ""), ("D", ""), ("YB", ""), ("", ""), ("homemade", ""),
        ("B80f", SHARP), ("Bl57f\\3", SHARP), ("LUNG", SHARP), ("EDGE", SHARP), ("FC52", SHARP), ("FC86", SHARP),
        ("L", SHARP), ("YD", SHARP),
    ],
)  # fmt: skip
def test_kernels_by_their_vendors_names(kernel, character):
    assert edge_character(kernel) == character


def test_bone_at_the_edge_is_found():
    hu = np.full((20, 40, 40), -1000, np.int16)
    hu[:, 10:30, 10:30] = 800
    assert bone_at_edge(hu) == 0.0
    hu[:10, 10:30, 30:] = 800
    assert bone_at_edge(hu) == 0.5
    round_field = np.full((20, 40, 40), -3024, np.int16)
    round_field[:, 8:32, 8:32] = 100
    assert bone_at_edge(round_field) == 0.0
    round_field[:, 20:28, 8:20] = 800
    assert bone_at_edge(round_field) == 1.0


def test_the_volume_carries_it_without_the_day(tmp_path):
    def dated(data, _k):
        data.StudyDate, data.ConvolutionKernel = "20260501", "B10f"

    write_series(tmp_path, mutate=dated)
    volume = load_volume(tmp_path, today=TODAY, surgery_since=date(2026, 5, 20))
    assert volume.fitness is not None
    words = " ".join(volume.fitness.guide.reasons)
    assert "4.00 mm apart" in words
    assert "very smooth" in words
    assert "surgery since" in words
    assert volume.about["scan_month"] == "2026-05"
    assert "20260501" not in repr((dict(volume.about), volume.warnings, volume.fitness))
    assert "2026-05-01" not in repr((dict(volume.about), volume.warnings, volume.fitness))


def test_real_scans_are_judged():
    lumbar = load_volume(shared_data("ct_lumbar_pelvis_nifti/example_ct.nii.gz"), today=TODAY)
    assert lumbar.fitness is not None
    assert lumbar.fitness.plan.fit
    assert not lumbar.fitness.guide.fit
    torso = load_volume(shared_data("ct_torso_dicom_j2k/series"), today=date(2023, 1, 1))
    assert torso.fitness is not None
    assert torso.fitness.plan.fit
    assert [r for r in torso.fitness.guide.reasons if "limit is 1.25" in r]
