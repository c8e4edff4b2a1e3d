"""Small sound scans in every form that the reader knows, to be damaged by `fuzz_scan`."""

from __future__ import annotations

import shutil
import tarfile
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
    generate_uid,
)

from tests.twin.written_series import write_series

SMALL = {"slices": 6, "shape": (20, 24), "spacing_mm": (4.0, 4.0)}


def _series(syntax=ExplicitVRLittleEndian, pack=None, **options):
    def mutate(data, _k):
        if syntax == ExplicitVRBigEndian:
            data.PixelData = np.frombuffer(data.PixelData, "<u2").astype(">u2").tobytes()
        if pack is not None:
            data.compress(pack, generate_instance_uid=False)

    def made(folder: Path) -> None:
        write_series(folder, syntax=syntax, mutate=mutate, **{**SMALL, **options})

    return made


def _image(ending: str, dtype: str = "int16"):
    def made(folder: Path) -> None:
        write_series(folder / "series", **SMALL)
        reader = SimpleITK.ImageSeriesReader()
        reader.SetFileNames(sorted(str(p) for p in (folder / "series").iterdir()))
        image = SimpleITK.Cast(reader.Execute(), {"int16": SimpleITK.sitkInt16, "float": SimpleITK.sitkFloat32}[dtype])
        shutil.rmtree(folder / "series")
        SimpleITK.WriteImage(image, str(folder / f"ct{ending}"), useCompression=ending == ".nrrd")

    return made


def _archive(kind: str):
    def made(folder: Path) -> None:
        write_series(folder / "series", **SMALL)
        if kind == "zip":
            shutil.make_archive(str(folder / "scan"), "zip", folder / "series")
        else:
            with tarfile.open(folder / f"scan.tar.{kind}", f"w:{kind}") as archive:
                archive.add(folder / "series", ".")
        shutil.rmtree(folder / "series")

    return made


def enhanced(folder: Path, stacks: int = 1) -> Path:
    """The series as one Enhanced CT file (PS3.3 A.38), its frames in functional groups."""
    files = write_series(folder / "series", **SMALL)
    slices = [pydicom.dcmread(file) for file in files]
    first = slices[0]
    out = Dataset()
    for tag in ("PatientName", "PatientID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "Modality",
                "SeriesDescription", "SeriesNumber", "Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation",
                "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "ImageType"):  # fmt: skip
        setattr(out, tag, first[tag].value)
    out.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2.1"
    out.SOPInstanceUID = generate_uid(entropy_srcs=["enhanced"])
    out.NumberOfFrames = len(slices) * stacks
    shared, frames = Dataset(), []
    shared.PixelMeasuresSequence = _item(first, "PixelSpacing", "SliceThickness")
    reconstruction = Dataset()
    reconstruction.ConvolutionKernel = "BONE"
    shared.CTReconstructionSequence = Sequence([reconstruction])
    shared.PlaneOrientationSequence = _item(first, "ImageOrientationPatient")
    shared.PixelValueTransformationSequence = _item(first, "RescaleSlope", "RescaleIntercept", "RescaleType")
    for stack in range(stacks):
        for one in slices:
            own, content = Dataset(), Dataset()
            own.PlanePositionSequence = _item(one, "ImagePositionPatient")
            content.StackID = str(stack + 1)
            own.FrameContentSequence = Sequence([content])
            frames.append(own)
    out.SharedFunctionalGroupsSequence, out.PerFrameFunctionalGroupsSequence = Sequence([shared]), Sequence(frames)
    pixels = b"".join(one.PixelData for one in slices)
    out.PixelData = b"".join(pixels[:-2] + b"\1\1" if n else pixels for n in range(stacks))
    out["PixelData"].VR = "OW"
    out.file_meta = FileMetaDataset()
    out.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    out.file_meta.MediaStorageSOPClassUID = out.SOPClassUID
    out.file_meta.MediaStorageSOPInstanceUID = out.SOPInstanceUID
    pydicom.dcmwrite(folder / "enhanced.dcm", out, enforce_file_format=True)
    shutil.rmtree(folder / "series")
    return folder / "enhanced.dcm"


def _item(data: Dataset, *tags: str) -> Sequence:
    item = Dataset()
    for tag in tags:
        setattr(item, tag, data[tag].value)
    return Sequence([item])


FORMS: dict[str, Callable[[Path], object]] = {
    "explicit": _series(),
    "implicit": _series(ImplicitVRLittleEndian),
    "big-endian": _series(ExplicitVRBigEndian),
    "deflated": _series(DeflatedExplicitVRLittleEndian),
    "rle": _series(pack=RLELossless),
    "jpeg2000": _series(pack=JPEG2000Lossless, shape=(36, 40)),
    "tilted": _series(column=(0, 0.9659258, 0.258819), shift_mm=(0.0, 1.035276), pitch_mm=3.863703),
    "enhanced": enhanced,
    "zip": _archive("zip"),
    "tar.gz": _archive("gz"),
    "tar.xz": _archive("xz"),
    "nii": _image(".nii"),
    "nii.gz": _image(".nii.gz", "float"),
    "nrrd": _image(".nrrd"),
    "nhdr": _image(".nhdr"),
    "mha": _image(".mha"),
    "mhd": _image(".mhd", "float"),
}


def make(name: str, folder: Path) -> Path:
    """Write the form into a new folder."""
    folder.mkdir(parents=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        FORMS[name](folder)
    return folder
