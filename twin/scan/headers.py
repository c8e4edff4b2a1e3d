"""What one DICOM file says about itself: identity, geometry, grey values; read before any voxel is touched.

Numbers are read defensively: a value that cannot be parsed becomes a fault of that file, never of the whole folder.
A patient's identity is kept only as a digest, to tell two patients apart.
"""

from __future__ import annotations

import hashlib
import logging
import os
import struct
import warnings
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import pydicom
from pydicom.filereader import read_preamble

from spatial.faults import Fault
from spatial.rigid import Array
from twin.scan.refusals import BadGeometry, BrokenFile

CT_CLASSES = frozenset({"1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2"})
DEFLATED = "1.2.840.10008.1.2.1.99"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
NATIVE = frozenset({IMPLICIT, EXPLICIT})  # little-endian, uncompressed: voxels are read straight from the file
INFLATE_LIMIT_BYTES = 512 << 20

ABOUT = (
    ("kernel", "ConvolutionKernel"),
    ("kvp", "KVP"),
    ("manufacturer", "Manufacturer"),
    ("patient_position", "PatientPosition"),
)
_TAGS = [
    "SOPClassUID", "Modality", "ImageType", "SeriesDescription", "SeriesInstanceUID", "StudyInstanceUID",
    "SeriesNumber", "InstanceNumber", "PatientID", "PatientName", "PatientBirthDate", "FrameOfReferenceUID", "Rows",
    "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated", "BitsStored",
    "HighBit", "PixelRepresentation", "PixelPaddingValue", "ImagePositionPatient", "ImageOrientationPatient",
    "PixelSpacing", "SliceThickness", "GantryDetectorTilt", "RescaleSlope", "RescaleIntercept", "RescaleType",
    "ConvolutionKernel", "KVP", "PatientPosition", "Manufacturer", "NumberOfSeriesRelatedInstances",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
]  # fmt: skip


logging.getLogger("pydicom").setLevel(logging.CRITICAL)  # what is wrong with a file is said as a fault, once


@dataclass(frozen=True, eq=False)
class Pixels:
    """How a file stores its grey values; `offset` is where native voxels begin, None when a decoder is needed."""

    rows: int
    columns: int
    frames: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    is_signed: bool
    samples: int
    photometric: str
    padding: int | None
    transfer_syntax: str
    offset: int | None

    @property
    def frame_bytes(self) -> int:
        """Size of one uncompressed frame."""
        return self.rows * self.columns * self.samples * self.bits_allocated // 8


@dataclass(frozen=True, eq=False)
class Header:
    """One slice (or one frame of a multi-frame file): who it belongs to, where it lies, how its greys become HU.

    `position_mm` (3,), `orientation` (2, 3) rows are the directions of increasing column and row index (C.7.6.2.1.1),
    `spacing_mm` (row distance, column distance); None where the file does not say. `faults` are this file's own.
    """

    path: Path
    frame: int
    series_uid: str
    study_uid: str
    patient: str
    frame_of_reference: str
    modality: str
    sop_class: str
    image_type: tuple[str, ...]
    description: str
    series_number: str
    instance_number: int | None
    position_mm: Array | None
    orientation: Array | None
    spacing_mm: Array | None
    thickness_mm: float | None
    tilt_deg: float | None
    slope: float | None
    intercept: float | None
    rescale_type: str
    related_instances: int | None
    pixels: Pixels | None
    about: tuple[tuple[str, str], ...]
    faults: tuple[Fault, ...] = ()

    @property
    def is_localizer(self) -> bool:
        """A scout view (ImageType value 3)."""
        return "LOCALIZER" in self.image_type


def is_dicom(path: Path) -> bool:
    """Whether the file begins like DICOM: the DICM mark, or a data set of group 0002 or 0008 without preamble."""
    with path.open("rb") as file:
        start = file.read(132)
    return start[128:132] == b"DICM" or start[:4] in (
        b"\x08\x00\x05\x00",
        b"\x08\x00\x08\x00",
        b"\x08\x00\x16\x00",
        b"\x02\x00\x00\x00",
    )


