"""Implants: brighter than any bone. A bone's label is its outer form: metal inside a bone (a screw's shaft, a stem) is
within it, metal outside (a screw's head, a rod, a joint's ball and cup) is no bone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from twin.anatomy import bone_mask
from twin.anatomy import heads as femoral
from twin.anatomy.bone_mask import Halo
from twin.anatomy.canal import Canal
from twin.anatomy.heads import Head
from twin.anatomy.streaks import METAL_HU, Stain
from twin.anatomy.working import Working
from twin.scan.volume import Volume

EDGE_HU = 1700.0  # what touches metal and is this bright is its blurred edge
EDGE_MM = 3.0
LEAST_ML = 0.03
LEFT_SHARE = 0.5  # of the streaks, when they are taken out
MOST_RISE_HU = 250.0
IN_BONE_HU, IN_JOINT_HU = 250.0, 60.0
BLUR_MM = 2.0  # about metal, where its light is brighter than bone
SHAFT_MM = 5.5  # half the widest screw and its blur: bone closes over it
MOST_CORE_MM2 = 1200.0  # a stem in its shaft with the marrow about it
LEAST_BALL_MM = 10.0  # the smallest prosthetic heads measure 22 mm across


@dataclass(frozen=True, eq=False)
class Metal:
    """Metal with its blur on the working grid (z, y, x), how far each voxel lies from it, and its volume."""

    mask: NDArray[np.bool_]
    away_mm: NDArray[np.float32]
    volume_ml: float


def find(volume: Volume, working: Working) -> Metal | None:
    """The scan's metal; None where there is none to speak of."""
    import edt

    count = sum(int((plane > METAL_HU).sum()) for plane in volume.hu)
    ml = count * volume.grid.voxel_ml
    if ml < LEAST_ML:
        return None
    mm = (working.spacing_mm,) * 3
    core = working.hu > 0.5 * (METAL_HU + EDGE_HU)
    if not core.any():
        return None
    mask = core | ((working.hu > EDGE_HU) & (edt.edt(~core, anisotropy=mm) <= EDGE_MM))
    away = edt.edt(~mask, anisotropy=mm)
    return Metal(away <= BLUR_MM, away, ml)


def halo(metal: Metal, stain: Stain | None, working: Working) -> Halo:
    """What metal does to the threshold for bone: it rises by what is left of the streaks that were taken out."""
    if stain is None:
        return Halo(metal.mask, np.zeros(metal.mask.shape, dtype=np.uint8))
    return Halo(metal.mask, np.clip(LEFT_SHARE * stain.on(working), 0.0, MOST_RISE_HU).astype(np.uint8))


def replaced(working: Working, metal: Metal, hu: float) -> Working:
    """The same with one HU in place of metal: IN_BONE_HU, so that a screw is neither a disc nor a gap in a wall; or
    IN_JOINT_HU, so that a ball in its cup is not taken for a head.
    """
    return replace(working, hu=np.where(metal.mask, np.float32(hu), working.hu))


