"""MetaImage (.mha, or .mhd with its data beside it) as a placed volume; its axes are LPS, as ITK writes them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from spatial.rigid import Array
from twin.scan.image_data import beside, read_block
from twin.scan.refusals import BadImage, BrokenFile

LONGEST_HEADER = 1 << 20
TYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4", "MET_UINT": "u4",
    "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8", "MET_FLOAT": "f4", "MET_DOUBLE": "f8",
}  # fmt: skip
LINE = re.compile(r"^([A-Za-z]\w*)[ \t]*=[ \t]*(.*?)[ \t]*$")
TRUE, FALSE = frozenset({"true", "1", "t"}), frozenset({"false", "0", "f"})


def read_metaimage(path: Path) -> tuple[NDArray[Any], Array, tuple[str, ...]]:
    """Voxels (k, j, i), the (4, 4) map from (i, j, k) to LPS mm, words of warning. Raises BadImage, BrokenFile."""
    with path.open("rb") as file:
        fields = _fields(file, path)
        if fields.get("ObjectType", "image").lower() != "image" or fields.get("NDims") != "3":
            found = f"{fields.get('ObjectType', 'an object')} of {fields.get('NDims', 'unknown')} dimensions"
            raise BadImage(f"{found}; one 3-D volume is needed", path=path)
        if fields.get("ElementNumberOfChannels", "1") != "1":
            raise BadImage("several values a voxel; one is needed", path=path)
        extent = tuple(int(n) for n in _numbers(fields, path, 3, "DimSize"))
        matrix = _placed(fields, path)
        kind = TYPES.get(fields.get("ElementType", ""))
        if kind is None or _said(fields, path, "BinaryData") is False:
            raise BadImage(f"voxels of type {fields.get('ElementType', '?')!r}; binary numbers are needed", path=path)
        swapped = _said(fields, path, "BinaryDataByteOrderMSB", "ElementByteOrderMSB")
        if swapped is None and kind[1] != "1":
            raise BadImage("the byte order is not said", path=path)
        dtype = np.dtype((">" if swapped else "<") + kind)
        packing = "zlib" if _said(fields, path, "CompressedData") else "raw"
        name = fields["ElementDataFile"]
        if name.upper() == "LOCAL":
            return read_block(file, dtype, extent, packing, path), matrix, ()
    if name.upper().startswith("LIST") or "%" in name:
        raise BadImage("the voxels are spread over several files; convert to one file", path=path)
    data = beside(path, name)
    with data.open("rb") as file:
        skip = int(_numbers(fields, path, 1, "HeaderSize")[0]) if "HeaderSize" in fields else 0
        if skip == -1:
            skip = max(0, data.stat().st_size - int(np.prod(extent, dtype=np.int64)) * dtype.itemsize)
        file.seek(max(0, skip))
        return read_block(file, dtype, extent, packing, data), matrix, ()


def _fields(file: IO[bytes], path: Path) -> dict[str, str]:
    """Keys as they are written; the data follow the line of ElementDataFile, which is the last."""
    fields: dict[str, str] = {}
    read = 0
    while line := file.readline(LONGEST_HEADER):
        read += len(line)
        found = LINE.match(line.decode("latin-1").rstrip("\r\n"))
        if read > LONGEST_HEADER or found is None:
            raise BadImage("no MetaImage header", path=path)
        key, value = found.groups()
        if key in fields:
            raise BadImage(f"the header says {key[:40]!r} twice", path=path)
        fields[key] = value
        if key == "ElementDataFile":
            return fields
    raise BrokenFile("the file ends inside its header; is the copy complete?", path=path)


def _said(fields: dict[str, str], path: Path, *keys: str) -> bool | None:
    """The first of the keys that is there, as true or false; None where none is."""
    value = next((fields[key].lower() for key in keys if key in fields), None)
    if value is not None and value not in TRUE | FALSE:
        raise BadImage(f"{keys[0]} is {value[:20]!r}; True or False is meant", path=path)
    return None if value is None else value in TRUE


def _numbers(fields: dict[str, str], path: Path, count: int, *keys: str) -> list[float]:
    """The first of the keys that is there, as `count` numbers."""
    key = next((k for k in keys if k in fields), None)
    if key is None:
        raise BadImage(f"{keys[0]} is absent, so the voxels have no sure place or size", path=path)
    words = re.findall(r"\S+", fields[key])
    try:
        numbers = [float(word) for word in words if "_" not in word]
    except ValueError:
        numbers = []
    if len(numbers) != count or len(words) != count or not np.isfinite(numbers).all():
        raise BadImage(f"{key} is {fields[key][:60]!r}; {count} numbers are needed", path=path)
    if count == 3 and key == "DimSize" and any(n != int(n) for n in numbers):
        raise BadImage(f"dimsize is {fields[key][:60]!r}; whole numbers are needed", path=path)
    return numbers


def _placed(fields: dict[str, str], path: Path) -> Array:
    spacing = np.array(_numbers(fields, path, 3, "ElementSpacing", "ElementSize"))
    if (spacing <= 0).any():
        raise BadImage(f"voxel spacing {spacing.tolist()} mm; it must be above zero", path=path)
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(_numbers(fields, path, 9, "TransformMatrix", "Rotation", "Orientation")).reshape(3, 3).T
    matrix[:3, :3] *= spacing
    matrix[:3, 3] = _numbers(fields, path, 3, "Offset", "Position", "Origin")
    return matrix
