"""Facet joints, looked at once more: the border between two neighbouring vertebrae behind their disc is a minimum cut.

The flood that parts all bones finds every way round a joint: one bright speck across the gap, or its rim, where the
gap opens to the outside and shows no valley; then the tip of an articular process goes to the nearer vertebra. A cut
weighs the whole border instead: of all surfaces that part the two bones within REACH_MM of where they were found to
touch, it is the one through the least and darkest bone (Boykov and Jolly 2001).
It needs voxels that show a gap. Where the slices are so thick that shells had to be closed it errs more often than the
flood (phantoms of 3 mm), and is not asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spatial.compiled import njit
from spatial.frames import Patient
from spatial.rigid import Array, Points
from twin.anatomy import minimum_cut
from twin.anatomy.canal import Canal
from twin.anatomy.parting import CORTEX_HU
from twin.anatomy.surface import Box
from twin.scan.volume import Grid

REACH_MM = 10.0  # longer than the tips that the flood gives away
BESIDE_MM = 45.0  # to either side of the canal, and
BEHIND_MM = 50.0  # behind its middle: as far as joints and spinous processes that touch
FRONT_MM = 2.0  # in front of the canal's middle begins the disc
MARGIN_MM = 15.0
DARKEST = 0.05  # of cortex's strength has the darkest voxel that counts as bone
UPRIGHT = 1.5  # a border across the canal is this much stronger than one along it: facet joints stand upright
LOYALTY = 0.015  # of cortex's strength a square millimetre costs a cubic millimetre that changes hands
STEP_HU = 4  # of light
_FINE = 1000.0  # units of strength: cortex of a square millimetre


@dataclass(frozen=True, eq=False)
class Arches:
    """The box (k, j, i) of a grid that holds the vertebral arches, and how bright bone is there, in steps of STEP_HU
    up to cortex: marrow as cortex, a joint's gap by its valley darker than it is.
    """

    box: Box
    light: NDArray[np.uint8]

    @classmethod
    def of(
        cls, hu: NDArray[np.int16], marrow: NDArray[np.bool_], valley: NDArray[np.int16], grid: Grid, canal: Canal
    ) -> Arches:
        """From the whole grid's fields (k, j, i); copies its part of them."""
        corners = [
            canal.centre_mm + beside * canal.left + front * canal.anterior
            for beside in (-BESIDE_MM, BESIDE_MM)
            for front in (-BEHIND_MM, MARGIN_MM)
        ]
        at = grid.index_from_patient(Points[Patient](np.concatenate(corners)))[:, ::-1]
        low = np.clip(np.floor(at.min(axis=0)), 0, hu.shape).astype(int).tolist()
        high = np.clip(np.ceil(at.max(axis=0)) + 1, low, hu.shape).astype(int).tolist()
        box = (slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2]))
        light = np.clip(hu[box], 0, CORTEX_HU)
        light[marrow[box]] = CORTEX_HU
        light -= valley[box]
        return cls(box, (np.maximum(light, 0) // STEP_HU).astype(np.uint8))


def settle(labels: NDArray[np.uint8], arches: Arches, grid: Grid, canal: Canal, spine: Mapping[int, int]) -> None:
    """Part neighbouring vertebrae anew, in place (k, j, i); `spine`: place from below by label, the sacrum too."""
    place = np.full(256, -1, dtype=np.int64)
    place[list(spine)] = list(spine.values())
    label = {n: number for number, n in spine.items()}
    block = labels[arches.box]
    at, below = _contacts(block, place)
    start = np.array([s.start for s in arches.box])
    local = canal.coordinates(grid.patient_from_index((at + start)[:, ::-1].astype(float)).mm)
    behind = (local[:, 2] < FRONT_MM) & (np.abs(local[:, 1]) < BESIDE_MM)
    spacing = np.ascontiguousarray(grid.spacing_mm[::-1])
    reach = np.ceil(REACH_MM / spacing).astype(int) + 2
    loyalty = max(1, round(_FINE * LOYALTY * float(np.prod(spacing))))
    for n in np.unique(below[behind]).tolist():
        touching = at[behind & (below == n)]
        centre, ahead, up = _frame(canal, float(local[behind & (below == n), 0].mean()))
        low = np.maximum(touching.min(axis=0) - reach, 0)
        high = np.minimum(touching.max(axis=0) + reach + 1, block.shape)
        part = (slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2]))
        front = _in_front(grid, centre, ahead, start + low)
        index, nodes, sure = _zone(block[part], touching - low, label[n], label[n + 1], spacing, front)
        if len(np.unique(sure)) < 3:
            continue  # one of the two is nowhere sure
        beside, room = _links(arches.light[part], index, nodes, sure, _strengths(grid, up))
        k, j, i = nodes.T
        lower = block[part][k, j, i] == label[n]
        amount = np.where(sure > 0, minimum_cut.ENDLESS, loyalty)
        supply, demand = (np.where(mine, amount, 0).astype(np.int32) for mine in (lower, ~lower))
        stays = minimum_cut.source_side(supply, demand, beside, room)
        block[part][k, j, i] = np.where(stays, label[n], label[n + 1])


