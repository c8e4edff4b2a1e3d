"""Small DICOM series of three balls in water, whose places in the patient are known to the digit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, generate_uid

# centre (LPS mm) and radius of each ball: one far to the left, one far behind, one far above; all different
BALLS = ((np.array([22.0, -3.0, 5.0]), 7.0), (np.array([-4.0, 19.0, -6.0]), 5.0), (np.array([-9.0, -8.0, 21.0]), 6.0))
BALL_HU, WATER_HU, AIR_HU = 900.0, 0.0, -1000.0

Mutate = Callable[[Any, int], None]


def scene_hu(points_mm: np.ndarray) -> np.ndarray:
    """HU (...) at points (..., 3): balls in a ball of water in air, edges 2 mm wide."""
    hu = AIR_HU + (WATER_HU - AIR_HU) * _inside(np.linalg.norm(points_mm, axis=-1) - 38.0)
    for centre, radius in BALLS:
        hu += BALL_HU * _inside(np.linalg.norm(points_mm - centre, axis=-1) - radius)
    return hu


def _inside(distance_mm: np.ndarray) -> np.ndarray:
    return np.clip(0.5 - distance_mm / 2.0, 0.0, 1.0)


def plane_points(
    row: np.ndarray, column: np.ndarray, origin: np.ndarray, spacing: tuple[float, float], shape: tuple[int, int]
) -> np.ndarray:
    """Points (rows, columns, 3) of a slice; `row` is the direction of increasing column index, as DICOM says."""
    v, u = np.mgrid[0 : shape[0], 0 : shape[1]]
    return origin + u[..., None] * spacing[1] * row + v[..., None] * spacing[0] * column


def write_series(
    folder: Path,
    *,
    row: Any = (1, 0, 0),
    column: Any = (0, 1, 0),
    slices: int = 21,
    pitch_mm: float = 4.0,
    spacing_mm: tuple[float, float] = (2.0, 1.6),
    shape: tuple[int, int] = (44, 56),
    shift_mm: tuple[float, float] = (0.0, 0.0),
    mutate: Mutate | None = None,
    syntax: UID = ExplicitVRLittleEndian,
    name: Callable[[int], str] = "slice{:03}.dcm".format,
    series_uid: str | None = None,
    preamble: bool = True,
) -> list[Path]:
    """Write the scene; `mutate(dataset, k)` may spoil slice k, or leave it out by `dataset.skip_this = True`."""
    with pydicom.config.disable_value_validation():  # spoiling values is what `mutate` is for
        return _written(
            folder,
            row,
            column,
            slices,
            pitch_mm,
            spacing_mm,
            shape,
            shift_mm,
            mutate,
            syntax,
            name,
            series_uid,
            preamble,
        )


def _written(
    folder, row, column, slices, pitch_mm, spacing_mm, shape, shift_mm, mutate, syntax, name, series_uid, preamble
):
    folder.mkdir(parents=True, exist_ok=True)
    row, column = np.asarray(row, float), np.asarray(column, float)
    normal = np.cross(row, column)
    step = normal * pitch_mm + row * shift_mm[0] + column * shift_mm[1]
    middle = (
        row * (shape[1] - 1) / 2 * spacing_mm[1] + column * (shape[0] - 1) / 2 * spacing_mm[0] + step * (slices - 1) / 2
    )
    series = series_uid or generate_uid(entropy_srcs=[str(folder), "series"])
    files = []
    for k in range(slices):
        origin = step * k - middle
        hu = scene_hu(plane_points(row, column, origin, spacing_mm, shape))
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = CTImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[series, str(k)])
        meta.TransferSyntaxUID = syntax
        file = folder / name(k)
        data = FileDataset(str(file), {}, file_meta=meta, preamble=b"\0" * 128)
        data.SOPClassUID, data.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
        data.Modality, data.SeriesInstanceUID, data.SeriesDescription = "CT", series, "three balls"
        data.StudyInstanceUID = generate_uid(entropy_srcs=["study"])
        data.FrameOfReferenceUID = generate_uid(entropy_srcs=["frame"])
        data.PatientName, data.PatientID, data.PatientBirthDate = "Secret^Name", "ID-4711", "19700101"
        data.ImageType, data.InstanceNumber, data.SeriesNumber = ["ORIGINAL", "PRIMARY", "AXIAL"], k + 1, 3
        data.ImagePositionPatient = [f"{x:.10g}" for x in origin]
        data.ImageOrientationPatient = [f"{x:.9f}" for x in (*row, *column)]
        data.PixelSpacing, data.SliceThickness = [f"{s:.8g}" for s in spacing_mm], pitch_mm
        data.Rows, data.Columns = shape
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
        data.RescaleSlope, data.RescaleIntercept, data.RescaleType = 1, -1024, "HU"
        data.PixelData = np.rint(hu + 1024).astype("<u2").tobytes()
        data["PixelData"].VR = "OW"
        if mutate is not None:
            mutate(data, k)
        if getattr(data, "skip_this", False):
            continue
        pydicom.dcmwrite(file, data, enforce_file_format=preamble)
        files.append(file)
    return files
