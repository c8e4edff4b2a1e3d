"""The phantom as a scanner would send it: a CT series (PS3.3 A.3), one file a slice, and its label map as NIfTI."""

from __future__ import annotations

import gzip
import math
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from spatial.progress import Progress, silent
from twin.scan.phantom.voxels import Scan, ScanGrid


def _uid(*parts: object) -> str:
    return str(generate_uid(entropy_srcs=["osteotwin phantom", *(str(p) for p in parts)]))


def write_series(
    scan: Scan, folder: Path, *, seed: int, description: str, identity: str, body_part: str = "LSPINE",
    laterality: str | None = None, progress: Progress = silent,
) -> str:  # fmt: skip
    """Write `slice_0001.dcm` … into an existing folder; return the SeriesInstanceUID.

    The same seed and options give the same UIDs. Head first, supine; a tilted gantry is written as scanners do: tilted
    orientation, positions along the table, GantryDetectorTilt set.
    """
    grid = scan.grid
    base = _base(scan, seed, description, identity)
    base.BodyPartExamined = body_part
    if laterality is not None:
        base.Laterality = laterality
    count = len(scan.hu)
    for k in range(count):
        position = grid.point(0, 0, k)
        uid = _uid(identity, "image", k)
        base.SOPInstanceUID = uid
        base.file_meta.MediaStorageSOPInstanceUID = uid
        base.InstanceNumber = k + 1
        base.ImagePositionPatient = [f"{v:.5f}" for v in position]
        base.SliceLocation = f"{position[2]:.4f}"
        base.PixelData = np.ascontiguousarray(scan.hu[k] + np.int16(1024)).astype("<i2").tobytes()
        base.save_as(folder / f"slice_{k + 1:04d}.dcm", enforce_file_format=True)
        if k % 20 == 0:
            progress("writing DICOM", k / count)
    progress("writing DICOM", 1.0)
    return str(base.SeriesInstanceUID)


def _base(scan: Scan, seed: int, description: str, identity: str) -> Dataset:
    grid, kernel = scan.grid, scan.kernel
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = _uid("implementation")
    meta.ImplementationVersionName = "OSTEOTWIN"
    d = Dataset()
    d.file_meta = meta
    d.SpecificCharacterSet = "ISO_IR 100"
    d.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    d.SOPClassUID = CTImageStorage
    d.StudyDate = d.SeriesDate = d.AcquisitionDate = d.ContentDate = "20260101"
    d.StudyTime = d.SeriesTime = d.AcquisitionTime = d.ContentTime = "120000"
    d.AccessionNumber = ""
    d.Modality = "CT"
    d.Manufacturer = kernel.manufacturer
    d.ManufacturerModelName = kernel.model
    d.InstitutionName = "None: computed"
    d.ReferringPhysicianName = ""
    d.StudyDescription = "Digital spine phantom"
    d.SeriesDescription = description
    d.PatientName = "PHANTOM^OSTEOTWIN"
    d.PatientID = f"PHANTOM-{seed}"
    d.PatientBirthDate = ""
    d.PatientSex = "O"
    d.PatientIdentityRemoved = "YES"
    d.DeidentificationMethod = "No real person: computed from a seed"
    d.QualityControlImage = "YES"  # no patient: its age says nothing
    d.SliceThickness = f"{grid.slice_mm:.4f}"
    d.KVP = str(kernel.kvp)
    d.SpacingBetweenSlices = f"{grid.slice_mm:.4f}"
    d.SoftwareVersions = "1"
    d.GantryDetectorTilt = f"{grid.tilt_deg:.4f}"
    d.ConvolutionKernel = kernel.convolution
    d.PatientPosition = "HFS"
    d.StudyInstanceUID = _uid(seed, "study")
    d.SeriesInstanceUID = _uid(identity, "series")
    d.StudyID = str(seed)
    d.SeriesNumber = 1
    d.AcquisitionNumber = 1
    d.FrameOfReferenceUID = _uid(seed, "frame")
    d.PositionReferenceIndicator = ""
    d.ImageOrientationPatient = [f"{v:.8f}" for v in (*grid.row, *grid.column)]
    d.SamplesPerPixel = 1
    d.PhotometricInterpretation = "MONOCHROME2"
    d.Rows, d.Columns = grid.size[1], grid.size[0]
    d.PixelSpacing = [f"{grid.pixel_mm:.6f}"] * 2
    d.BitsAllocated = d.BitsStored = 16
    d.HighBit = 15
    d.PixelRepresentation = 1
    d.WindowCenter, d.WindowWidth = "300", "1500"
    d.RescaleIntercept, d.RescaleSlope, d.RescaleType = "-1024", "1", "HU"
    return d


def upright(grid: ScanGrid) -> ScanGrid:
    """A tilted stack's slices on upright axes, as wide as it takes to hold every one of them whole.

    Label files and most readers know no sheared stack, so the labels are evaluated here, not sheared.
    """
    normal = np.cross(grid.row, grid.column)
    aside = float(grid.step_mm @ grid.column) * (grid.size[2] - 1)
    pitch = float(grid.step_mm @ normal)
    rows = grid.size[1] + math.ceil(abs(aside) / grid.pixel_mm - 1e-9)
    origin = grid.origin_mm + grid.column * min(aside, 0.0)
    return ScanGrid(
        (grid.size[0], rows, grid.size[2]), grid.pixel_mm, pitch, origin, grid.row, grid.column, pitch * normal
    )  # fmt: skip


def write_nifti(labels: NDArray[np.uint8], grid: ScanGrid, path: Path) -> None:
    """A label map as NIfTI-1 (RAS), `sform` only; the grid is upright (see `upright`)."""
    slices, rows, columns = labels.shape
    affine = np.column_stack([grid.pixel_mm * grid.row, grid.pixel_mm * grid.column, grid.step_mm, grid.origin_mm])
    affine[:2] *= -1.0
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 3, columns, rows, slices, 1, 1, 1, 1)
    struct.pack_into("<2h", header, 70, 2, 8)  # uint8
    struct.pack_into("<8f", header, 76, 1.0, grid.pixel_mm, grid.pixel_mm, grid.slice_mm, 0, 0, 0, 0)
    struct.pack_into("<3f", header, 108, 352.0, 1.0, 0.0)
    header[123] = 2  # mm
    struct.pack_into("<2h", header, 252, 0, 1)  # sform: scanner coordinates
    struct.pack_into("<12f", header, 280, *affine.ravel())
    header[344:348] = b"n+1\0"
    with path.open("wb") as raw, gzip.GzipFile(filename="", mode="wb", fileobj=raw, compresslevel=1, mtime=0) as file:
        file.write(bytes(header))
        file.write(np.ascontiguousarray(labels).data)