def read_headers(path: Path) -> tuple[Header, ...]:
    """The slices in one DICOM file; none when it holds no image (a report, a structure set, a directory).

    Raises BrokenFile when the file cannot be parsed or ends before its pixel data.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd values are judged below, with the file's name
        try:
            with path.open("rb") as file:
                _refuse_bomb(file, path)
                data = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=list(_TAGS), force=True)
                return _headers(data, file, path)
        except Fault:
            raise
        except Exception as error:
            # a hostile or torn file may fail anywhere inside the parser, RecursionError included
            reason = type(error).__name__ if not str(error) else str(error).splitlines()[0][:120]
            raise BrokenFile(f"cannot be parsed as DICOM ({reason}); is the copy damaged?", path=path) from None


def _headers(data: Any, file: IO[bytes], path: Path) -> tuple[Header, ...]:
    meta = data.file_meta
    sop_class = _text(data, "SOPClassUID") or _text(meta, "MediaStorageSOPClassUID")
    modality = _text(data, "Modality")
    syntax = _text(meta, "TransferSyntaxUID") or (IMPLICIT if data.original_encoding[0] else EXPLICIT)
    expects_pixels = sop_class in CT_CLASSES or (modality == "CT" and "Rows" in data)
    faults: list[Fault] = []
    if "Rows" not in data or "Columns" not in data:
        if expects_pixels or (not modality and not sop_class):
            raise BrokenFile(
                f"ends after {path.stat().st_size} bytes, before the image is described; is the copy complete?",
                path=path,
            )
        return ()
    pixels = _pixels(data, file, path, syntax, expects_pixels)
    number = _Numbers(data, path, faults)
    identity = "\0".join(_text(data, tag) for tag in ("PatientID", "PatientName", "PatientBirthDate"))
    shared: dict[str, Any] = {
        "path": path,
        "series_uid": _text(data, "SeriesInstanceUID"),
        "study_uid": _text(data, "StudyInstanceUID"),
        "patient": hashlib.sha256(identity.encode()).hexdigest(),
        "frame_of_reference": _text(data, "FrameOfReferenceUID"),
        "modality": modality,
        "sop_class": sop_class,
        "description": _text(data, "SeriesDescription"),
        "series_number": _text(data, "SeriesNumber"),
        "related_instances": number.whole("NumberOfSeriesRelatedInstances"),
        "pixels": pixels,
        "about": tuple(
            (key, _text(data, tag))
            for key, tag in ABOUT
            if _text(data, tag)
        ),
        "tilt_deg": number.one("GantryDetectorTilt"),
    }  # fmt: skip
    if "PerFrameFunctionalGroupsSequence" in data:
        return _frames(data, path, shared, faults)
    if pixels is not None and pixels.frames > 1:
        raise BadGeometry(f"{pixels.frames} frames without functional groups: their positions are unknown", path=path)
    header = Header(
        frame=0,
        image_type=_words(data, "ImageType"),
        instance_number=number.whole("InstanceNumber"),
        position_mm=number.several("ImagePositionPatient", 3),
        orientation=_orientation(number.several("ImageOrientationPatient", 6)),
        spacing_mm=number.several("PixelSpacing", 2),
        thickness_mm=number.one("SliceThickness"),
        slope=number.one("RescaleSlope"),
        intercept=number.one("RescaleIntercept"),
        rescale_type=_text(data, "RescaleType"),
        faults=tuple(faults),
        **shared,
    )
    return (header,)


def _frames(data: Any, path: Path, shared: dict[str, Any], faults: list[Fault]) -> tuple[Header, ...]:
    """The frames of an Enhanced CT: a value stands in the frame's own group or in the shared one (PS3.3 C.7.6.16)."""
    common = data.get("SharedFunctionalGroupsSequence") or [None]
    headers = []
    for index, own in enumerate(data.PerFrameFunctionalGroupsSequence):

        def item(macro: str, own: Any = own) -> Any:
            for group in (own, common[0]):
                if group is not None and group.get(macro):
                    return group.get(macro)[0]
            return pydicom.Dataset()

        place = _Numbers(item("PlanePositionSequence"), path, faults)
        turn = _Numbers(item("PlaneOrientationSequence"), path, faults)
        measures = _Numbers(item("PixelMeasuresSequence"), path, faults)
        values = item("PixelValueTransformationSequence")
        greys = _Numbers(values, path, faults)
        kind = item("CTImageFrameTypeSequence")
        headers.append(
            Header(
                frame=index,
                image_type=_words(kind, "FrameType") or _words(data, "ImageType"),
                instance_number=index + 1,
                position_mm=place.several("ImagePositionPatient", 3),
                orientation=_orientation(turn.several("ImageOrientationPatient", 6)),
                spacing_mm=measures.several("PixelSpacing", 2),
                thickness_mm=measures.one("SliceThickness"),
                slope=greys.one("RescaleSlope"),
                intercept=greys.one("RescaleIntercept"),
                rescale_type=_text(values, "RescaleType"),
                faults=tuple(faults),
                **shared,
            )
        )
    frames = shared["pixels"].frames if shared["pixels"] is not None else 0
    if len(headers) != frames:
        raise BrokenFile(f"{frames} frames but {len(headers)} descriptions of frames", path=path)
    return tuple(headers)


