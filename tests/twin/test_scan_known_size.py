"""A real object of known size, a wall of Lego bricks, measured in its CT as we load it: studs 8.0 mm, bricks 9.6."""

from __future__ import annotations

import numpy as np
import pytest

from tests.data import shared_data
from twin.scan.load import load_volume

STUDS = (slice(43, 50), slice(312, 336), slice(125, 289))  # the base plate: 8 studs of 20.5 pixels along i
LAYERS = (
    range(52, 59),
    slice(372, 402),
    (210, 235, 259, 284, 309),
)  # right wall: slices, columns, its floors


@pytest.fixture(scope="module")
def lego():
    return load_volume(shared_data("ct_lego_phantom_dicom/LegoPhantom_108slices.zip"))


def best_period_mm(values, places_mm):
    """The period of two harmonics that fits best, and the share of the variance that it explains."""

    def left(period_mm):
        phases = 2 * np.pi * places_mm / period_mm
        waves = [np.ones_like(phases), *(f(m * phases) for m in (1, 2) for f in (np.cos, np.sin))]
        basis = np.column_stack([*waves, places_mm])  # the plate lies a degree askew
        return float(((values - basis @ np.linalg.lstsq(basis, values, rcond=None)[0]) ** 2).sum())

    periods = np.linspace(7.5, 8.5, 501)
    best = min(periods, key=left)
    return best, 1 - left(best) / float(((values - values.mean()) ** 2).sum())


def test_the_stud_pitch_over_eight_studs(lego):
    slices, rows, columns = STUDS
    places_mm = np.arange(columns.start, columns.stop) * lego.grid.spacing_mm[0]
    assert np.ptp(places_mm) == pytest.approx(8 * 8.0, abs=0.5)
    found = []
    for plane in lego.hu[slices]:
        weight = np.clip(plane[rows, columns].astype(float) + 700, 0, None)
        heights = (weight * np.arange(rows.stop - rows.start)[:, None]).sum(axis=0) / weight.sum(axis=0)
        period_mm, share = best_period_mm(heights, places_mm)
        if share > 0.95:
            found.append(period_mm)
    assert len(found) >= 4
    assert np.median(found) == pytest.approx(8.00, abs=0.03)


def test_the_brick_height(lego):
    slices, columns, floors = LAYERS
    found = []
    for k in slices:
        profile = lego.hu[k, :, columns].astype(float).mean(axis=1)
        middles = []
        for row in floors:
            near = np.arange(row - 5, row + 6)
            weight = np.clip(profile[near] - np.percentile(profile[200:335], 40), 0, None)
            middles.append((weight * near).sum() / weight.sum())
        found.append(np.polyfit(np.arange(len(floors)), middles, 1)[0] * lego.grid.spacing_mm[1])
    assert np.median(found) == pytest.approx(9.6, abs=0.1)
    assert np.abs(np.array(found) - 9.6).max() < 0.2
