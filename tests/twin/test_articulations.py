"""Joints between vertebrae: the minimum cut against scipy's flow, and who owns the tip of an articular process."""

import numpy as np
import pytest
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import maximum_flow

from twin.anatomy import articulations, minimum_cut, parting
from twin.anatomy.articulations import Arches
from twin.anatomy.canal import Canal
from twin.scan.names import NUMBERS
from twin.scan.phantom.patient import Phantom
from twin.scan.phantom.scanner import voxelise
from twin.scan.volume import Grid

SPACING_MM = 0.8
LOWER, UPPER, RIB = 3, 5, 9
CORTEX = 900
MUSCLE = 40


@pytest.mark.parametrize("seed", range(6))
def test_the_cut_is_as_strong_as_the_greatest_flow(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = (5, 6, 7)
    n = int(np.prod(shape))
    index = np.arange(n, dtype=np.int32).reshape(shape)
    index[rng.random(shape) < 0.1] = -1
    beside = np.full((n, 6), -1, np.int32)
    room = np.zeros((n, 6), np.int32)
    rows, columns, strengths = [], [], []
    for axis in range(3):
        one, other = np.moveaxis(index, axis, 0)[:-1].ravel(), np.moveaxis(index, axis, 0)[1:].ravel()
        linked = (one >= 0) & (other >= 0)
        one, other = one[linked], other[linked]
        strength = rng.integers(1, 50, len(one)).astype(np.int32)
        beside[one, 2 * axis], beside[other, 2 * axis + 1] = other, one
        room[one, 2 * axis] = room[other, 2 * axis + 1] = strength
        rows += [one, other]
        columns += [other, one]
        strengths += [strength, strength]
    side = rng.integers(0, 4, n)
    amount = rng.integers(1, 60, n).astype(np.int32)
    supply, demand = (np.where(side == s, amount, 0).astype(np.int32) for s in (1, 2))
    nodes = np.arange(n)
    rows += [np.full(n, n), nodes]
    columns += [nodes, np.full(n, n + 1)]
    strengths += [supply.copy(), demand.copy()]
    r, c, w = (np.concatenate(part).astype(np.int32) for part in (rows, columns, strengths))
    graph = coo_array((w, (r, c)), shape=(n + 2, n + 2)).tocsr()
    greatest = maximum_flow(graph, n, n + 1).flow_value
    mine = np.append(minimum_cut.source_side(supply, demand, beside, room), [True, False])
    assert w[mine[r] & ~mine[c]].sum() == greatest > 0


def joint(gap_hu: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, Grid]:
    """HU, true labels, flooded labels and grid: an upper process that stands behind a lower one, a gap between them.

    The flood has given the upper's tip to the lower, and both touch in front of the canal too.
    """
    size = (60, 60, 40)
    grid = Grid(size[::-1], np.full(3, SPACING_MM), np.array([-16.0, -20.0, -24.0]), np.eye(3))
    k, j, i = np.meshgrid(*(np.arange(n) for n in size), indexing="ij")
    x, y, z = (o + SPACING_MM * n for o, n in zip(grid.origin_mm, (i, j, k), strict=True))
    slanted = y - 0.4 * z - 10.0  # behind the canal, and further back the higher
    truth = np.zeros(size, np.uint8)
    column = (np.abs(x) < 5.0) & (y > 4.0) & (y < 26.0)
    truth[(np.abs(x) < 5.0) & (y > -4.0) & (slanted < -0.8) & (z < 8.0)] = LOWER
    truth[column & (slanted > 0.8) & (z > -8.0)] = UPPER
    front = (np.abs(x) < 5.0) & (y < -6.0)
    truth[front & (z < 0.0)] = LOWER
    truth[front & (z >= 0.0)] = UPPER
    truth[(x > 5.0) & (x < 8.0) & (y > 4.0) & (y < 12.0) & (np.abs(z) < 6.0)] = RIB
    gap = column & (np.abs(slanted) <= 0.8) & (np.abs(z) < 8.0)
    hu = np.where(truth > 0, CORTEX, MUSCLE).astype(np.int16)
    hu[gap] = gap_hu
    hu[gap & (np.abs(x - 2.0) < 0.5) & (np.abs(z - 2.0) < 0.5)] = CORTEX  # a bright speck across it
    flooded = truth.copy()
    flooded[gap] = LOWER
    flooded[(truth == UPPER) & (y > 0.0) & (z < -2.0)] = LOWER
    return hu, truth, flooded, grid


def straight_canal() -> Canal:
    s = np.arange(0.0, 50.0)
    one = np.ones((len(s), 1))
    centre = np.column_stack([0 * s, 0 * s, s - 25.0])
    return Canal(centre, one * [0.0, 0.0, 1.0], one * [1.0, 0.0, 0.0], one * [0.0, -1.0, 0.0], s, np.ones(len(s)))


def settled(hu: np.ndarray, labels: np.ndarray, grid: Grid) -> np.ndarray:
    nothing = np.zeros(hu.shape, np.bool_)
    canal = straight_canal()
    arches = Arches.of(hu, nothing, np.zeros(hu.shape, np.int16), grid, canal)
    out = labels.copy()
    articulations.settle(out, arches, grid, canal, {LOWER: 2, UPPER: 3})
    return out


@pytest.mark.parametrize("gap_hu", [180, 300, 420])
def test_a_tip_beyond_a_gap_goes_back_to_its_own(gap_hu: int) -> None:
    hu, truth, flooded, grid = joint(gap_hu)
    assert (flooded != truth)[truth > 0].sum() * SPACING_MM**3 > 400.0
    found = settled(hu, flooded, grid)
    assert (found != truth)[truth > 0].sum() < 0.002 * (truth > 0).sum()
    assert np.array_equal(found > 0, flooded > 0)


def test_without_a_gap_nothing_changes_hands() -> None:
    _, _, _, grid = joint(CORTEX)
    labels = np.zeros((60, 60, 40), np.uint8)
    labels[:28, 32:48, 12:28] = LOWER
    labels[28:, 32:48, 12:28] = UPPER
    hu = np.where(labels > 0, CORTEX, MUSCLE).astype(np.int16)
    hu += np.random.default_rng(2).normal(0, 40, hu.shape).astype(np.int16)
    assert np.array_equal(settled(hu, labels, grid), labels)


def test_axes_of_the_grid_do_not_matter() -> None:
    hu, truth, flooded, grid = joint(250)
    turned = Grid(
        grid.size[::-1],
        grid.spacing_mm[::-1],
        grid.origin_mm,
        np.array([[0.0, 0.0, -1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]),
    )
    canal = straight_canal()
    away = Canal(
        canal.centre_mm[:, ::-1] * [-1.0, 1.0, 1.0] + turned.origin_mm - grid.origin_mm[::-1] * [-1.0, 1.0, 1.0],
        canal.tangent[:, ::-1] * [-1.0, 1.0, 1.0],
        canal.left[:, ::-1] * [-1.0, 1.0, 1.0],
        canal.anterior[:, ::-1] * [-1.0, 1.0, 1.0],
        canal.along_mm,
        canal.score,
    )
    one, other = (np.ascontiguousarray(part.transpose(2, 1, 0)) for part in (hu, flooded))
    nothing = np.zeros(one.shape, np.bool_)
    arches = Arches.of(one, nothing, np.zeros(one.shape, np.int16), turned, away)
    articulations.settle(other, arches, turned, away, {LOWER: 2, UPPER: 3})
    inside = truth > 0
    assert np.array_equal(other.transpose(2, 1, 0)[inside], truth[inside])


def test_a_phantoms_processes_get_their_tips_back(phantom: Phantom) -> None:
    volume, labels = voxelise(phantom, 1.0, 1.0, crop_mm=("vertebrae_L4", "vertebrae_L5"))
    lower, upper = NUMBERS["vertebrae_L5"], NUMBERS["vertebrae_L4"]
    truth = np.where(np.isin(labels.labels, (lower, upper)), labels.labels, 0).astype(np.uint8)
    far, nearest = ndimage.distance_transform_edt(truth == 0, return_indices=True)
    bright = (volume.hu > 150) & (far < 2.0)
    flooded = np.where(bright, truth[tuple(nearest)], truth)  # gaps that the blur fills are somebody's
    lowest = np.flatnonzero((truth == upper).any(axis=(1, 2)))[0]
    tips = flooded[: lowest + 8]
    given = tips == upper
    tips[given] = lower
    canal = canal_of(phantom)
    marrow = (truth > 0) & (volume.hu < 300)
    spacing = (1.0, 1.0, 1.0)
    arches = Arches.of(volume.hu, marrow, parting.valleys(volume.hu, marrow, spacing), volume.grid, canal)
    articulations.settle(flooded, arches, volume.grid, canal, {lower: 1, upper: 2})
    mine = given & (truth[: lowest + 8] == upper)
    assert mine.sum() > 800
    assert (tips == upper)[mine].mean() > 0.99
    assert (flooded == lower)[truth == upper].sum() < 20
    assert (flooded == upper)[truth == lower].sum() < 20


def canal_of(phantom: Phantom) -> Canal:
    """Through the foramina of L4 and L5."""
    stands = {stand.size.level: stand for stand in phantom.stands}
    low, high = (
        stand.body.at(0.0, (stand.size.depth_mm + stand.size.canal_depth_mm) / 2, 0.0)
        for stand in (stands["L5"], stands["L4"])
    )
    length = float(np.linalg.norm(high - low))
    up = (high - low) / length
    s = np.arange(-30.0, length + 30.0)
    ahead = np.array([0.0, -1.0, 0.0]) + up[1] * up
    ahead /= np.linalg.norm(ahead)
    one = np.ones((len(s), 1))
    return Canal(low + s[:, None] * up, one * up, one * np.cross(ahead, -up), one * ahead, s + 30.0, np.ones(len(s)))
