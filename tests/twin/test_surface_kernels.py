"""The compiled passes behind surfaces against slow oracles: scipy, cc3d, brute force, closed forms."""

from math import erf

import cc3d
import numpy as np
import pytest
from scipy import ndimage

from spatial.frames import Patient
from spatial.mesh import TriangleMesh
from twin.anatomy import bones, decimation, masks, pieces, profiles, runs, surface
from twin.anatomy.marching import contour
from twin.anatomy.smoothing import Neighbours, settle
from twin.scan.volume import Grid

RNG = np.random.default_rng(5)


def ball(radius: float, size: int = 40, middle: tuple[float, float, float] = (19.3, 20.1, 18.7)) -> np.ndarray:
    zyx = np.stack(np.mgrid[:size, :size, :size], axis=-1)
    return np.asarray(radius - np.linalg.norm(zyx - np.array(middle), axis=-1), dtype=np.float32)


@pytest.mark.parametrize("seed", range(3))
def test_marching_cubes_closes_every_case_of_a_cell(seed: int) -> None:
    field = np.zeros((14, 15, 16), np.float32)
    field[1:-1, 1:-1, 1:-1] = np.random.default_rng(seed).random((12, 13, 14))
    mesh = TriangleMesh[Patient](*contour(field, 0.5))
    assert mesh.is_closed
    assert len(np.unique(mesh.vertices_mm, axis=0)) == len(mesh.vertices_mm)


def test_marching_cubes_finds_the_sphere() -> None:
    mesh = TriangleMesh[Patient](*contour(ball(12.0), 1e-3))
    far = np.linalg.norm(mesh.vertices_mm - [18.7, 20.1, 19.3], axis=1)
    assert np.abs(far - 12.0).max() < 0.02
    assert mesh.volume_ml == pytest.approx(4 / 3 * np.pi * 12.0**3 / 1000, rel=0.005)


def test_softening_is_a_gaussian() -> None:
    labels = (RNG.random((9, 11, 13)) > 0.6).astype(np.uint8) * 7
    sigma = (0.9, 0.6, 1.4)
    pad = masks.border(sigma)
    wanted = ndimage.gaussian_filter(
        np.pad((labels == 7).astype(np.float32), pad), sigma, truncate=3.0, mode="constant"
    )
    assert np.abs(masks.softened(labels, 7, sigma) - wanted).max() < 1e-6


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7, 0.9])
def test_filling_is_what_components_of_the_background_say(share: float) -> None:
    mask = RNG.random((17, 18, 19)) < share
    outside = cc3d.connected_components(np.pad(~mask, 1, constant_values=True), connectivity=6)
    wanted = (outside != outside[0, 0, 0])[1:-1, 1:-1, 1:-1]
    assert np.array_equal(surface.fill_cavities(mask), wanted)


@pytest.mark.parametrize("numbers", [1, 2, 5])
def test_parts_by_runs_are_the_components_of_each_number(numbers: int) -> None:
    labels = RNG.integers(0, numbers + 1, (13, 14, 15)).astype(np.uint8)
    parts = runs.Runs.of(labels)
    found = np.zeros_like(labels)
    parts.write(found, parts.number)
    assert np.array_equal(found, labels)
    for number in range(1, numbers + 1):
        wanted = np.bincount(cc3d.connected_components(labels == number, connectivity=6).ravel())[1:]
        assert sorted(parts.size[parts.number == number]) == sorted(wanted)


def test_boxes_are_those_of_scipy() -> None:
    labels = np.zeros((20, 21, 22), np.uint16)
    for number in (3, 300, 7):
        k, j, i = RNG.integers(0, 15, 3)
        labels[k : k + 4, j : j + 5, i : i + 3] = number
    found = {n: box for n, box in enumerate(ndimage.find_objects(labels), 1) if box is not None}
    assert surface.bounding_boxes(labels) == found


def test_hollows_and_specks_go_and_the_bone_stays() -> None:
    field = np.maximum(np.minimum(ball(14.0), -ball(5.0)), ball(2.0, middle=(3.5, 3.5, 3.5)))
    vertices, triangles, lost = pieces.outer(*contour(field, 1e-3), least_volume=100.0)
    mesh = TriangleMesh[Patient](vertices, triangles)
    assert mesh.is_closed
    assert 1000 * mesh.volume_ml == pytest.approx(4 / 3 * np.pi * 14.0**3, rel=0.01)
    assert lost == pytest.approx([4 / 3 * np.pi * 2.0**3], rel=0.2)


