"""Shapes made here to be drawn: screws, planes, balls, rods and arrows; each is made once, so the GPU has it once.

They stand along +z in a frame of their own; `pose_along` puts them on an axis of the world.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from spatial.frames import Frame
from spatial.mesh import TriangleMesh
from spatial.rigid import Array, Rigid

_SEGMENTS = 18
_HEAD_RADIUS_MM = 6.0
_HEAD_TOP_MM = -14.5
_SEAT_MM = -6.5
_SLOT_MM = 5.6  # a 5.5 mm rod lies in it, along y
_PITCH_MM = 2.7
_TAPER_MM = 7.0


class Solid(Frame):
    """The frame of a shape: it stands along +z, its foot (a screw's entry point) at the origin."""


@lru_cache(maxsize=256)
def screw_mesh(diameter_mm: float, length_mm: float) -> TriangleMesh[Solid]:
    """A pedicle screw: entry at the origin, tip at z = length, outer thread `diameter_mm`; its slot runs along y."""
    pieces = [_thread(diameter_mm / 2.0, length_mm)]
    neck_mm = min(0.42 * diameter_mm, 3.2)
    pieces.append(_turned([(-2.6, neck_mm * 0.95), (0.3, neck_mm)]))
    pieces.append(_turned([(_SEAT_MM, _HEAD_RADIUS_MM), (-4.2, _HEAD_RADIUS_MM), (-1.9, 4.6), (-1.6, 3.4)]))
    pieces.extend(_tulip_wall(side) for side in (-1.0, 1.0))
    return _joined(pieces)


@lru_cache(maxsize=64)
def rod_mesh(diameter_mm: float, length_mm: float) -> TriangleMesh[Solid]:
    """A round bar from the origin to z = length, its edges broken."""
    r = diameter_mm / 2.0
    b = min(0.25 * r, 0.25 * length_mm)
    return _turned([(0.0, r - b), (b, r), (length_mm - b, r), (length_mm, r - b)])


@lru_cache(maxsize=64)
def cylinder_mesh(diameter_mm: float, length_mm: float) -> TriangleMesh[Solid]:
    """A plain cylinder from the origin to z = length: a screw's envelope, to be cut by a slice."""
    return _turned([(0.0, diameter_mm / 2.0), (length_mm, diameter_mm / 2.0)], segments=48)


@lru_cache(maxsize=64)
def drill_mesh(diameter_mm: float, length_mm: float) -> TriangleMesh[Solid]:
    """A drill whose tip is the origin and which stands along +z, with a handle behind `length_mm`."""
    r = diameter_mm / 2.0
    bit = _turned([(0.0, 0.02), (1.2 * r, r), (length_mm, r)])
    handle = _turned(
        [
            (length_mm - 2.0, 1.6 * r),
            (length_mm, 9.0),
            (length_mm + 6.0, 11.0),
            (length_mm + 80.0, 12.0),
            (length_mm + 86.0, 9.0),
        ]
    )
    return _joined([bit, handle])


@lru_cache(maxsize=16)
def arrow_mesh(length_mm: float) -> TriangleMesh[Solid]:
    """An arrow from the origin to z = length."""
    r = length_mm
    return _turned([(0.0, 0.02 * r), (0.78 * r, 0.02 * r), (0.78 * r, 0.055 * r), (length_mm, 0.001 * r)])


@lru_cache(maxsize=16)
def ball_mesh(radius_mm: float) -> TriangleMesh[Solid]:
    """A ball about the origin."""
    angles = np.linspace(0.0, np.pi, 15)[1:-1]
    return _turned(
        [(-radius_mm * float(np.cos(a)), radius_mm * float(np.sin(a))) for a in angles], pointed_mm=radius_mm
    )


def tube_mesh(points_mm: Array, radius_mm: float) -> TriangleMesh[Any]:
    """A tube along a polyline (N, 3), closed at its ends; its rings are carried along without twist.

    Wang et al., ACM Transactions on Graphics 27 (2008) 2: rotation-minimising frames, here by projection.
    """
    n = _SEGMENTS
    ways = np.diff(points_mm, axis=0)
    ways = ways / np.linalg.norm(ways, axis=1, keepdims=True)
    at = np.vstack([ways[:1], ways[1:] + ways[:-1], ways[-1:]])
    at = at / np.linalg.norm(at, axis=1, keepdims=True)
    side = np.eye(3)[int(np.argmin(np.abs(at[0])))]
    angles = np.arange(n) * 2 * np.pi / n
    rings = []
    for point, way in zip(points_mm, at, strict=True):
        side = side - (side @ way) * way
        side = side / np.linalg.norm(side)
        other = np.cross(way, side)
        rings.append(point + radius_mm * (np.cos(angles)[:, None] * side + np.sin(angles)[:, None] * other))
    vertices = np.concatenate([*rings, points_mm[:1], points_mm[-1:]])
    foot, top, end = len(vertices) - 2, len(vertices) - 1, (len(points_mm) - 1) * n
    faces = []
    for k in range(len(points_mm) - 1):
        for i in range(n):
            a, b = k * n + i, k * n + (i + 1) % n
            faces += [(a, b, b + n), (a, b + n, a + n)]
    for i in range(n):
        j = (i + 1) % n
        faces += [(foot, j, i), (top, end + i, end + j)]
    return _mesh(vertices, faces)


@lru_cache(maxsize=1)
def square_mesh() -> TriangleMesh[Solid]:
    """The square from -1 to 1 in x and y, facing +z: scale it with a Similarity."""
    return _mesh([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]], [(0, 1, 2), (0, 2, 3)])


