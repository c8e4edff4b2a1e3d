"""Bodies that are built, not only printed flat: cubes, dodecahedra, tools with a prism of plates round their shaft.

A closed body shows two or more faces from anywhere, so its pose has no second solution and its depth is known better.
Frames: origin in the middle of the solid, z up through the first face (cube, dodecahedron) or along the shaft away from
the tip (tool). Built from paper they are true to some tenths of a millimetre: `osteotwin calibrate body` measures them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from spatial.rigid import Array, rotation_exp
from tracking.bodies.body import BadBody, Body
from tracking.synthetic.plates import pattern

GOLDEN = (1 + math.sqrt(5)) / 2
ROOM = 0.92  # of the largest marker that a face can bear: room for letters along the folds


@dataclass(frozen=True, eq=False)
class Solid:
    """A body and the faces (k, 3) mm that bear its markers, corners counter-clockwise seen from outside."""

    body: Body[Any]
    faces_mm: tuple[Array, ...]


def cube(name: str, dictionary: str, ids: Sequence[int], edge_mm: float, size_mm: float | None = None) -> Solid:
    """Up to six markers: top, then the four sides (front -y, right, back, left), then the bottom. Raises BadBody."""
    h = _edge(edge_mm) / 2
    square = np.array([[-h, -h, h], [h, -h, h], [h, h, h], [-h, h, h]])
    down = rotation_exp([math.pi / 2, 0, 0])  # the top face turned to the front, its upper side still up
    front = square @ down.T
    sides = [front @ rotation_exp([0, 0, k * math.pi / 2]).T for k in range(4)]
    faces = [square, *sides, square @ rotation_exp([math.pi, 0, 0]).T]
    ups = [np.array([0.0, 1, 0]), *[np.array([0.0, 0, 1])] * 4, np.array([0.0, -1, 0])]
    return _solid(name, dictionary, ids, faces, ups, size_mm)


def dodecahedron(name: str, dictionary: str, ids: Sequence[int], edge_mm: float, size_mm: float | None = None) -> Solid:
    """Up to twelve markers: top, the upper five, the lower five, the bottom. Raises BadBody."""
    _edge(edge_mm)
    latitude = math.atan(0.5)  # of the upper five faces' normals, as the vertices of an icosahedron lie
    normals = [np.array([0.0, 0, 1])]
    for ring, start in ((1.0, -0.5), (-1.0, -0.3)):  # in turns: an upper face to the front, the lower ones between
        for k in range(5):
            turn = 2 * math.pi * (start / 2 + k / 5)
            normals.append(np.array([math.cos(turn), math.sin(turn), ring * math.tan(latitude)]) * math.cos(latitude))
    normals.append(np.array([0.0, 0, -1]))
    inradius = edge_mm * GOLDEN**2 / (2 * math.sqrt(3 - GOLDEN))
    faces, ups = [], []
    for n in normals:
        near = sorted(normals, key=lambda other: -float(other @ n))[1:6]
        # a corner is where a face meets two neighbours that are neighbours themselves
        corners = [
            np.linalg.solve(np.stack([n, a, b]), np.full(3, inradius))
            for i, a in enumerate(near)
            for b in near[i + 1 :]
            if a @ b > 0.3
        ]
        faces.append(_round(np.array(corners), n))
        rising = np.array([0.0, 0, 1]) - n[2] * n
        ups.append(_straight(faces[-1], n, rising if np.linalg.norm(rising) > 0.1 else np.array([0.0, 1, 0])))
    return _solid(name, dictionary, ids, faces, ups, size_mm)


def tool(
    name: str, dictionary: str, ids: Sequence[int], edge_mm: float, size_mm: float | None = None,
    *, sides: int = 6, rows: int = 1, reach_mm: float = 150.0,
) -> Solid:  # fmt: skip
    """A prism of `sides` plates round a shaft, `rows` markers high; the tip `reach_mm` below its lower end.

    `edge_mm` is a plate's width, and the height of a row. The tip and the axis are nominal: calibrate them.
    Raises BadBody.
    """
    _edge(edge_mm)
    if not 3 <= sides <= 24 or not 1 <= rows <= 10 or not (math.isfinite(reach_mm) and reach_mm > 0):
        raise BadBody(f"{sides} sides, {rows} rows, tip {reach_mm} mm away; 3 to 24, 1 to 10 and above zero are known")
    if len(ids) > sides * rows:
        raise BadBody(f"{len(ids)} ids for {sides * rows} places ({sides} sides, {rows} rows)")
    apothem = edge_mm / (2 * math.tan(math.pi / sides))
    faces, ups = [], []
    for row in range(rows):
        high = edge_mm * (rows / 2 - row)
        for side in range(sides):
            w = edge_mm / 2
            plate = np.array([[-w, -apothem, high - edge_mm], [w, -apothem, high - edge_mm], [w, -apothem, high],
                              [-w, -apothem, high]])  # fmt: skip
            faces.append(plate @ rotation_exp([0, 0, 2 * math.pi * side / sides]).T)
            ups.append(np.array([0.0, 0, 1]))
    tip = np.array([0.0, 0, -edge_mm * rows / 2 - reach_mm])
    return _solid(name, dictionary, ids, faces, ups, size_mm, tip)


def largest_mm(face_mm: Array, up: Array, cells: int) -> float:
    """Edge of the largest marker of `cells` cells that a convex face bears, centred, with a cell of white around."""
    centre = face_mm.mean(axis=0)
    normal = _normal(face_mm)
    right = np.cross(up, normal)
    most = math.inf
    for a, b in zip(face_mm, np.roll(face_mm, -1, axis=0), strict=True):
        out = np.cross(b - a, normal)
        out /= np.linalg.norm(out)
        reach = 0.5 * (abs(float(out @ right)) + abs(float(out @ up)))  # of a square of edge one
        most = min(most, float((a - centre) @ out) / reach)
    return most * cells / (cells + 2)


def _solid(
    name: str, dictionary: str, ids: Sequence[int], faces: Sequence[Array], ups: Sequence[Array],
    size_mm: float | None, tip_mm: Array | None = None,
) -> Solid:  # fmt: skip
    if not 1 <= len(ids) <= len(faces):
        raise BadBody(f"{len(ids)} ids; {name} has {len(faces)} faces, and needs at least one marker")
    if len(set(ids)) != len(ids):
        raise BadBody(f"an id of {name} is there twice: {', '.join(map(str, ids))}")
    cells = len(pattern(dictionary, ids[0]))
    most = min(largest_mm(face, up, cells) for face, up in zip(faces, ups, strict=True))
    size = math.floor(2 * ROOM * most) / 2 if size_mm is None else size_mm
    if not (math.isfinite(size) and 0 < size <= most + 1e-9):
        raise BadBody(f"markers of {size:g} mm; a face bears at most {most:.1f} mm with a cell of white around")
    corners = {}
    for marker, face, up in zip(ids, faces, ups, strict=False):
        pattern(dictionary, marker)  # refuses an id that the dictionary lacks
        centre, right = face.mean(axis=0), np.cross(up, _normal(face))
        corners[marker] = centre + size / 2 * np.array([up - right, up + right, right - up, -up - right])
    axis = None if tip_mm is None else np.array([0.0, 0, -1])
    return Solid(Body(name, dictionary, corners, tip_mm, axis), tuple(faces))


def _edge(edge_mm: float) -> float:
    if not (math.isfinite(edge_mm) and edge_mm > 0):
        raise BadBody(f"an edge of {edge_mm} mm; it must be above zero")
    return edge_mm


def _normal(face: Array) -> Array:
    normal = np.cross(face[1] - face[0], face[2] - face[1])
    return np.asarray(normal / np.linalg.norm(normal))


def _round(corners: Array, normal: Array) -> Array:
    """Corners of a face in counter-clockwise order seen from outside."""
    arms = corners - corners.mean(axis=0)
    first = arms[0] / np.linalg.norm(arms[0])
    return np.asarray(corners[np.argsort(np.arctan2(arms @ np.cross(normal, first), arms @ first))])


def _straight(face: Array, normal: Array, toward: Array) -> Array:
    """The unit direction out of an edge of the face (so the marker stands on one) that is nearest to `-toward`, up."""
    best, most = toward, -math.inf
    for a, b in zip(face, np.roll(face, -1, axis=0), strict=True):
        inward = np.cross(normal, b - a)
        inward /= np.linalg.norm(inward)
        if inward @ toward > most:
            best, most = inward, float(inward @ toward)
    return best
