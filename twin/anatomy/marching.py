"""Marching cubes in one pass over the voxels that matter: where a field crosses a level, as a closed oriented mesh.

The table of the 256 cells is derived, not copied: on an ambiguous face the inner corners stay apart, and no diagonal
lies in a cell's face. So every edge borders two triangles and every vertex has one fan (Lorensen and Cline 1987;
Nielson and Hamann 1991 for the faces).
"""

from __future__ import annotations

from functools import cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from spatial.compiled import njit
from spatial.rigid import Array

# corner c of a cell stands at (x, y, z) = bits 0, 1, 2 of c; edges are pairs of corners along x, then y, then z
_EDGES = tuple((c, c | 1 << axis) for axis in range(3) for c in range(8) if not c >> axis & 1)
_FACES = tuple(
    tuple(
        side << axis | a << (axis + 1) % 3 | b << (axis + 2) % 3
        for a, b in (((0, 0), (1, 0), (1, 1), (0, 1)) if side else ((0, 0), (0, 1), (1, 1), (1, 0)))
    )
    for axis, side in product(range(3), (0, 1))
)  # rings counter-clockwise seen from outside the cell
_MOST = 5  # triangles a cell


def contour(field: NDArray[np.float32], level: float) -> tuple[Array, NDArray[np.int32]]:
    """Vertices (N, 3) in index order x, y, z and triangles (M, 3) seen from the side below `level`.

    `field` (z, y, x) must lie below the level on all six faces of the array: pad it. Values on the level are inside.
    """
    corners, triangles = _table()
    rows = _rows(field, np.float32(level))
    points, count = _count(field, np.float32(level), rows, triangles)
    vertices = np.empty((points, 3))
    faces = np.empty((count, 3), dtype=np.int32)
    _march(field, np.float32(level), rows, corners, triangles, vertices, faces)
    return vertices, faces


@cache
def _table() -> tuple[NDArray[np.int64], NDArray[np.int8]]:
    """Offsets of each edge's lower corner with its axis (12, 4), and the edges of each cell's triangles (256, 16): the
    first entry is their number.
    """
    edges = {frozenset(pair): n for n, pair in enumerate(_EDGES)}
    offsets = np.array([[a & 1, a >> 1 & 1, a >> 2, (a ^ b).bit_length() - 1] for a, b in _EDGES])
    on_face = [{edges[frozenset((ring[n], ring[(n + 1) % 4]))] for n in range(4)} for ring in _FACES]
    flat = {(a, b) for face in on_face for a in face for b in face}
    out = np.zeros((256, 1 + 3 * _MOST), dtype=np.int8)
    for case in range(256):
        following: dict[int, int] = {}
        for ring in _FACES:
            inner = [bool(case >> c & 1) for c in ring]
            for n in range(4):
                if inner[n] and not inner[n - 1]:  # an inner run starts at n: its cut leads from its start to its end
                    last = n
                    while inner[(last + 1) % 4]:
                        last += 1
                    here = edges[frozenset((ring[n - 1], ring[n]))]
                    there = edges[frozenset((ring[last % 4], ring[(last + 1) % 4]))]
                    following[here] = there
        cut: list[int] = []
        while following:
            loop = [min(following)]
            while following[loop[-1]] != loop[0]:
                loop.append(following[loop[-1]])
            for edge in loop:
                del following[edge]
            cut += _fan(loop, flat)
        out[case, 0] = len(cut) // 3
        out[case, 1 : 1 + len(cut)] = cut
    return offsets, out


def _fan(loop: list[int], flat: set[tuple[int, int]]) -> list[int]:
    """Triangles of a loop of edges, no diagonal within a face of the cell (there the neighbour might draw it too)."""
    if len(loop) == 3:
        return loop
    for n in range(2, len(loop)):  # the triangle on the loop's first edge, and the rest on either side
        apex = loop[n]
        if (n > 2 and (loop[1], apex) in flat) or (n < len(loop) - 1 and (loop[0], apex) in flat):
            continue
        right = loop[1 : n + 1]
        left = [loop[0], *loop[n:]]
        rest = [_fan(part, flat) if len(part) > 2 else [0] for part in (right, left)]
        if all(rest):
            return [loop[0], loop[1], apex] + [
                e for r, p in zip(rest, (right, left), strict=True) if len(p) > 2 for e in r
            ]
    return []


@njit
def _rows(field: NDArray[np.float32], level: np.float32) -> NDArray[np.int32]:
    """First and last place (z, y, 2) of each row that is not below the level; (nx, -1) where there is none."""
    nz, ny, nx = field.shape
    out = np.empty((nz, ny, 2), dtype=np.int32)
    for z in range(nz):
        for y in range(ny):
            first, last = nx, -1
            for x in range(nx):
                if field[z, y, x] >= level:
                    first = x
                    break
            if first < nx:
                for x in range(nx - 1, -1, -1):
                    if field[z, y, x] >= level:
                        last = x
                        break
            out[z, y, 0], out[z, y, 1] = first, last
    return out


