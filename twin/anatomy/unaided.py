"""The segmenter that needs nothing but the CT.

Bone by threshold, cavities filled; canal -> discs -> markers (working grid) -> parting at full resolution.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spatial.allocator import trim
from spatial.compiled import njit_parallel, prange
from spatial.faults import Fault
from spatial.frames import Patient
from spatial.progress import Progress
from spatial.rigid import Array, Points
from twin.anatomy import (
    articulations,
    bodies,
    body,
    bone_mask,
    discs,
    hips,
    levels,
    markers,
    metal,
    parting,
    ribs,
    sealing,
    spineless,
    streaks,
    turning,
    working,
)
from twin.anatomy import canal as canals
from twin.anatomy import naming as names_of
from twin.anatomy.bone_mask import Halo
from twin.anatomy.canal import Canal, NoSpine
from twin.anatomy.hips import Pelvis
from twin.anatomy.levels import Segment
from twin.anatomy.markers import Marker
from twin.anatomy.metal import Metal
from twin.anatomy.naming import Naming, Ribs
from twin.anatomy.runs import Runs
from twin.anatomy.segmentation import Segmented
from twin.anatomy.surface import Box, bounding_boxes
from twin.anatomy.working import Working
from twin.scan.relabel import mapped
from twin.scan.volume import Grid, LabelMap, Volume

BESIDE_ILIUM = (1, 2)  # vertebrae above the sacrum
DISC_MM, DISC_HALF_MM = (7.0, 48.0), 30.0  # in front of the canal, and to either side: where a disc's space is sought
DISC_MARGIN_MM = 5.0  # about the box of its corners, since the canal is curved
DISC_RISE_HU = (70, 40)  # of thin slices; of thick ones, in which endplates blur into the disc
SURE, NEVER = 255, 254
LEAST_BONE_ML = 1.0
RIB_END_MM = 40.0  # a rib whose medial end is further from the canal was not seen to reach the spine
CUT_MM = 4.0  # a rib that comes this near to the first or last slice may go on beyond it


class NoBones(Fault):
    """A CT in which no bone could be told from another."""


@dataclass(frozen=True, eq=False)
class Known:
    """What the working grid (z, y, x) knows of bone that a threshold at full resolution does not.

    `word` is by how much HU bone must be brighter there than the threshold (disc space, the halo of metal), 0 where
    nothing is known; or SURE: bone, however dark; or NEVER: no bone, however bright.
    """

    word: NDArray[np.uint8]

    @classmethod
    def of(cls, sure: NDArray[np.bool_], never: NDArray[np.bool_], rise_hu: NDArray[np.uint8]) -> Known:
        """What is `sure` needs no brightness, and what is `never` bone is not even sure."""
        word = np.minimum(rise_hu, np.uint8(NEVER - 1))
        word[sure] = SURE
        word[never] = NEVER
        return cls(word)

    def correct(self, bone: NDArray[np.bool_], hu: NDArray[Any], threshold: float, finer: Finer) -> None:
        """Correct bone by threshold, in place; `finer` brings a working field to the grid of `bone`."""
        _correct(bone, hu, threshold, finer(self.word))


Finer = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]


@njit_parallel
def _correct(bone: NDArray[np.bool_], hu: NDArray[Any], threshold: float, word: NDArray[np.uint8]) -> None:
    nk, nj, ni = bone.shape
    for k in prange(nk):
        for j in range(nj):
            for i in range(ni):
                said = word[k, j, i]
                if said == SURE:
                    bone[k, j, i] = True
                elif said == NEVER or (said > 0 and hu[k, j, i] < threshold + said):
                    bone[k, j, i] = False


def segment(volume: Volume, progress: Progress) -> Segmented:
    """Label the bones of a CT; raises NoBones, NoSpine."""
    progress("finding the spinal canal", 0.0)
    volume, stain = streaks.cleared(volume)
    coarse = body.patient(working.prepare(volume))
    implant = metal.find(volume, coarse)
    if implant is not None:
        coarse = metal.replaced(coarse, implant, metal.IN_BONE_HU)
    soft = bone_mask.soft_tissue(volume)
    try:
        canal, turn_deg = turning.turned(coarse, canals.find(coarse, soft.muscle_hu, soft.noise_hu), soft.bone_hu)
        progress("finding the discs", 0.3)
        chain = discs.find(coarse, canal, soft.bone_hu)
        spineless.refuse_hollow(coarse, canal, len(chain), soft.muscle_hu)
    except NoSpine as fault:
        if implant is not None:  # a stem's metal must not stand in a joint as bone
            coarse = metal.replaced(coarse, implant, metal.IN_JOINT_HU)
        return spineless.segment(volume, coarse, soft.bone_hu, progress, fault)
    spine = levels.segments(coarse, canal, chain, soft.bone_hu)
    threshold = soft.bone_hu
    open_shells = float(np.cbrt(np.prod(volume.grid.spacing_mm))) > bone_mask.THICK_MM
    halo = None if implant is None else metal.halo(implant, stain, coarse)
    bone = bone_mask.above(coarse.hu, threshold, (coarse.spacing_mm,) * 3, halo)
    if open_shells:
        bone = bone_mask.closed(bone, coarse, canal)
    pelvis = _pelvis(coarse, canal, spine, implant)
    known = _known(coarse, canal, chain, spine, bone, implant, pelvis, open_shells)
    known.correct(bone, coarse.hu, threshold, lambda field: field)
    if open_shells and pelvis is not None:
        bone |= hips.spongiosa(coarse, bone, canal, pelvis)
    seeds = _seeds(coarse, canal, spine, bone, pelvis)
    if not any(m.bone.startswith("segment") for m in seeds):
        raise NoBones(f"a canal of {canal.along_mm[-1]:.0f} mm but no vertebra beside it; is the scan a CT in HU?")
    progress("telling the bones apart", 0.4)
    keys = sorted({m.bone for m in seeds if len(m.zyx)})
    marks = _marks(seeds, keys, bone.shape)
    box, grid = _around(coarse, bone, marks, volume.grid)
    parted = _parted(
        volume.hu[box], grid, coarse, bone, open_shells, known, marks, keys, canal, pelvis, threshold, halo
    )
    vertebrae = [n for n, k in enumerate(keys, 1) if k.startswith("segment") and not spine[int(k[8:])].is_sacrum]
    sealing.seal(parted, volume.hu[box], grid, vertebrae)
    progress("naming the bones", 0.85)
    names, naming = _named(parted, grid, _ends_mm(volume.grid), canal, spine, keys)
    parted, found = _relabelled(parted, keys, names, grid.voxel_ml)
    labels = np.zeros(volume.grid.shape, dtype=np.uint8)
    labels[box] = parted
    settings: dict[str, Any] = {
        "segmenter": "default",
        "bone_hu": threshold,
        "shells_closed": open_shells,
        "discs": len(chain),
        "canal_mm": round(float(canal.along_mm[-1]), 1),
        "turn_deg": round(turn_deg, 1),
        "sacrum_seen": any(s.is_sacrum for s in spine),
        "femoral_heads_seen": 0 if pelvis is None else len(pelvis.heads),
    }
    warnings = naming.warnings
    if implant is not None:
        settings["metal_ml"] = round(implant.volume_ml, 2)
        warnings += (f"metal in the scan ({implant.volume_ml:.1f} mL): its streaks blur the bones beside it",)
    return Segmented(
        LabelMap(volume.grid, labels, found), naming.confidence, warnings, settings, naming.evidence,
        naming.transitional,
    )  # fmt: skip


def _known(
    coarse: Working,
    canal: Canal,
    chain: tuple[discs.Disc, ...],
    spine: tuple[Segment, ...],
    bone: NDArray[np.bool_],
    implant: Metal | None,
    pelvis: Pelvis | None,
    open_shells: bool,
) -> Known:
    between = _disc_space(coarse, canal, chain)
    sure, never = bodies.fill_and_clear(coarse, canal, bodies.find(coarse, canal, spine))
    rise = np.where(between, np.uint8(DISC_RISE_HU[open_shells]), np.uint8(0))
    if implant is not None:
        sockets = () if pelvis is None else pelvis.heads
        sure, never = metal.settled(bone, sure, never, between, implant, coarse, canal, sockets)
    elif not open_shells:
        sure |= bone_mask.hollows((bone | sure) & ~never & ~between, coarse, canal) & ~never & ~between
    return Known.of(sure, never, rise)


def _disc_space(coarse: Working, canal: Canal, chain: tuple[discs.Disc, ...]) -> NDArray[np.bool_]:
    """Working voxels between the endplates of a disc, a millimetre kept from either."""
    out = np.zeros(coarse.hu.shape, dtype=np.bool_)
    for disc in chain:
        left, front = np.array(list(product((-DISC_HALF_MM, DISC_HALF_MM), DISC_MM))).T
        rim = [np.column_stack([plate(left, front), left, front]) for plate in (disc.lower_at, disc.upper_at)]
        zyx = coarse.around(canal.points(np.concatenate(rim)), DISC_MARGIN_MM)
        at = canal.coordinates(coarse.patient_from_index(zyx))
        inside = at[:, 0] < disc.upper_at(at[:, 1], at[:, 2]) - 1.0
        inside &= at[:, 0] > disc.lower_at(at[:, 1], at[:, 2]) + 1.0
        inside &= (at[:, 2] > DISC_MM[0]) & (at[:, 2] < DISC_MM[1]) & (np.abs(at[:, 1]) < DISC_HALF_MM)
        out[tuple(zyx[inside].T)] = True
    return out


def _pelvis(coarse: Working, canal: Canal, spine: tuple[Segment, ...], implant: Metal | None) -> Pelvis | None:
    """Where the pelvis stands; None without a sacrum."""
    if not (spine and spine[0].is_sacrum and spine[0].above is not None):
        return None
    top = spine[0].above
    s1 = canal.points(np.array([top.lower_mm, 0.0, 22.0]))
    found = metal.heads_beside(coarse, implant, float(s1[0]), float(s1[2]) - 30.0)
    return Pelvis.under(canal, top, spine[min(2, len(spine) - 1)].below or top, found)


def _seeds(
    coarse: Working, canal: Canal, spine: tuple[Segment, ...], bone: NDArray[np.bool_], pelvis: Pelvis | None
) -> list[Marker]:
    """Markers under keys: `segment_N` (counted from below), `rib_N` (pieces), hips and femora by name."""
    near = markers.around(coarse, canal, bone)
    column = markers.column(near)
    seeds: list[Marker] = []
    for n, segment_ in enumerate(spine):
        seeds += markers.vertebral(
            column, segment_, f"segment_{n:02d}", beside_ilium=spine[0].is_sacrum and n in BESIDE_ILIUM
        )
    lowest = canal.along_mm[0] - 60.0
    top = spine[0].above
    if pelvis is not None and top is not None:
        for m in hips.markers(coarse, near, bone, pelvis):
            seeds.append(Marker("segment_00", m.zyx) if m.bone == "sacrum" else m)
        lowest = (spine[min(3, len(spine) - 1)].below or top).along_mm
    for n, piece in enumerate(ribs.pieces(coarse, near, lowest)[:150]):
        seeds.append(Marker(f"rib_{n:03d}", piece))
    return [m for m in seeds if len(m.zyx)]


def _marks(seeds: list[Marker], keys: list[str], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """The markers on the working grid (z, y, x): each key's number, from 1."""
    marks = np.zeros(shape, dtype=np.uint8)
    for m in reversed(seeds):  # earlier markers win
        marks[tuple(m.zyx.T)] = keys.index(m.bone) + 1
    return marks