def settled(
    bone: NDArray[np.bool_],
    sure: NDArray[np.bool_],
    never: NDArray[np.bool_],
    between: NDArray[np.bool_],
    metal: Metal,
    working: Working,
    canal: Canal,
    heads: tuple[Head, ...],
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """What is bone for sure and what never, metal considered: marrow behind cracks filled as long as metal still
    closes them, then metal outside bone, and artificial joints, taken away. `between` endplates nothing is filled.
    """
    walls = (bone | sure | metal.mask) & ~never
    sure = sure | bone_mask.hollows(walls, working, canal, metal.away_mm) & ~never & ~between
    inside = inside_bone(bone | sure, metal, working.spacing_mm)
    joint = _joints(working, heads)
    return (sure | inside) & ~joint, never | (metal.mask & ~inside) | joint


def inside_bone(bone: NDArray[np.bool_], metal: Metal, spacing_mm: float) -> NDArray[np.bool_]:
    """The metal (z, y, x), its blur included, that lies in bone: what bone closes over (a screw's shaft, not its head),
    what bone surrounds in its slice (a stem), and blur to which bone is nearer than anything else.
    """
    import edt

    mm = (spacing_mm,) * 3
    clear = bone & ~metal.mask
    far = edt.edt(~clear, anisotropy=mm)
    closed = edt.edt(far <= SHAFT_MM, anisotropy=mm, black_border=False) > SHAFT_MM
    beside = (metal.away_mm > 0.0) & (far <= edt.edt(clear | metal.mask, anisotropy=mm))
    return np.asarray(metal.mask & (closed | beside | _surrounded(clear, metal, spacing_mm)))


def _surrounded(bone: NDArray[np.bool_], metal: Metal, spacing_mm: float) -> NDArray[np.bool_]:
    from scipy import ndimage

    out = np.zeros_like(bone)
    for z in np.flatnonzero(metal.mask.any(axis=(1, 2))):
        holes, count = ndimage.label(~bone[z])
        area = np.bincount(holes.ravel(), minlength=count + 1) * spacing_mm**2
        area[0] = np.inf
        out[z] = (area < MOST_CORE_MM2)[holes]
    return out


def _joints(working: Working, heads: tuple[Head, ...]) -> NDArray[np.bool_]:
    """Working voxels of prosthetic joints: ball, liner and cup are no bone."""
    out = np.zeros(working.hu.shape, dtype=np.bool_)
    for head in heads:
        if not head.prosthetic:
            continue
        at = working.index_from_patient(head.centre_mm)
        reach = head.radius_mm / working.spacing_mm
        low = np.clip(np.floor(at - reach), 0, out.shape).astype(int)
        high = np.clip(np.ceil(at + reach) + 1, low, out.shape).astype(int)
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        z, y, x = np.ogrid[box]
        out[box] |= (z - at[0]) ** 2 + (y - at[1]) ** 2 + (x - at[2]) ** 2 < reach**2
    return out


def heads_beside(working: Working, metal: Metal | None, middle_x_mm: float, below_z_mm: float) -> tuple[Head, ...]:
    """Femoral heads as `heads.find` finds them, and on a side that shows none a prosthetic one."""
    if metal is None:
        return femoral.find(working, middle_x_mm, below_z_mm)
    found = femoral.find(replaced(working, metal, IN_JOINT_HU), middle_x_mm, below_z_mm)
    return found + _prosthetic(metal, working, middle_x_mm, below_z_mm, {head.side for head in found})


def _prosthetic(
    metal: Metal, working: Working, middle_x_mm: float, below_z_mm: float, seen: set[str]
) -> tuple[Head, ...]:
    """Balls of metal where heads stand, each as large as the metal about its centre reaches away from the neck."""
    import edt

    solid = metal.away_mm <= 0.0
    deep = edt.edt(solid, anisotropy=(working.spacing_mm,) * 3)
    found = []
    for side, sign in femoral.SIDES:
        if side in seen:
            continue
        zyx = np.argwhere(deep >= LEAST_BALL_MM)
        at = working.patient_from_index(zyx)
        aside = sign * (at[:, 0] - middle_x_mm)
        there = (at[:, 2] < below_z_mm) & (aside > femoral.LATERAL_MM[0]) & (aside < femoral.LATERAL_MM[1])
        if not there.any():
            continue
        depth = deep[tuple(zyx[there].T)]
        ball_mm = float(depth.max())
        centre = at[there][depth >= ball_mm - 0.5 * working.spacing_mm].mean(axis=0)
        around = femoral.ways(femoral.DIRECTIONS)
        around = around[around @ femoral.neck_axis(side) < femoral.NECK_COSINE]
        radii = np.arange(ball_mm, femoral.RADIUS_MM[1] + 4.0, 0.5)
        index = np.round(working.index_from_patient(centre + radii[:, None, None] * around)).astype(int)
        index = np.clip(index, 0, np.array(solid.shape) - 1)
        reach = np.where(solid[tuple(np.moveaxis(index, -1, 0))], radii[:, None], ball_mm).max(axis=0)
        found.append(Head(side, centre, float(np.median(reach)), 1.0, prosthetic=True))
    return tuple(found)
