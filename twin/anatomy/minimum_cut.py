"""The minimum cut of a graph whose nodes have six neighbours at most, by the blocking flows of Dinic (1970)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spatial.compiled import njit

ENDLESS = 2**30  # what a node supplies or demands that is on its side for good


@njit
def source_side(
    supply: NDArray[np.int32], demand: NDArray[np.int32], beside: NDArray[np.int32], room: NDArray[np.int32]
) -> NDArray[np.bool_]:
    """Which nodes (N,) stay with the source when the greatest flow runs from all supply (N,) to all demand (N,).

    `beside` (N, 6): each node's neighbours up and down along three axes, or -1; way 2 a of a node is way 2 a + 1 of its
    neighbour. `room` (N, 6): the capacity of each link, in either direction; above zero. No node has both a supply and
    a demand. All three amounts are used up.
    """
    n = len(supply)
    level = np.empty(n, dtype=np.int32)
    queue = np.empty(n, dtype=np.int32)
    arc = np.empty(n, dtype=np.int8)
    path = np.empty(n, dtype=np.int32)
    while True:
        sources = _levels(supply, demand, beside, room, level, queue)
        if sources < 0:
            return level >= 0
        arc[:] = 0
        for s in range(sources):
            _push(queue[s], supply, demand, beside, room, level, arc, path)


@njit
def _levels(
    supply: NDArray[np.int32],
    demand: NDArray[np.int32],
    beside: NDArray[np.int32],
    room: NDArray[np.int32],
    level: NDArray[np.int32],
    queue: NDArray[np.int32],
) -> int:
    """How many links each node lies from a source, -1 out of reach; returns the number of sources, which come first in
    the queue, or -1: no demand is in reach.
    """
    last = 0
    level[:] = -1
    for v in range(len(supply)):
        if supply[v] > 0:
            level[v] = 0
            queue[last] = v
            last += 1
    sources, first, end = last, 0, -1
    while first < last:
        v = queue[first]
        first += 1
        if end >= 0 and level[v] >= end:
            break
        for way in range(6):
            u = beside[v, way]
            if u >= 0 and room[v, way] > 0 and level[u] < 0:
                level[u] = level[v] + 1
                if demand[u] > 0:
                    end = level[u]
                else:
                    queue[last] = u
                    last += 1
    return sources if end >= 0 else -1


@njit
def _push(
    source: int,
    supply: NDArray[np.int32],
    demand: NDArray[np.int32],
    beside: NDArray[np.int32],
    room: NDArray[np.int32],
    level: NDArray[np.int32],
    arc: NDArray[np.int8],
    path: NDArray[np.int32],
) -> None:
    """Send what a source has along shortest ways until none is left; `arc`: the next way to try of each node."""
    depth = 0
    path[0] = source
    while depth >= 0 and supply[source] > 0:
        v = path[depth]
        if demand[v] > 0:
            least = min(supply[source], demand[v])
            for d in range(depth):
                least = min(least, room[path[d], arc[path[d]]])
            supply[source] -= least
            demand[v] -= least
            back = depth - 1
            for d in range(depth - 1, -1, -1):
                u, way = path[d], arc[path[d]]
                room[u, way] -= least
                room[beside[u, way], way ^ 1] += least
                if room[u, way] == 0:
                    back = d
            depth = back
            continue
        while arc[v] < 6:
            u = beside[v, arc[v]]
            if u >= 0 and room[v, arc[v]] > 0 and level[u] == level[v] + 1:
                break
            arc[v] += 1
        if arc[v] < 6:
            depth += 1
            path[depth] = beside[v, arc[v]]
        else:
            level[v] = -2  # a dead end
            depth -= 1
            if depth >= 0:
                arc[path[depth]] += 1
