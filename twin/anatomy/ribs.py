"""Ribs: which bone beside the spine is rib, on which vertebra each stands, and which number one has whose head the
scan did not catch.

A rib is thin, long and falls as it runs outward; a transverse process stays at its vertebra's height. In an axial
slice the ribs of a side are met in order: from the spine forward along the wall each is the next higher one.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from spatial.rigid import Array
from twin.anatomy.markers import Spine
from twin.anatomy.working import Working

LATERAL_MM = 46.0  # beyond every transverse process
LEAST_MM = 25.0  # long
THICKEST_MM = 7.5  # half; a humerus beside the trunk is thicker
INNER_MM = 26.0  # a head that the scan's edge cuts off from its rib lies further out than this
DROP_MM = 8.0  # what falls less as it runs outward may be a transverse process
STEEP = 0.35
LEAST_VOXELS = 30
TRUNK_MM = 80.0  # from the canal forward to the middle of the trunk, about which the ribs of a slice are ordered
LEAST_SLICES = 2
FOREMOST_DEG = 110.0  # further forward end the ribs, and calcified cartilage looks like more of them
WIDEST_GAP_DEG = 50.0  # between neighbours in a slice: further apart one may be missing


def pieces(working: Working, spine: Spine, bottom_mm: float) -> list[NDArray[np.int64]]:
    """Voxels (N, 3) of each piece of rib above `bottom_mm` along the canal, largest first."""
    s, lateral, anterior = spine.at.T
    outer = np.abs(lateral) > LATERAL_MM
    found = [
        piece
        for piece, _ in _connected(spine.zyx, spine.at, outer & (s > bottom_mm), working.spacing_mm)
        if np.linalg.norm(np.ptp(piece, axis=0)) * working.spacing_mm > LEAST_MM
    ]
    taken = {tuple(v) for piece in found for v in piece.tolist()}
    inner = (np.abs(lateral) > INNER_MM) & (s > bottom_mm) & (anterior < 20.0)
    for piece, at in _connected(spine.zyx, spine.at, inner, working.spacing_mm):
        if any(tuple(v) in taken for v in piece.tolist()):
            continue
        far = np.abs(at[:, 1])
        if np.ptp(far) <= 8.0:
            continue
        near_end, far_end = far <= np.percentile(far, 20), far >= np.percentile(far, 80)
        drop = float(at[near_end, 0].mean() - at[far_end, 0].mean())
        if drop > max(DROP_MM, STEEP * float(np.ptp(far))):
            found.append(piece[far > np.median(far)])
    return sorted(found, key=len, reverse=True)


def _connected(
    zyx: NDArray[np.int64], at: Array, chosen: NDArray[np.bool_], spacing_mm: float
) -> list[tuple[NDArray[np.int64], Array]]:
    """Thin connected pieces of the chosen voxels with their canal coordinates."""
    import cc3d
    import edt

    zyx, at = zyx[chosen], at[chosen]
    if not len(zyx):
        return []
    low = zyx.min(axis=0) - 1
    block = np.zeros(zyx.max(axis=0) - low + 2, dtype=np.uint8)
    block[tuple((zyx - low).T)] = 1
    parts, count = cc3d.connected_components(block, connectivity=26, return_N=True)
    # thickness across: the scan's last slices don't end a bone
    depth = edt.edt(block, anisotropy=(spacing_mm,) * 3, black_border=False)[tuple((zyx - low).T)]
    number = parts[tuple((zyx - low).T)]
    order = np.argsort(number, kind="stable")
    bounds = np.searchsorted(number[order], np.arange(1, count + 2))
    out = []
    for first, last in itertools.pairwise(bounds.tolist()):
        mine = order[first:last]
        if len(mine) > LEAST_VOXELS and depth[mine].max() <= THICKEST_MM:
            out.append((zyx[mine], at[mine]))
    return out


def numbered(
    at_by_piece: Mapping[str, Array], heights_mm: Mapping[str, Array], known: Mapping[str, int]
) -> dict[str, int]:
    """Rib numbers of one side's pieces: the `known` ones, and those told by their neighbours in the slices.

    `at_by_piece`: canal coordinates (N, 3) of voxels; `heights_mm`: their heights (N,) in the patient.
    """
    votes: dict[tuple[str, str], int] = Counter()
    slices: dict[int, list[tuple[float, str]]] = defaultdict(list)
    for key, at in at_by_piece.items():
        angle = np.degrees(np.arctan2(np.abs(at[:, 1]), TRUNK_MM - at[:, 2]))
        row = np.floor(heights_mm[key] / 3.0).astype(int)
        for n in np.unique(row):
            slices[int(n)].append((float(angle[row == n].mean()), key))
    for met in slices.values():
        met.sort()
        for (one, a), (other, b) in itertools.pairwise(met):
            if other - one < WIDEST_GAP_DEG and other < FOREMOST_DEG:
                votes[a, b] += 1
    numbers = dict(known)
    while True:
        best: tuple[int, str, int] | None = None
        for (a, b), count in votes.items():
            if count < LEAST_SLICES:
                continue
            for here, there, step in ((a, b, -1), (b, a, 1)):
                if here in numbers and there not in numbers and (best is None or count > best[0]):
                    best = (count, there, numbers[here] + step)
        if best is None:
            return {key: n for key, n in numbers.items() if 1 <= n <= 13}
        numbers[best[1]] = best[2]
