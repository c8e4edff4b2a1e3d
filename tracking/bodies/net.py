"""Faces of a solid unfolded into pieces of paper that fit a page: fold lines, glue tabs, letters that find a mate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spatial.rigid import Array
from tracking.bodies.shapes import Solid

TAB_MM = 8.0
TABS = ((TAB_MM, 1.0), (TAB_MM, 1.5), (6.0, 1.5))  # depth mm, how far an end is drawn in for a mm of depth
TOLERANCE_MM = 1e-6
Edge = tuple[int, int]  # face, number of its first corner


@dataclass(frozen=True, eq=False)
class Piece:
    """Flat faces (k, 2) mm by number (y up, seen from outside), markers (4, 2) mm by id, and what to do with edges.

    `tabs` are (polygon (4, 2), letter); `folds` and `cuts` are lines (2, 2); `mates` are (middle (2,), inward unit
    (2,), letter): where the tab with the same letter goes under.
    """

    faces: dict[int, Array]
    markers: dict[int, Array]
    folds: tuple[Array, ...]
    cuts: tuple[Array, ...]
    tabs: tuple[tuple[Array, str], ...]
    mates: tuple[tuple[Array, Array, str], ...]

    @property
    def box_mm(self) -> tuple[Array, Array]:
        """Low and high corner, tabs included."""
        every = np.concatenate([*self.faces.values(), *(tab for tab, _ in self.tabs)])
        return every.min(axis=0), every.max(axis=0)

    def moved(self, turn: Array, shift: Array) -> Piece:
        """Turned (2, 2) and shifted (2,)."""

        def move(points: Array) -> Array:
            return np.asarray(points @ turn.T + shift)

        return Piece(
            {face: move(p) for face, p in self.faces.items()}, {m: move(p) for m, p in self.markers.items()},
            tuple(map(move, self.folds)), tuple(map(move, self.cuts)), tuple((move(p), text) for p, text in self.tabs),
            tuple((move(p), inward @ turn.T, text) for p, inward, text in self.mates),
        )  # fmt: skip


def unfold(solid: Solid, width_mm: float, height_mm: float) -> list[Piece]:
    """Pieces that each fit width x height (either way round) with their tabs; [] when a face alone does not fit."""
    faces = solid.faces_mm
    neighbours = _neighbours(faces)
    room = (width_mm - 2 * TAB_MM, height_mm - 2 * TAB_MM)
    left = set(range(len(faces)))
    groups: list[dict[int, Array]] = []
    while left:
        group = {min(left): _flat(faces[min(left)])}
        if not _fits(group, room):
            return []
        left -= set(group)
        while True:
            options = []
            for face, placed in group.items():
                for k in range(len(placed)):
                    beside = neighbours.get((face, k))
                    if beside is None or beside[0] not in left:
                        continue
                    laid = _attach(faces[beside[0]], beside[1], placed[k], placed[(k + 1) % len(placed)])
                    grown = group | {beside[0]: laid}
                    if _fits(grown, room) and not any(_overlap(laid, other) for other in group.values()):
                        options.append((_spread(grown), beside[0], laid))
            if not options:
                break
            _, face, laid = min(options, key=lambda option: option[:2])
            group[face] = laid
            left.discard(face)
        groups.append(group)
    return _finish(solid, groups, neighbours)


def _finish(solid: Solid, groups: list[dict[int, Array]], neighbours: dict[Edge, Edge]) -> list[Piece]:
    """Folds within the pieces; for every other pair of edges a tab on one side, and its letter on the other."""
    where = {face: number for number, group in enumerate(groups) for face in group}
    tabs: list[list[tuple[Array, str]]] = [[] for _ in groups]
    mates: list[list[tuple[Array, Array, str]]] = [[] for _ in groups]
    folds: list[list[Array]] = [[] for _ in groups]
    cuts: list[list[Array]] = [[] for _ in groups]
    letters = 0
    for edge, beside in sorted(neighbours.items()):
        if edge > beside:
            continue
        lines = [_edge_of(groups[where[face]][face], k) for face, k in (edge, beside)]
        if where[edge[0]] == where[beside[0]] and np.abs(lines[0] - lines[1][::-1]).max() < 1e-3:
            folds[where[edge[0]]].append(lines[0])
            continue
        letter = _letter(letters)
        letters += 1
        bears = None
        for deep, slant in TABS:  # between two petals of a flower only a slender one has room
            for (face, _), line in zip((edge, beside), lines, strict=True):
                tab = _tab(line, deep, slant)
                others = [*groups[where[face]].values(), *(t for t, _ in tabs[where[face]])]
                if bears is None and not any(_overlap(tab, other) for other in others):
                    bears = face
                    tabs[where[face]].append((tab, letter))
        for (face, _), line in zip((edge, beside), lines, strict=True):
            if face == bears:
                folds[where[face]].append(line)
            else:
                cuts[where[face]].append(line)
                normal = np.array([line[0, 1] - line[1, 1], line[1, 0] - line[0, 0]])
                mates[where[face]].append((line.mean(axis=0), normal / np.linalg.norm(normal), letter))
    for face, polygon in enumerate(solid.faces_mm):  # edges of an open solid
        for k in range(len(polygon)):
            if (face, k) not in neighbours:
                cuts[where[face]].append(_edge_of(groups[where[face]][face], k))
    pieces = []
    for number, group in enumerate(groups):
        markers = {}
        for marker, corners in solid.body.corners_mm.items():
            for face, flat in group.items():
                centred = corners.mean(axis=0) - solid.faces_mm[face].mean(axis=0)
                if np.linalg.norm(centred) < 1e-6:
                    markers[marker] = _carry(corners, solid.faces_mm[face], flat)
        pieces.append(
            Piece(dict(group), markers, tuple(folds[number]), tuple(cuts[number]), tuple(tabs[number]),
                  tuple(mates[number]))
        )  # fmt: skip
    return pieces


def _neighbours(faces: Sequence[Array]) -> dict[Edge, Edge]:
    """For each edge the edge of another face that runs the other way between the same corners."""
    out: dict[Edge, Edge] = {}
    edges = [(f, k, face[k], face[(k + 1) % len(face)]) for f, face in enumerate(faces) for k in range(len(face))]
    for f, k, a, b in edges:
        for g, m, c, d in edges:
            if f != g and np.abs(a - d).max() < 1e-6 and np.abs(b - c).max() < 1e-6:
                out[f, k] = (g, m)
    return out


def _plane(face: Array) -> tuple[Array, Array]:
    x = (face[1] - face[0]) / np.linalg.norm(face[1] - face[0])
    normal = np.cross(face[1] - face[0], face[2] - face[1])
    return x, np.cross(normal / np.linalg.norm(normal), x)


def _flat(face: Array) -> Array:
    x, y = _plane(face)
    return np.stack([(face - face[0]) @ x, (face - face[0]) @ y], axis=1)


def _carry(points: Array, face: Array, flat: Array) -> Array:
    """Points (n, 3) of a face's plane to where the face lies flat."""
    x, y = _plane(face)
    local = np.stack([(points - face[0]) @ x, (points - face[0]) @ y], axis=1)
    along = (flat[1] - flat[0]) / np.linalg.norm(flat[1] - flat[0])
    return np.asarray(flat[0] + local[:, :1] * along + local[:, 1:] * np.array([-along[1], along[0]]))