def _around(coarse: Working, bone: NDArray[np.bool_], marks: NDArray[np.uint8], grid: Grid) -> tuple[Box, Grid]:
    """The box (k, j, i) of a grid, with its own grid, that holds the pieces of working bone that have a marker."""
    import cc3d

    pieces = cc3d.connected_components(bone.view(np.uint8), connectivity=26)
    marked = np.zeros(int(pieces.max()) + 1, dtype=np.bool_)
    marked[pieces[marks > 0]] = True
    marked[0] = False
    ends = [(s.start, s.stop - 1) for s in bounding_boxes(marked[pieces].view(np.uint8))[1]]
    corners = coarse.patient_from_index(np.array(list(product(*ends))))
    index = grid.index_from_patient(Points[Patient](corners))
    margin = 3.0 + coarse.spacing_mm / grid.spacing_mm
    low = np.clip(np.floor(index.min(axis=0) - margin), 0, np.array(grid.size) - 1).astype(int)
    high = np.clip(np.ceil(index.max(axis=0) + margin) + 1, low + 1, grid.size).astype(int)
    (i, j, k), (i_end, j_end, k_end) = low.tolist(), high.tolist()
    return (slice(k, k_end), slice(j, j_end), slice(i, i_end)), grid.cropped(
        (i, j, k), (i_end - i, j_end - j, k_end - k)
    )


