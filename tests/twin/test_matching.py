"""Another scan placed on the twin: phantom pairs whose true motion is known exactly, since only the grid was moved."""

import numpy as np
import pytest
from scipy.ndimage import binary_dilation

from spatial.frames import Patient, Series
from spatial.rigid import Points, Rigid
from tests.twin.plan.phantom_twin import surface
from twin.scan.matching import FINE_MM, Matched, NotMatched, Pair, match, refined
from twin.scan.phantom.patient import Phantom
from twin.scan.phantom.scanner import voxelise
from twin.scan.placings import placings
from twin.scan.volume import Grid, Volume

BONES = ("vertebrae_L2", "vertebrae_L3", "vertebrae_L4")
SERIES_FROM_PATIENT = Rigid[Series, Patient].exp(np.array([0.08, -0.1, 0.12]), np.array([14.0, -22.0, 31.0]))


@pytest.fixture(scope="module")
def scans():
    """The twin's CT with its bones, and the same patient in another scanner: other voxels, noise and kernel."""
    person = Phantom.make(1)
    volume, labels = voxelise(person, slice_mm=1.2, pixel_mm=1.0, crop_mm=BONES)
    other, _ = voxelise(person, slice_mm=2.0, pixel_mm=1.3, crop_mm=BONES, kernel="sharp")
    numbers = [number for number, name in labels.names.items() if name in BONES]
    near = binary_dilation(np.isin(labels.labels, numbers), iterations=5)
    meshes = [surface(bone) for bone in BONES]
    points = np.vstack([m.vertices_mm[::20] for m in meshes])
    normals = np.vstack([m.vertex_normals[::20] for m in meshes])
    return volume, near, Points[Patient](points), normals, other


def moved(volume, series_from_patient=SERIES_FROM_PATIENT, grey=None):
    """The same voxels in another scanner's coordinates."""
    grid = volume.grid
    origin = (series_from_patient @ Points[Patient](grid.origin_mm)).mm
    turned = Grid(grid.size, grid.spacing_mm, origin, series_from_patient.rotation @ grid.axes)
    return Volume(turned, volume.hu if grey is None else grey)


def as_mr(hu):
    """Grey values as a T1-weighted MR has them: cortex dark, marrow and fat bright, a coil's shading, noise."""
    tissue = [-1000, -300, -120, -80, 0, 30, 60, 120, 250, 600, 1200]
    grey = np.interp(hu, tissue, [5, 10, 300, 320, 180, 120, 110, 160, 220, 60, 20])
    k, _, i = np.indices(hu.shape)
    grey = grey * (1.0 + 0.2 * np.sin(i / 60.0) + 0.15 * np.cos(k / 25.0))
    return (grey + np.random.default_rng(3).normal(0.0, 12.0, hu.shape)).astype(np.int16)


def error_mm(found: Matched, points):
    there = SERIES_FROM_PATIENT @ points
    return float(np.linalg.norm((found.patient_from_series @ there).mm - points.mm, axis=1).mean())


@pytest.mark.slow
@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_a_pair_is_matched_from_anywhere_within_half_a_millimetre(scans, modality):
    volume, near, points, normals, other = scans
    moving = moved(other, grey=as_mr(other.hu) if modality == "MR" else None)
    found = match(volume, near, points, normals, moving)
    error = error_mm(found, points)
    assert error <= 0.5
    assert error <= 3.0 * found.sd_mm  # what is stated holds
    assert found.overlap > 0.95


def test_the_placings_hold_the_right_one(scans):
    volume, _, points, normals, other = scans
    moving = moved(other)
    coarse = Volume(
        Grid(
            tuple(n // 3 for n in moving.grid.size),
            3.0 * moving.grid.spacing_mm,
            (moving.grid.patient_from_index(np.ones(3))).mm,
            moving.grid.axes,
        ),
        np.ascontiguousarray(
            moving.hu[: moving.hu.shape[0] // 3 * 3, : moving.hu.shape[1] // 3 * 3, : moving.hu.shape[2] // 3 * 3]
            .reshape(moving.hu.shape[0] // 3, 3, moving.hu.shape[1] // 3, 3, moving.hu.shape[2] // 3, 3)
            .mean(axis=(1, 3, 5)),
            np.int16,
        ),
    )
    found = placings(points.mm, normals, coarse.hu.astype(np.float32), coarse.grid, 4)
    off = [np.linalg.norm((one @ points).mm - (SERIES_FROM_PATIENT @ points).mm, axis=1).mean() for one in found]
    assert min(off) < 6.0
    assert volume.hu.dtype == np.int16


def test_a_scan_of_another_part_is_refused(scans):
    volume, near, points, _, other = scans
    away = moved(other, Rigid[Series, Patient](np.eye(3), np.array([0.0, 0.0, 95.0])))
    pair = Pair.of(volume, near, away, points, FINE_MM)
    with pytest.raises(NotMatched, match=r"of the bone|scatters"):
        refined(pair, Rigid[Series, Patient].identity(), None)


def test_noise_alone_is_refused(scans):
    volume, near, points, _, other = scans
    noise = np.random.default_rng(1).normal(0.0, 300.0, other.hu.shape).astype(np.int16)
    pair = Pair.of(volume, near, Volume(other.grid, noise), points, FINE_MM)
    with pytest.raises(NotMatched):
        refined(pair, Rigid[Series, Patient].identity(), None)


def test_the_result_goes_through_json():
    found = Matched(SERIES_FROM_PATIENT.inverse(), 0.21, 0.8, None, 0.97)
    again = Matched.from_json(found.to_json())
    assert np.allclose(again.patient_from_series.matrix(), found.patient_from_series.matrix(), atol=1e-9)
    assert again.rival_nat is None
