"""VTK legacy polydata (.vtk, versions 1 to 5.1; text or big-endian binary): points, polygons, triangle strips."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spatial.frames import Patient
from spatial.mesh import BadMesh, TriangleMesh
from twin.surfaces.ply import BadSurfaceFile

_TYPES = {
    "float": "f4", "double": "f8", "int": "i4", "unsigned_int": "u4", "long": "i8", "unsigned_long": "u8",
    "vtktypeint64": "i8", "vtkidtype": "i8", "short": "i2", "unsigned_short": "u2", "char": "i1", "unsigned_char": "u1",
}  # fmt: skip


def read_vtk(path: Path) -> TriangleMesh[Patient]:
    """Read a legacy polydata file; polygons are fanned. Raises BadSurfaceFile."""
    try:
        return _Reader(path.read_bytes()).mesh()
    except (ValueError, KeyError, IndexError, BadMesh) as error:
        raise BadSurfaceFile(f"not a sound VTK polydata file ({error}); is the copy complete?", path=path) from None


class _Reader:
    """Walks through the sections of a file."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0
        if not self.line().startswith("# vtk DataFile"):
            raise ValueError("no VTK header")
        self.line()
        self.is_binary = self.line().strip().upper() == "BINARY"
        if self.line().split() != ["DATASET", "POLYDATA"]:
            raise ValueError("the data set is not POLYDATA")

    def line(self) -> str:
        """The next line that is not blank; empty at the end."""
        while self.at < len(self.data):
            stop = self.data.find(b"\n", self.at)
            stop = len(self.data) if stop < 0 else stop
            text = self.data[self.at : stop].decode("latin-1").strip()
            self.at = stop + 1
            if text:
                return text
        return ""

    def numbers(self, count: int, kind: str) -> NDArray[Any]:
        """The next `count` numbers of a VTK type."""
        dtype = np.dtype(">" + _TYPES[kind.lower()])
        if self.is_binary:
            values = np.frombuffer(self.data, dtype, count, self.at)
            self.at += count * dtype.itemsize
            return values
        words = self.data[self.at :].split(maxsplit=count)
        if len(words) < count:
            raise ValueError(f"{count} numbers announced, {len(words)} are there")
        self.at = len(self.data) - len(words[count]) if len(words) > count else len(self.data)
        return np.array(words[:count]).astype(np.float64).astype(dtype)

    def mesh(self) -> TriangleMesh[Patient]:
        """All triangles."""
        points: NDArray[Any] = np.zeros((0, 3))
        triangles: list[NDArray[np.int64]] = []
        while head := self.line():
            words = head.split()
            section = words[0].upper()
            if section == "POINTS":
                points = self.numbers(3 * int(words[1]), words[2]).reshape(-1, 3)
            elif section in ("POLYGONS", "TRIANGLE_STRIPS", "LINES", "VERTICES"):
                cells = self.cells(int(words[1]), int(words[2]))
                if section == "POLYGONS":
                    triangles.append(_fans(*cells))
                elif section == "TRIANGLE_STRIPS":
                    triangles.append(_strips(*cells))
            elif section in ("POINT_DATA", "CELL_DATA"):
                break
            elif section == "METADATA":
                while self.at < len(self.data) and self.data[self.at : self.at + 1] not in (b"\n", b""):
                    self.at = self.data.find(b"\n", self.at) + 1 or len(self.data)
        if not len(points) or not triangles:
            raise ValueError("no points or no polygons")
        return TriangleMesh[Patient](points.astype(np.float64), np.concatenate(triangles).astype(np.int32))

    def cells(self, count: int, size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Offsets (cells + 1) and corners of a section, in the old or the 5.1 form."""
        mark = self.at
        head = self.line().split()
        if head[:1] == ["OFFSETS"]:
            offsets = self.numbers(count, head[1]).astype(np.int64)
            head = self.line().split()
            if head[:1] != ["CONNECTIVITY"]:
                raise ValueError("CONNECTIVITY is absent")
            return offsets, self.numbers(size, head[1]).astype(np.int64)
        self.at = mark
        packed = self.numbers(size, "int").astype(np.int64)
        if size == 4 * count and (packed[::4] == 3).all():
            return np.arange(count + 1) * 3, packed.reshape(-1, 4)[:, 1:].ravel()
        stops, corners, at = [0], [], 0
        for _ in range(count):
            number = int(packed[at])
            if number < 0:
                raise ValueError("a cell of negative length")
            corners.append(packed[at + 1 : at + 1 + number])
            stops.append(stops[-1] + number)
            at += 1 + number
        return np.array(stops), np.concatenate(corners)


def _fans(offsets: NDArray[np.int64], corners: NDArray[np.int64]) -> NDArray[np.int64]:
    if len(offsets) > 1 and (np.diff(offsets) == 3).all():
        return corners.reshape(-1, 3)
    faces = [corners[a:b] for a, b in pairwise(offsets)]
    return np.array([[f[0], f[i], f[i + 1]] for f in faces for i in range(1, len(f) - 1)], np.int64).reshape(-1, 3)


def _strips(offsets: NDArray[np.int64], corners: NDArray[np.int64]) -> NDArray[np.int64]:
    out = []
    for start, stop in pairwise(offsets):
        strip = corners[start:stop]
        for i in range(len(strip) - 2):  # every other triangle of a strip runs backward
            a, b, c = strip[i : i + 3]
            out.append((a, b, c) if i % 2 == 0 else (b, a, c))
    return np.array(out, np.int64).reshape(-1, 3)
