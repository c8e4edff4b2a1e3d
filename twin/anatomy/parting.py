"""One bone from the next: every voxel of bone goes to the marker that reaches it at the least cost.

A path pays its length, and much more where it crosses a valley of the HU: a joint gap of 1 to 2 mm, which the
scanner's blur fills up above any bone threshold, is still darker than both walls beside it (black top-hat). Marrow
is dark too, but cortex encloses it, while a joint opens to the outside.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spatial.compiled import njit, njit_parallel, prange

VALLEY_WIDTH_MM = 1.5  # half the widest gap that still counts as a joint
CORTEX_HU = 800  # brighter bone counts as this, and marrow too
VALLEY_HU = 60.0  # a valley this deep doubles the cost of a millimetre; it grows with the square
_SCALE = 4.0  # cost units a millimetre
_MOST = 1023  # cost of one step, at most


def valleys(
    hu: NDArray[np.int16], marrow: NDArray[np.bool_], spacing_kji_mm: tuple[float, float, float]
) -> NDArray[np.int16]:
    """Black top-hat (k, j, i): how many HU a voxel lies below both sides of a gap around it; `marrow` is no gap."""
    reach = [max(1, round(VALLEY_WIDTH_MM / mm)) for mm in spacing_kji_mm]
    closed = np.empty_like(hu)
    aside = np.clip(hu, -200, CORTEX_HU)
    aside[marrow] = CORTEX_HU
    for axis in range(3):
        _extreme(aside, axis, reach[axis], True, closed)
        aside, closed = closed, aside
    for axis in range(3):
        _extreme(aside, axis, reach[axis], False, closed)
        aside, closed = closed, aside
    np.clip(hu, -200, CORTEX_HU, out=closed)  # as it was before, made again rather than kept
    closed[marrow] = CORTEX_HU
    aside -= closed
    return aside


def part(
    bone: NDArray[np.bool_],
    valley: NDArray[np.int16],
    markers: NDArray[np.uint8],
    spacing_kji_mm: tuple[float, float, float],
) -> NDArray[np.uint8]:
    """Labels (k, j, i): each voxel of `bone` that a marker reaches through bone gets the cheapest marker's number."""
    index = np.full(bone.shape, -1, dtype=np.int32)
    flat = np.flatnonzero(bone)
    index.ravel()[flat] = np.arange(len(flat), dtype=np.int32)
    label = markers.ravel()[flat].copy()
    _flood(index, flat, valley.ravel()[flat], label, np.array(spacing_kji_mm))
    out = np.zeros(bone.shape, dtype=np.uint8)
    out.ravel()[flat] = label
    return out


@njit_parallel
def _extreme(source: NDArray[np.int16], axis: int, reach: int, highest: bool, out: NDArray[np.int16]) -> None:
    nk, nj, ni = source.shape
    for slice_ in prange(nk):
        k = np.int64(slice_)  # a parallel index is unsigned
        for j in range(nj):
            if axis == 2:
                for i in range(ni):
                    v = source[k, j, i]
                    for d in range(max(0, i - reach), min(ni, i + reach + 1)):
                        u = source[k, j, d]
                        v = max(v, u) if highest else min(v, u)
                    out[k, j, i] = v
            else:
                for i in range(ni):
                    out[k, j, i] = source[k, j, i]
                low = max(0, (k if axis == 0 else j) - reach)
                high = min(nk if axis == 0 else nj, (k if axis == 0 else j) + reach + 1)
                for d in range(low, high):
                    kk, jj = (d, j) if axis == 0 else (k, d)
                    if highest:
                        for i in range(ni):
                            out[k, j, i] = max(out[k, j, i], source[kk, jj, i])
                    else:
                        for i in range(ni):
                            out[k, j, i] = min(out[k, j, i], source[kk, jj, i])


@njit
def _flood(
    index: NDArray[np.int32],
    flat: NDArray[np.int64],
    valley: NDArray[np.int16],
    label: NDArray[np.uint8],
    spacing: NDArray[np.float64],
) -> None:
    """Dijkstra with circular buckets (Dial 1969), 6-connected: a diagonal gap has no holes for it."""
    nk, nj, ni = index.shape
    n = len(flat)
    deepest = max(0, 2 * int(valley.max())) if n else 0
    steps = np.empty((3, deepest + 1), dtype=np.int32)  # cost of a step along k, j, i by the sum of two valleys
    for axis in range(3):
        for both in range(deepest + 1):
            depth = 0.5 * both / VALLEY_HU
            steps[axis, both] = min(int(_SCALE * spacing[axis] * (1.0 + depth * depth)) + 1, _MOST)
    cost = np.full(n, 2147483647, dtype=np.int32)
    done = np.zeros(n, dtype=np.bool_)
    buckets = _MOST + 1
    head = np.full(buckets, -1, dtype=np.int64)
    capacity = 2 * n + 1024
    node = np.empty(capacity, dtype=np.int32)
    following = np.empty(capacity, dtype=np.int64)
    free, used, waiting = -1, 0, 0
    for v in range(n):
        if label[v] > 0:
            cost[v] = 0
            node[used], following[used] = v, head[0]
            head[0] = used
            used += 1
            waiting += 1
    now = 0
    while waiting > 0:
        bucket = now % buckets
        while head[bucket] >= 0:
            e = head[bucket]
            head[bucket] = following[e]
            v = node[e]
            following[e] = free
            free = e
            waiting -= 1
            if done[v] or cost[v] != now:
                continue
            done[v] = True
            f = flat[v]
            k = f // (nj * ni)
            j = (f // ni) % nj
            i = f % ni
            for way in range(6):
                kk, jj, ii = k, j, i
                if way == 0:
                    kk = k - 1
                elif way == 1:
                    kk = k + 1
                elif way == 2:
                    jj = j - 1
                elif way == 3:
                    jj = j + 1
                elif way == 4:
                    ii = i - 1
                else:
                    ii = i + 1
                if kk < 0 or jj < 0 or ii < 0 or kk >= nk or jj >= nj or ii >= ni:
                    continue
                u = index[kk, jj, ii]
                if u < 0 or done[u]:
                    continue
                total = now + steps[way // 2, max(0, int(valley[u]) + int(valley[v]))]
                if total < cost[u]:
                    cost[u] = total
                    label[u] = label[v]
                    if free >= 0:
                        e = free
                        free = following[e]
                    else:
                        if used == capacity:
                            more = np.empty(2 * capacity, dtype=np.int32)
                            more[:capacity] = node
                            node = more
                            also = np.empty(2 * capacity, dtype=np.int64)
                            also[:capacity] = following
                            following = also
                            capacity *= 2
                        e = used
                        used += 1
                    node[e] = u
                    following[e] = head[total % buckets]
                    head[total % buckets] = e
                    waiting += 1
        now += 1
