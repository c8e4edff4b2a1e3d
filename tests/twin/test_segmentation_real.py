"""The default segmenter on real scans, and on the same scans spoiled: what it reached, rounded down, is the floor."""

from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.bench import twin_real
from tests.data import shared_data
from twin.anatomy import segmentation
from twin.anatomy.segmentation import Segmented
from twin.scan.load import load_labels, load_volume
from twin.scan.names import NUMBERS
from twin.scan.volume import LabelMap, Volume

LUMBAR = "ct_lumbar_pelvis_nifti/example_ct.nii.gz"
# Dice of labels before their surfaces are refined, which adds about 0.01
FLOORS = {"L1": 0.91, "L2": 0.90, "L3": 0.89, "L4": 0.87, "L5": 0.84, "T12": 0.87}


@cache
def lumbar() -> tuple[Volume, LabelMap]:
    volume = load_volume(shared_data(LUMBAR))
    return volume, load_labels(shared_data("ct_lumbar_pelvis_nifti/bone_masks"), volume.grid)


def dice(found: Segmented, truth: LabelMap, bone: str) -> float:
    return next(row.dice for row in twin_real.rows("", found.labels, truth) if row.bone == bone)


@pytest.mark.slow
def test_a_lumbar_scan_of_thick_slices_is_parted_and_named() -> None:
    volume, truth = lumbar()
    found = segmentation.segment(volume)
    for level, floor in FLOORS.items():
        assert dice(found, truth, f"vertebrae_{level}") > floor, level
    assert dice(found, truth, "hip_left") > 0.87
    assert found.confidence > 0.9
    assert found.transitional is None
    assert "sacrum seen" in found.evidence[0]
    # the implant in the left femur
    assert found.settings["metal_ml"] == pytest.approx(11.6, abs=0.1)
    metal = volume.hu > 2500
    labelled: NDArray[np.bool_] = np.asarray(found.labels.labels != 0)
    # the lag screw in neck and head is within the femur; the nail where the trochanter is broken away is not
    assert labelled[metal].mean() < 0.4
    named = {found.labels.names[int(n)] for n in np.unique(np.asarray(found.labels.labels)[metal]) if n}
    assert named == {"femur_left"}
    assert any("metal" in warning for warning in found.warnings)


@pytest.mark.slow
def test_noise_and_lost_density_leave_the_levels_right() -> None:
    volume, truth = lumbar()
    rng = np.random.default_rng(5)
    hu = np.where(volume.hu > 60, 60 + (volume.hu - 60.0) * 0.7, volume.hu) + rng.normal(0, 40, volume.hu.shape)
    found = segmentation.segment(Volume(volume.grid, np.clip(hu, -1024, 3071).round().astype(np.int16)))
    for level in ("T12", "L1", "L2", "L3", "L4"):
        floor = 0.7 if level == "T12" else 0.8  # the scan cuts T12's top
        assert dice(found, truth, f"vertebrae_{level}") > floor, level


def test_a_short_torso_scan_keeps_the_table_out_and_numbers_ribs() -> None:
    volume = load_volume(shared_data("ct_torso_dicom_j2k/series"))
    truth = load_labels(shared_data("ct_torso_dicom_j2k/example_seg_dicom.nii.gz"), volume.grid)
    found = segmentation.segment(volume)
    names = {name: number for number, name in found.labels.names.items()}
    labelled: NDArray[np.bool_] = np.asarray(found.labels.labels != 0)
    assert {"vertebrae_T11", "vertebrae_T12", "rib_left_11", "rib_right_11"} <= set(names)
    for rib, floor in (("rib_left_11", 0.78), ("rib_right_11", 0.74), ("rib_left_10", 0.65), ("rib_right_10", 0.78)):
        assert dice(found, truth, rib) > floor, rib
    # these masks are rough: the body of T12 is given to T11 here and there
    assert dice(found, truth, "vertebrae_T12") > 0.64
    behind = np.argwhere(labelled)[:, 1].max()
    skin = np.argwhere(np.asarray(truth.labels == NUMBERS["vertebrae_T12"]))[:, 1].max()
    assert behind < skin + 40  # nothing of the table, which lies further back
    assert found.confidence < 0.3
    assert any("confirmed" in warning for warning in found.warnings)
