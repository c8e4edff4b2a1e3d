"""Marrow behind a cracked wall is its vertebra's; a canal, a disc and gas are not."""

import numpy as np
import pytest

from twin.anatomy import sealing
from twin.scan.volume import Grid

BONE, OTHER = 4, 6


def shell(spacing_mm: tuple[float, float, float]) -> tuple[np.ndarray, np.ndarray, np.ndarray, Grid]:
    """Labels of a hollow ball of 14 mm with cracks, another bone's plate beside it, its marrow, its HU, its grid."""
    size = [round(44.0 / mm) for mm in spacing_mm]
    grid = Grid((size[0], size[1], size[2]), np.array(spacing_mm), np.full(3, -22.0), np.eye(3))
    k, j, i = np.meshgrid(*(np.arange(n) for n in size[::-1]), indexing="ij")
    x, y, z = (o + mm * n for o, mm, n in zip(grid.origin_mm, spacing_mm, (i, j, k), strict=True))
    far = np.sqrt(x * x + y * y + z * z)
    labels = np.zeros(far.shape, np.uint8)
    labels[np.abs(far - 13.0) < 2.0] = BONE
    out = np.stack([x, y, z], axis=-1) / np.maximum(far, 1e-6)[..., None]
    for crack in np.random.default_rng(4).normal(size=(12, 3)):
        labels[(out @ (crack / np.linalg.norm(crack)) > np.cos(1.2 / 13.0)) & (far < 16.0)] = 0
    labels[(z < -18.0) & (z > -20.0)] = OTHER
    return labels, far < 10.5, np.full(far.shape, 30, np.int16), grid


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), (0.7, 0.7, 1.4)])
def test_a_cracked_shell_keeps_its_marrow(spacing_mm: tuple[float, float, float]) -> None:
    labels, marrow, hu, grid = shell(spacing_mm)
    before = labels.copy()
    sealing.seal(labels, hu, grid, [BONE])
    assert (labels[marrow] == BONE).mean() > 0.92
    assert (labels[~marrow & (before == 0)] == BONE).mean() < 0.02
    assert np.array_equal(labels[before > 0], before[before > 0])


def test_gas_and_other_bones_stay_as_they_are() -> None:
    labels, _, hu, grid = shell((1.0, 1.0, 1.0))
    before = labels.copy()
    sealing.seal(labels, hu, grid, [OTHER])
    assert np.array_equal(labels, before)
    sealing.seal(labels, np.full_like(hu, -800), grid, [BONE])
    assert np.array_equal(labels, before)


def test_a_canal_and_the_space_between_two_plates_stay_free() -> None:
    labels = np.zeros((40, 60, 60), np.uint8)
    _, j, i = np.mgrid[:40, :60, :60]
    ring = np.hypot(j - 15, i - 30)
    labels[(ring > 9) & (ring < 13) & (np.arange(40)[:, None, None] > 12) & (np.arange(40)[:, None, None] < 28)] = BONE
    body = (np.abs(j - 45) < 12) & (np.abs(i - 30) < 20)
    for low, number in ((3, OTHER), (14, BONE), (31, OTHER)):
        labels[low : low + 6][body[low : low + 6]] = number
    before = labels.copy()
    sealing.seal(
        labels, np.full(labels.shape, 60, np.int16), Grid((60, 60, 40), np.ones(3), np.zeros(3), np.eye(3)), [BONE]
    )
    assert np.array_equal(labels, before)
