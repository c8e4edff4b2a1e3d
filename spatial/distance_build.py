"""The compiled loops that build a distance grid. Vertices are in grid units (node (i, j, k) stands at (i, j, k))."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spatial.compiled import njit, njit_parallel, prange
from spatial.rigid import Array

BAND = 1.0  # nodes within one spacing of the surface are exact; every crossed cell has such a node
SLABS = 16  # pieces of work; each owns its nodes, so threads never meet
FAR = 1 << 28
WALK = 6  # as many spacings from the surface the nearest triangle is searched for by walking


@njit
def triangle_square_distance(px: float, py: float, pz: float, corners: Array, t: int) -> float:
    """Squared distance of a point to triangle t of `corners` (T, 9) (Ericson 2005, section 5.1.5)."""
    ax, ay, az = corners[t, 0], corners[t, 1], corners[t, 2]
    bx, by, bz = corners[t, 3], corners[t, 4], corners[t, 5]
    cx, cy, cz = corners[t, 6], corners[t, 7], corners[t, 8]
    abx, aby, abz = bx - ax, by - ay, bz - az
    acx, acy, acz = cx - ax, cy - ay, cz - az
    apx, apy, apz = px - ax, py - ay, pz - az
    d1 = abx * apx + aby * apy + abz * apz
    d2 = acx * apx + acy * apy + acz * apz
    bpx, bpy, bpz = px - bx, py - by, pz - bz
    d3 = abx * bpx + aby * bpy + abz * bpz
    d4 = acx * bpx + acy * bpy + acz * bpz
    cpx, cpy, cpz = px - cx, py - cy, pz - cz
    d5 = abx * cpx + aby * cpy + abz * cpz
    d6 = acx * cpx + acy * cpy + acz * cpz
    va, vb, vc = d3 * d6 - d5 * d4, d5 * d2 - d1 * d6, d1 * d4 - d3 * d2
    v, w = 0.0, 0.0
    if d1 <= 0.0 and d2 <= 0.0:
        pass
    elif d3 >= 0.0 and d4 <= d3:
        v = 1.0
    elif d6 >= 0.0 and d5 <= d6:
        w = 1.0
    elif vc <= 0.0 and d1 >= 0.0 and d3 <= 0.0:
        v = d1 / (d1 - d3) if d1 != d3 else 0.0
    elif vb <= 0.0 and d2 >= 0.0 and d6 <= 0.0:
        w = d2 / (d2 - d6) if d2 != d6 else 0.0
    elif va <= 0.0 and d4 - d3 >= 0.0 and d5 - d6 >= 0.0:
        whole = (d4 - d3) + (d5 - d6)
        w = (d4 - d3) / whole if whole != 0.0 else 0.0
        v = 1.0 - w
    else:
        whole = va + vb + vc
        v, w = vb / whole, vc / whole
    x, y, z = apx - v * abx - w * acx, apy - v * aby - w * acy, apz - v * abz - w * acz
    return float(x * x + y * y + z * z)


@njit
def _side(x1: float, y1: float, x2: float, y2: float) -> int:
    """Which side of the origin an edge passes; ties are broken the same way for both triangles at an edge."""
    area = y1 * x2 - x1 * y2
    if area != 0.0:
        return 1 if area > 0.0 else -1
    if y2 != y1:
        return 1 if y2 > y1 else -1
    if x1 != x2:
        return 1 if x1 > x2 else -1
    return 0


@njit_parallel
def inside_nodes(
    vertices: Array, triangles: NDArray[np.int32], nx: int, ny: int, nz: int
) -> tuple[NDArray[np.bool_], int]:
    """Nodes with winding number above zero, and how many grid lines along z do not leave what they entered."""
    crossings = np.zeros((nx, ny, nz), np.int8)
    inside = np.zeros((nx, ny, nz), np.bool_)
    open_lines = np.zeros(SLABS, np.int64)
    for slab in prange(SLABS):
        first, last = slab * nx // SLABS, (slab + 1) * nx // SLABS
        for t in range(len(triangles)):
            a, b, c = vertices[triangles[t, 0]], vertices[triangles[t, 1]], vertices[triangles[t, 2]]
            i0 = max(first, int(np.ceil(min(a[0], b[0], c[0]))))
            i1 = min(last - 1, int(np.floor(max(a[0], b[0], c[0]))))
            if i0 > i1:
                continue
            j0 = max(0, int(np.ceil(min(a[1], b[1], c[1]))))
            j1 = min(ny - 1, int(np.floor(max(a[1], b[1], c[1]))))
            for i in range(i0, i1 + 1):
                for j in range(j0, j1 + 1):
                    ax, ay, bx, by, cx, cy = a[0] - i, a[1] - j, b[0] - i, b[1] - j, c[0] - i, c[1] - j
                    turn = _side(bx, by, cx, cy)
                    if turn == 0 or _side(cx, cy, ax, ay) != turn or _side(ax, ay, bx, by) != turn:
                        continue
                    wa, wb, wc = by * cx - bx * cy, cy * ax - cx * ay, ay * bx - ax * by
                    whole = wa + wb + wc
                    if whole == 0.0:
                        continue
                    z = (wa * a[2] + wb * b[2] + wc * c[2]) / whole
                    k = min(max(int(np.ceil(z)), 0), nz - 1)
                    # `turn` is positive where the triangle faces down: going up, one enters
                    crossings[i, j, k] += turn
        for i in range(first, last):
            for j in range(ny):
                winding = 0
                for k in range(nz):
                    winding += crossings[i, j, k]
                    inside[i, j, k] = winding > 0
                if winding != 0:
                    open_lines[slab] += 1
    return inside, open_lines.sum()


@njit_parallel
def exact_band(corners: Array, nx: int, ny: int, nz: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """The nearest triangle of each node within BAND of the surface (else -1), and 0 there, FAR elsewhere."""
    nearest = np.full((nx, ny, nz), -1, np.int32)
    square = np.full((nx, ny, nz), FAR, np.int32)
    for slab in prange(SLABS):
        first, last = slab * nx // SLABS, (slab + 1) * nx // SLABS
        best = np.full((last - first, ny, nz), BAND * BAND, np.float32)
        for t in range(len(corners)):
            a, b, c = corners[t, 0:3], corners[t, 3:6], corners[t, 6:9]
            i0 = max(first, int(np.ceil(min(a[0], b[0], c[0]) - BAND)))
            i1 = min(last - 1, int(np.floor(max(a[0], b[0], c[0]) + BAND)))
            if i0 > i1:
                continue
            j0 = max(0, int(np.ceil(min(a[1], b[1], c[1]) - BAND)))
            j1 = min(ny - 1, int(np.floor(max(a[1], b[1], c[1]) + BAND)))
            k0 = max(0, int(np.ceil(min(a[2], b[2], c[2]) - BAND)))
            k1 = min(nz - 1, int(np.floor(max(a[2], b[2], c[2]) + BAND)))
            ux, uy, uz = b[0] - a[0], b[1] - a[1], b[2] - a[2]
            vx, vy, vz = c[0] - a[0], c[1] - a[1], c[2] - a[2]
            mx, my, mz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
            length = np.sqrt(mx * mx + my * my + mz * mz)
            if length > 0.0:
                mx, my, mz = mx / length, my / length, mz / length
            for i in range(i0, i1 + 1):
                for j in range(j0, j1 + 1):
                    for k in range(k0, k1 + 1):
                        height = mx * (i - a[0]) + my * (j - a[1]) + mz * (k - a[2])
                        if height * height > best[i - first, j, k]:
                            continue
                        d = triangle_square_distance(i, j, k, corners, t)
                        if d < best[i - first, j, k]:
                            best[i - first, j, k] = d
                            nearest[i, j, k] = t
                            square[i, j, k] = 0
    return nearest, square


@njit
def _envelope(
    count: int,
    height: NDArray[np.int32],
    label: NDArray[np.int32],
    hull: NDArray[np.int64],
    edge: Array,
    out_height: NDArray[np.int32],
    out_label: NDArray[np.int32],
) -> None:
    """Lower envelope of parabolas height[q] + (p - q)^2 with the label of the lowest one."""
    top = -1
    for q in range(count):
        if height[q] >= FAR:
            continue
        at = 0.0
        while top >= 0:
            p = hull[top]
            at = ((height[q] + q * q) - (height[p] + p * p)) / (2.0 * (q - p))
            if at > edge[top]:
                break
            top -= 1
        top += 1
        hull[top] = q
        edge[top] = at if top > 0 else -1e30
    if top < 0:
        for p in range(count):
            out_height[p], out_label[p] = FAR, -1
        return
    at_hull = 0
    for p in range(count):
        while at_hull < top and edge[at_hull + 1] < p:
            at_hull += 1
        q = hull[at_hull]
        out_height[p], out_label[p] = height[q] + (p - q) * (p - q), label[q]


@njit_parallel
def spread_nearest(nearest: NDArray[np.int32], square: NDArray[np.int32]) -> None:
    """Give each node the triangle of the nearest exact node, in place: along z, then y, then x."""
    nx, ny, nz = nearest.shape
    for i in prange(nx):
        size = max(ny, nz)
        height, label = np.empty(size, np.int32), np.empty(size, np.int32)
        new_height, new_label = np.empty(size, np.int32), np.empty(size, np.int32)
        hull, edge = np.empty(size, np.int64), np.empty(size + 1)
        for j in range(ny):
            last = -1
            for k in range(nz):  # along z two runs are enough: forward, then backward
                if square[i, j, k] == 0:
                    last = k
                elif last >= 0:
                    square[i, j, k] = (k - last) * (k - last)
                    nearest[i, j, k] = nearest[i, j, last]
            last = -1
            for k in range(nz - 1, -1, -1):
                if square[i, j, k] == 0:
                    last = k
                elif last >= 0 and (last - k) * (last - k) < square[i, j, k]:
                    square[i, j, k] = (last - k) * (last - k)
                    nearest[i, j, k] = nearest[i, j, last]
        for k in range(nz):
            for j in range(ny):
                height[j], label[j] = square[i, j, k], nearest[i, j, k]
            _envelope(ny, height, label, hull, edge, new_height, new_label)
            for j in range(ny):
                square[i, j, k], nearest[i, j, k] = new_height[j], new_label[j]
    for j in prange(ny):
        height, label = np.empty(nx, np.int32), np.empty(nx, np.int32)
        new_height, new_label = np.empty(nx, np.int32), np.empty(nx, np.int32)
        hull, edge = np.empty(nx, np.int64), np.empty(nx + 1)
        for k in range(nz):
            for i in range(nx):
                height[i], label[i] = square[i, j, k], nearest[i, j, k]
            _envelope(nx, height, label, hull, edge, new_height, new_label)
            for i in range(nx):
                square[i, j, k], nearest[i, j, k] = new_height[i], new_label[i]


@njit
def stars(count: int, triangles: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int32]]:
    """The triangles around vertex v are members[start[v] : start[v + 1]]; ring, alike, the vertex that follows v there.

    On a closed surface every neighbour of v follows it in exactly one triangle.
    """
    start = np.zeros(count + 1, np.int64)
    for t in range(len(triangles)):
        for corner in range(3):
            start[triangles[t, corner] + 1] += 1
    for v in range(count):
        start[v + 1] += start[v]
    fill = start[:-1].copy()
    members = np.empty(3 * len(triangles), np.int32)
    ring = np.empty(3 * len(triangles), np.int32)
    for t in range(len(triangles)):
        for corner in range(3):
            v = triangles[t, corner]
            members[fill[v]] = t
            ring[fill[v]] = triangles[t, (corner + 1) % 3]
            fill[v] += 1
    return start, members, ring


@njit
def _walk(
    px: float,
    py: float,
    pz: float,
    triangle: int,
    vertices: Array,
    triangles: NDArray[np.int32],
    corners: Array,
    start: NDArray[np.int64],
    members: NDArray[np.int32],
    ring: NDArray[np.int32],
) -> float:
    """Squared distance to the triangles around the nearest vertex, found by walking downhill from a triangle."""
    here = -1
    best: float = 1e30
    for corner in range(3):
        v = triangles[triangle, corner]
        d = (vertices[v, 0] - px) ** 2 + (vertices[v, 1] - py) ** 2 + (vertices[v, 2] - pz) ** 2
        if d < best:
            here, best = v, d
    moved = True
    while moved:
        moved = False
        centre = here
        for m in range(start[centre], start[centre + 1]):
            v = ring[m]
            d = (vertices[v, 0] - px) ** 2 + (vertices[v, 1] - py) ** 2 + (vertices[v, 2] - pz) ** 2
            if d < best:
                here, best, moved = v, d, True
    for m in range(start[here], start[here + 1]):
        best = min(best, triangle_square_distance(px, py, pz, corners, members[m]))
    return best


@njit_parallel
def finish(
    vertices: Array,
    triangles: NDArray[np.int32],
    corners: Array,
    nearest: NDArray[np.int32],
    square: NDArray[np.int32],
    inside: NDArray[np.bool_],
    spacing_mm: float,
) -> NDArray[np.float32]:
    """Signed mm: the smallest distance to the triangles that the node and its six neighbours know.

    Near the surface also to those that a walk from there finds (a fine mesh has more triangles than nodes).
    """
    nx, ny, nz = nearest.shape
    out = np.empty((nx, ny, nz), np.float32)
    start, members, ring = stars(len(vertices), triangles)
    for index in prange(nx):
        i: Any = np.int64(index)  # a parallel index is unsigned, and mixed signs become float
        for j in range(ny):
            for k in range(nz):
                own = best_triangle = nearest[i, j, k]
                best = triangle_square_distance(i, j, k, corners, own)
                for way in range(6 if square[i, j, k] > 0 else 0):  # a node in the band is exact already
                    a, b, c = i, j, k
                    if way == 0:
                        a = max(i - 1, 0)
                    elif way == 1:
                        a = min(i + 1, nx - 1)
                    elif way == 2:
                        b = max(j - 1, 0)
                    elif way == 3:
                        b = min(j + 1, ny - 1)
                    elif way == 4:
                        c = max(k - 1, 0)
                    else:
                        c = min(k + 1, nz - 1)
                    t = nearest[a, b, c]
                    if t in (own, best_triangle):
                        continue
                    d = triangle_square_distance(i, j, k, corners, t)
                    if d < best:
                        best, best_triangle = d, t
                if 0 < square[i, j, k] <= WALK * WALK:
                    x, y, z = float(i), float(j), float(k)
                    near = _walk(x, y, z, best_triangle, vertices, triangles, corners, start, members, ring)
                    best = min(best, near)
                out[i, j, k] = (-1.0 if inside[i, j, k] else 1.0) * np.sqrt(best) * spacing_mm
    return out
