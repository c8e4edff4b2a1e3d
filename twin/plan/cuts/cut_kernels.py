"""Compiled halves of a closed triangle mesh: one pass sorts the triangles by side, the crossed ones are split.

A vertex exactly on the plane counts as below it (symbolic perturbation), so every crossed triangle has one corner on
one side and two on the other, and every crossed edge has one new vertex that both pieces share.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spatial.compiled import njit
from spatial.rigid import Array

Ints = NDArray[np.int32]
Sides = NDArray[np.uint8]


@njit
def sides_of(vertices: Array, point: Array, normal: Array) -> tuple[Array, Sides, Ints]:
    """Signed distance (N,), 1 above or 0 below (N,), and each vertex's number among its own side's vertices (N,)."""
    n = len(vertices)
    distance = np.empty(n)
    side = np.empty(n, np.uint8)
    number = np.empty(n, np.int32)
    # one subtraction for all, so that equal coordinates give equal distances
    offset = point[0] * normal[0] + point[1] * normal[1] + point[2] * normal[2]
    above = 0
    for i in range(n):
        d = vertices[i, 0] * normal[0] + vertices[i, 1] * normal[1] + vertices[i, 2] * normal[2] - offset
        distance[i] = d
        if d > 0.0:
            side[i] = 1
            number[i] = above
            above += 1
        else:
            side[i] = 0
            number[i] = i - above
    return distance, side, number


@njit
def crossed(triangles: Ints, side: Sides) -> tuple[int, Ints]:
    """How many triangles lie above, and the numbers (K,) of those that the plane crosses."""
    m = len(triangles)
    found = np.empty(m, np.int32)
    above = 0
    k = 0
    for i in range(m):
        s = side[triangles[i, 0]] + side[triangles[i, 1]] + side[triangles[i, 2]]
        if s == 3:
            above += 1
        elif s != 0:
            found[k] = i
            k += 1
    return above, found[:k].copy()


@njit
def cut_edges(triangles: Ints, rows: Ints, side: Sides) -> tuple[Ints, Ints, Ints, bool]:
    """The crossed edges: ends above and below (E,), and of each crossed triangle the edge leaving its lone corner and
    the one coming back to it (K, 2); False when an edge has not exactly two triangles.
    """
    k = len(rows)
    up = np.empty(2 * k, np.int32)
    down = np.empty(2 * k, np.int32)
    key = np.empty(2 * k, np.int64)
    for j in range(k):
        lone = lone_corner(triangles, rows[j], side)
        a = triangles[rows[j], lone]
        for e in range(2):
            b = triangles[rows[j], (lone + 1 + e) % 3]
            high, low = (a, b) if side[a] == 1 else (b, a)
            up[2 * j + e], down[2 * j + e] = high, low
            key[2 * j + e] = (np.int64(high) << 32) | np.int64(low)
    order = np.argsort(key)
    edge_of = np.empty((k, 2), np.int32)
    ends_up = np.empty(k, np.int32)
    ends_down = np.empty(k, np.int32)
    for j in range(0, 2 * k, 2):
        one, two = order[j], order[j + 1]
        if key[one] != key[two] or (j + 2 < 2 * k and key[order[j + 2]] == key[one]):
            return ends_up, ends_down, edge_of, False
        number = j // 2
        ends_up[number], ends_down[number] = up[one], down[one]
        edge_of[one // 2, one % 2] = number
        edge_of[two // 2, two % 2] = number
    return ends_up, ends_down, edge_of, True


@njit
def lone_corner(triangles: Ints, row: int, side: Sides) -> int:
    """Which corner of a crossed triangle is alone on its side."""
    s0, s1, s2 = side[triangles[row, 0]], side[triangles[row, 1]], side[triangles[row, 2]]
    if s1 == s2:
        return 0
    return 1 if s0 == s2 else 2


@njit
def crossings(vertices: Array, distance: Array, ends_up: Ints, ends_down: Ints) -> Array:
    """Where each crossed edge meets the plane (E, 3)."""
    found = np.empty((len(ends_up), 3))
    for j in range(len(ends_up)):
        a, b = ends_up[j], ends_down[j]
        t = distance[a] / (distance[a] - distance[b])
        for c in range(3):
            found[j, c] = vertices[a, c] + t * (vertices[b, c] - vertices[a, c])
    return found


@njit
def loops(rows: Ints, triangles: Ints, side: Sides, edge_of: Ints) -> tuple[Ints, Ints, bool]:
    """The outlines of the cut as numbers of its edges (E,) one after the other, and where each starts (L + 1,).

    Counter-clockwise seen from above about what is bone. False when an outline has an end.
    """
    k = len(rows)
    following = np.full(k, -1, np.int32)
    for j in range(k):
        out, back = edge_of[j, 0], edge_of[j, 1]
        if side[triangles[rows[j], lone_corner(triangles, rows[j], side)]] == 0:
            out, back = back, out
        if following[out] != -1:
            return following, following, False
        following[out] = back
    path = np.empty(k, np.int32)
    starts = np.empty(k + 1, np.int32)
    seen = np.zeros(k, np.uint8)
    count = 0
    filled = 0
    for first in range(k):
        if seen[first] == 1:
            continue
        starts[count] = filled
        count += 1
        at = first
        while seen[at] == 0:
            seen[at] = 1
            path[filled] = at
            filled += 1
            at = following[at]
            if at < 0:
                return path, starts[:0], False
        if at != first:
            return path, starts[:0], False
    starts[count] = filled
    return path, starts[: count + 1].copy(), True


@njit
def half(
    vertices: Array,
    triangles: Ints,
    side: Sides,
    number: Ints,
    rows: Ints,
    edge_of: Ints,
    new_mm: Array,
    cap: Ints,
    wanted: int,
    whole: int,
) -> tuple[Array, Ints]:
    """The piece on one side (`wanted`: 1 above, 0 below) with `whole` uncut triangles; `cap` numbers crossed edges."""
    kept = 0
    for i in range(len(side)):
        if side[i] == wanted:
            kept += 1
    points = np.empty((kept + len(new_mm), 3))
    for i in range(len(side)):
        if side[i] == wanted:
            for c in range(3):
                points[number[i], c] = vertices[i, c]
    for j in range(len(new_mm)):
        for c in range(3):
            points[kept + j, c] = new_mm[j, c]
    more = 0
    for j in range(len(rows)):
        more += 1 if side[triangles[rows[j], lone_corner(triangles, rows[j], side)]] == wanted else 2
    faces = np.empty((whole + more + len(cap), 3), np.int32)
    at = 0
    for i in range(len(triangles)):
        a, b, c = triangles[i, 0], triangles[i, 1], triangles[i, 2]
        if side[a] == wanted and side[b] == wanted and side[c] == wanted:
            faces[at, 0], faces[at, 1], faces[at, 2] = number[a], number[b], number[c]
            at += 1
    for j in range(len(rows)):
        lone = lone_corner(triangles, rows[j], side)
        a = triangles[rows[j], lone]
        b, c = triangles[rows[j], (lone + 1) % 3], triangles[rows[j], (lone + 2) % 3]
        out, back = np.int32(kept + edge_of[j, 0]), np.int32(kept + edge_of[j, 1])
        if side[a] == wanted:
            faces[at, 0], faces[at, 1], faces[at, 2] = number[a], out, back
            at += 1
        else:
            faces[at, 0], faces[at, 1], faces[at, 2] = out, number[b], number[c]
            faces[at + 1, 0], faces[at + 1, 1], faces[at + 1, 2] = out, number[c], back
            at += 2
    for j in range(len(cap)):
        # the cap faces up on the piece below, down on the piece above
        faces[at, 0] = kept + cap[j, 0]
        faces[at, 1] = kept + (cap[j, 1] if wanted == 0 else cap[j, 2])
        faces[at, 2] = kept + (cap[j, 2] if wanted == 0 else cap[j, 1])
        at += 1
    return points, faces


@njit
def parts(triangles: Ints, vertices: int) -> tuple[Ints, int]:
    """The connected part (M,) that each triangle belongs to, and how many there are."""
    parent = np.arange(vertices, dtype=np.int32)
    for i in range(len(triangles)):
        a = triangles[i, 0]
        while parent[a] != a:
            parent[a] = parent[parent[a]]
            a = parent[a]
        for c in range(1, 3):
            b = triangles[i, c]
            while parent[b] != b:
                parent[b] = parent[parent[b]]
                b = parent[b]
            if a < b:
                parent[b] = a
            else:
                parent[a] = b
                a = b
    name = np.full(vertices, -1, np.int32)
    found = np.empty(len(triangles), np.int32)
    count = 0
    for i in range(len(triangles)):
        a = triangles[i, 0]
        while parent[a] != a:
            a = parent[a]
        if name[a] < 0:
            name[a] = count
            count += 1
        found[i] = name[a]
    return found, count
