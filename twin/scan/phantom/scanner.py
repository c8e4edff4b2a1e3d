"""The short way from a patient to voxels in memory: a Volume and its LabelMap, no DICOM in between."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spatial.progress import Progress, silent
from twin.scan.phantom.kernels import kernel_named
from twin.scan.phantom.patient import Phantom
from twin.scan.phantom.voxels import LABELS, Scan, ScanGrid, scan_grid, synthesise
from twin.scan.volume import Grid, LabelMap, Volume

AROUND_MM = 12.0  # soft tissue kept about the bones
Box = tuple[Sequence[float], Sequence[float]]


def box_of(phantom: Phantom, bones: Sequence[str], around_mm: float = AROUND_MM) -> Box:
    """The box (low, high corner, Patient LPS) that holds some bones with a margin."""
    numbers = [phantom.index(bone) for bone in bones]
    low = phantom.bones.low_mm[numbers].min(axis=0) - around_mm
    high = phantom.bones.high_mm[numbers].max(axis=0) + around_mm
    return low.tolist(), high.tolist()


def voxelise(
    phantom: Phantom, slice_mm: float = 1.0, pixel_mm: float = 1.0, *, crop_mm: Box | str | Sequence[str] | None = None,
    kernel: str = "standard", noise_hu: float | None = None, progress: Progress = silent,
) -> tuple[Volume, LabelMap]:  # fmt: skip
    """Scan a patient into memory, on an upright grid tight about his bones.

    `crop_mm`: a box (low, high corner, Patient LPS), or a bone or bones whose box with 12 mm around is meant. At 1 mm
    a lumbar patient takes a few seconds; 1.5 mm is a quarter of that.
    """
    box: Box
    if crop_mm is None:
        box = box_of(phantom, phantom.bone_names)
    elif isinstance(crop_mm, str):
        box = box_of(phantom, [crop_mm])
    elif all(isinstance(part, str) for part in crop_mm):
        box = box_of(phantom, [str(part) for part in crop_mm])
    else:
        low, high = crop_mm
        box = np.asarray(low, float).tolist(), np.asarray(high, float).tolist()
    scan = synthesise(
        phantom, scan_grid(phantom, slice_mm=slice_mm, pixel_mm=pixel_mm, box_mm=box), noise_hu=noise_hu,
        kernel=kernel_named(kernel), progress=progress,
    )  # fmt: skip
    return in_memory(phantom, scan)


def upright(grid: ScanGrid) -> Grid:
    """The voxel grid of a scan with an upright gantry."""
    axes = np.column_stack([grid.row, grid.column, np.cross(grid.row, grid.column)])
    return Grid(grid.size, np.array([grid.pixel_mm, grid.pixel_mm, grid.slice_mm]), grid.origin_mm, axes)


def in_memory(phantom: Phantom, scan: Scan) -> tuple[Volume, LabelMap]:
    """A finished upright scan as the rest of the product takes it."""
    grid = upright(scan.grid)
    names = {LABELS[name]: name for name in phantom.bone_names}
    about = {"source": "digital phantom", "seed": phantom.anatomy.seed}
    return Volume(grid, scan.hu, about), LabelMap(grid, scan.labels, names)