@lru_cache(maxsize=1)
def cube_mesh() -> TriangleMesh[Solid]:
    """The cube from -1 to 1."""
    v = [[x, y, z] for z in (-1, 1) for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
    quads = ((0, 3, 2, 1), (4, 5, 6, 7), (0, 1, 5, 4), (1, 2, 6, 5), (2, 3, 7, 6), (3, 0, 4, 7))
    return _mesh(v, [t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))])


def pose_along(foot_mm: Array, direction: Array, roll_toward: Array) -> Rigid[Any, Solid]:
    """World from solid: the foot at `foot_mm`, +z along `direction` (3,), +y as near to `roll_toward` as can be."""
    z = direction / np.linalg.norm(direction)
    y = roll_toward - (roll_toward @ z) * z
    if float(np.linalg.norm(y)) < 1e-6:
        other = np.eye(3)[int(np.argmin(np.abs(z)))]
        y = other - (other @ z) * z
    y = y / np.linalg.norm(y)
    return Rigid[Any, Solid](np.column_stack([np.cross(y, z), y, z]), foot_mm)


def _turned(
    profile: list[tuple[float, float]], pointed_mm: float | None = None, segments: int = _SEGMENTS
) -> TriangleMesh[Solid]:
    """A profile of (z, radius) turned about z, closed at both ends (at z = -+pointed_mm where given)."""
    n = segments
    angles = np.arange(n) * 2 * np.pi / n
    rings = [np.column_stack([r * np.cos(angles), r * np.sin(angles), np.full(n, z)]) for z, r in profile]
    first, last = (profile[0][0], profile[-1][0]) if pointed_mm is None else (-pointed_mm, pointed_mm)
    vertices = np.concatenate([*rings, [[0.0, 0.0, first]], [[0.0, 0.0, last]]])
    faces = []
    for k in range(len(profile) - 1):
        for i in range(n):
            a, b = k * n + i, k * n + (i + 1) % n
            faces += [(a, b, b + n), (a, b + n, a + n)]
    foot, top, end = len(vertices) - 2, len(vertices) - 1, (len(profile) - 1) * n
    for i in range(n):
        j = (i + 1) % n
        faces += [(foot, j, i), (top, end + i, end + j)]
    return _mesh(vertices, faces)


def _thread(radius_mm: float, length_mm: float) -> TriangleMesh[Solid]:
    """A threaded shaft whose rows of vertices follow the helix, so that few of them draw a crisp crest."""
    n = _SEGMENTS
    core_mm = 0.70 * radius_mm
    profile = ((0.0, core_mm), (0.30, core_mm * 1.02), (0.58, radius_mm), (0.72, radius_mm))  # share of a pitch, radius
    rows = len(profile)
    turns = int(np.ceil(length_mm / _PITCH_MM)) + 2
    vertices = np.empty((turns * rows, n, 3))
    angles = np.arange(n) * 2 * np.pi / n
    for row in range(turns * rows):
        share, r = profile[row % rows]
        z = np.clip(_PITCH_MM * (row // rows - 1 + share + np.arange(n) / n), 0.0, length_mm - 0.6)
        left_mm = (length_mm - z) / _TAPER_MM
        taper = np.where(left_mm < 1.0, np.sqrt(np.clip(left_mm * (2.0 - left_mm), 0.0, 1.0)), 1.0)
        vertices[row] = np.column_stack([r * taper * np.cos(angles), r * taper * np.sin(angles), z])
    faces = []
    for row in range(turns * rows - rows - 1):
        for i in range(n):
            a = row * n + i
            b = a + 1 if i + 1 < n else (row + rows) * n  # after one turn the helix stands one pitch higher
            faces += [(a, b, b + n), (a, b + n, a + n)]
    flat = vertices.reshape(-1, 3)
    tip = len(flat)
    last = (turns * rows - rows - 1) * n
    faces += [(last + i, last + (i + 1) % n, tip) for i in range(n)]
    kept = np.array(faces)
    a, b, c = (np.concatenate([flat, [[0.0, 0.0, length_mm]]])[kept[:, i]] for i in range(3))
    kept = kept[np.linalg.norm(np.cross(b - a, c - a), axis=1) > 1e-6]
    return TriangleMesh(np.concatenate([flat, [[0.0, 0.0, length_mm]]]), kept.astype(np.int32))


def _tulip_wall(side: float) -> TriangleMesh[Solid]:
    """One of the two walls between which the rod lies: a segment of a disc, upright."""
    half = np.arccos(_SLOT_MM / 2 / _HEAD_RADIUS_MM)
    angles = np.linspace(-half, half, 11)
    outline = np.column_stack([side * _HEAD_RADIUS_MM * np.cos(angles), side * _HEAD_RADIUS_MM * np.sin(angles)])
    n = len(outline)
    low = np.column_stack([outline, np.full(n, _SEAT_MM + 0.5)])
    high = np.column_stack([outline, np.full(n, _HEAD_TOP_MM)])
    faces = []
    for i in range(n):
        j = (i + 1) % n
        faces += [(j, i, i + n), (j, i + n, j + n)]
    for i in range(1, n - 1):
        faces += [(0, i, i + 1), (n, n + i + 1, n + i)]
    return _mesh(np.concatenate([low, high]), faces)


def _mesh(vertices: ArrayLike, faces: list[tuple[int, int, int]]) -> TriangleMesh[Solid]:
    return TriangleMesh(np.asarray(vertices, dtype=np.float64), np.asarray(faces, dtype=np.int32))


def _joined(pieces: list[TriangleMesh[Solid]]) -> TriangleMesh[Solid]:
    starts = np.cumsum([0, *(len(p.vertices_mm) for p in pieces)])
    return TriangleMesh(
        np.concatenate([p.vertices_mm for p in pieces]),
        np.concatenate([p.triangles + int(s) for p, s in zip(pieces, starts, strict=False)]),
    )