def _attach(face: Array, edge: int, start: Array, stop: Array) -> Array:
    """The face laid flat so that its edge runs from `stop` to `start`, on the far side of that line."""
    flat = np.roll(_flat(face), -edge, axis=0)
    along = (flat[1] - flat[0]) / np.linalg.norm(flat[1] - flat[0])
    across = np.array([-along[1], along[0]])
    local = np.stack([(flat - flat[0]) @ along, (flat - flat[0]) @ across], axis=1)
    to = (start - stop) / np.linalg.norm(start - stop)
    laid = stop + local[:, :1] * to + local[:, 1:] * np.array([-to[1], to[0]])
    return np.roll(laid, edge, axis=0)


def _edge_of(polygon: Array, k: int) -> Array:
    return np.stack([polygon[k], polygon[(k + 1) % len(polygon)]])


def _tab(line: Array, deep_mm: float, slant: float) -> Array:
    """A trapezium outside the edge (its face lies to the left of the line), its ends drawn in by `slant` x depth."""
    along = line[1] - line[0]
    length = float(np.linalg.norm(along))
    along = along / length
    out = np.array([along[1], -along[0]])
    deep = min(deep_mm, 0.4 * length / slant)
    inset = deep * slant * along
    return np.stack([line[0], line[0] + deep * out + inset, line[1] + deep * out - inset, line[1]])


def _overlap(a: Array, b: Array) -> bool:
    """Whether two convex polygons share more than their rims (separating axes)."""
    for polygon in (a, b):
        for side in np.roll(polygon, -1, axis=0) - polygon:
            normal = np.array([side[1], -side[0]]) / np.linalg.norm(side)
            p, q = a @ normal, b @ normal
            if p.max() <= q.min() + TOLERANCE_MM + 1e-4 or q.max() <= p.min() + TOLERANCE_MM + 1e-4:
                return False
    return True


def _extent(group: dict[int, Array]) -> Array:
    every = np.concatenate(list(group.values()))
    return np.asarray(np.ptp(every, axis=0))


def _fits(group: dict[int, Array], room: tuple[float, float]) -> bool:
    w, h = _extent(group)
    return bool((w <= room[0] and h <= room[1]) or (w <= room[1] and h <= room[0]))


def _spread(group: dict[int, Array]) -> float:
    return round(float(np.linalg.norm(_extent(group))), 3)


def _letter(number: int) -> str:
    return chr(ord("A") + number % 26) + (str(number // 26) if number >= 26 else "")


def turned(piece: Piece, quarter: bool) -> Piece:
    """As it is, or a quarter turned; its low corner at the origin."""
    angle = math.pi / 2 if quarter else 0.0
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    there = piece.moved(turn, np.zeros(2))
    return there.moved(np.eye(2), -there.box_mm[0])