def test_coarser_copies_stay_closed_and_near() -> None:
    field = np.maximum(ball(13.0), 4.0 - np.abs(ball(13.0)) - np.abs(np.mgrid[:40, :40, :40][0] - 19.0))
    mesh = TriangleMesh[Patient](*contour(np.asarray(field, np.float32), 1e-3))
    assert mesh.is_closed
    wanted = [len(mesh.triangles) // 4, len(mesh.triangles) // 16]
    copies = decimation.decimated(mesh, wanted)
    # (a thin flange goes first)
    for copy, count, loss in zip(copies, wanted, (0.01, 0.06), strict=True):
        assert copy.is_closed
        assert len(copy.triangles) <= 1.1 * count
        assert copy.volume_ml == pytest.approx(mesh.volume_ml, rel=loss)
    with pytest.raises(decimation.OpenMesh):
        decimation.decimated(TriangleMesh[Patient](mesh.vertices_mm, mesh.triangles[1:]), [100])


@pytest.mark.parametrize("lifted", [True, False])
@pytest.mark.parametrize(("edge_mm", "thickness_mm", "marrow_hu"), [(0.2, 0.7, 150.0), (-0.3, 1.5, 60.0)])
def test_a_blurred_shell_is_fitted_where_it_ends(
    edge_mm: float, thickness_mm: float, marrow_hu: float, lifted: bool
) -> None:
    sigma, cortex, outside = 0.5, 1200.0, 40.0
    t = (np.arange(profiles.SAMPLES) - profiles.MIDDLE) * profiles.STEP_MM

    def below(x: np.ndarray) -> np.ndarray:
        return np.array([0.5 * (1.0 + erf(v / sigma / np.sqrt(2.0))) for v in x])

    outer, inner = below(edge_mm - t), below(edge_mm - thickness_mm - t)
    p = (outside * (1 - outer) + cortex * (outer - inner) + marrow_hu * inner).astype(np.float32)
    told = np.zeros(profiles.TOLD)
    profiles.half_maximum(p, 1.5, told)
    assert told[profiles.WEIGHT] == 1.0
    profiles.fit_shell(p, sigma, cortex, lifted, told)
    assert told[profiles.OFFSET] == pytest.approx(edge_mm, abs=0.03)


def test_settling_minimises_what_it_says() -> None:
    vertices, triangles = contour(ball(6.0, 20, (9.0, 9.5, 10.0)), 1e-3)
    n = len(vertices)
    measured, weight = RNG.normal(0, 1, n).astype(np.float32), RNG.random(n).astype(np.float32)
    neighbours = Neighbours.from_triangles(triangles, n)
    found = settle(measured, weight, neighbours, 0.7, 200)
    for v in RNG.integers(0, n, 50):  # at rest each is the weighted mean of its measure and its neighbours' mean
        mean = found[neighbours.of[neighbours.start[v] : neighbours.start[v + 1]]].mean()
        assert found[v] == pytest.approx((weight[v] * measured[v] + 0.7 * mean) / (weight[v] + 0.7), abs=1e-4)


def test_one_bone_under_two_names_is_told() -> None:
    vertices, triangles = contour(ball(8.0, 24, (11.0, 11.5, 12.0)), 1e-3)
    mesh = TriangleMesh[Patient](vertices, triangles)
    apart = TriangleMesh[Patient](vertices + 3.0, triangles)
    assert not bones.in_the_same_place({"vertebrae_L1": mesh, "vertebrae_L2": apart})
    assert "same place" in bones.in_the_same_place({"vertebrae_L1": mesh, "vertebrae_L2": mesh})[0]


def test_a_surface_is_surer_in_a_finer_scan() -> None:
    spread = [bones.surface_sd_mm(Grid((9, 9, 9), np.full(3, mm), np.zeros(3), np.eye(3)), mm < 1.3) for mm in
              (0.6, 0.8, 1.0, 1.25, 2.0, 3.0)]  # fmt: skip
    assert spread == sorted(spread)
    assert spread[1] == pytest.approx(0.067, abs=0.01)  # as measured on the phantom's L3
    assert spread[-1] == pytest.approx(0.80, abs=0.05)
