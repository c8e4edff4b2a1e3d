"""One bone from the next: every voxel of bone goes to the marker that reaches it at the least cost.

A path pays its length, and much more where it crosses a valley of the HU: a joint gap of 1 to 2 mm, which the
scanner's blur fills up above any bone threshold, is still darker than both walls beside it (black top-hat). Marrow
is dark too, but cortex encloses it, while a joint opens to the outside.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spatial.compiled import njit, njit_parallel, prange
from twin.anatomy import runs

ENCLOSED_HU = 300  # dark tissue that bone brighter than this encloses is marrow, never a joint
VALLEY_WIDTH_MM = 1.5  # half the widest gap that still counts as a joint
CORTEX_HU = 800  # brighter bone counts as this, and marrow too
VALLEY_HU = 60.0  # a valley this deep doubles the cost of a millimetre; it grows with the square
_SCALE = 4.0  # cost units a millimetre
_MOST = 1023  # cost of one step, at most: one bucket less than a power of two
_FAR = 2147483647
_CHUNK = 50  # slices that one thread takes at a time


def marrow(hu: NDArray[np.int16], bone: NDArray[np.bool_], bone_hu: float) -> NDArray[np.bool_]:
    """Voxels (k, j, i) that are dark and no joint: of `bone`, but not brighter than `bone_hu`, or enclosed by bone."""
    out = np.asarray(hu > np.int16(ENCLOSED_HU))
    runs.fill(out)
    _marrow(hu, bone, np.int16(np.floor(bone_hu)), out)
    return out


def valleys(
    hu: NDArray[np.int16], marrow: NDArray[np.bool_], spacing_kji_mm: tuple[float, float, float]
) -> NDArray[np.int16]:
    """Black top-hat (k, j, i): how many HU a voxel lies below both sides of a gap around it; `marrow` is no gap."""
    reach = [max(1, round(VALLEY_WIDTH_MM / mm)) for mm in spacing_kji_mm]
    out = np.empty(hu.shape, dtype=np.int16)
    _valleys(hu, marrow, reach[0], reach[1], reach[2], out)
    return out


def part(
    bone: NDArray[np.bool_],
    valley: NDArray[np.int16],
    markers: NDArray[np.uint8],
    spacing_kji_mm: tuple[float, float, float],
) -> NDArray[np.uint8]:
    """Labels (k, j, i): each voxel of `bone` that a marker reaches through bone gets the cheapest marker's number.

    `valley` and `markers` (N,) are those of the voxels of bone, in their order.
    """
    first = np.concatenate([[0], np.cumsum(np.count_nonzero(bone, axis=2))])
    beside = np.full((first[-1], 6), -1, dtype=np.int32)
    _neighbours(bone, first, np.empty(first[-1], dtype=np.int32), beside)
    label = markers.copy()
    _flood(beside, valley, label, np.array(spacing_kji_mm))
    del beside
    out = np.zeros(bone.shape, dtype=np.uint8)
    out[bone] = label
    return out


@njit_parallel
def _marrow(hu: NDArray[np.int16], bone: NDArray[np.bool_], bone_hu: np.int16, enclosed: NDArray[np.bool_]) -> None:
    nk, nj, ni = hu.shape
    for k in prange(nk):
        for j in range(nj):
            for i in range(ni):
                enclosed[k, j, i] = (bone[k, j, i] and hu[k, j, i] <= bone_hu) or (
                    enclosed[k, j, i] and hu[k, j, i] <= ENCLOSED_HU
                )


@njit_parallel
def _valleys(
    hu: NDArray[np.int16], marrow: NDArray[np.bool_], rk: int, rj: int, ri: int, out: NDArray[np.int16]
) -> None:
    """Slice by slice: the highest of each neighbourhood, of these the lowest, in rings as long as the neighbourhood."""
    nk, nj, ni = hu.shape
    ring = 2 * rk + 1
    for chunk in prange((nk + _CHUNK - 1) // _CHUNK):
        first = int(np.int64(chunk)) * _CHUNK  # a parallel index is unsigned
        last = min(first + _CHUNK, nk)
        plane = np.empty((nj, ni), dtype=np.int16)
        aside = np.empty((nj, ni), dtype=np.int16)
        raised = np.empty((ring, nj, ni), dtype=np.int16)
        sunk = np.empty((ring, nj, ni), dtype=np.int16)  # upside down: the highest of it is the lowest
        for top in range(max(0, first - 2 * rk), last + 2 * rk):
            if top < nk:
                _seen(hu, marrow, top, plane)
                _highest(plane, rj, ri, aside, raised[top % ring])
            middle = top - rk
            if middle >= max(0, first - rk) and middle < min(nk, last + rk):
                _highest_across(raised, max(0, middle - rk), min(nk, middle + rk + 1), plane)
                for j in range(nj):
                    for i in range(ni):
                        plane[j, i] = ~plane[j, i]
                _highest(plane, rj, ri, aside, sunk[middle % ring])
            k = middle - rk
            if k >= first and k < last:
                _highest_across(sunk, max(0, k - rk), min(nk, k + rk + 1), aside)
                _seen(hu, marrow, k, plane)
                for j in range(nj):
                    for i in range(ni):
                        out[k, j, i] = ~aside[j, i] - plane[j, i]


@njit
def _seen(hu: NDArray[np.int16], marrow: NDArray[np.bool_], k: int, out: NDArray[np.int16]) -> None:
    """A slice between fat and cortex, marrow as bright as cortex."""
    for j in range(out.shape[0]):
        for i in range(out.shape[1]):
            v = min(max(hu[k, j, i], np.int16(-200)), np.int16(CORTEX_HU))
            out[j, i] = np.int16(CORTEX_HU) if marrow[k, j, i] else v


@njit
def _highest(plane: NDArray[np.int16], rj: int, ri: int, aside: NDArray[np.int16], out: NDArray[np.int16]) -> None:
    """The highest within rj rows and ri columns of each place of a slice."""
    nj, ni = plane.shape
    for j in range(nj):
        row, wide = plane[j], aside[j]
        wide[:] = row
        for d in range(1, min(ri, ni - 1) + 1):
            for i in range(ni - d):
                wide[i] = max(wide[i], row[i + d])
            for i in range(ni - d):
                wide[i + d] = max(wide[i + d], row[i])
    for j in range(nj):
        row = out[j]
        row[:] = aside[j]
        for other in range(max(0, j - rj), min(nj, j + rj + 1)):
            wide = aside[other]
            for i in range(ni):
                row[i] = max(row[i], wide[i])


@njit
def _highest_across(ring: NDArray[np.int16], first: int, last: int, out: NDArray[np.int16]) -> None:
    """The highest at each place of some slices that a ring holds."""
    out[:] = ring[first % len(ring)]
    for k in range(first + 1, last):
        plane = ring[k % len(ring)]
        for j in range(out.shape[0]):
            row, other = out[j], plane[j]
            for i in range(len(row)):
                row[i] = max(row[i], other[i])


@njit_parallel
def _neighbours(
    bone: NDArray[np.bool_], first: NDArray[np.int64], column: NDArray[np.int32], beside: NDArray[np.int32]
) -> None:
    """Number the voxels of bone row by row; `beside` (N, 6): who stands before and after each along k, j, i, or -1."""
    nk, nj, ni = bone.shape
    for k in prange(nk):
        for j in range(nj):
            v = first[k * nj + j]
            if first[k * nj + j + 1] > v:
                for i in range(ni):
                    if bone[k, j, i]:
                        column[v] = i
                        v += 1
    for k in prange(nk):
        for j in range(nj):
            row = np.int64(k * nj + j)
            for v in range(first[row], first[row + 1] - 1):
                if column[v + 1] == column[v] + 1:
                    beside[v, 5] = v + 1
                    beside[v + 1, 4] = v
            if j > 0:
                _meet(column, first[row - 1], first[row], first[row], first[row + 1], 2, beside)
            if k > 0:
                _meet(column, first[row - nj], first[row - nj + 1], first[row], first[row + 1], 0, beside)


@njit
def _meet(
    column: NDArray[np.int32], u: int, last_u: int, v: int, last_v: int, way: int, beside: NDArray[np.int32]
) -> None:
    """Make neighbours of the voxels u of one row and v of the next that stand at the same column."""
    while u < last_u and v < last_v:
        if column[u] == column[v]:
            beside[v, way], beside[u, way + 1] = u, v
        if column[u] < column[v]:
            u += 1
        else:
            v += 1


@njit
def _flood(
    beside: NDArray[np.int32], valley: NDArray[np.int16], label: NDArray[np.uint8], spacing: NDArray[np.float64]
) -> None:
    """Dijkstra with circular buckets (Dial 1969), 6-connected: a diagonal gap has no holes for it."""
    n = len(label)
    deepest = max(0, 2 * int(valley.max())) if n else 0
    steps = np.empty((3, deepest + 1), dtype=np.int32)  # cost of a step along k, j, i by the sum of two valleys
    for axis in range(3):
        for both in range(deepest + 1):
            depth = 0.5 * both / VALLEY_HU
            steps[axis, both] = min(int(_SCALE * spacing[axis] * (1.0 + depth * depth)) + 1, _MOST)
    cost = np.where(label > 0, np.int32(0), np.int32(_FAR))
    # a bucket is a chain of entries, the oldest first: so neighbours come one after the other, as they lie in memory
    oldest = np.full(_MOST + 1, -1, dtype=np.int32)
    newest = np.full(_MOST + 1, -1, dtype=np.int32)
    voxel = np.empty(6 * n, dtype=np.int32)  # no more than that are ever appended; pages not written take no memory
    following = np.empty(6 * n, dtype=np.int32)
    used, left = 0, 0
    for v in range(n - 1, -1, -1):  # of two that reach a voxel at one cost, that from higher up is first
        if label[v] > 0:
            for way in range(6):
                if beside[v, way] >= 0 and label[beside[v, way]] == 0:
                    _append(v, used, 0, voxel, following, oldest, newest)
                    used += 1
                    left += 1
                    break
    now = 0
    while left > 0:
        bucket = now & _MOST
        e = oldest[bucket]
        oldest[bucket] = newest[bucket] = -1
        while e >= 0:
            v = voxel[e]
            e = following[e]
            left -= 1
            if cost[v] != now:  # it was reached at less since
                continue
            for axis in range(3):
                for way in range(2 * axis, 2 * axis + 2):
                    u = beside[v, way]
                    if u < 0 or cost[u] <= now:
                        continue
                    total = now + steps[axis, max(0, int(valley[u]) + int(valley[v]))]
                    if total < cost[u]:
                        cost[u], label[u] = total, label[v]
                        _append(u, used, total & _MOST, voxel, following, oldest, newest)
                        used += 1
                        left += 1
        now += 1


@njit
def _append(
    v: int, e: int, bucket: int, voxel: NDArray[np.int32], following: NDArray[np.int32], oldest: NDArray[np.int32],
    newest: NDArray[np.int32],
) -> None:  # fmt: skip
    voxel[e], following[e] = v, -1
    if newest[bucket] >= 0:
        following[newest[bucket]] = e
    else:
        oldest[bucket] = e
    newest[bucket] = e