def _parted(
    hu: NDArray[np.int16],
    grid: Grid,
    coarse: Working,
    bone: NDArray[np.bool_],
    open_shells: bool,
    known: Known,
    marks: NDArray[np.uint8],
    keys: list[str],
    canal: Canal,
    pelvis: Pelvis | None,
    threshold: float,
    halo: Halo | None,
) -> NDArray[np.uint8]:
    """The number of each voxel's key, at full resolution; 0 is no bone."""
    trim()
    spacing = (float(grid.spacing_mm[2]), float(grid.spacing_mm[1]), float(grid.spacing_mm[0]))
    beside = None if halo is None else halo.on(lambda field: working.on_grid(field, coarse, grid))
    fine = bone_mask.above(hu, threshold, spacing, beside)
    if open_shells:
        fine |= working.on_grid(bone.astype(np.uint8), coarse, grid) > 0
    known.correct(fine, hu, threshold, lambda field: working.on_grid(field, coarse, grid))
    marrow = parting.marrow(hu, fine, threshold)
    valley = parting.valleys(hu, marrow, spacing)
    arches = None if open_shells else articulations.Arches.of(hu, marrow, valley, grid, canal)
    sockets = () if pelvis is None else pelvis.heads
    for head in sockets:
        hips.deepen(valley, grid, head)
    depth = valley[fine]
    del hu, marrow, valley
    parted = parting.part(fine, depth, working.on_grid(marks, coarse, grid)[fine], spacing)
    if arches is not None:
        places = {n: int(key[8:]) for n, key in enumerate(keys, 1) if key.startswith("segment")}
        articulations.settle(parted, arches, grid, canal, places)
    for head in sockets:
        if not {f"femur_{head.side}", f"hip_{head.side}"} <= set(keys):
            continue  # a head, but too little of either bone to mark
        hips.seat(parted, grid, head, *(keys.index(f"{bone}_{head.side}") + 1 for bone in ("femur", "hip")))
    return parted