class _Numbers:
    """Numeric values of one data set; what cannot be parsed becomes a fault of the file."""

    def __init__(self, data: Any, path: Path, faults: list[Fault]) -> None:
        self.data, self.path, self.faults = data, path, faults

    def several(self, tag: str, count: int) -> Array | None:
        """`count` numbers, None when absent; NaN and infinity are a fault."""
        try:
            value = self.data.get(tag)
            if value is None or value == "" or (not np.isscalar(value) and len(value) == 0):
                return None
            numbers = np.atleast_1d(np.array(value, dtype=np.float64))
        except (ValueError, TypeError, NotImplementedError, OverflowError, AttributeError):
            self.faults.append(BadGeometry(f"{tag} is not a number; is the header damaged?", path=self.path))
            return None
        if numbers.shape != (count,) or not np.isfinite(numbers).all():
            found = "not finite" if numbers.shape == (count,) else f"{len(numbers)} values"
            self.faults.append(BadGeometry(f"{tag} is {found}, {count} finite numbers are needed", path=self.path))
            return None
        return numbers

    def one(self, tag: str) -> float | None:
        """One number, None when absent."""
        value = self.several(tag, 1)
        return None if value is None else float(value[0])

    def whole(self, tag: str) -> int | None:
        """One whole number that nothing depends on: None when absent or unreadable."""
        try:
            return int(self.data.get(tag))
        except (ValueError, TypeError, NotImplementedError, OverflowError, AttributeError):
            return None