def _frame(canal: Canal, along_mm: float) -> tuple[Array, Array, Array]:
    """The canal's middle at a height (3,), its anterior and its cranial direction."""
    ends = canal.points(np.array([[along_mm, 0.0, 0.0], [along_mm, 0.0, 1.0], [along_mm + 1.0, 0.0, 0.0]]))
    return ends[0], ends[1] - ends[0], ends[2] - ends[0]


def _in_front(grid: Grid, centre_mm: Array, ahead: Array, start_kji: NDArray[np.int64]) -> Array:
    """(4,): factors of k, j, i and an offset for how far (mm) a block's voxel lies in front of FRONT_MM."""
    origin, *ends = grid.patient_from_index((np.vstack([np.zeros(3), np.eye(3)]) + start_kji[::-1]).astype(float)).mm
    i, j, k = (float((end - origin) @ ahead) for end in ends)
    return np.array([k, j, i, (origin - centre_mm) @ ahead - FRONT_MM])


def _strengths(grid: Grid, up: Array) -> NDArray[np.int32]:
    """Of the link between two voxels along k, j, i, by the darker one's light: its face, its bone, its direction."""
    bone = np.maximum((np.arange(CORTEX_HU // STEP_HU + 1) * STEP_HU / CORTEX_HU) ** 2, DARKEST)
    face_mm2 = np.prod(grid.spacing_mm) / grid.spacing_mm * (1.0 + (UPRIGHT - 1.0) * np.abs(grid.axes.T @ up))
    return np.asarray(np.maximum(np.round(_FINE * np.outer(face_mm2[::-1], bone)), 1.0), dtype=np.int32)


@njit
def _contacts(labels: NDArray[np.uint8], place: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Voxels (N, 3) that touch the next vertebra by a face, and the place of the lower of the two."""
    nk, nj, ni = labels.shape
    at = np.empty((1024, 3), dtype=np.int64)
    below = np.empty(1024, dtype=np.int64)
    n = 0
    for k in range(nk - 1):
        for j in range(nj - 1):
            for i in range(ni - 1):
                mine = labels[k, j, i]
                if mine == 0:
                    continue
                alone = True
                for other in (labels[k + 1, j, i], labels[k, j + 1, i], labels[k, j, i + 1]):
                    alone &= other == mine or other == 0
                if alone:
                    continue
                for axis in range(3):
                    kk, jj, ii = k + (axis == 0), j + (axis == 1), i + (axis == 2)
                    other = labels[kk, jj, ii]
                    if place[mine] < 0 or place[other] < 0 or abs(place[mine] - place[other]) != 1:
                        continue
                    if n + 2 > len(at):
                        at = np.concatenate((at, np.empty_like(at)))
                        below = np.concatenate((below, np.empty_like(below)))
                    at[n, 0], at[n, 1], at[n, 2] = k, j, i
                    at[n + 1, 0], at[n + 1, 1], at[n + 1, 2] = kk, jj, ii
                    below[n] = below[n + 1] = min(place[mine], place[other])
                    n += 2
    return at[:n].copy(), below[:n].copy()


@njit
def _zone(
    labels: NDArray[np.uint8], contacts: NDArray[np.int64], lower: int, upper: int, spacing: Array, front: Array
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.uint8]]:
    """What is open to question: index (k, j, i) of each voxel there, else -1; the voxels (N, 3); and whether a voxel is
    surely the lower vertebra's (1), the upper's (2), or open (0).

    It grows through both bones from the contacts, each voxel as far away as the contact from which it was reached.
    What is REACH_MM away, in front, or at the block's edge is sure.
    """
    nk, nj, ni = labels.shape
    index = np.full(labels.shape, -1, dtype=np.int32)
    nodes = np.empty((4096, 3), dtype=np.int32)
    came = np.empty(4096, dtype=np.int32)
    n = 0
    for c in range(len(contacts)):
        k, j, i = contacts[c]
        if index[k, j, i] < 0:
            if n == len(nodes):
                nodes = np.concatenate((nodes, np.empty_like(nodes)))
                came = np.concatenate((came, np.empty_like(came)))
            nodes[n, 0], nodes[n, 1], nodes[n, 2], came[n] = k, j, i, n
            index[k, j, i] = n
            n += 1
    sure = np.zeros(labels.size, dtype=np.uint8)
    v = 0
    while v < n:
        k, j, i = nodes[v, 0], nodes[v, 1], nodes[v, 2]
        away = 0.0
        for axis in range(3):
            away += ((nodes[v, axis] - nodes[came[v], axis]) * spacing[axis]) ** 2
        if (
            away > REACH_MM * REACH_MM
            or front[0] * k + front[1] * j + front[2] * i + front[3] > 0.0
            or min(k, j, i) == 0
            or k == nk - 1
            or j == nj - 1
            or i == ni - 1
        ):
            sure[v] = 1 if labels[k, j, i] == lower else 2
            v += 1
            continue
        for way in range(6):
            step = 1 - 2 * (way % 2)
            kk, jj, ii = k + step * (way < 2), j + step * (way // 2 == 1), i + step * (way > 3)
            if index[kk, jj, ii] >= 0 or (labels[kk, jj, ii] != lower and labels[kk, jj, ii] != upper):
                continue
            if n == len(nodes):
                nodes = np.concatenate((nodes, np.empty_like(nodes)))
                came = np.concatenate((came, np.empty_like(came)))
            nodes[n, 0], nodes[n, 1], nodes[n, 2], came[n] = kk, jj, ii, came[v]
            index[kk, jj, ii] = n
            n += 1
        v += 1
    return index, nodes[:n].copy(), sure[:n].copy()


@njit
def _links(
    light: NDArray[np.uint8],
    index: NDArray[np.int32],
    nodes: NDArray[np.int32],
    sure: NDArray[np.uint8],
    strength: NDArray[np.int32],
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Each voxel's neighbours (N, 6) up and down along k, j, i, or -1, and how much flow has room between them."""
    beside = np.full((len(nodes), 6), -1, dtype=np.int32)
    room = np.zeros((len(nodes), 6), dtype=np.int32)
    for v in range(len(nodes)):
        k, j, i = nodes[v, 0], nodes[v, 1], nodes[v, 2]
        for axis in range(3):
            kk, jj, ii = k + (axis == 0), j + (axis == 1), i + (axis == 2)
            if kk == index.shape[0] or jj == index.shape[1] or ii == index.shape[2]:
                continue
            u = index[kk, jj, ii]
            if u < 0 or (sure[v] > 0 and sure[u] > 0):
                continue
            beside[v, 2 * axis], beside[u, 2 * axis + 1] = u, v
            room[v, 2 * axis] = room[u, 2 * axis + 1] = strength[axis, min(light[k, j, i], light[kk, jj, ii])]
    return beside, room
