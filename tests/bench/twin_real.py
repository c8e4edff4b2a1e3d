"""The default segmenter on real scans against their published masks (model output, on the masks' own grid) and on hard
phantoms against their truth: Dice a bone, and whether every level has its name.

`python -m tests.bench.twin_real` prints the rows; `osteotwin bench twin` may show them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.data import shared_data
from twin.anatomy.build import build_twin
from twin.scan.load import load_labels, load_volume
from twin.scan.phantom.patient import Phantom
from twin.scan.phantom.scanner import box_of, voxelise
from twin.scan.volume import LabelMap

REAL: Mapping[str, tuple[str, str]] = {
    "lumbar-pelvis CT, 3 mm": ("ct_lumbar_pelvis_nifti/example_ct.nii.gz", "ct_lumbar_pelvis_nifti/bone_masks"),
    "torso CT, 20 slices": ("ct_torso_dicom_j2k/series", "ct_torso_dicom_j2k/example_seg_dicom.nii.gz"),
}
HARD: Mapping[str, Mapping[str, Any]] = {
    "healthy": {},
    "osteoporosis": {"osteoporosis": True},
    "scoliosis 40 deg": {"scoliosis_deg": 40.0},
    "L6": {"transitional": "L6"},
    "screws and hip": {"metal": "both"},
    "contrast medium": {"contrast": True},
}


@dataclass(frozen=True)
class Row:
    """Dice and volume (found over true) of one bone in one scan; a bone under a wrong name has a Dice of 0."""

    scan: str
    bone: str
    dice: float
    volume_ratio: float


def rows(scan: str, found: LabelMap, truth: LabelMap) -> list[Row]:
    """A row for each bone of the truth that is at least a millilitre."""
    out = []
    numbers = {name: number for number, name in found.names.items()}
    for number, bone in sorted(truth.names.items(), key=lambda item: item[1]):
        mine: NDArray[np.bool_] = np.asarray(found.labels == numbers.get(bone, -1))
        theirs: NDArray[np.bool_] = np.asarray(truth.labels == number)
        if theirs.sum() * truth.grid.voxel_ml < 1.0:
            continue
        both = float((mine & theirs).sum())
        ratio = float(mine.sum() / theirs.sum())
        out.append(Row(scan, bone, 2.0 * both / float(mine.sum() + theirs.sum()), ratio))
    return out


def real(scan: str) -> list[Row]:
    """One of REAL, built without labels or seeds; skips where the data is absent."""
    ct, masks = (shared_data(path) for path in REAL[scan])
    volume = load_volume(Path(ct))
    _, labels = build_twin(volume, None)
    return rows(scan, labels, load_labels(Path(masks), volume.grid))


def phantom(kind: str, seed: int = 1, voxel_mm: float = 1.0) -> list[Row]:
    """One of HARD, scanned and built."""
    patient = Phantom.make(seed, **HARD[kind])
    volume, truth = voxelise(patient, voxel_mm, voxel_mm, crop_mm=box_of(patient, patient.bone_names, 20.0))
    _, labels = build_twin(volume, None)
    return rows(f"phantom, {kind}", labels, truth)


def measured() -> Iterator[list[Row]]:
    """Everything, a scan at a time; minutes."""
    for scan in REAL:
        yield real(scan)
    for kind in HARD:
        yield phantom(kind)


def worst(found: list[Row], prefix: str = "vertebrae") -> Row:
    """The bone of a kind with the lowest Dice."""
    return min((row for row in found if row.bone.startswith(prefix)), key=lambda row: row.dice)


if __name__ == "__main__":
    for group in measured():
        for row in group:
            print(f"{row.scan:26} {row.bone:16} Dice {row.dice:.3f}  volume x {row.volume_ratio:.2f}", flush=True)
