"""The voxels of an image file: so many bytes as the header announces, unpacked within that and never beyond it."""

from __future__ import annotations

import bz2
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from twin.scan.refusals import BadImage, BrokenFile

MOST_VOXELS = 1 << 31
SLACK_BYTES = 4096  # after the voxels: a line's end, padding of the last block
CHUNK = 1 << 18


def check_extent(extent: tuple[int, ...], path: Path) -> None:
    """Raise BadImage unless the size (i, j, k) is one of a volume that can be held."""
    if len(extent) != 3 or min(extent) < 1:
        raise BadImage(f"{len(extent)} dimensions {list(extent)}; one 3-D volume is needed", path=path)
    if int(np.prod([int(n) for n in extent], dtype=object)) > MOST_VOXELS:
        raise BadImage(f"{' x '.join(map(str, extent))} voxels, the limit is {MOST_VOXELS}", path=path)


def beside(header: Path, name: str) -> Path:
    """The data file that a header names, in the header's own folder: another could be any file of this computer.

    Raises BadImage when it lies elsewhere, BrokenFile when it is absent.
    """
    folder = header.parent.resolve()
    if not name or "\0" in name or not (folder / name).resolve().is_relative_to(folder):
        raise BadImage(f"names the data file {name[:80]!r}, which lies outside of its folder", path=header)
    place = (folder / name).resolve()
    if not place.is_file():
        raise BrokenFile(
            f"names the data file {name[:80]!r}, which is not there; was only the header copied?", path=header
        )
    return place


def read_block(
    stream: IO[bytes], dtype: np.dtype[Any], extent: tuple[int, ...], packing: str, path: Path
) -> NDArray[Any]:
    """The voxels (k, j, i) from where the stream stands. `packing`: raw, gzip, zlib or bzip2.

    Raises BrokenFile when bytes are missing or damaged, BadImage when there are more than announced.
    """
    check_extent(extent, path)
    need = int(np.prod(extent, dtype=np.int64)) * dtype.itemsize
    data = bytearray()
    if packing == "raw":
        left = path.stat().st_size
        if need > left:
            raise _short(need, left, path)
        data += stream.read(need + SLACK_BYTES + 1)
    else:
        for part in _unpacked(stream, packing, path):
            data += part
            if len(data) > need + SLACK_BYTES:
                break
    if len(data) < need:
        raise _short(need, len(data), path)
    if len(data) > need + SLACK_BYTES:
        raise BadImage(
            f"more voxels than the {need} bytes that the header announces; is the size in it wrong?", path=path
        )
    values = np.frombuffer(data, dtype, need // dtype.itemsize)
    return values.reshape(extent[::-1])


def inflate(stream: IO[bytes], limit: int, path: Path) -> bytes:
    """A whole gzip stream, stopped soon after `limit` bytes. Raises BrokenFile when it is cut or damaged."""
    data = bytearray()
    for part in _unpacked(stream, "gzip", path):
        data += part
        if len(data) > limit:
            break
    return bytes(data)


def _unpacked(stream: IO[bytes], packing: str, path: Path) -> Any:
    """Unpacked pieces of at most CHUNK bytes; the check sum at the stream's end is checked by the unpacker."""
    bits = {"gzip": 31, "zlib": 15}
    unpacker: Any = bz2.BZ2Decompressor() if packing == "bzip2" else zlib.decompressobj(bits[packing])
    pending = b""
    try:
        while not unpacker.eof:
            if not pending:
                pending = stream.read(1 << 16)
                if not pending and getattr(unpacker, "needs_input", True):
                    raise EOFError("it ends too early")
            yield unpacker.decompress(pending, CHUNK)
            pending = unpacker.unconsumed_tail if packing != "bzip2" else b""
    except (zlib.error, OSError, EOFError, ValueError) as error:
        raise BrokenFile(
            f"the compressed data are cut or damaged ({str(error)[:80]}); is the copy complete?", path=path
        ) from None


def _short(need: int, found: int, path: Path) -> BrokenFile:
    return BrokenFile(f"voxels need {need} bytes, {found} are there; is the copy complete?", path=path)