@njit
def _count(
    field: NDArray[np.float32], level: np.float32, rows: NDArray[np.int32], triangles: NDArray[np.int8]
) -> tuple[int, int]:
    nz, ny, _ = field.shape
    points, count = 0, 0
    for z in range(nz - 1):
        for y in range(ny - 1):
            first = min(min(rows[z, y, 0], rows[z, y + 1, 0]), min(rows[z + 1, y, 0], rows[z + 1, y + 1, 0]))
            last = max(max(rows[z, y, 1], rows[z, y + 1, 1]), max(rows[z + 1, y, 1], rows[z + 1, y + 1, 1]))
            if last < 0:
                continue
            left = 0  # of the corners at first - 1 none is inside
            for x in range(first - 1, last + 1):
                right = 0
                if field[z, y, x + 1] >= level:
                    right = 1
                if field[z, y + 1, x + 1] >= level:
                    right |= 2
                if field[z + 1, y, x + 1] >= level:
                    right |= 4
                if field[z + 1, y + 1, x + 1] >= level:
                    right |= 8
                if (left | right) != 0 and (left & right) != 15:
                    count += triangles[_case(left, right), 0]
                    points += ((left ^ right) & 1) + ((left ^ left >> 1) & 1) + ((left ^ left >> 2) & 1)
                left = right
    return points, count


@njit
def _case(left: int, right: int) -> int:
    """The case of a cell from its corners at x and at x + 1 (bits: y, then z)."""
    spread_left = (left & 1) | (left & 2) << 1 | (left & 4) << 2 | (left & 8) << 3
    spread_right = (right & 1) | (right & 2) << 1 | (right & 4) << 2 | (right & 8) << 3
    return spread_left | spread_right << 1


@njit
def _march(
    field: NDArray[np.float32],
    level: np.float32,
    rows: NDArray[np.int32],
    corners: NDArray[np.int64],
    triangles: NDArray[np.int8],
    vertices: Array,
    faces: NDArray[np.int32],
) -> None:
    nz, ny, nx = field.shape
    number = np.empty((2, ny, nx, 3), dtype=np.int32)  # of the vertex on the edge from a voxel along x, y, z
    points, count = 0, 0
    for z in range(nz):
        here = z & 1
        for y in range(ny):
            first, last = rows[z, y, 0], rows[z, y, 1]
            if y + 1 < ny:
                first, last = min(first, rows[z, y + 1, 0]), max(last, rows[z, y + 1, 1])
            if z + 1 < nz:
                first, last = min(first, rows[z + 1, y, 0]), max(last, rows[z + 1, y, 1])
            if last < 0:
                continue
            for x in range(first - 1, last + 1):
                value = field[z, y, x]
                inside = value >= level
                if inside != (field[z, y, x + 1] >= level):
                    vertices[points, 0] = x + (level - value) / (field[z, y, x + 1] - value)
                    vertices[points, 1], vertices[points, 2] = y, z
                    number[here, y, x, 0] = points
                    points += 1
                if y + 1 < ny and inside != (field[z, y + 1, x] >= level):
                    vertices[points, 0], vertices[points, 2] = x, z
                    vertices[points, 1] = y + (level - value) / (field[z, y + 1, x] - value)
                    number[here, y, x, 1] = points
                    points += 1
                if z + 1 < nz and inside != (field[z + 1, y, x] >= level):
                    vertices[points, 0], vertices[points, 1] = x, y
                    vertices[points, 2] = z + (level - value) / (field[z + 1, y, x] - value)
                    number[here, y, x, 2] = points
                    points += 1
        if z == 0:
            continue
        for y in range(ny - 1):
            first = min(min(rows[z, y, 0], rows[z, y + 1, 0]), min(rows[z - 1, y, 0], rows[z - 1, y + 1, 0]))
            last = max(max(rows[z, y, 1], rows[z, y + 1, 1]), max(rows[z - 1, y, 1], rows[z - 1, y + 1, 1]))
            if last < 0:
                continue
            left = 0
            for x in range(first - 1, last + 1):
                right = 0
                if field[z - 1, y, x + 1] >= level:
                    right = 1
                if field[z - 1, y + 1, x + 1] >= level:
                    right |= 2
                if field[z, y, x + 1] >= level:
                    right |= 4
                if field[z, y + 1, x + 1] >= level:
                    right |= 8
                if (left | right) != 0 and (left & right) != 15:
                    case = _case(left, right)
                    for n in range(triangles[case, 0]):
                        for c in range(3):
                            e = triangles[case, 1 + 3 * n + c]
                            slab = here if corners[e, 2] == 1 else 1 - here
                            faces[count, c] = number[slab, y + corners[e, 1], x + corners[e, 0], corners[e, 3]]
                        count += 1
                left = right
