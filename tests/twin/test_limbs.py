"""Scans without a spine, and the pelvis of a real one."""

import numpy as np
import pytest

from tests.data import shared_data
from tests.twin.legs import Scanned, scanned
from twin.anatomy import heads, recognition, segmentation, working
from twin.anatomy.canal import NoSpine
from twin.scan.load import load_labels, load_volume
from twin.scan.phantom.patient import Phantom
from twin.scan.volume import Grid, Volume

FLOORS = {"hip_left": 0.87, "hip_right": 0.87, "sacrum": 0.78, "femur_right": 0.84}


@pytest.fixture(scope="module")
def leg() -> Scanned:
    phantom = Phantom.make(2, anatomy="leg", sides=("right",))
    return scanned(phantom, (-170.0, -75.0, -1110.0), (10.0, 75.0, -470.0))


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / max(int(a.sum() + b.sum()), 1))


def overlaps(scan: Scanned, found: segmentation.Segmented) -> dict[str, float]:
    truth = {name: number for number, name in scan.truth.names.items()}
    return {
        name: dice(np.asarray(found.labels.labels) == number, np.asarray(scan.truth.labels) == truth[name])
        for number, name in found.labels.names.items()
        if name in truth
    }


def test_a_knee_is_recognised_with_its_side(leg: Scanned) -> None:
    knee = leg.part(-1060.0, -860.0)
    found = segmentation.segment(knee.volume)
    overlap = overlaps(knee, found)
    for bone, floor in (("femur", 0.9), ("tibia", 0.85), ("patella", 0.8), ("fibula", 0.75)):
        assert overlap[f"{bone}_right"] > floor, bone
    assert found.confidence == 0.0
    assert not any("vertebrae" in name or "left" in name for name in found.labels.names.values())
    assert any("no spine" in text for text in found.warnings)


def test_a_thigh_is_recognised_by_its_head(leg: Scanned) -> None:
    thigh = leg.part(-850.0, -470.0)  # neither knee nor shank
    names = set(segmentation.segment(thigh.volume).labels.names.values())
    assert "femur_right" in names
    assert not any(name.startswith(("tibia", "vertebrae", "femur_left")) for name in names)


def test_what_is_not_recognised_gets_no_bone_s_name() -> None:
    """A hollow cylinder in muscle: bone by its HU, but which one?"""
    k, j, i = np.meshgrid(np.arange(50), np.arange(60), np.arange(60), indexing="ij")
    far = np.hypot(j - 30.0, i - 30.0)
    hu = np.where(far < 28, 50, -1000)
    hu[(far < 7) & (k > 4) & (k < 46)] = 900
    hu = hu + np.random.default_rng(3).normal(0.0, 8.0, hu.shape)
    grid = Grid((60, 60, 50), np.full(3, 2.0), np.zeros(3), np.eye(3))
    found = segmentation.segment(Volume(grid, hu.astype(np.int16)))
    assert set(found.labels.names.values()) == {"bone_1"}
    assert any("not recognised" in text for text in found.warnings)


def test_a_scan_without_bone_is_refused() -> None:
    grid = Grid((60, 60, 50), np.full(3, 2.0), np.zeros(3), np.eye(3))
    hu = np.random.default_rng(3).normal(50.0, 8.0, grid.shape).astype(np.int16)
    with pytest.raises(NoSpine):
        segmentation.segment(Volume(grid, hu))


def test_a_femoral_head_is_found_in_the_ct(leg: Scanned) -> None:
    truth = leg.meshes()["femur_right"]
    top = truth.vertices_mm[truth.vertices_mm[:, 2] > truth.vertices_mm[:, 2].max() - 40.0]
    coarse = working.prepare(leg.volume)
    found = [h for h in heads.find(coarse, 0.0, -470.0) if h.side == "right"]
    assert len(found) == 1
    far = np.linalg.norm(top - found[0].centre_mm, axis=1)
    assert np.percentile(np.abs(far - found[0].radius_mm), 30.0) < 2.0


@pytest.mark.slow
def test_a_real_head_is_a_skull() -> None:
    volume = load_volume(shared_data("ct_head_gantry_tilt_dicom/GE_HiSpeed_head_28slices.zip"))
    found = segmentation.segment(volume)
    number = next(n for n, name in found.labels.names.items() if name == "skull")
    assert 500.0 < float((np.asarray(found.labels.labels) == number).sum()) * volume.grid.voxel_ml < 1100.0
    assert found.confidence == 0.0


@pytest.mark.slow
def test_a_real_pelvis_agrees_with_the_published_masks() -> None:
    """Three-millimetre voxels; the masks are a model's output, and its right femoral head is too small."""
    folder = shared_data("ct_lumbar_pelvis_nifti")
    volume = load_volume(folder / "example_ct.nii.gz")
    given = load_labels(folder / "bone_masks", volume.grid)
    overlap = overlaps(Scanned(volume, given), segmentation.segment(volume))
    for bone, floor in FLOORS.items():
        assert overlap[bone] > floor, f"{bone} {overlap[bone]:.3f}"


def test_two_shafts_side_by_side_are_not_joined() -> None:
    """A gap of a voxel between two cylinders stays a gap, a thin place in one of them does not part it."""
    k, j, i = np.meshgrid(np.arange(40), np.arange(40), np.arange(60), indexing="ij")
    hu = np.full(k.shape, 50, dtype=np.int16)
    hu[np.hypot(j - 20.0, i - 20.0) < 9] = 700
    hu[np.hypot(j - 20.0, i - 40.0) < 9] = 700
    hu[18:22][np.hypot(j - 20.0, i - 20.0)[18:22] > 2.5] = 50
    labels = recognition.separate(hu, hu > 150, 150.0, (1.5, 1.5, 1.5))
    assert labels[5, 20, 20] == labels[35, 20, 20] > 0
    assert labels[5, 20, 40] not in (0, labels[5, 20, 20])
