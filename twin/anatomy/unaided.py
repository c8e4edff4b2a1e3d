"""The segmenter that needs nothing but the CT.

Bone by threshold, cavities filled; canal -> discs -> markers (working grid) -> parting at full resolution.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spatial.faults import Fault
from spatial.frames import Patient
from spatial.progress import Progress
from spatial.rigid import Array, Points
from twin.anatomy import bone_mask, discs, heads, levels, markers, parting, working
from twin.anatomy import canal as canals
from twin.anatomy.canal import Canal
from twin.anatomy.heads import Head
from twin.anatomy.levels import Segment
from twin.anatomy.markers import Marker
from twin.anatomy.segmentation import Segmented
from twin.anatomy.surface import bounding_boxes, fill_cavities
from twin.anatomy.working import Working
from twin.scan.volume import Grid, LabelMap, Volume

ENCLOSED_HU = 300.0  # dark tissue that bone brighter than this encloses is marrow, never a joint
LEAST_BONE_ML = 1.0
SOCKET_MM = (0.5, 4.5)  # the hip's joint space outside the head's sphere
SOCKET_VALLEY_HU = 350  # how deep a valley the fitted sphere counts as, where the CT shows none
RIB_END_MM = 40.0  # a rib whose medial end is further from the canal was not seen to reach the spine


class NoBones(Fault):
    """A CT in which no bone could be told from another."""


def segment(volume: Volume, progress: Progress) -> Segmented:
    """Label the bones of a CT; raises NoBones, NoSpine."""
    progress("finding the spinal canal", 0.0)
    coarse = working.prepare(volume)
    canal = canals.find(coarse)
    progress("finding the discs", 0.3)
    chain = discs.find(coarse, canal)
    spine = levels.segments(coarse, canal, chain)
    threshold = bone_mask.threshold_hu(volume)
    bone = bone_mask.above(coarse.hu, threshold, (coarse.spacing_mm,) * 3)
    between = _disc_space(coarse, canal, chain)
    open_shells = float(np.cbrt(np.prod(volume.grid.spacing_mm))) > bone_mask.THICK_MM
    if open_shells:
        bone = bone_mask.closed(bone, coarse, canal)
    bone &= ~(between & (coarse.hu < threshold + 70.0))
    sockets = _heads(coarse, canal, spine)
    seeds = _seeds(coarse, canal, spine, bone, sockets)
    if not any(m.bone.startswith("segment") for m in seeds):
        raise NoBones(f"a canal of {canal.along_mm[-1]:.0f} mm but no vertebra beside it; is the scan a CT in HU?")
    progress("telling the bones apart", 0.4)
    keys = sorted({m.bone for m in seeds if len(m.zyx)})
    labels = _parted(volume, coarse, bone, between, seeds, keys, sockets, threshold, open_shells)
    progress("naming the bones", 0.85)
    names, confidence, warnings = _named(labels, volume.grid, canal, spine, keys)
    labels, found = _relabelled(labels, keys, names, volume.grid.voxel_ml)
    settings = {
        "segmenter": "default",
        "bone_hu": threshold,
        "shells_closed": open_shells,
        "discs": len(chain),
        "canal_mm": round(float(canal.along_mm[-1]), 1),
        "sacrum_seen": any(s.is_sacrum for s in spine),
        "femoral_heads_seen": len(sockets),
    }
    return Segmented(LabelMap(volume.grid, labels, found), confidence, warnings, settings)


def _disc_space(coarse: Working, canal: Canal, chain: tuple[discs.Disc, ...]) -> NDArray[np.bool_]:
    """Working voxels between the endplates of a disc, a millimetre kept from either."""
    out = np.zeros(coarse.hu.shape, dtype=np.bool_)
    for disc in chain:
        middle = canal.points(np.array([disc.along_mm, 0.0, 22.0]))
        low = np.clip(np.floor(coarse.index_from_patient(middle - 45.0)[[0, 1, 2]]).astype(int), 0, coarse.hu.shape)
        high = np.clip(np.ceil(coarse.index_from_patient(middle + 45.0)).astype(int), 0, coarse.hu.shape)
        z, y, x = np.meshgrid(*(np.arange(a, b) for a, b in zip(low, high, strict=True)), indexing="ij")
        zyx = np.column_stack([z.ravel(), y.ravel(), x.ravel()])
        at = canal.coordinates(coarse.patient_from_index(zyx))
        front = at[:, 2] - discs.PIVOT_MM
        inside = at[:, 0] < disc.upper_mm - 1.0 + np.tan(disc.upper_tilt_rad) * front
        inside &= at[:, 0] > disc.lower_mm + 1.0 + np.tan(disc.lower_tilt_rad) * front
        inside &= (at[:, 2] > 7.0) & (at[:, 2] < 48.0) & (np.abs(at[:, 1]) < 30.0)
        out[tuple(zyx[inside].T)] = True
    return out


def _heads(coarse: Working, canal: Canal, spine: tuple[Segment, ...]) -> tuple[Head, ...]:
    if not (spine and spine[0].is_sacrum and spine[0].above is not None):
        return ()
    s1 = canal.points(np.array([spine[0].above.lower_mm, 0.0, 22.0]))
    return heads.find(coarse, float(s1[0]), float(s1[2]) - 30.0)


def _seeds(
    coarse: Working, canal: Canal, spine: tuple[Segment, ...], bone: NDArray[np.bool_], sockets: tuple[Head, ...]
) -> list[Marker]:
    """Markers under keys: `segment_N` (counted from below), `rib_N` (pieces), hips and femora by name."""
    near = markers.around(coarse, canal, bone)
    seeds: list[Marker] = []
    for n, segment_ in enumerate(spine):
        seeds += markers.vertebral(near, segment_, f"segment_{n:02d}")
    lowest = canal.along_mm[0] - 60.0
    if spine[0].is_sacrum and spine[0].above is not None:
        top = spine[0].above
        s1 = canal.points(np.array([top.lower_mm, 0.0, 22.0]))
        lower = markers.sacral(coarse, near, canal, top)
        seeds.append(Marker("segment_00", lower.zyx))
        crest = spine[min(2, len(spine) - 1)].below or top
        crest_z = float(canal.points(np.array([crest.along_mm, 0.0, 22.0]))[2])
        seeds += markers.pelvic(coarse, bone, sockets, float(s1[0]), crest_z, float(s1[2]))
        lowest = (spine[min(3, len(spine) - 1)].below or top).along_mm
    for n, piece in enumerate(markers.ribs(coarse, near, lowest)[:150]):
        seeds.append(Marker(f"rib_{n:03d}", piece))
    return [m for m in seeds if len(m.zyx)]


def _parted(
    volume: Volume,
    coarse: Working,
    bone: NDArray[np.bool_],
    between: NDArray[np.bool_],
    seeds: list[Marker],
    keys: list[str],
    sockets: tuple[Head, ...],
    threshold: float,
    open_shells: bool,
) -> NDArray[np.uint8]:
    import cc3d

    marks = np.zeros(coarse.hu.shape, dtype=np.uint8)
    for m in reversed(seeds):  # earlier markers win
        marks[tuple(m.zyx.T)] = keys.index(m.bone) + 1
    pieces = cc3d.connected_components(bone.astype(np.uint8), connectivity=26)
    seeded = np.zeros(int(pieces.max()) + 1, dtype=np.bool_)
    seeded[np.unique(pieces[marks > 0])] = True
    seeded[0] = False
    zyx = np.argwhere(seeded[pieces])
    index = volume.grid.index_from_patient(Points[Patient](coarse.patient_from_index(zyx)))
    margin = 3.0 + coarse.spacing_mm / volume.grid.spacing_mm
    low = np.clip(np.floor(index.min(axis=0) - margin), 0, np.array(volume.grid.size) - 1).astype(int)
    high = np.clip(np.ceil(index.max(axis=0) + margin) + 1, low + 1, volume.grid.size).astype(int)
    box = (slice(low[2], high[2]), slice(low[1], high[1]), slice(low[0], high[0]))
    size = high - low
    grid = volume.grid.cropped((int(low[0]), int(low[1]), int(low[2])), (int(size[0]), int(size[1]), int(size[2])))
    hu = np.ascontiguousarray(volume.hu[box])
    spacing = (float(grid.spacing_mm[2]), float(grid.spacing_mm[1]), float(grid.spacing_mm[0]))
    fine = bone_mask.above(hu, threshold, spacing)
    if open_shells:
        fine |= working.on_grid(bone.astype(np.uint8), coarse, grid) > 0
    fine &= ~((hu < threshold + 70.0) & (working.on_grid(between.astype(np.uint8), coarse, grid) > 0))
    marrow = fine & (hu <= threshold)
    marrow |= fill_cavities(hu > ENCLOSED_HU) & (hu <= ENCLOSED_HU)
    valley = parting.valleys(hu, marrow, spacing)
    for head in sockets:
        _deepen(valley, grid, head)
    out = np.zeros(volume.hu.shape, dtype=np.uint8)
    out[box] = parting.part(
        fine, valley, np.where(fine, working.on_grid(marks, coarse, grid), 0).astype(np.uint8), spacing
    )
    return out


def _deepen(valley: NDArray[np.int16], grid: Grid, head: Head) -> None:
    """Count the joint space around a femoral head as a valley, except toward the neck."""
    r = head.radius_mm + SOCKET_MM[1]
    centre = grid.index_from_patient(Points[Patient](head.centre_mm))
    reach = r / grid.spacing_mm
    low = np.clip(np.floor(centre - reach), 0, grid.size).astype(int)
    high = np.clip(np.ceil(centre + reach) + 1, 0, grid.size).astype(int)
    if (high <= low).any():
        return
    k, j, i = np.meshgrid(*(np.arange(low[a], high[a]) for a in (2, 1, 0)), indexing="ij")
    d = grid.patient_from_index(np.stack([i, j, k], axis=-1)).mm - head.centre_mm
    far = np.linalg.norm(d, axis=-1)
    shell = (far > head.radius_mm + SOCKET_MM[0]) & (far < r)
    shell &= (d @ markers.neck_axis(head.side)) < 0.5 * far
    block = valley[low[2] : high[2], low[1] : high[1], low[0] : high[0]]
    block[shell] = np.maximum(block[shell], SOCKET_VALLEY_HU)


def _named(
    labels: NDArray[np.uint8], grid: Grid, canal: Canal, spine: tuple[Segment, ...], keys: list[str]
) -> tuple[dict[str, str], float, tuple[str, ...]]:
    """Bone names by key: vertebrae by count, ribs by the vertebra that their medial end lies at."""
    borne: dict[str, tuple[int, str]] = {}
    boxes = bounding_boxes(labels)
    for number, key in enumerate(keys, 1):
        if not key.startswith("rib") or number not in boxes:
            continue
        k, j, i = np.nonzero(labels[boxes[number]] == number)
        start = [s.start for s in boxes[number]]
        thin = slice(None, None, max(1, len(k) // 20000))
        ijk = np.column_stack([i[thin] + start[2], j[thin] + start[1], k[thin] + start[0]])
        at = canal.coordinates(grid.patient_from_index(ijk).mm)
        end = at[np.argsort(np.abs(at[:, 1]))[: max(5, len(at) // 50)]].mean(axis=0)
        if abs(end[1]) > RIB_END_MM:
            continue
        n = _segment_at(spine, end)
        if n is not None and not spine[n].is_sacrum:
            borne[key] = (n, "left" if end[1] > 0 else "right")
    bearing = tuple(any(n == m for m, _ in borne.values()) for n in range(len(spine)))
    vertebrae, confidence, warnings = levels.named(spine, bearing)
    names: dict[str, str] = {}
    for key in keys:
        if key.startswith("segment"):
            names[key] = vertebrae[int(key[8:])]
        elif not key.startswith("rib"):
            names[key] = key
        elif key in borne:
            n, side = borne[key]
            level = vertebrae[n][10:]
            names[key] = f"rib_{side}_{level[1:]}" if level.startswith("T") else ""
    return {k: v for k, v in names.items() if v}, confidence, warnings


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
    import cc3d

    bones = sorted(set(names.values()))
    table = np.zeros(256, dtype=np.uint8)
    for n, key in enumerate(keys, 1):
        table[n] = bones.index(names[key]) + 1 if key in names else 0
    out = table[labels]
    found: dict[int, str] = {}
    for n, box in bounding_boxes(out).items():
        block = out[box]
        mine = block == n
        parts = cc3d.connected_components(mine.astype(np.uint8), connectivity=6)
        size = np.bincount(parts.ravel())
        size[0] = 0
        keep = parts == int(np.argmax(size))
        if bones[n - 1] == "sacrum":  # its crest may be apart
            keep = (size * voxel_ml >= LEAST_BONE_ML)[parts]
        block[mine & ~keep] = 0
        if size.max() * voxel_ml >= LEAST_BONE_ML:
            found[n] = bones[n - 1]
        else:
            block[keep] = 0
    return out, found
