"""A scan unfit for guidance stops it, unless a person overrules that in writing, which the journal keeps."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest
from typer.testing import CliRunner

import osteotwin
from guidance.permission import ScanUnfit, permission
from spatial.faults import Misuse
from tests.guidance.theatre import TWIN
from twin.case import Case
from twin.scan.fitness import Facts, judge_fitness

TODAY = date(2026, 6, 1)
GOOD = Facts(0.8, 0.6, 200.0, 0.8, "B60s", study_date=date(2026, 5, 1))


def twin_of(facts):
    return replace(TWIN, fitness=judge_fitness(facts, today=TODAY))


def test_a_fit_scan_needs_nothing():
    assert permission(twin_of(GOOD), None, None, TODAY).words == ()
    said = permission(twin_of(GOOD), "to be sure", "Dr A", TODAY)
    assert said.override is None
    assert "no override was needed" in said.words[0]


def test_a_coarse_scan_is_refused_until_somebody_answers_for_it():
    coarse = twin_of(replace(GOOD, slice_mm=2.0, thickness_mm=2.0))
    with pytest.raises(ScanUnfit, match=r"2\.00 mm apart, the limit is 1\.25 mm.*--override"):
        permission(coarse, None, None, TODAY)
    for override, by in (("needed", None), ("needed", " "), (" ", "Dr A"), (None, "Dr A")):
        with pytest.raises(Misuse):
            permission(coarse, override, by, TODAY)
    allowed = permission(coarse, "emergency", "Dr A", TODAY)
    assert allowed.override is not None
    assert allowed.override["reason"] == "emergency"
    assert allowed.override["by"] == allowed.by == "Dr A"
    assert any("2.00 mm" in text for text in allowed.override["against"])


def test_a_scan_grows_too_old_in_its_case():
    steps = ({"step": "scan", "scan_month": "2026-05", "phantom": False},)
    twin = replace(twin_of(GOOD), provenance=steps)
    assert permission(twin, None, None, date(2026, 11, 20)).words == ()
    with pytest.raises(ScanUnfit, match="2026-05 is over"):
        permission(twin, None, None, date(2026, 12, 20))
    phantom = replace(twin, provenance=({**steps[0], "phantom": True},))
    assert permission(phantom, None, None, date(2030, 1, 1)).words == ()


def test_an_unjudged_case_is_warned_of():
    assert "nobody has judged" in permission(TWIN, None, None, TODAY).words[0]


def test_the_command_refuses(tmp_path):
    unfit = replace(TWIN, fitness=judge_fitness(replace(GOOD, slice_mm=3.0), today=TODAY))
    Case.create(tmp_path / "case", unfit, None, None).journal.close()
    common = ["guide", str(tmp_path / "case"), "--source", "nowhere", "--bodies", "b", "--registration", "r"]
    common += ["--reference", "x"]
    refused = CliRunner().invoke(osteotwin.app, common)
    assert refused.exit_code == 1
    assert "not fit for guidance" in refused.stderr


def test_a_plan_on_an_unfit_scan_says_so_with_every_number():
    from commands.plan_words import caution, uncertainty

    coarse = twin_of(replace(GOOD, slice_mm=4.0, thickness_mm=4.0))
    assert "WARNING: the scan is not fit for planning (slices are 4.00 mm apart" in uncertainty(coarse)
    assert any("not fit for planning" in line for line in caution(coarse))
    assert "WARNING" not in uncertainty(twin_of(GOOD))
