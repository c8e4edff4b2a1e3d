"""Surfaces against shapes whose truth is known: volume kept, closed, and at the true edge under blur and noise."""

import numpy as np
import pytest
from scipy import ndimage

from spatial.rigid import rotation_exp
from twin.anatomy import edges, surface, voxels
from twin.scan.volume import Grid, LabelMap, Volume

AXES = rotation_exp([0.1, -0.2, 0.3])


def grid_of(shape: tuple[int, int, int], spacing: tuple[float, float, float], axes: np.ndarray = AXES) -> Grid:
    return Grid((shape[2], shape[1], shape[0]), np.array(spacing), np.array([10.0, -20.0, 5.0]), axes)


def centres(grid: Grid) -> np.ndarray:
    k, j, i = np.meshgrid(*(np.arange(n) for n in grid.shape), indexing="ij")
    return np.stack([i, j, k], axis=-1) * grid.spacing_mm


def shell(radius_mm: float, cortex_mm: float, seed: int = 3) -> tuple[Volume, LabelMap, np.ndarray]:
    """A ball with a cortical shell, scanned: 4x supersampled, point spread 0.8 mm, noise 20 HU."""
    grid = grid_of((44, 46, 46), (0.8, 0.8, 0.9), np.eye(3))
    middle = np.array([18.1, 18.3, 19.7])
    fine = np.zeros(grid.shape)
    steps = (np.arange(4) + 0.5) / 4 - 0.5
    for a in steps:
        for b in steps:
            for c in steps:
                p = centres(grid) + np.array([a, b, c]) * grid.spacing_mm
                r = np.linalg.norm(p - middle, axis=-1)
                fine += np.where(r > radius_mm, 50.0, np.where(r > radius_mm - cortex_mm, 1200.0, 150.0)) / 64
    sigma = 0.8 / 2.3548 / grid.spacing_mm[::-1]
    hu = ndimage.gaussian_filter(fine, sigma) + np.random.default_rng(seed).normal(0, 20, fine.shape)
    label = (np.linalg.norm(centres(grid) - middle, axis=-1) < radius_mm + 0.4).astype(np.uint8)
    volume = Volume(grid, np.round(hu).astype(np.int16))
    return volume, LabelMap(grid, label, {1: "vertebrae_L3"}), middle + grid.origin_mm


@pytest.mark.parametrize("cortex_mm", [0.7, 1.2, 2.5])
def test_the_edge_is_found_under_blur(cortex_mm: float) -> None:
    volume, labels, middle = shell(12.0, cortex_mm)
    known = edges.Cortex(1200.0, 0.34)
    bone = surface.extract(volume, labels, "vertebrae_L3", cortex=known)
    error = np.linalg.norm(bone.surface.vertices_mm - middle, axis=1) - 12.0
    plain = surface.extract(volume, labels, "vertebrae_L3", refine=False)
    assert bone.is_closed
    assert np.abs(error).mean() < 0.06
    assert abs(error.mean()) < 0.05
    assert np.abs(np.linalg.norm(plain.surface.vertices_mm - middle, axis=1) - 12.0).mean() > 0.25  # the label was off


def test_blur_and_cortex_are_found_on_the_bone() -> None:
    volume, labels, _ = shell(12.0, 2.5)
    mesh = surface.from_mask(labels.labels == 1, volume.grid)
    found = edges.calibrate([mesh], volume.hu, volume.grid)
    assert found is not None
    assert found.cortex_hu == pytest.approx(1200.0, rel=0.08)
    assert found.blur_mm == pytest.approx(0.34, abs=0.16)  # it trades against the voxel's own blur


@pytest.mark.parametrize("spacing", [(0.7, 0.7, 0.8), (3.0, 3.0, 3.0)])
def test_a_given_mask_keeps_its_volume_and_all_its_parts(spacing: tuple[float, float, float]) -> None:
    grid = grid_of((40, 42, 44), spacing)
    p = centres(grid) / np.array(spacing)
    mask = np.linalg.norm(p - [12, 14, 14], axis=-1) < 9
    mask |= (np.abs(p - [32, 30, 28]) < [6, 5, 7]).all(axis=-1)
    hollow = mask.copy()
    hollow[12:16, 12:16, 10:14] = False  # a cavity is no outside
    mesh = surface.from_mask(hollow, grid)
    assert mesh.is_closed
    assert mesh.volume_ml == pytest.approx(mask.sum() * grid.voxel_ml, rel=0.01)
    assert len(np.unique(np.round(mesh.vertices_mm, 6), axis=0)) == len(mesh.vertices_mm)


def test_a_mask_cut_by_the_scan_is_closed_there() -> None:
    grid = grid_of((20, 30, 30), (1.0, 1.0, 1.0))
    mask = np.linalg.norm(centres(grid) - [15, 15, 0], axis=-1) < 11
    mesh = surface.from_mask(mask, grid)
    assert mesh.is_closed
    assert mesh.volume_ml == pytest.approx(mask.sum() * grid.voxel_ml, rel=0.02)


def test_levels_of_detail_are_closed_and_coarser() -> None:
    volume, labels, _ = shell(12.0, 1.2)
    bone = surface.extract(volume, labels, "vertebrae_L3", refine=False)
    counts = [len(bone.surface.triangles)] + [len(m.triangles) for m in bone.levels_of_detail]
    assert len(counts) == 3
    assert counts == sorted(counts, reverse=True)
    assert all(m.is_closed and m.volume_ml == pytest.approx(bone.volume_ml, rel=0.02) for m in bone.levels_of_detail)


def test_an_unknown_bone_is_refused() -> None:
    volume, labels, _ = shell(12.0, 1.2)
    with pytest.raises(surface.NoSurface, match="vertebrae_L3"):
        surface.extract(volume, labels, "sacrum")


def test_the_voxels_inside_a_mesh_are_those_of_its_mask() -> None:
    grid = grid_of((40, 42, 44), (1.0, 1.1, 0.9))
    mask = np.linalg.norm(centres(grid) - [20, 22, 18], axis=-1) < 13
    mesh = surface.from_mask(mask, grid)
    block = voxels.block_of(grid, mesh)
    assert block is not None
    box, part = block
    found = np.zeros(mask.shape, dtype=bool)
    found[box] = voxels.inside(mesh, part)
    assert 2 * (found & mask).sum() / (found.sum() + mask.sum()) > 0.985
    middle = grid.patient_from_index(np.array([20 / 1.0, 22 / 1.1, 18 / 0.9])).mm
    inside = np.linalg.norm(grid.patient_from_index(np.argwhere(found)[:, ::-1]).mm - middle, axis=1)
    assert inside.max() < 13.7
