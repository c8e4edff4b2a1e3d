"""The voxels of a series, in Hounsfield units on the layout's grid."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spatial.progress import Progress, part, silent
from twin.scan.decoding import Decoders
from twin.scan.digest import content_sha256, slice_digest
from twin.scan.headers import Header
from twin.scan.layout import Layout
from twin.scan.placing import placed
from twin.scan.refusals import NotHounsfield
from twin.scan.stored import read_native, to_hounsfield
from twin.scan.volume import BadVolume

MAX_VOXELS = 1 << 31
BRIGHT_HU = 3071  # the top of a 12-bit CT; metal with an extended scale goes beyond, a fifth of a body never does
THREADS = 2  # reading and hashing leave Python's lock; more threads than that wait for the memory


def read_voxels(layout: Layout, progress: Progress = silent) -> tuple[NDArray[np.int16], str, tuple[str, ...]]:
    """Every slice of a layout as (k, j, i) int16, upright and evenly spaced; its fingerprint; words of warning.

    Raises BrokenFile or DecoderFailed naming the slice that cannot be read, NotHounsfield when values leave the range
    of a CT.
    """
    grid, first = layout.grid, layout.headers[0].pixels
    assert first is not None
    size = (len(layout.headers), first.rows, first.columns)
    if max(int(np.prod(grid.size, dtype=np.int64)), int(np.prod(size, dtype=np.int64))) > MAX_VOXELS:
        raise BadVolume(f"{' x '.join(map(str, grid.size))} voxels, the limit is {MAX_VOXELS}; is a header damaged?")
    try:
        slices = np.empty(size, np.int16)
        is_straight = not (layout.is_tilted or layout.is_resampled)
        digests, notes = _fill(layout.headers, slices, part(progress, 0.0, 0.9 if is_straight else 0.5))
        hu = slices if is_straight else placed(layout, slices, part(progress, 0.5, 0.95))
    except MemoryError:
        raise BadVolume(f"{' x '.join(map(str, grid.size))} voxels do not fit into this machine's memory") from None
    notes += check_range(hu)
    return hu, content_sha256(grid, hu, digests if is_straight else None), notes


def read_slices(headers: Sequence[Header], progress: Progress = silent) -> NDArray[np.int16]:
    """Some slices of one size as they are stored, in HU. Raises as `read_voxels` does."""
    first = headers[0].pixels
    assert first is not None
    slices = np.empty((len(headers), first.rows, first.columns), np.int16)
    _fill(headers, slices, progress)
    return slices


def _fill(
    headers: Sequence[Header], slices: NDArray[np.int16], progress: Progress
) -> tuple[list[bytes], tuple[str, ...]]:
    """Read and decode into `slices`; the digest of each, and what decoders said."""
    digests = [b""] * len(headers)
    said: dict[str, None] = {}

    def native(k: int) -> None:
        pixels = headers[k].pixels
        assert pixels is not None
        to_hounsfield(headers[k], read_native(headers[k], pixels, slices[k]), slices[k])
        digests[k] = slice_digest(slices[k])

    def decoded(k: int, stored: NDArray[Any], notes: Sequence[str]) -> None:
        to_hounsfield(headers[k], stored, slices[k])
        digests[k] = slice_digest(slices[k])
        said.update(dict.fromkeys(notes))

    plain = [k for k, h in enumerate(headers) if h.pixels is not None and h.pixels.offset is not None]
    coded = [(k, h) for k, h in enumerate(headers) if h.pixels is not None and h.pixels.offset is None]
    pool = ThreadPoolExecutor(THREADS)
    try:
        for done, _ in enumerate(pool.map(native, plain)):
            if done % 8 == 0:
                progress("reading slices", done / len(headers))
    finally:
        pool.shutdown(cancel_futures=True)
    if coded:
        with Decoders(len(coded)) as decoders:
            decoders.decode(coded, decoded, part(progress, len(plain) / len(headers), 1.0))
    return digests, tuple(sorted(said))


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