def _ends_mm(grid: Grid) -> tuple[float, float]:
    """Height of the lowest slice and of the highest."""
    first, last = (float(grid.patient_from_index(np.array([0.0, 0.0, k])).mm[2]) for k in (0.0, grid.size[2] - 1.0))
    return min(first, last), max(first, last)


def _named(
    labels: NDArray[np.uint8],
    grid: Grid,
    ends_mm: tuple[float, float],
    canal: Canal,
    spine: tuple[Segment, ...],
    keys: list[str],
) -> tuple[dict[str, str], Naming]:
    """Bone names by key: vertebrae by count, ribs by the vertebra that their medial end lies at, or by their order.

    `ends_mm` are the heights between which the scan sees anything.
    """
    standing: dict[str, int] = {}
    at: dict[str, Array] = {}
    heights: dict[str, Array] = {}
    borne = [Ribs() for _ in spine]
    boxes = bounding_boxes(labels)
    for number, key in enumerate(keys, 1):
        if not key.startswith("rib") or number not in boxes:
            continue
        k, j, i = np.nonzero(labels[boxes[number]] == number)
        start = [s.start for s in boxes[number]]
        thin = slice(None, None, max(1, len(k) // 20000))
        ijk = np.column_stack([i[thin] + start[2], j[thin] + start[1], k[thin] + start[0]])
        points = grid.patient_from_index(ijk).mm
        at[key], heights[key] = canal.coordinates(points), points[:, 2]
        end = at[key][np.argsort(np.abs(at[key][:, 1]))[: max(5, len(points) // 50)]].mean(axis=0)
        n = _segment_at(spine, end) if abs(end[1]) <= RIB_END_MM else None
        if n is None or spine[n].is_sacrum:
            continue
        standing[key] = n
        whole = points[:, 2].min() > ends_mm[0] + CUT_MM and points[:, 2].max() < ends_mm[1] - CUT_MM
        length = float(np.linalg.norm(np.ptp(points, axis=0))) if whole else None
        seen = borne[n]
        longest = (
            None if length is None or (seen.sides and seen.length_mm is None) else max(length, seen.length_mm or 0)
        )
        borne[n] = Ribs(seen.sides | {"left" if end[1] > 0 else "right"}, longest)
    naming = names_of.named(spine, borne)
    names = {key: naming.names[int(key[8:])] for key in keys if key.startswith("segment")}
    names |= {key: key for key in keys if not key.startswith(("segment", "rib"))}
    for side, sign in (("left", 1.0), ("right", -1.0)):
        mine = {key: where for key, where in at.items() if sign * float(np.median(where[:, 1])) > 0}
        known = {key: _thoracic(naming.names[n]) for key, n in standing.items() if key in mine}
        numbers = ribs.numbered(mine, heights, {key: n for key, n in known.items() if n > 0})
        names |= {key: f"rib_{side}_{n}" for key, n in numbers.items()}
    return {k: v for k, v in names.items() if v}, naming


def _thoracic(name: str) -> int:
    """The number of a thoracic vertebra, 0 of any other."""
    return int(name[11:]) if name.startswith("vertebrae_T") else 0


def _segment_at(spine: tuple[Segment, ...], at: Array) -> int | None:
    """The vertebra whose height, half the disc above it included, holds the canal coordinates (3,)."""
    for n, segment_ in enumerate(spine):
        up, down = segment_.heights_mm(np.array([at[0], at[1], 22.0]))
        if up > -1.0 and down > -8.0:
            return n
    return None


def _relabelled(
    labels: NDArray[np.uint8], keys: list[str], names: dict[str, str], voxel_ml: float
) -> tuple[NDArray[np.uint8], dict[int, str]]:
    """Labels by bone name, one connected part a bone; what is too small or unnamed is no bone."""
    bones = sorted(set(names.values()))
    table = np.zeros(256, dtype=np.uint8)
    for n, key in enumerate(keys, 1):
        table[n] = bones.index(names[key]) + 1 if key in names else 0
    out = mapped(labels, table)
    parts = Runs.of(out)
    ml = parts.size * voxel_ml
    kept = np.zeros(len(ml), dtype=np.bool_)
    for n in np.unique(parts.number):
        mine = np.flatnonzero((parts.number == n) & (ml >= LEAST_BONE_ML))
        if len(mine):  # of the sacrum the crest may be apart
            kept[mine if bones[n - 1] == "sacrum" else mine[np.argmax(ml[mine])]] = True
    parts.write(out, np.where(kept, parts.number, 0))
    return out, {int(n): bones[n - 1] for n in np.unique(parts.number[kept])}
