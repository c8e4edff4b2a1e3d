"""Coarser copies of a closed mesh by edge collapse, each collapse checked: what was closed and manifold stays so.

Quadric errors (Garland and Heckbert 1997), weighted by area, with a faint pull to where the vertices were, so that flat
parts keep well-shaped triangles. Edges fall in rounds of rising error instead of through a queue (Forstmann's way).
An edge falls only if its ends share no neighbours but the two apexes (the link condition) and no triangle turns over.
The mesh is a corner table: corner c of triangle c // 3, its vertex, and the corner across the opposite edge.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from spatial.compiled import njit
from spatial.faults import Fault
from spatial.frames import A
from spatial.mesh import TriangleMesh
from spatial.rigid import Array

KEEP = 2e-4  # of a plane's weight: the pull to the old place
LEAST_COSINE = 0.3  # a triangle's normal may turn by 72 degrees at most in one collapse
GROWTH = 2.0  # of the error allowed from round to round
MOST_ROUNDS = 80
_Int = NDArray[np.int32]


class OpenMesh(Fault):
    """A mesh that is not closed, manifold and oriented."""


def decimated(mesh: TriangleMesh[A], triangles: Sequence[int]) -> tuple[TriangleMesh[A], ...]:
    """Copies of a closed mesh with about so many triangles each, finest first; fewer can't always be reached.

    Raises OpenMesh.
    """
    points = np.array(mesh.vertices_mm)
    corner = np.array(mesh.triangles).ravel()
    across, first, closed = _corner_table(corner, len(points))
    if not closed:
        raise OpenMesh(f"a mesh of {len(mesh.triangles)} triangles is not closed; it can't be made coarser safely")
    quadric = _quadrics(points, corner)
    error = np.empty(len(corner), dtype=np.float32)
    _errors(points, corner, across, quadric, error)
    stamp = np.zeros(len(points), dtype=np.int32)
    alive = np.arange(len(mesh.triangles)).astype(np.int32)
    copies = []
    start = float(np.partition(error, len(error) // 20)[len(error) // 20])
    allowed, stamps = max(start, 1e-12), 0
    for wanted in sorted(triangles, reverse=True):
        rounds = 0
        while len(alive) > wanted and rounds < MOST_ROUNDS:
            stamps = _round(points, corner, across, first, quadric, error, stamp, alive, allowed, wanted, stamps)
            alive = alive[corner[3 * alive.astype(np.int64)] >= 0]
            allowed *= GROWTH
            rounds += 1
        copies.append(TriangleMesh[A](*_compact(points, corner, alive)))
    return tuple(copies)


@njit
def _corner_table(corner: _Int, vertices: int) -> tuple[_Int, _Int, bool]:
    """The corner across each corner's edge, one corner of each vertex, and whether the mesh is closed."""
    start = np.zeros(vertices + 1, dtype=np.int64)
    for c in range(corner.shape[0]):
        start[corner[c] + 1] += 1
    for v in range(vertices):
        start[v + 1] += start[v]
    cursor = start[:-1].copy()
    leaving = np.empty(corner.shape[0], dtype=np.int32)  # the corners of each vertex; an edge leaves to the next corner
    for c in range(corner.shape[0]):
        leaving[cursor[corner[c]]] = c
        cursor[corner[c]] += 1
    across = np.full(corner.shape[0], -1, dtype=np.int32)
    first = np.full(vertices, -1, dtype=np.int32)
    for c in range(corner.shape[0]):
        v, u = corner[c], corner[_next(c)]
        first[v] = c
        found = -1
        for e in range(start[u], start[u + 1]):
            if corner[_next(leaving[e])] == v:
                if found >= 0:
                    return across, first, False
                found = leaving[e]
        if found < 0 or u == v:
            return across, first, False
        across[_previous(c)] = _previous(found)
    return across, first, True


@njit
def _next(c: int) -> int:
    return c - 2 if c % 3 == 2 else c + 1


@njit
def _previous(c: int) -> int:
    return c + 2 if c % 3 == 0 else c - 1


