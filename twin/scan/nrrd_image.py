"""Other people's NRRD (.nrrd, or .nhdr with its data beside it); the case's own are `twin.scan.nrrd`.

Format: teem.sourceforge.net/nrrd/format.html.
"""

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
PACKINGS = {"raw": "raw", "gzip": "gzip", "gz": "gzip", "bzip2": "bzip2", "bz2": "bzip2"}
TYPES = {
    name: code
    for code, names in {
        "i1": "signed char,int8,int8_t", "u1": "uchar,unsigned char,uint8,uint8_t",
        "i2": "short,short int,signed short,signed short int,int16,int16_t",
        "u2": "ushort,unsigned short,unsigned short int,uint16,uint16_t",
        "i4": "int,signed int,int32,int32_t", "u4": "uint,unsigned int,uint32,uint32_t",
        "i8": "longlong,long long,long long int,signed long long,int64,int64_t",
        "u8": "ulonglong,unsigned long long,unsigned long long int,uint64,uint64_t",
        "f4": "float", "f8": "double",
    }.items()
    for name in names.split(",")
}  # fmt: skip
LPS_FROM = {
    "left-posterior-superior": (1.0, 1.0, 1.0), "lps": (1.0, 1.0, 1.0),
    "right-anterior-superior": (-1.0, -1.0, 1.0), "ras": (-1.0, -1.0, 1.0),
    "left-anterior-superior": (1.0, -1.0, 1.0), "las": (1.0, -1.0, 1.0),
}  # fmt: skip


def read_nrrd_image(path: Path) -> tuple[NDArray[Any], Array, tuple[str, ...]]:
    """Voxels (k, j, i), the (4, 4) map from (i, j, k) to LPS mm, words of warning. Raises BadImage, BrokenFile."""
    with path.open("rb") as file:
        fields = _fields(file, path)
        space = fields.get("space", "")
        if space.lower() not in LPS_FROM:
            raise BadImage(
                f"space is {space or 'absent'!r}, so left and right are unknown; LPS, RAS or LAS is needed", path=path
            )
        extent = tuple(int(n) for n in _numbers(fields, "sizes", path))
        if fields.get("dimension") != "3" or len(extent) != 3:
            raise BadImage(f"{fields.get('dimension', 'no')} dimensions; one 3-D volume is needed", path=path)
        matrix = _placed(fields, LPS_FROM[space.lower()], path)
        kind = TYPES.get(fields.get("type", "").lower())
        packing = PACKINGS.get(fields.get("encoding", "").lower())
        if kind is None or packing is None:
            found = f"type {fields.get('type', '?')!r} in encoding {fields.get('encoding', '?')!r}"
            raise BadImage(f"{found}; numbers in raw, gzip or bzip2 can be read", path=path)
        order = {"little": "<", "big": ">"}.get(fields.get("endian", "little" if kind[1] == "1" else ""))
        if order is None:
            raise BadImage("the byte order (endian) is not said", path=path)
        dtype = np.dtype(order + kind)
        name = fields.get("data file", fields.get("datafile", ""))
        if not name and path.suffix.lower() == ".nhdr":
            raise BadImage("a header without the name of its data file", path=path)
        if not name:
            return _block(file, fields, dtype, extent, packing, path), matrix, ()
    if name.upper().startswith("LIST") or "%" in name:
        raise BadImage("the voxels are spread over several files; convert to one file", path=path)
    data = beside(path, name)
    with data.open("rb") as file:
        return _block(file, fields, dtype, extent, packing, data), matrix, ()


def _block(
    file: IO[bytes], fields: dict[str, str], dtype: np.dtype[Any], extent: tuple[int, ...], packing: str, path: Path
) -> NDArray[Any]:
    skips = {key: fields.get(key, fields.get(key.replace(" ", ""), "0")) for key in ("line skip", "byte skip")}
    if not all(re.fullmatch(r"\d{1,9}|-1", value) for value in skips.values()):
        raise BadImage("line skip or byte skip is no number", path=path)
    lines, skipped = int(skips["line skip"]), int(skips["byte skip"])
    for _ in range(max(0, lines)):
        if not file.readline(LONGEST_HEADER):
            break
    if skipped == -1 and packing == "raw":
        file.seek(max(0, path.stat().st_size - int(np.prod(extent, dtype=np.int64)) * dtype.itemsize))
    elif skipped:
        if packing != "raw" or skipped < 0:
            raise BadImage("byte skip inside packed data; convert the file", path=path)
        file.seek(skipped, 1)
    return read_block(file, dtype, extent, packing, path)


def _fields(file: IO[bytes], path: Path) -> dict[str, str]:
    if not file.readline(64).startswith(b"NRRD000"):
        raise BadImage("no NRRD header", path=path)
    fields: dict[str, str] = {}
    read = 0
    while line := file.readline(LONGEST_HEADER):
        read += len(line)
        if read > LONGEST_HEADER:
            raise BadImage("the header does not end", path=path)
        text = line.decode("latin-1").rstrip("\r\n")
        if not text:
            return fields
        key, colon, value = text.partition(": ")
        if colon and not text.startswith("#") and ":=" not in key:
            key = key.strip().lower()
            if key in fields:
                raise BadImage(f"the header says {key[:40]!r} twice", path=path)
            fields[key] = value.strip()
        elif ":=" not in text and not text.startswith("#"):
            raise BadImage(f"a header line that is none: {text[:40]!r}", path=path)
    if "data file" in fields or "datafile" in fields:
        return fields
    raise BrokenFile("the file ends inside its header; is the copy complete?", path=path)


def _numbers(fields: dict[str, str], key: str, path: Path) -> list[float]:
    words = re.findall(r"[^\s(),]+", fields.get(key, ""))
    try:
        numbers = [float(word) for word in words if "_" not in word]
    except ValueError:
        numbers = []
    if len(numbers) != len(words) or not np.isfinite(numbers).all() or max(map(abs, numbers), default=0) > 1e12:
        raise BadImage(f"{key!r} is {fields.get(key, 'absent')[:60]!r}; numbers are needed", path=path)
    if key == "sizes" and any(n != int(n) for n in numbers):
        raise BadImage(f"sizes are {fields[key][:60]!r}; whole numbers are needed", path=path)
    return numbers


def _placed(fields: dict[str, str], lps_from: tuple[float, float, float], path: Path) -> Array:
    units = set(re.findall(r'"([^"]*)"', fields.get("space units", ""))) - {"mm", ""}
    if units:
        raise BadImage(f"lengths in {', '.join(sorted(units))[:40]}; mm are needed", path=path)
    steps, origin = _numbers(fields, "space directions", path), _numbers(fields, "space origin", path)
    if len(steps) != 9 or len(origin) != 3:
        raise BadImage("space directions or space origin are absent, so its place is unknown", path=path)
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(steps).reshape(3, 3).T
    matrix[:3, 3] = origin
    return np.diag([*lps_from, 1.0]) @ matrix
