"""The case's own voxel files: NRRD in LPS mm with the grid's numbers kept to the last digit, so a round trip is exact.

Any NRRD reader (3D Slicer, ITK) reads them; reading other people's NRRD is `twin.scan.images`.
Format: teem.sourceforge.net/nrrd/format.html.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twin.scan.refusals import BrokenFile
from twin.scan.volume import Grid

TYPES = {"int16": "<i2", "uint8": "<u1", "uint16": "<u2"}


def write_nrrd(
    path: Path, values: NDArray[Any], grid: Grid, *, packed: bool, notes: Mapping[str, Any] | None = None
) -> None:
    """Write (k, j, i) voxels; `packed` gzips them (labels shrink a hundredfold, a CT by half at ten times the time).

    `notes` (JSON values) are stored as key/value pairs.
    """
    exact = {"osteotwin_spacing_mm": grid.spacing_mm.tolist(), "osteotwin_axes": grid.axes.tolist(), **(notes or {})}
    steps = " ".join(
        "(" + ",".join(repr(float(x)) for x in grid.axes[:, a] * grid.spacing_mm[a]) + ")" for a in range(3)
    )
    lines = [
        "NRRD0005",
        f"type: {values.dtype.name}",
        "dimension: 3",
        "space: left-posterior-superior",
        f"sizes: {grid.size[0]} {grid.size[1]} {grid.size[2]}",
        f"space directions: {steps}",
        "kinds: domain domain domain",
        'space units: "mm" "mm" "mm"',
        "endian: little",
        f"encoding: {'gzip' if packed else 'raw'}",
        "space origin: (" + ",".join(repr(float(x)) for x in grid.origin_mm) + ")",
        *(f"{key}:={json.dumps(value)}" for key, value in exact.items()),
    ]
    data = np.ascontiguousarray(values, TYPES[values.dtype.name]).data
    with path.open("wb") as file:
        file.write(("\n".join(lines) + "\n\n").encode())
        if packed:
            packer = zlib.compressobj(1, zlib.DEFLATED, 31)
            file.write(packer.compress(data))
            file.write(packer.flush())
        else:
            file.write(data)


def read_nrrd(path: Path) -> tuple[NDArray[Any], Grid, dict[str, Any]]:
    """Voxels, grid and notes of a file that `write_nrrd` wrote. Raises BrokenFile."""
    try:
        return _read(path)
    except (ValueError, KeyError, IndexError, zlib.error) as error:
        raise BrokenFile(f"not a sound voxel file of a case ({error})", path=path) from None


def _read(path: Path) -> tuple[NDArray[Any], Grid, dict[str, Any]]:
    fields: dict[str, str] = {}
    notes: dict[str, Any] = {}
    with path.open("rb") as file:
        if not file.readline().startswith(b"NRRD"):
            raise ValueError("no NRRD header")
        while line := file.readline().decode().rstrip("\n"):
            key, mark, value = line.partition(":=")
            if mark:
                notes[key] = json.loads(value)
            else:
                key, _, value = line.partition(": ")
                fields[key] = value
        size = tuple(int(n) for n in fields["sizes"].split())
        dtype = np.dtype(TYPES[fields["type"]])
        grid = Grid(
            (size[0], size[1], size[2]),
            np.array(notes.pop("osteotwin_spacing_mm")),
            np.array(json.loads("[" + fields["space origin"].strip("()") + "]")),
            np.array(notes.pop("osteotwin_axes")),
        )
        values: NDArray[Any]
        if fields["encoding"] == "raw":
            values = np.fromfile(file, dtype)
        else:
            values = np.frombuffer(bytearray(zlib.decompress(file.read(), 31)), dtype)
    if values.size != int(np.prod(size)):
        raise ValueError(f"{values.size} voxels, {size[0]} x {size[1]} x {size[2]} are announced")
    return values.reshape(grid.shape), grid, notes
