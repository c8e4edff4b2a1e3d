"""Poses on the wire: TRANSFORM, TDATA, QTDATA, POSITION.

A matrix (3, 4) maps the tool's coordinates to the tracker's, mm. Matrices and quaternions stay as they came: whether
one is a rotation is judged where a pose is made of it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike

from interop.openigtlink.fields import (
    BadContent,
    Bytes,
    Part,
    floats,
    frozen,
    matrix_bytes,
    packed_floats,
    packed_text,
    read_matrix,
    read_text,
    require_multiple,
    require_size,
)  # fmt: skip
from spatial.rigid import Array, rotation_from_quaternion

TRACKER, TOOL_6D, TOOL_3D, TOOL_5D = 1, 2, 3, 4
_TOOL = struct.Struct(">20sBB")


def _matrix_of(position_mm: Array, quaternion_xyzw: Array) -> Array:
    if not np.linalg.norm(quaternion_xyzw) > 1e-6:
        raise BadContent("a quaternion of length zero")
    rotation = rotation_from_quaternion(np.roll(quaternion_xyzw, 1))
    return np.column_stack([rotation, position_mm])


@dataclass(frozen=True, eq=False)
class Transform:
    """TRANSFORM: one matrix (3, 4)."""

    TYPE: ClassVar[str] = "TRANSFORM"
    matrix: Array

    def __post_init__(self) -> None:
        """Check and freeze."""
        object.__setattr__(self, "matrix", frozen(self.matrix, (3, 4), "a matrix"))

    def pack(self) -> list[Part]:
        """The body."""
        return [matrix_bytes(self.matrix)]

    @classmethod
    def unpack(cls, body: Bytes) -> Self:
        """From a body. Raises BadContent."""
        require_size(body, (48,), "TRANSFORM")
        return cls(read_matrix(body))


@dataclass(frozen=True, eq=False)
class Tool:
    """One tool of TDATA: name, kind (1 tracker, 2 all six degrees, 3 tip only, 4 tip and axis), matrix (3, 4)."""

    name: str
    matrix: Array
    kind: int = TOOL_6D

    def __post_init__(self) -> None:
        """Check and freeze."""
        object.__setattr__(self, "matrix", frozen(self.matrix, (3, 4), "a matrix"))


@dataclass(frozen=True)
class TrackingData:
    """TDATA: all tools that the tracker saw at one instant."""

    TYPE: ClassVar[str] = "TDATA"
    tools: tuple[Tool, ...]

    def pack(self) -> list[Part]:
        """The body."""
        return [
            _TOOL.pack(packed_text(t.name, 20, "the tool's name"), t.kind, 0) + matrix_bytes(t.matrix)
            for t in self.tools
        ]

    @classmethod
    def unpack(cls, body: Bytes) -> Self:
        """From a body. Raises BadContent."""
        require_multiple(body, 70, "TDATA")
        tools = []
        for at in range(0, len(body), 70):
            name, kind, _ = _TOOL.unpack_from(body, at)
            tools.append(Tool(read_text(name), read_matrix(body, at + 22), kind))
        return cls(tuple(tools))


@dataclass(frozen=True, eq=False)
class QuaternionTool:
    """One tool of QTDATA: position (3,) mm and quaternion (x, y, z, w)."""

    name: str
    position_mm: Array
    quaternion_xyzw: Array
    kind: int = TOOL_6D

    def __post_init__(self) -> None:
        """Check and freeze."""
        object.__setattr__(self, "position_mm", frozen(self.position_mm, (3,), "a position"))
        object.__setattr__(self, "quaternion_xyzw", frozen(self.quaternion_xyzw, (4,), "a quaternion"))

    @property
    def matrix(self) -> Array:
        """The same as (3, 4). Raises BadContent for a quaternion of length zero."""
        return _matrix_of(self.position_mm, self.quaternion_xyzw)


@dataclass(frozen=True)
class QuaternionTrackingData:
    """QTDATA: as TDATA, with quaternions."""

    TYPE: ClassVar[str] = "QTDATA"
    tools: tuple[QuaternionTool, ...]

    def pack(self) -> list[Part]:
        """The body."""
        return [
            _TOOL.pack(packed_text(t.name, 20, "the tool's name"), t.kind, 0)
            + packed_floats(np.concatenate([t.position_mm, t.quaternion_xyzw]))
            for t in self.tools
        ]

    @classmethod
    def unpack(cls, body: Bytes) -> Self:
        """From a body. Raises BadContent."""
        require_multiple(body, 50, "QTDATA")
        tools = []
        for at in range(0, len(body), 50):
            name, kind, _ = _TOOL.unpack_from(body, at)
            values = floats(body, 7, at + 22)
            tools.append(QuaternionTool(read_text(name), values[:3], values[3:], kind))
        return cls(tuple(tools))


@dataclass(frozen=True, eq=False)
class Position:
    """POSITION: a place (3,) mm, and as much of a turn as was sent.

    `quaternion` has four numbers (x, y, z, w), three (w is then what makes it a unit, not negative), or none.
    """

    TYPE: ClassVar[str] = "POSITION"
    position_mm: Array
    quaternion: Array | None = None

    def __post_init__(self) -> None:
        """Check and freeze."""
        object.__setattr__(self, "position_mm", frozen(self.position_mm, (3,), "a position"))
        if self.quaternion is not None:
            n = 3 if np.shape(self.quaternion) == (3,) else 4
            object.__setattr__(self, "quaternion", frozen(self.quaternion, (n,), "a quaternion"))

    @property
    def matrix(self) -> Array | None:
        """As (3, 4); None without a turn. Raises BadContent for a quaternion that is none."""
        if self.quaternion is None:
            return None
        q: ArrayLike = self.quaternion
        if len(self.quaternion) == 3:
            rest = 1.0 - float(self.quaternion @ self.quaternion)
            if rest < -1e-5:
                raise BadContent(f"three numbers of a unit quaternion have length {np.sqrt(1 - rest):.3f}, over 1")
            q = [*self.quaternion, np.sqrt(max(rest, 0.0))]
        return _matrix_of(self.position_mm, np.asarray(q))

    def pack(self) -> list[Part]:
        """The body: 12, 24 or 28 bytes."""
        turn = () if self.quaternion is None else self.quaternion
        return [packed_floats([*self.position_mm, *turn])]

    @classmethod
    def unpack(cls, body: Bytes) -> Self:
        """From a body. Raises BadContent."""
        require_size(body, (12, 24, 28), "POSITION (pyigtl packs it as a list of points, which no other program reads)")
        values = floats(body, len(body) // 4)
        return cls(values[:3], values[3:] if len(values) > 3 else None)