@njit
def _quadrics(points: Array, corner: _Int) -> Array:
    """(N, 10): xx xy xz xd yy yz yd zz zd dd of the planes around each vertex, weighted by a third of their area."""
    out = np.zeros((points.shape[0], 10))
    for t in range(corner.shape[0] // 3):
        a, b, c = corner[3 * t], corner[3 * t + 1], corner[3 * t + 2]
        ux, uy, uz = points[b, 0] - points[a, 0], points[b, 1] - points[a, 1], points[b, 2] - points[a, 2]
        vx, vy, vz = points[c, 0] - points[a, 0], points[c, 1] - points[a, 1], points[c, 2] - points[a, 2]
        x, y, z = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        length = np.sqrt(x * x + y * y + z * z)
        if length < 1e-14:
            continue
        x, y, z = x / length, y / length, z / length
        d = -(x * points[a, 0] + y * points[a, 1] + z * points[a, 2])
        w = length / 6.0
        for v in (a, b, c):
            out[v, 0] += w * x * x
            out[v, 1] += w * x * y
            out[v, 2] += w * x * z
            out[v, 3] += w * x * d
            out[v, 4] += w * y * y
            out[v, 5] += w * y * z
            out[v, 6] += w * y * d
            out[v, 7] += w * z * z
            out[v, 8] += w * z * d
            out[v, 9] += w * d * d
            k = KEEP * w
            px, py, pz = points[v, 0], points[v, 1], points[v, 2]
            out[v, 0] += k
            out[v, 4] += k
            out[v, 7] += k
            out[v, 3] -= k * px
            out[v, 6] -= k * py
            out[v, 8] -= k * pz
            out[v, 9] += k * (px * px + py * py + pz * pz)
    return out


@njit
def _best(points: Array, quadric: Array, a: int, b: int) -> tuple[float, float, float, float]:
    """Where an edge's merged vertex belongs, and the error it has there."""
    q0, q1, q2, q3 = (
        quadric[a, 0] + quadric[b, 0], quadric[a, 1] + quadric[b, 1], quadric[a, 2] + quadric[b, 2],
        quadric[a, 3] + quadric[b, 3],
    )  # fmt: skip
    q4, q5, q6 = quadric[a, 4] + quadric[b, 4], quadric[a, 5] + quadric[b, 5], quadric[a, 6] + quadric[b, 6]
    q7, q8, q9 = quadric[a, 7] + quadric[b, 7], quadric[a, 8] + quadric[b, 8], quadric[a, 9] + quadric[b, 9]
    # about the middle, where the numbers are small
    mx, my, mz = (
        0.5 * (points[a, 0] + points[b, 0]), 0.5 * (points[a, 1] + points[b, 1]), 0.5 * (points[a, 2] + points[b, 2])
    )  # fmt: skip
    gx, gy, gz = q0 * mx + q1 * my + q2 * mz + q3, q1 * mx + q4 * my + q5 * mz + q6, q2 * mx + q5 * my + q7 * mz + q8
    c0, c1, c2 = q4 * q7 - q5 * q5, q2 * q5 - q1 * q7, q1 * q5 - q2 * q4
    det = q0 * c0 + q1 * c1 + q2 * c2
    x, y, z = 0.0, 0.0, 0.0
    if det > 1e-30:
        x = -(c0 * gx + c1 * gy + c2 * gz) / det
        y = -(c1 * gx + (q0 * q7 - q2 * q2) * gy + (q1 * q2 - q0 * q5) * gz) / det
        z = -(c2 * gx + (q1 * q2 - q0 * q5) * gy + (q0 * q4 - q1 * q1) * gz) / det
    at_middle = mx * (gx + q3) + my * (gy + q6) + mz * (gz + q8) + q9
    return mx + x, my + y, mz + z, max(at_middle + gx * x + gy * y + gz * z, 0.0)


@njit
def _errors(points: Array, corner: _Int, across: _Int, quadric: Array, error: NDArray[np.float32]) -> None:
    """Of the edge opposite each corner, kept at the lower one of its two corners."""
    for c in range(corner.shape[0]):
        if c < across[c]:
            error[c] = _best(points, quadric, corner[_next(c)], corner[_previous(c)])[3]
        else:
            error[c] = np.inf


@njit
def _turns_over(points: Array, corner: _Int, across: _Int, c: int, without: int, x: float, y: float, z: float) -> bool:
    """Whether a triangle around corner c's vertex, those that hold vertex `without` left out, turns over when the
    vertex moves to (x, y, z).
    """
    begin = c
    v = corner[c]
    while True:
        a, b = corner[_next(c)], corner[_previous(c)]
        if a != without and b != without:
            ex, ey, ez = points[b, 0] - points[a, 0], points[b, 1] - points[a, 1], points[b, 2] - points[a, 2]
            ux, uy, uz = points[v, 0] - points[a, 0], points[v, 1] - points[a, 1], points[v, 2] - points[a, 2]
            wx, wy, wz = x - points[a, 0], y - points[a, 1], z - points[a, 2]
            ox, oy, oz = ey * uz - ez * uy, ez * ux - ex * uz, ex * uy - ey * ux
            nx, ny, nz = ey * wz - ez * wy, ez * wx - ex * wz, ex * wy - ey * wx
            dot = ox * nx + oy * ny + oz * nz
            new = nx * nx + ny * ny + nz * nz
            if dot <= 0.0 or dot * dot < LEAST_COSINE**2 * (ox * ox + oy * oy + oz * oz) * new:
                return True
            # nor may it become a splinter
            longest = max(ex * ex + ey * ey + ez * ez, wx * wx + wy * wy + wz * wz)
            if new < 1e-3 * longest * longest:
                return True
        c = _next(across[_next(c)])
        if c == begin:
            return False


@njit
def _valence(across: _Int, c: int) -> int:
    begin, n = c, 0
    while True:
        n += 1
        c = _next(across[_next(c)])
        if c == begin:
            return n


@njit
def _round(
    points: Array,
    corner: _Int,
    across: _Int,
    first: _Int,
    quadric: Array,
    error: NDArray[np.float32],
    stamp: _Int,
    alive: _Int,
    allowed: float,
    wanted: int,
    stamps: int,
) -> int:
    """Collapse the edges whose error is allowed until `wanted` triangles are left; returns the last stamp used."""
    left = len(alive)
    for t in alive:
        for side in range(3):
            c = 3 * int(t) + side
            if corner[c] < 0 or error[c] > allowed:
                continue
            d = int(across[c])
            a, b = corner[_next(c)], corner[_previous(c)]
            x, y, z, now = _best(points, quadric, a, b)
            if now > allowed:  # its ends have grown since: an error only ever rises
                error[c] = now
                continue
            # the link condition: no common neighbours but the apexes, and these keep three triangles
            stamps += 1
            e = begin = first[a]
            while True:
                stamp[corner[_next(e)]] = stamps
                e = _next(across[_next(e)])
                if e == begin:
                    break
            common = 0
            e = begin = first[b]
            while True:
                common += stamp[corner[_next(e)]] == stamps
                e = _next(across[_next(e)])
                if e == begin:
                    break
            if (
                common != 2
                or _valence(across, c) <= 3
                or _valence(across, d) <= 3
                or _turns_over(points, corner, across, first[a], b, x, y, z)
                or _turns_over(points, corner, across, first[b], a, x, y, z)
            ):
                error[c] = max(4.0 * error[c], 4.0 * allowed)  # its surroundings may have changed by then
                continue
            e = begin = first[b]
            while True:  # b becomes a
                following = _next(across[_next(e)])
                corner[e] = a
                e = following
                if e == begin:
                    break
            apex, other = corner[c], corner[d]
            for both in range(2):
                gone = c if both == 0 else d
                p, n = across[_previous(gone)], across[_next(gone)]
                across[p], across[n] = n, p
                # two edges are one now, its error no smaller than either's
                both_are = max(error[min(p, _previous(gone))], error[min(n, _next(gone))])
                error[min(p, n)], error[max(p, n)] = both_are, np.inf
                if both == 0:
                    first[a], first[apex] = _next(p), _previous(p)
                else:
                    first[other] = _previous(p)
                base = gone - gone % 3
                corner[base] = corner[base + 1] = corner[base + 2] = -1
            points[a, 0], points[a, 1], points[a, 2] = x, y, z
            for n in range(10):
                quadric[a, n] += quadric[b, n]
            left -= 2
            if left <= wanted:
                return stamps
            break  # this triangle is gone
    return stamps


@njit
def _compact(points: Array, corner: _Int, alive: _Int) -> tuple[Array, _Int]:
    number = np.full(points.shape[0], -1, dtype=np.int32)
    for t in alive:
        for n in range(3):
            number[corner[3 * int(t) + n]] = 0
    count = 0
    for v in range(points.shape[0]):
        if number[v] == 0:
            number[v] = count
            count += 1
    vertices = np.empty((count, 3))
    for v in range(points.shape[0]):
        if number[v] >= 0:
            vertices[number[v]] = points[v]
    faces = np.empty((len(alive), 3), dtype=np.int32)
    for t in range(len(alive)):
        for n in range(3):
            faces[t, n] = number[corner[3 * int(alive[t]) + n]]
    return vertices, faces
