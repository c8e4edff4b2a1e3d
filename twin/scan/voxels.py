"""The voxels of a series, in Hounsfield units on the layout's grid."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from io import BufferedReader
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray

from spatial.progress import Progress, silent
from spatial.rigid import Array
from twin.scan.geometry import Layout
from twin.scan.headers import DEFLATED, Header, Pixels
from twin.scan.refusals import BrokenFile, NotHounsfield
from twin.scan.volume import BadVolume

AIR_HU = -1024
MAX_VOXELS = 1 << 31
LOWEST, HIGHEST = -32768, 32767
BRIGHT_HU = 3071  # the top of a 12-bit CT; metal with an extended scale goes beyond, a fifth of a body never does


def read_voxels(layout: Layout, progress: Progress = silent) -> tuple[NDArray[np.int16], tuple[str, ...]]:
    """Decode and rescale every slice of a layout into (k, j, i) int16, sheared upright if the gantry was tilted.

    Raises BrokenFile naming the slice that cannot be decoded, NotHounsfield when values leave the range of a CT.
    """
    grid = layout.grid
    if int(np.prod(grid.size)) > MAX_VOXELS:
        raise BadVolume(f"{' x '.join(map(str, grid.size))} voxels, the limit is {MAX_VOXELS}; is a header damaged?")
    notes: dict[str, None] = {}
    hu = np.empty(grid.shape, np.int16)
    if layout.is_tilted:
        hu.fill(AIR_HU)
    for k, header in enumerate(layout.headers):
        progress("reading slices", k / len(layout.headers))
        plane = slice_hu(header, lambda text: notes.setdefault(text, None))
        if layout.is_tilted:
            hu[k] = sheared(plane, hu[k].shape, _displacement(layout, k))
        else:
            hu[k] = plane
    for note in check_range(hu):
        notes[note] = None
    return hu, tuple(notes)


def slice_hu(header: Header, note: Callable[[str], None]) -> NDArray[np.int16]:
    """One slice (rows, columns) as HU; values are rescaled as the slice itself says (PS3.3 C.11.1.1.2)."""
    pixels, slope, intercept = header.pixels, header.slope, header.intercept
    assert pixels is not None
    assert slope is not None
    assert intercept is not None
    stored = _native(header, pixels) if pixels.offset is not None else _decoded(header, pixels, note)
    ends = sorted(slope * float(end) + intercept for end in (stored.min(), stored.max()))
    is_whole = slope == 1.0 and float(intercept).is_integer() and stored.dtype.kind in "iu"
    if is_whole and ends[0] >= LOWEST and ends[1] <= HIGHEST and abs(intercept) <= HIGHEST:
        return stored.astype(np.int16) + np.int16(intercept)  # the stored value may wrap around, the sum does not
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
    return hu.astype(np.int16)


def check_range(hu: NDArray[np.int16]) -> tuple[str, ...]:
    """Whether voxels look like a CT: raises NotHounsfield when they can't be, returns words when they hardly are."""
    sample = hu if hu.size < 2_000_000 else hu[:: max(1, hu.shape[0] // 64), ::4, ::4]
    low, high = int(sample.min()), int(sample.max())
    bright = float((sample > BRIGHT_HU).mean())
    if bright > 0.2:
        raise NotHounsfield(f"{bright:.0%} of the voxels are above {BRIGHT_HU} HU; is the sign or the rescale wrong?")
    if high - low < 50:
        raise NotHounsfield(f"values from {low} to {high}; a CT spans hundreds of HU (is it a mask or an empty scan?)")
    if low > -200:
        return (f"lowest value {low} HU: neither air nor fat; is the offset of -1024 missing?",)
    return ()


def _native(header: Header, pixels: Pixels) -> NDArray[Any]:
    """Little-endian voxels straight from the file, unused high bits cleared or sign-extended."""
    kind = np.dtype(f"<{'i' if pixels.is_signed else 'u'}{pixels.bits_allocated // 8}")
    stored = np.empty((pixels.rows, pixels.columns), kind)
    with header.path.open("rb") as file:
        assert pixels.offset is not None
        file.seek(pixels.offset + header.frame * pixels.frame_bytes)
        if _fill(file, stored) != pixels.frame_bytes:
            raise BrokenFile("the file became shorter while it was read", path=header.path)
    spare = pixels.bits_allocated - pixels.bits_stored
    if spare:
        stored = np.right_shift(np.left_shift(stored, spare), spare)
    return stored


def _fill(file: BufferedReader, array: NDArray[Any]) -> int:
    return int(file.readinto(array.data.cast("B")))


def _decoded(header: Header, pixels: Pixels, note: Callable[[str], None]) -> NDArray[Any]:
    """Stored values by pydicom's decoders (JPEG, JPEG-LS, JPEG 2000, RLE, deflated, big-endian), else by SimpleITK."""
    from pydicom.pixels import pixel_array

    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            index = header.frame if pixels.frames > 1 else None
            source = pydicom.dcmread(header.path) if pixels.transfer_syntax == DEFLATED else header.path
            stored = np.asarray(pixel_array(source, index=index, raw=True))
        for warning in caught:
            note(f"decoder: {str(warning.message).splitlines()[0][:160]}")
    except (RuntimeError, NotImplementedError) as missing:  # no decoder for this syntax, or it gave up
        stored = _by_itk(header, pixels, str(missing))
    except Exception as error:  # decoders fail in many ways on damaged data; the file's name is what helps
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise BrokenFile(f"pixel data cannot be decoded ({reason}); is the copy damaged?", path=header.path) from None
    if stored.shape != (pixels.rows, pixels.columns):
        raise BrokenFile(
            f"decoded to {stored.shape}, the header says {pixels.rows} x {pixels.columns}", path=header.path
        )
    return stored


def _by_itk(header: Header, pixels: Pixels, reason: str) -> NDArray[Any]:
    """GDCM through SimpleITK, which applies the rescale; undone here. Not for MONOCHROME1, which it inverts."""
    import SimpleITK

    failure = BrokenFile(f"compressed pixel data cannot be decoded ({reason.splitlines()[0][:120]})", path=header.path)
    if pixels.photometric != "MONOCHROME2" or pixels.frames > 1:
        raise failure
    try:
        image = SimpleITK.ReadImage(str(header.path), SimpleITK.sitkFloat64)
        values = SimpleITK.GetArrayFromImage(image).reshape(pixels.rows, pixels.columns)
    except (RuntimeError, ValueError):
        raise failure from None
    assert header.slope is not None
    assert header.intercept is not None
    return np.asarray((values - header.intercept) / header.slope)


def _displacement(layout: Layout, k: int) -> tuple[float, float]:
    """How many pixels (along i, along j) slice k is displaced within the widened grid."""
    steps = []
    last = len(layout.headers) - 1
    for axis in (0, 1):
        shift = layout.shift_mm[axis]
        steps.append((k * shift - min(0.0, last * shift)) / float(layout.grid.spacing_mm[axis]))
    return steps[0], steps[1]


def sheared(
    plane: NDArray[np.int16], shape: tuple[int, ...], displacement_px: tuple[float, float]
) -> NDArray[np.int16]:
    """A slice placed into a larger plane at a fractional displacement (along i, along j); around it is air.

    Cubic convolution (Keys 1981, a = -1/2) along each axis: exact for quadratics, so edges stay where they are.
    """
    out = np.full(shape, float(AIR_HU), np.float32)
    whole = [int(np.floor(d)) for d in displacement_px]
    values = plane.astype(np.float32)
    for axis, fraction in ((1, displacement_px[0] - whole[0]), (0, displacement_px[1] - whole[1])):
        if fraction > 1e-6:
            values = _delayed(values, axis, fraction)
        else:
            values = np.concatenate([values, np.full_like(np.take(values, [0], axis), AIR_HU)], axis)
    rows = min(values.shape[0], shape[0] - whole[1])
    columns = min(values.shape[1], shape[1] - whole[0])
    out[whole[1] : whole[1] + rows, whole[0] : whole[0] + columns] = values[:rows, :columns]
    return np.rint(np.clip(out, -32768, 32767)).astype(np.int16)


def _delayed(values: NDArray[np.float32], axis: int, fraction: float) -> NDArray[np.float32]:
    """Values moved by a fraction of a pixel toward higher indices; one longer along the axis, air beyond the edges."""
    s = 1.0 - fraction  # sample point between its left neighbour (at 0) and its right one (at 1)
    weights: Array = np.array(
        [
            -0.5 * s + s**2 - 0.5 * s**3,
            1 - 2.5 * s**2 + 1.5 * s**3,
            0.5 * s + 2 * s**2 - 1.5 * s**3,
            -0.5 * s**2 + 0.5 * s**3,
        ]
    )
    pads = [(0, 0), (0, 0)]
    pads[axis] = (2, 2)
    padded = np.pad(values, pads, constant_values=AIR_HU)
    length = values.shape[axis] + 1
    out = np.zeros([length if a == axis else n for a, n in enumerate(values.shape)], np.float32)
    for tap, weight in enumerate(weights):
        view = padded[tap : tap + length] if axis == 0 else padded[:, tap : tap + length]
        out += np.float32(weight) * view
    return out
