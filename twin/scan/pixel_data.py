"""How a file stores its grey values, and whether they are all there; nothing is decoded."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from twin.scan.elements import BIG_ENDIAN, DEFLATED, EXPLICIT, IMPLICIT, Elements
from twin.scan.refusals import BrokenFile
from twin.scan.values import Values

NATIVE = frozenset({IMPLICIT, EXPLICIT, BIG_ENDIAN})  # uncompressed: voxels are read straight from the file
JPEG_FAMILY = "1.2.840.10008.1.2.4."  # JPEG, JPEG-LS, JPEG 2000, HTJ2K
END_OF_IMAGE = b"\xff\xd9"
LOSSY = frozenset(
    {
        "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51",  # JPEG baseline, extended
        "1.2.840.10008.1.2.4.81",  # JPEG-LS near-lossless
    }
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Pixels:
    """How a file stores its grey values; `offset` is where native voxels begin, None when a decoder is needed.

    `start` is where the pixel data element begins in the file (0 in a deflated one).
    """

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
    start: int = 0

    @property
    def frame_bytes(self) -> int:
        """Size of one uncompressed frame."""
        return self.rows * self.columns * self.samples * self.bits_allocated // 8


def read_pixels(values: Values, found: Elements, path: Path, *, expected: bool) -> Pixels | None:
    """The pixel description, with the length of the pixel data checked against the file. Raises BrokenFile."""
    pixels = _described(values, found, path)
    stream, size, start = found.stream, found.size, found.end
    if found.syntax != DEFLATED:
        pixels = replace(pixels, start=start)
    stream.seek(start)
    element = stream.read(12)
    if len(element) < 8 or struct.unpack(found.order + "HH", element[:4]) != (0x7FE0, 0x0010):
        if not expected:
            return None
        raise BrokenFile(f"ends after {size} bytes, before its pixel data; is the copy complete?", path=path)
    if found.syntax == IMPLICIT:
        begin, length = start + 8, struct.unpack("<I", element[4:8])[0]
    else:
        if len(element) < 12:
            raise BrokenFile(f"ends after {size} bytes, inside its pixel data; is the copy complete?", path=path)
        begin, length = start + 12, struct.unpack(found.order + "I", element[8:12])[0]
    is_plain = found.syntax in NATIVE or found.syntax == DEFLATED
    if length == 0xFFFFFFFF:
        if is_plain:
            raise BrokenFile(
                "pixel data of undefined length in an uncompressed file; is the header damaged?", path=path
            )
        _check_fragments(stream, begin, size, pixels, path)
        return pixels
    if length > size - begin:
        raise BrokenFile(
            f"pixel data of {length} bytes announced, {size - begin} are there; is the copy complete?", path=path
        )
    if not is_plain:
        raise BrokenFile("compressed pixel data without their fragments; is the header damaged?", path=path)
    _check_length(pixels, length, path)
    straight = found.syntax in NATIVE and not (found.syntax == BIG_ENDIAN and pixels.bits_allocated == 8)
    return replace(pixels, offset=begin) if straight else pixels


def _described(values: Values, found: Elements, path: Path) -> Pixels:
    try:
        for keyword in ("BitsAllocated", "BitsStored", "PixelRepresentation", "SamplesPerPixel"):
            if not values.raw.get(keyword, ("", b""))[1]:
                raise ValueError(f"{keyword} is absent")
        signed = values.short("PixelRepresentation") or 0
        if signed not in (0, 1):
            raise ValueError(f"PixelRepresentation is {signed}")
        bits, stored = values.short("BitsAllocated") or 0, values.short("BitsStored") or 0
        high = values.short("HighBit")
        samples = values.short("SamplesPerPixel")
        frames = values.text("NumberOfFrames")
        pixels = Pixels(
            values.short("Rows") or 0, values.short("Columns") or 0, int(frames) if frames else 1, bits, stored,
            stored - 1 if high is None else high, bool(signed), 1 if samples is None else samples,
            values.text("PhotometricInterpretation"), _padding(values, is_signed=bool(signed)), found.syntax, None,
        )  # fmt: skip
    except ValueError as error:
        raise BrokenFile(f"the image's size or kind cannot be read ({error})", path=path) from None
    if pixels.bits_allocated < 1 or pixels.samples < 1:
        raise BrokenFile(f"{pixels.samples} values of {pixels.bits_allocated} bits a pixel", path=path)
    if pixels.rows < 1 or pixels.columns < 1 or pixels.frames < 1:
        raise BrokenFile(f"an image of {pixels.rows} x {pixels.columns} x {pixels.frames} pixels", path=path)
    return pixels


def _padding(values: Values, *, is_signed: bool) -> int | None:
    try:
        return values.short("PixelPaddingValue", signed=is_signed)
    except ValueError:
        return None  # nothing depends on it but the colour of the corners


def _check_length(pixels: Pixels, length: int, path: Path) -> None:
    """Too short is a cut file; longer by a row or a column means that the size in the header is wrong."""
    need = pixels.frame_bytes * pixels.frames
    described = f"{pixels.rows} x {pixels.columns} x {pixels.frames} pixels need {need} bytes, the file has {length}"
    if length < need:
        raise BrokenFile(described, path=path)
    spare = max(2, min(pixels.rows, pixels.columns) * pixels.bits_allocated // 8)
    if pixels.samples == 1 and length - need >= spare:
        raise BrokenFile(f"{described}; is the size in the header damaged?", path=path)


def _check_fragments(stream: IO[bytes], begin: int, size: int, pixels: Pixels, path: Path) -> None:
    """Walk the items of encapsulated pixel data (PS3.5 A.4): each must fit, and the delimiter must be there.

    A JPEG stream must end with its own end mark as well: some decoders fill in what is missing and say nothing.
    """
    at, items, ends = begin, 0, list[bytes]()
    while True:
        stream.seek(at)
        item = stream.read(8)
        if len(item) < 8:
            raise BrokenFile(
                f"compressed pixel data end after {size} bytes without their end mark; is the copy complete?", path=path
            )
        group, element, length = struct.unpack("<HHI", item)
        if (group, element) == (0xFFFE, 0xE0DD):
            break
        if (group, element) != (0xFFFE, 0xE000) or length > size - at - 8:
            raise BrokenFile(f"compressed pixel data are cut at byte {at} of {size}; is the copy complete?", path=path)
        at += 8 + length
        items += 1
        stream.seek(max(at - 16, at - length))
        ends.append(stream.read(min(16, length)).rstrip(b"\0"))
    if items < 2:
        raise BrokenFile("compressed pixel data without a fragment; was the image removed?", path=path)
    last_of_frames = ends[1:] if items - 1 == pixels.frames else ends[-1:]
    if pixels.transfer_syntax.startswith(JPEG_FAMILY) and not all(e.endswith(END_OF_IMAGE) for e in last_of_frames):
        raise BrokenFile("a compressed picture is cut: it lacks its end mark; is the copy complete?", path=path)