def _pixels(data: Any, file: IO[bytes], path: Path, syntax: str, expected: bool) -> Pixels | None:
    """The pixel description, with the length of the pixel data checked against the file. Raises BrokenFile."""
    try:
        frames = int(data.get("NumberOfFrames") or 1)
        bits = int(data.get("BitsAllocated") or 16)
        stored = int(data.get("BitsStored") or bits)
        rows, columns = int(data.Rows), int(data.Columns)
        high = data.get("HighBit")
        padding = data.get("PixelPaddingValue")
        pixels = Pixels(
            rows, columns, frames, bits, stored, stored - 1 if high is None else int(high),
            bool(data.get("PixelRepresentation") or 0), int(data.get("SamplesPerPixel") or 1),
            _text(data, "PhotometricInterpretation"),
            None if padding is None or isinstance(padding, bytes) else int(padding),
            syntax, None,
        )  # fmt: skip
    except (ValueError, TypeError) as error:
        raise BrokenFile(f"the image's size cannot be read ({error})", path=path) from None
    if syntax == DEFLATED:
        return pixels  # inflated inside the parser: the decoder checks the length
    start = file.tell()
    size = os.fstat(file.fileno()).st_size
    element = file.read(12)
    order = ">" if syntax == BIG_ENDIAN else "<"
    if len(element) < 8 or struct.unpack(order + "HH", element[:4]) != (0x7FE0, 0x0010):
        if not expected:
            return None
        raise BrokenFile(f"ends after {size} bytes, before its pixel data; is the copy complete?", path=path)
    if syntax == IMPLICIT:
        begin, length = start + 8, struct.unpack("<I", element[4:8])[0]
    else:
        if len(element) < 12:
            raise BrokenFile(f"ends after {size} bytes, inside its pixel data; is the copy complete?", path=path)
        begin, length = start + 12, struct.unpack(order + "I", element[8:12])[0]
    need = pixels.frame_bytes * frames
    if length == 0xFFFFFFFF:
        _check_fragments(file, begin, size, path)
        return pixels
    if length > size - begin:
        raise BrokenFile(
            f"pixel data of {length} bytes announced, {size - begin} are there; is the copy complete?", path=path
        )
    if syntax in NATIVE or syntax == BIG_ENDIAN:
        if length < need:
            raise BrokenFile(
                f"{rows} x {columns} x {frames} pixels need {need} bytes, the file has {length}", path=path
            )
        if syntax in NATIVE:
            return replace(pixels, offset=begin)
    return pixels


def _check_fragments(file: IO[bytes], begin: int, size: int, path: Path) -> None:
    """Walk the items of encapsulated pixel data (PS3.5 A.4): each must fit, and the delimiter must be there."""
    at = begin
    while True:
        file.seek(at)
        item = file.read(8)
        if len(item) < 8:
            raise BrokenFile(
                f"compressed pixel data end after {size} bytes without their end mark; is the copy complete?", path=path
            )
        group, element, length = struct.unpack("<HHI", item)
        if (group, element) == (0xFFFE, 0xE0DD):
            return
        if (group, element) != (0xFFFE, 0xE000) or length > size - at - 8:
            raise BrokenFile(f"compressed pixel data are cut at byte {at} of {size}; is the copy complete?", path=path)
        at += 8 + length


def _refuse_bomb(file: IO[bytes], path: Path) -> None:
    """Stop a deflated file that would grow beyond `INFLATE_LIMIT_BYTES`, before the parser inflates it whole."""
    if read_preamble(file, force=True) is None:
        file.seek(0)
        return
    file.seek(0)
    start = file.read(4096)
    if DEFLATED.encode() not in start:
        file.seek(0)
        return
    file.seek(132)  # the group length of the meta header says where the deflated stream begins
    header = file.read(12)
    length = struct.unpack("<I", header[8:12])[0]
    file.seek(144 + length)
    inflater, total = zlib.decompressobj(-zlib.MAX_WBITS), 0
    while chunk := file.read(1 << 16):
        pending = chunk
        while pending:
            total += len(inflater.decompress(pending, 1 << 20))
            pending = inflater.unconsumed_tail
            if total > INFLATE_LIMIT_BYTES:
                raise BrokenFile(f"inflates beyond {INFLATE_LIMIT_BYTES >> 20} MB; a slice never does", path=path)
    file.seek(0)


def _orientation(six: Array | None) -> Array | None:
    return None if six is None else six.reshape(2, 3)


def _text(data: Any, tag: str) -> str:
    """A value as text; several values joined; empty when absent or unreadable."""
    try:
        value = data.get(tag)
    except (ValueError, TypeError, NotImplementedError, AttributeError):
        return ""
    if value is None:
        return ""
    if isinstance(value, (list, tuple, pydicom.multival.MultiValue)):
        return "\\".join(str(v) for v in value)
    return str(value).strip()


def _words(data: Any, tag: str) -> tuple[str, ...]:
    text = _text(data, tag)
    return tuple(text.upper().split("\\")) if text else ()
