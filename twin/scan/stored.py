"""Stored values of a slice: read straight from an uncompressed file, and turned into Hounsfield units in place."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from twin.scan.elements import BIG_ENDIAN, DEFLATED
from twin.scan.headers import Header
from twin.scan.pixel_data import NATIVE, Pixels
from twin.scan.refusals import BrokenFile, NotHounsfield

AIR_HU = -1024
LOWEST, HIGHEST = -32768, 32767
RLE = "1.2.840.10008.1.2.5"
PLAIN = NATIVE | {DEFLATED, RLE}  # stored as they are, so unused high bits may hold anything (retired overlays)


def read_native(header: Header, pixels: Pixels, out: NDArray[np.int16]) -> NDArray[Any]:
    """The uncompressed voxels of one slice, into the memory of `out` when they have 16 bits. Raises BrokenFile."""
    order = ">" if pixels.transfer_syntax == BIG_ENDIAN else "<"
    kind = np.dtype(f"{order}{'i' if pixels.is_signed else 'u'}{pixels.bits_allocated // 8}")
    stored: NDArray[Any] = out.view(kind) if kind.itemsize == 2 else np.empty(out.shape, kind)
    assert pixels.offset is not None
    try:
        with header.path.open("rb", buffering=0) as file:
            file.seek(pixels.offset + header.frame * pixels.frame_bytes)
            got = file.readinto(stored.data.cast("B"))
    except OSError as error:
        raise BrokenFile(f"cannot be read ({error.strerror})", path=header.path) from None
    if got != pixels.frame_bytes:
        raise BrokenFile("the file became shorter while it was read", path=header.path)
    if order == ">":
        stored = stored.byteswap(inplace=True).view(kind.newbyteorder("<"))
    return stored


def to_hounsfield(header: Header, stored: NDArray[Any], out: NDArray[np.int16]) -> None:
    """Rescale as the slice itself says (PS3.3 C.11.1.1.2), into `out`, which may share its memory.

    Raises NotHounsfield when values leave the range of a CT, BrokenFile when they have more bits than announced.
    """
    pixels, slope, intercept = header.pixels, header.slope, header.intercept
    assert pixels is not None
    assert slope is not None
    assert intercept is not None
    stored = _within_bits(header, pixels, stored)
    low, high = int(stored.min()), int(stored.max())
    ends = sorted(slope * end + intercept for end in (low, high))
    if slope == 1.0 and intercept.is_integer() and ends[0] >= LOWEST and ends[1] <= HIGHEST and abs(intercept) <= 32767:
        values = stored if stored.dtype.itemsize == 2 else stored.astype(np.int32).astype(np.int16)
        # the stored value may wrap around as int16, the sum does not
        np.add(values.view(np.int16), np.int16(intercept), out=out)
        return
    hu = np.rint(stored * slope + intercept)
    if pixels.padding is not None and (ends[0] < LOWEST or ends[1] > HIGHEST):
        hu = np.where(stored == pixels.padding, AIR_HU, hu)
        ends = [float(hu.min()), float(hu.max())]
    if ends[0] < LOWEST or ends[1] > HIGHEST:
        raise NotHounsfield(
            f"values from {ends[0]:.0f} to {ends[1]:.0f} HU, {LOWEST} to {HIGHEST} can be; is PixelRepresentation "
            "or the rescale wrong?",
            path=header.path,
        )
    out[...] = hu


def _within_bits(header: Header, pixels: Pixels, stored: NDArray[Any]) -> NDArray[Any]:
    """Unused high bits cleared or sign-extended where they are stored; where they are decoded they must fit."""
    spare = stored.dtype.itemsize * 8 - pixels.bits_stored
    if spare <= 0:
        return stored
    if pixels.transfer_syntax in PLAIN:
        if not stored.flags.writeable:
            stored = stored.copy()
        np.left_shift(stored, spare, out=stored)
        np.right_shift(stored, spare, out=stored)
        return stored
    low, high = (
        (-(1 << (pixels.bits_stored - 1)), 1 << (pixels.bits_stored - 1))
        if pixels.is_signed
        else (0, 1 << pixels.bits_stored)
    )
    if int(stored.min()) < low or int(stored.max()) >= high:
        raise BrokenFile(
            f"decoded values from {int(stored.min())} to {int(stored.max())} do not fit {pixels.bits_stored} bits; is "
            "the header damaged?",
            path=header.path,
        )
    return stored
