"""Shapes on the wire: POLYDATA (surfaces) and TRAJ (trajectories)."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from interop.openigtlink.fields import (
    FLOAT,
    BadContent,
    Bytes,
    Part,
    floats,
    frozen,
    packed_floats,
    packed_text,
    read_text,
    require_multiple,
)  # fmt: skip
from spatial.rigid import Array

UINT = np.dtype(">u4")
_HEAD = struct.Struct(">10I")
_ATTRIBUTE = struct.Struct(">BBI")
_TRAJECTORY = struct.Struct(">64s32sBB4B")
ENTRY_ONLY, TARGET_ONLY, BOTH = 1, 2, 3


@dataclass(frozen=True, eq=False)
class Cells:
    """Vertices, lines, polygons or strips: `flat` (uint32) is n, i1 … in, n, i1 … in, …; `count` of them."""

    flat: NDArray[np.uint32]
    count: int

    @classmethod
    def none(cls) -> Cells:
        """No cells."""
        return cls(np.zeros(0, np.uint32), 0)

    @classmethod
    def of(cls, cells: ArrayLike) -> Cells:
        """Cells of one size: (M, k) indices."""
        array = np.asarray(cells, np.uint32)
        flat = np.empty((len(array), array.shape[1] + 1), np.uint32)
        flat[:, 0], flat[:, 1:] = array.shape[1], array
        return cls(flat.ravel(), len(array))

    def same_size(self, size: int) -> NDArray[np.uint32] | None:
        """The cells as (M, size); None where one has another size."""
        if len(self.flat) != self.count * (size + 1):
            return None
        table = self.flat.reshape(self.count, size + 1)
        return table[:, 1:] if (table[:, 0] == size).all() else None

    def check(self, n_points: int, what: str) -> None:
        """Raise BadContent unless `count` cells fill the list and name points that are there."""
        if not self.count and not len(self.flat):
            return
        first = int(self.flat[0]) if len(self.flat) else 0
        table = self.same_size(first)
        if table is not None:
            largest = int(table.max()) if table.size else 0
        else:
            at, seen, largest, flat = 0, 0, 0, self.flat
            while at < len(flat):
                n = int(flat[at])
                cell = flat[at + 1 : at + 1 + n]
                if len(cell) < n:
                    raise BadContent(f"the last of the {what} is cut short")
                largest = max(largest, int(cell.max()) if n else 0)
                at, seen = at + 1 + n, seen + 1
            if seen != self.count:
                raise BadContent(f"{self.count} {what} are promised and {seen} are there")
        if largest >= n_points:
            raise BadContent(f"{what} name point {largest} of {n_points}")


@dataclass(frozen=True, eq=False)
class Attribute:
    """Numbers at points (kind 0 scalars, 1 vectors, 2 normals, 3 tensors, 4 colour) or cells (16 more): (n, k)."""

    name: str
    kind: int
    values: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class PolyData:
    """POLYDATA: points (N, 3) mm and the cells between them."""

    TYPE: ClassVar[str] = "POLYDATA"
    points_mm: NDArray[np.float32]
    polygons: Cells
    vertices: Cells
    lines: Cells
    strips: Cells
    attributes: tuple[Attribute, ...] = ()

    @classmethod
    def of_mesh(cls, points_mm: ArrayLike, triangles: ArrayLike) -> PolyData:
        """A surface of triangles."""
        none = Cells.none()
        return cls(np.asarray(points_mm, np.float32), Cells.of(triangles), none, none, none)

    @property
    def triangles(self) -> NDArray[np.uint32] | None:
        """The polygons as (M, 3); None where one has more than three corners."""
        return self.polygons.same_size(3)

    def _cells(self) -> tuple[tuple[Cells, str], ...]:
        return (
            (self.vertices, "vertices"), (self.lines, "lines"), (self.polygons, "polygons"),
            (self.strips, "triangle strips"),
        )  # fmt: skip

    def pack(self) -> list[Part]:
        """The body."""
        sizes = [n for cells, _ in self._cells() for n in (cells.count, 4 * len(cells.flat))]
        parts: list[Part] = [_HEAD.pack(len(self.points_mm), *sizes, len(self.attributes))]
        parts.append(self.points_mm.astype(FLOAT).tobytes())
        parts += [cells.flat.astype(UINT).tobytes() for cells, _ in self._cells()]
        names = b""
        for attribute in self.attributes:
            n, k = attribute.values.shape
            parts.append(_ATTRIBUTE.pack(attribute.kind, k, n))
            names += attribute.name.encode() + b"\0"
        parts.append(names + b"\0" * (len(names) % 2))
        parts += [attribute.values.astype(FLOAT).tobytes() for attribute in self.attributes]
        return parts

    @classmethod
    def unpack(cls, body: Bytes) -> Self:
        """From a body; every length is checked before it is used. Raises BadContent."""
        if len(body) < _HEAD.size:
            raise BadContent(f"POLYDATA of {len(body)} bytes; 40 at least are needed")
        n_points, *sizes, n_attributes = _HEAD.unpack_from(body)
        wanted = _HEAD.size + 12 * n_points + sum(sizes[1::2]) + 6 * n_attributes
        if wanted > len(body) or any(size % 4 for size in sizes[1::2]):
            raise BadContent(f"POLYDATA promises {wanted} bytes at least and has {len(body)}")
        points = np.frombuffer(body, FLOAT, 3 * n_points, _HEAD.size).astype(np.float32).reshape(-1, 3)
        if not np.isfinite(points).all():
            raise BadContent("POLYDATA has a point that is not finite")
        at, cells = _HEAD.size + 12 * n_points, []
        for count, size in zip(sizes[::2], sizes[1::2], strict=True):
            cells.append(Cells(np.frombuffer(body, UINT, size // 4, at).astype(np.uint32), count))
            at += size
        vertices, lines, polygons, strips = cells
        attributes, at = _read_attributes(body, at, n_attributes)
        if at != len(body):
            raise BadContent(f"POLYDATA has {len(body) - at} bytes more than it promises")
        out = cls(points, polygons, vertices, lines, strips, attributes)
        for some, what in out._cells():
            some.check(n_points, what)
        return out


def _read_attributes(body: Bytes, at: int, count: int) -> tuple[tuple[Attribute, ...], int]:
    heads = [_ATTRIBUTE.unpack_from(body, at + 6 * i) for i in range(count)]
    at += 6 * count
    names, start = [], at
    for _ in range(count):
        stop = bytes(body[at : at + 256]).find(b"\0")
        if stop < 0:
            raise BadContent("POLYDATA has an attribute whose name does not end")
        names.append(read_text(body[at : at + stop]))
        at += stop + 1
    at += (at - start) % 2
    out = []
    for (kind, k, n), name in zip(heads, names, strict=True):
        if at + 4 * k * n > len(body):
            raise BadContent(f"POLYDATA's attribute {name!r} is cut short")
        out.append(Attribute(name, kind, np.frombuffer(body, FLOAT, k * n, at).astype(np.float32).reshape(n, k)))
        at += 4 * k * n
    return tuple(out), at


@dataclass(frozen=True, eq=False)
class Trajectory:
    """One element of TRAJ: entry and target (3,) mm; the one that is not given is None.

    `diameter_mm` is what the protocol's text says; the C++ library calls the same number a radius, so no program can
    trust it. `owner` names the image that it belongs to.
    """

    name: str
    entry_mm: Array | None
    target_mm: Array | None
    diameter_mm: float = 0.0
    group: str = "Trajectory"
    owner: str = ""
    rgba: tuple[int, int, int, int] = (255, 255, 0, 255)

    def __post_init__(self) -> None:
        """Check and freeze."""
        if self.entry_mm is None and self.target_mm is None:
            raise BadContent(f"trajectory {self.name!r} has neither entry nor target")
        for field in ("entry_mm", "target_mm"):
            if getattr(self, field) is not None:
                object.__setattr__(self, field, frozen(getattr(self, field), (3,), field))


@dataclass(frozen=True)
class Trajectories:
    """TRAJ: a list of trajectories."""

    TYPE: ClassVar[str] = "TRAJ"
    elements: Sequence[Trajectory]

    def pack(self) -> list[Part]:
        """The body."""
        parts: list[Part] = []
        for one in self.elements:
            kind = BOTH if one.entry_mm is not None and one.target_mm is not None else ENTRY_ONLY
            kind = TARGET_ONLY if one.entry_mm is None else kind
            zero = np.zeros(3)
            head = _TRAJECTORY.pack(
                packed_text(one.name, 64, "the trajectory's name"), packed_text(one.group, 32, "the group"), kind, 0,
                *one.rgba,
            )  # fmt: skip
            entry = zero if one.entry_mm is None else one.entry_mm
            target = zero if one.target_mm is None else one.target_mm
            owner = packed_text(one.owner, 20, "the owner")
            parts.append(head + packed_floats([*entry, *target, one.diameter_mm]) + owner)
        return parts

    @classmethod
    def unpack(cls, body: Bytes) -> Self:
        """From a body. Raises BadContent."""
        require_multiple(body, 150, "TRAJ")
        out = []
        for at in range(0, len(body), 150):
            name, group, kind, _, *rgba = _TRAJECTORY.unpack_from(body, at)
            if kind not in (ENTRY_ONLY, TARGET_ONLY, BOTH):
                raise BadContent(f"TRAJ has an element of type {kind}; 1, 2 or 3")
            values = floats(body, 7, at + 102)
            if not math.isfinite(values[6]):
                raise BadContent("TRAJ has a diameter that is not finite")
            out.append(
                Trajectory(
                    read_text(name),
                    None if kind == TARGET_ONLY else values[:3],
                    None if kind == ENTRY_ONLY else values[3:6],
                    float(values[6]),
                    read_text(group),
                    read_text(body[at + 130 : at + 150]),
                    (rgba[0], rgba[1], rgba[2], rgba[3]),
                )
            )
        return cls(tuple(out))
