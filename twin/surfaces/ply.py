"""PLY: the case's own surface format, written with doubles so that nothing is lost; read in every common variant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spatial.faults import Fault
from spatial.frames import Patient
from spatial.mesh import BadMesh, TriangleMesh

_TYPES = {
    "char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2",
    "int": "i4", "uint": "u4", "float": "f4", "double": "f8",
    "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2",
    "int32": "i4", "uint32": "u4", "float32": "f4", "float64": "f8",
}  # fmt: skip
_FACE = np.dtype([("count", "u1"), ("corners", "<i4", (3,))])


class BadSurfaceFile(Fault):
    """A surface file that is cut, or is not what its name says."""


def ply_bytes(mesh: TriangleMesh[Any]) -> bytes:
    """The mesh as binary little-endian PLY: x, y, z double; triangles as uchar-counted int lists."""
    header = (
        "ply\nformat binary_little_endian 1.0\ncomment DICOM patient coordinates (LPS), mm\n"
        f"element vertex {len(mesh.vertices_mm)}\nproperty double x\nproperty double y\nproperty double z\n"
        f"element face {len(mesh.triangles)}\nproperty list uchar int vertex_indices\nend_header\n"
    )
    faces = np.empty(len(mesh.triangles), _FACE)
    faces["count"], faces["corners"] = 3, mesh.triangles
    return header.encode() + np.ascontiguousarray(mesh.vertices_mm, "<f8").tobytes() + faces.tobytes()


def read_ply(path: Path) -> TriangleMesh[Patient]:
    """Read a PLY (ascii or binary, any number types, polygons fanned). Raises BadSurfaceFile."""
    return mesh_from_ply(path.read_bytes(), path)


def mesh_from_ply(data: bytes, path: Path) -> TriangleMesh[Patient]:
    """The mesh in PLY bytes; `path` is for the error's sake. Raises BadSurfaceFile."""
    try:
        return _parse(data)
    except (ValueError, KeyError, IndexError, TypeError, BadMesh) as error:
        raise BadSurfaceFile(f"not a sound PLY file ({error}); is the copy complete?", path=path) from None


def _parse(data: bytes) -> TriangleMesh[Patient]:
    end = data.find(b"end_header")
    if not data.startswith(b"ply") or end < 0:
        raise ValueError("no PLY header")
    body = data.index(b"\n", end) + 1
    form, elements = _header(data[:end].decode("latin-1").splitlines())
    vertices = np.zeros((0, 3))
    triangles = np.zeros((0, 3), np.int32)
    if form == "ascii":
        rows = [line.split() for line in data[body:].split(b"\n") if line.strip()]
        at = 0
        for name, count, properties in elements:
            part, at = rows[at : at + count], at + count
            if len(part) < count:
                raise ValueError(f"{count} {name} announced, {len(part)} are there")
            if name == "vertex":
                columns = [[p[0] for p in properties].index(axis) for axis in "xyz"]
                vertices = np.array([[float(row[c]) for c in columns] for row in part]).reshape(-1, 3)
            elif name == "face":
                triangles = _fans([[int(v) for v in row[1 : 1 + int(row[0])]] for row in part])
        return TriangleMesh[Patient](vertices, triangles)
    order = {"binary_little_endian": "<", "binary_big_endian": ">"}[form]
    for name, count, properties in elements:
        if all(len(p) == 2 for p in properties):
            record = np.dtype([(p[0], order + _TYPES[p[1]]) for p in properties])
            if len(data) - body < count * record.itemsize:
                raise ValueError(f"{count} {name} announced, the file ends before")
            table = np.frombuffer(data, record, count, body)
            body += count * record.itemsize
            if name == "vertex":
                vertices = np.column_stack([table[axis].astype(np.float64) for axis in "xyz"])
        else:
            triangles_here, body = _lists(data, body, count, properties, order)
            if name == "face":
                triangles = triangles_here
    return TriangleMesh[Patient](vertices, triangles)


def _header(lines: list[str]) -> tuple[str, list[tuple[str, int, list[tuple[str, ...]]]]]:
    form, elements = "", []
    for line in lines:
        words = line.split()
        if words[:1] == ["format"]:
            form = words[1]
        elif words[:1] == ["element"]:
            elements.append((words[1], int(words[2]), list[tuple[str, ...]]()))
        elif words[:1] == ["property"]:
            if words[1] == "list":
                elements[-1][2].append((words[4], words[2], words[3]))
            else:
                elements[-1][2].append((words[2], words[1]))
    return form, elements


def _lists(
    data: bytes, body: int, count: int, properties: list[tuple[str, ...]], order: str
) -> tuple[NDArray[np.int32], int]:
    """Faces from binary lists: at once when all are triangles without extras, else one by one."""
    if len(properties) == 1:
        size, item = (order + _TYPES[t] for t in properties[0][1:])
        record = np.dtype([("count", size), ("corners", item, (3,))])
        if len(data) - body >= count * record.itemsize:
            table = np.frombuffer(data, record, count, body)
            if (table["count"] == 3).all():
                return table["corners"].astype(np.int32), body + count * record.itemsize
    faces: list[list[int]] = []
    for _ in range(count):
        for prop in properties:
            if len(prop) == 2:
                body += np.dtype(_TYPES[prop[1]]).itemsize
                continue
            counted, listed = np.dtype(order + _TYPES[prop[1]]), np.dtype(order + _TYPES[prop[2]])
            number = int(np.frombuffer(data, counted, 1, body)[0])
            if number < 0:
                raise ValueError("a list of negative length")
            corners = np.frombuffer(data, listed, number, body + counted.itemsize)
            body += counted.itemsize + number * listed.itemsize
            if prop[0] in ("vertex_indices", "vertex_index"):
                faces.append([int(v) for v in corners])
    return _fans(faces), body


def _fans(faces: list[list[int]]) -> NDArray[np.int32]:
    """Polygons as triangles about their first corner."""
    return np.array([[f[0], f[i], f[i + 1]] for f in faces for i in range(1, len(f) - 1)], np.int32).reshape(-1, 3)
