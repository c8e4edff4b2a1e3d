"""Streaks of metal: made here by rotating and summing, with rays that read too little; taken out by the product."""

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from twin.anatomy import streaks
from twin.scan.volume import Grid, Volume

PIXEL_MM = 1.2
ANGLES_DEG = np.arange(0.0, 180.0, 1.0)
MOST_CM = 24.0  # of water: what a starved ray reads at most


@dataclass(frozen=True)
class Scanned:
    """Three slices, metal in the middle one alone; the same with what metal does to it."""

    true_hu: NDArray[np.float64]
    volume: Volume
    metal: NDArray[np.bool_]


def line_sums(picture: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.stack([ndimage.rotate(picture, angle, reshape=False, order=1).sum(axis=0) for angle in ANGLES_DEG])


def back(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Filtered back-projection by frequency, rotating each smear back."""
    n = sums.shape[1]
    ramp = np.abs(np.fft.fftfreq(4 * n))
    filtered = np.fft.ifft(np.fft.fft(sums, 4 * n, axis=1) * ramp, axis=1).real[:, :n]
    total = np.zeros((n, n))
    for angle, row in zip(ANGLES_DEG, filtered, strict=True):
        total += ndimage.rotate(np.tile(row, (n, 1)), -angle, reshape=False, order=1)
    return total * np.pi / len(ANGLES_DEG)


@pytest.fixture(scope="module")
def scanned() -> Scanned:
    y, x = np.mgrid[-80:81, -80:81] * PIXEL_MM
    density = np.where((x / 85.0) ** 2 + (y / 62.0) ** 2 < 1.0, 1.05, 0.0)
    ring = np.hypot(x + 30.0, y - 5.0)
    density[(ring < 20.0) & (ring > 16.0)] = 1.7
    metal = (np.hypot(x + 30.0, y - 5.0) < 7.0) | (np.hypot(x - 28.0, y + 6.0) < 8.0)
    solid = np.where(metal, 12.0, density)
    sums = line_sums(solid)
    error = back(np.minimum(sums, MOST_CM * 10.0 / PIXEL_MM) - sums)
    plain = (density - 1.0) * 1000.0
    spoilt = np.clip((solid + error - 1.0) * 1000.0, -1024.0, 3071.0)
    hu: NDArray[np.int16] = np.stack([plain, spoilt, plain]).round().astype(np.int16)
    grid = Grid((161, 161, 3), np.array([PIXEL_MM, PIXEL_MM, 2.0]), np.zeros(3), np.eye(3))
    return Scanned(plain, Volume(grid, hu), metal)


def test_streaks_go_and_bone_and_metal_stay(scanned: Scanned) -> None:
    clean, stain = streaks.cleared(scanned.volume)
    beside = (ndimage.distance_transform_edt(~scanned.metal) * PIXEL_MM > 3.0) & (scanned.true_hu > -500.0)
    off = (scanned.volume.hu[1] - scanned.true_hu)[beside]
    left = (clean.hu[1] - scanned.true_hu)[beside]
    assert np.sqrt((off**2).mean()) > 60.0
    assert np.sqrt((left**2).mean()) < 0.35 * np.sqrt((off**2).mean())
    bone = (scanned.true_hu > 600.0) & beside
    assert np.median(clean.hu[1][bone]) == pytest.approx(700.0, abs=60.0)
    inner = ndimage.binary_erosion(scanned.metal)
    assert np.array_equal(clean.hu[1][inner], scanned.volume.hu[1][inner])
    assert np.array_equal(clean.hu[[0, 2]], scanned.volume.hu[[0, 2]])
    assert stain is not None
    assert stain.row.tolist() == [-1, 0, -1]


def test_a_stain_is_strong_where_streaks_were(scanned: Scanned) -> None:
    from twin.anatomy.working import Working

    stain = streaks.cleared(scanned.volume)[1]
    assert stain is not None
    field = stain.on(Working(np.zeros((2, 97, 97), np.float32), 2.0, np.zeros(3)))  # its slices: the first two
    assert not field[0].any()
    # between the two pieces of metal it is dark, above and below them there is little
    assert field[1, 48, 48] > 3.0 * field[1, 85, 48]
    assert field[1, 48, 48] > 40.0


def test_a_scan_without_metal_is_itself(scanned: Scanned) -> None:
    plain = Volume(scanned.volume.grid, scanned.volume.hu[[0, 0, 2]])
    clean, stain = streaks.cleared(plain)
    assert clean is plain
    assert stain is None
