"""The elements of a DICOM header as raw bytes: a short walk for ordinary files, pydicom's parser for all others.

Nothing is interpreted here. The walk knows little-endian files with their meta header; what it does not expect (no
preamble, big-endian, functional groups, an odd order) goes to pydicom, so both ways give the same bytes.
"""

from __future__ import annotations

import io
import logging
import os
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pydicom
from pydicom.datadict import dictionary_VR, tag_for_keyword

from twin.scan.refusals import BrokenFile

DEFLATED = "1.2.840.10008.1.2.1.99"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
INFLATE_LIMIT_BYTES = 1 << 30
INFLATE_FROM_BYTES, INFLATE_RATIO = 32 << 20, 200  # so much may come out of any file; beyond, so many times its size
PIXEL_DATA = 0x7FE00010
DEEPEST = 16  # sequences within sequences; a CT has three or four
KEYWORDS = (
    "SpecificCharacterSet", "SOPClassUID", "Modality", "ImageType", "StudyDate", "AcquisitionDate", "SeriesDescription",
    "SeriesInstanceUID", "StudyInstanceUID", "SeriesNumber", "AcquisitionNumber", "InstanceNumber", "PatientID",
    "PatientName", "PatientBirthDate", "FrameOfReferenceUID", "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel",
    "PhotometricInterpretation", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue",
    "QualityControlImage", "LossyImageCompression", "LossyImageCompressionRatio", "ImagePositionPatient",
    "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "GantryDetectorTilt", "RescaleSlope",
    "RescaleIntercept", "RescaleType", "ConvolutionKernel", "KVP", "PatientPosition", "Manufacturer",
    "ContrastBolusAgent", "Laterality", "ImageLaterality", "PatientOrientation",
    "NumberOfSeriesRelatedInstances", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
)  # fmt: skip
TAGS: dict[int, str] = {int(tag_for_keyword(word) or 0): word for word in KEYWORDS}
VRS: dict[str, str] = {word: dictionary_VR(tag) for tag, word in TAGS.items()}
_GROUPS = frozenset({0x52009229, 0x52009230})  # shared and per-frame functional groups
_LONG = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
_SHORT = frozenset(
    {b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL", b"SS"}
    | {b"ST", b"TM", b"UI", b"UL", b"US"}
)  # fmt: skip
UNDEFINED = 0xFFFFFFFF
_CHUNK = 1 << 14

logging.getLogger("pydicom").setLevel(logging.CRITICAL)  # what is wrong with a file is said as a fault, once


@dataclass(frozen=True, eq=False)
class Elements:
    """`values`: (VR or "" where implicit, bytes) by keyword; `end` is where the pixel data element begins in `stream`.

    `stream` is the open file, or the inflated data set of a deflated one; `groups` the functional groups, if any.
    """

    values: Mapping[str, tuple[str, bytes]]
    meta_class: str
    syntax: str
    stream: IO[bytes]
    size: int
    end: int
    groups: tuple[Any, Any] | None = None

    @property
    def order(self) -> str:
        """Byte order as `struct` writes it."""
        return ">" if self.syntax == BIG_ENDIAN else "<"


def read_elements(file: IO[bytes], path: Path) -> Elements:
    """The header's elements of an open file. Raises BrokenFile, or whatever pydicom raises on a torn file."""
    size = os.fstat(file.fileno()).st_size
    walked = _walk_file(file, size, path)
    return walked if walked is not None else _by_pydicom(file, size, path)


def _walk_file(file: IO[bytes], size: int, path: Path) -> Elements | None:
    start = file.read(_CHUNK)
    if start[128:132] != b"DICM":
        return None
    window = _Window(file, 0, start, size, path)
    meta: dict[int, bytes] = {}
    at = 132
    while window.at(at, 4)[:2] == b"\x02\x00":
        element = window.element(at, implicit=False)
        if element is None:
            return None
        tag, _, begin, length = element
        meta[tag] = window.value(tag, begin, length)
        at = begin + length
    syntax = meta.get(0x00020010, b"").rstrip(b"\0 ").decode("latin-1")
    if not syntax or syntax == BIG_ENDIAN:
        return None
    stream = file
    if syntax == DEFLATED:
        body = _inflated(file, at, path)
        stream, size, at = io.BytesIO(body), len(body), 0
        window = _Window(stream, 0, body, size, path)
    found = window.walk(at, implicit=syntax == IMPLICIT)
    if found is None:
        return None
    values, end = found
    return Elements(values, meta.get(0x00020002, b"").rstrip(b"\0 ").decode("latin-1"), syntax, stream, size, end)


class _Window:
    """Bytes of the file around the place that is looked at."""

    def __init__(self, stream: IO[bytes], base: int, bytes_: bytes, size: int, path: Path) -> None:
        self.stream, self.base, self.bytes, self.size, self.path = stream, base, bytes_, size, path

    def at(self, place: int, count: int) -> bytes:
        begin = place - self.base
        if begin < 0 or begin + count > len(self.bytes):
            self.stream.seek(place)
            self.base, self.bytes = place, self.stream.read(max(_CHUNK, count))
            begin = 0
        return self.bytes[begin : begin + count]

    def element(self, place: int, *, implicit: bool) -> tuple[int, bytes, int, int] | None:
        """(tag, VR, where its value begins, length); None where it is no element that the walk knows."""
        head = self.at(place, 12)
        if len(head) < 8:
            return None
        group, number = struct.unpack_from("<HH", head)
        tag = group << 16 | number
        if implicit:
            return tag, b"", place + 8, int(struct.unpack_from("<I", head, 4)[0])
        vr = head[4:6]
        if vr in _SHORT:
            return tag, vr, place + 8, int(struct.unpack_from("<H", head, 6)[0])
        if vr in _LONG and len(head) == 12:
            return tag, vr, place + 12, int(struct.unpack_from("<I", head, 8)[0])
        return None

    def value(self, tag: int, begin: int, length: int) -> bytes:
        """Raises BrokenFile when the file ends inside."""
        if begin + length > self.size:
            raise BrokenFile(
                f"element ({tag >> 16:04x},{tag & 0xFFFF:04x}) announces {length} bytes, {self.size - begin} are "
                "there; is the copy complete?",
                path=self.path,
            )
        return self.at(begin, length)

    def walk(self, place: int, *, implicit: bool) -> tuple[dict[str, tuple[str, bytes]], int] | None:
        """The wanted elements up to the pixel data, and where these begin."""
        values: dict[str, tuple[str, bytes]] = {}
        before = 0
        while place < self.size:
            element = self.element(place, implicit=implicit)
            if element is None:
                return None
            tag, vr, begin, length = element
            if tag >= PIXEL_DATA:
                break
            if tag <= before or tag in _GROUPS or tag < 0x00080000:
                return None
            before = tag
            if length == UNDEFINED:
                after = self.past_sequence(begin, implicit or vr == b"UN", 0)
                if after is None:
                    return None
                place = after
                continue
            keyword = TAGS.get(tag)
            if keyword is not None:
                values[keyword] = (vr.decode(), self.value(tag, begin, length))
            elif begin + length > self.size:
                self.value(tag, begin, length)
            place = begin + length
        return values, place

    def past_sequence(self, place: int, implicit: bool, depth: int) -> int | None:
        """Where a sequence of undefined length ends (PS3.5 7.5); None where it is not understood."""
        while depth < DEEPEST:
            head = self.at(place, 8)
            if len(head) < 8:
                return None
            group, number, length = struct.unpack("<HHI", head)
            place += 8
            if (group, number) == (0xFFFE, 0xE0DD):
                return place
            if (group, number) != (0xFFFE, 0xE000):
                return None
            if length != UNDEFINED:
                place += length
                continue
            while self.at(place, 4) != b"\xfe\xff\x0d\xe0":
                element = self.element(place, implicit=implicit)
                if element is None:
                    return None
                _, vr, begin, length = element
                if length == UNDEFINED:
                    after = self.past_sequence(begin, implicit or vr == b"UN", depth + 1)
                    if after is None:
                        return None
                    place = after
                else:
                    place = begin + length
            place += 8
        return None


def _inflated(file: IO[bytes], begin: int, path: Path) -> bytes:
    """The data set of a deflated file, stopped at `INFLATE_LIMIT_BYTES`. Raises BrokenFile."""
    file.seek(begin)
    inflater, parts, total = zlib.decompressobj(-zlib.MAX_WBITS), [], 0
    try:
        while chunk := file.read(1 << 16):
            pending = chunk
            while pending:
                parts.append(inflater.decompress(pending, 1 << 20))
                total += len(parts[-1])
                pending = inflater.unconsumed_tail
                if total > min(INFLATE_LIMIT_BYTES, max(INFLATE_FROM_BYTES, INFLATE_RATIO * file.tell())):
                    raise BrokenFile(f"inflates beyond {total >> 20} MB; a slice never does", path=path)
    except zlib.error:
        raise BrokenFile("the deflated data are damaged; was the copy interrupted?", path=path) from None
    if not inflater.eof:
        raise BrokenFile("the deflated data end too early; is the copy complete?", path=path)
    return b"".join(parts)


def _by_pydicom(file: IO[bytes], size: int, path: Path) -> Elements:
    file.seek(0)
    if DEFLATED.encode() in file.read(4096):
        raise BrokenFile("a deflated file whose header does not follow the standard; is the copy damaged?", path=path)
    file.seek(0)
    data = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=list(KEYWORDS), force=True)
    end = file.tell()
    is_implicit, is_little = data.original_encoding
    syntax = str(data.file_meta.get("TransferSyntaxUID") or "")
    if not syntax and data.preamble:
        raise BrokenFile("no transfer syntax in the meta header; is it damaged?", path=path)
    if not syntax:
        syntax = IMPLICIT if is_implicit else EXPLICIT if is_little else BIG_ENDIAN
    values = {
        word: raw for word in KEYWORDS if not word.endswith("Sequence") and (raw := raw_value(data, word)) is not None
    }
    groups = None
    if "PerFrameFunctionalGroupsSequence" in data:
        groups = (data.get("SharedFunctionalGroupsSequence") or [], data.PerFrameFunctionalGroupsSequence)
    meta_class = str(data.file_meta.get("MediaStorageSOPClassUID") or "")
    return Elements(values, meta_class, syntax, file, size, end, groups)


def raw_value(data: Any, keyword: str) -> tuple[str, bytes] | None:
    """An element of a pydicom data set as it stands in the file; None when absent."""
    element = data.get_item(keyword)
    if element is None:
        return None
    if isinstance(element.value, bytes):
        return element.VR or "", element.value
    if element.value is None:
        return element.VR or "", b""
    value = element.value  # pydicom had interpreted it already
    several = value if isinstance(value, (list, tuple, pydicom.multival.MultiValue)) else [value]
    return element.VR or "", "\\".join(str(one) for one in several).encode()
