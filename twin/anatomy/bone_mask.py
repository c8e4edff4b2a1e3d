"""Which voxels of a CT are bone, before anybody asks whose: threshold from this very scan, marrow filled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twin.anatomy import runs
from twin.anatomy.canal import Canal
from twin.anatomy.surface import fill_cavities
from twin.anatomy.working import Working
from twin.scan.volume import Volume

NOISES_ABOVE_SOFT = 5.0  # bone begins this far above muscle; where exactly it ends is for the surface to find
BONE_HU = (100.0, 180.0)  # limits of that threshold
THICK_MM = 1.5  # voxels larger than this leave the cortex open: it is closed before the marrow is filled
CLOSING_MM = 4.5
CANAL_MM = 8.0  # about the canal's centre nothing is closed
CRACK_MM = 1.6
FRONT_MM, BODY_MM = 2.0, 52.0  # bodies and pedicles: before the canal's middle no joint gap is as narrow as a crack
CRACKED_MM = 25.0  # from metal
SPINE_MM = 55.0  # to either side of the canal: every transverse process
MOST_HOLE_MM2 = 1200.0  # a marrow cavity that the end of the scan cuts open: a shaft, never the pelvic ring


@dataclass(frozen=True)
class Soft:
    """The soft tissue of this scan: muscle's peak and the noise of single voxels (one sigma)."""

    muscle_hu: float
    noise_hu: float

    @property
    def bone_hu(self) -> float:
        """Above it a voxel is taken for bone at first: muscle's peak plus five times the noise, within BONE_HU."""
        return float(np.clip(round(self.muscle_hu + NOISES_ABOVE_SOFT * self.noise_hu), *BONE_HU))


@dataclass(frozen=True, eq=False)
class Halo:
    """What metal does to the threshold beside it: where it is `solid` it closes a bone's cavity, about it bone only
    begins `rise_hu` higher.
    """

    solid: NDArray[np.bool_]
    rise_hu: NDArray[np.uint8]

    def on(self, finer: Callable[[NDArray[np.uint8]], NDArray[np.uint8]]) -> Halo:
        """The same on another grid; `finer` brings a field there."""
        return Halo(finer(self.solid.view(np.uint8)).view(np.bool_), finer(self.rise_hu))


def soft_tissue(volume: Volume) -> Soft:
    """Read from every few slices."""
    rows = volume.hu[:: max(1, volume.hu.shape[0] // 40)]
    soft = (rows > -30) & (rows < 130)
    count = np.bincount((rows[soft] + 30).astype(np.int64), minlength=160).astype(float)
    muscle = float(np.argmax(np.convolve(count, np.ones(15) / 15, mode="same"))) - 30.0
    # three pixels apart, since reconstruction correlates neighbours
    pair = soft[:, :, 3:] & soft[:, :, :-3] if rows.shape[2] > 3 else soft[:, :, :0]
    step = (rows[:, :, 3:].astype(np.int32) - rows[:, :, :-3])[pair] if pair.any() else np.zeros(1, np.int32)
    return Soft(muscle, float(np.median(np.abs(step)) / 0.6745 / np.sqrt(2.0)))


def above(
    hu: NDArray[Any],
    threshold_hu: float,
    spacing_kji_mm: tuple[float, float, float],
    halo: Halo | None = None,
) -> NDArray[np.bool_]:
    """Bone with its marrow: above the threshold (in the halo of metal above what that says), cavities filled, also
    those that metal closes or that the first or last slice cuts open.
    """
    from scipy import ndimage

    bone = brighter(hu, threshold_hu)
    if halo is not None:
        bone &= hu > threshold_hu + halo.rise_hu
        bone |= halo.solid
    pixel_mm2 = spacing_kji_mm[1] * spacing_kji_mm[2]
    lids = []
    for k, inner in ((0, 1), (-1, -2)) if len(bone) > 2 else ():
        holes, count = ndimage.label(ndimage.binary_fill_holes(bone[k]) & ~bone[k])
        if count:
            size = np.bincount(holes.ravel()) * pixel_mm2
            size[0] = np.inf
            lids.append((k, inner, size[holes] < MOST_HOLE_MM2))
            bone[k] |= lids[-1][2]
    runs.fill(bone)
    for k, inner, lid in lids:
        bone[k] &= ~lid | bone[inner]
    return bone


def brighter(hu: NDArray[Any], threshold_hu: float) -> NDArray[np.bool_]:
    """Where the HU are above a threshold; whole numbers are compared as such."""
    is_whole = np.issubdtype(hu.dtype, np.integer)
    return np.asarray(hu > hu.dtype.type(np.floor(threshold_hu) if is_whole else threshold_hu))


def closed(bone: NDArray[np.bool_], coarse: Working, canal: Canal) -> NDArray[np.bool_]:
    """Working bone with the holes in its cortex closed and its marrow filled, the canal kept free."""
    import edt

    reach = CLOSING_MM / coarse.spacing_mm
    back = round(reach) + 1
    grown = edt.edt(~np.pad(bone, back)) <= reach
    shrunk = edt.edt(grown) > reach
    closed = fill_cavities(shrunk[back:-back, back:-back, back:-back] | bone)
    added = np.argwhere(closed & ~bone)
    at = canal.coordinates(coarse.patient_from_index(added))
    inner = (np.hypot(at[:, 1], at[:, 2]) < CANAL_MM) & (at[:, 0] > 0.0) & (at[:, 0] < canal.along_mm[-1])
    closed[tuple(added[inner].T)] = False
    return closed


def hollows(
    bone: NDArray[np.bool_], coarse: Working, canal: Canal, metal_away_mm: NDArray[np.float32] | None = None
) -> NDArray[np.bool_]:
    """Marrow of the spine that a thin cortex encloses but for cracks: no wider than CRACK_MM on either side.

    With `metal_away_mm`, how far metal is: marrow of all bones, and in bodies and pedicles near metal every crack.
    """
    import edt

    if metal_away_mm is not None:
        return _hollows_beside_metal(bone, coarse, canal, metal_away_mm)

    mm = (coarse.spacing_mm,) * 3
    ends = coarse.index_from_patient(canal.centre_mm)
    margin = np.array([30.0, SPINE_MM + 15.0, SPINE_MM + 5.0]) / coarse.spacing_mm
    low = np.clip(np.floor(ends.min(axis=0) - margin), 0, bone.shape).astype(int)
    high = np.clip(np.ceil(ends.max(axis=0) + margin), low, bone.shape).astype(int)
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    near = np.ascontiguousarray(bone[box])
    thick = edt.edt(~near, anisotropy=mm) <= CRACK_MM
    caves = fill_cavities(thick) & ~thick
    out = np.zeros_like(bone)
    if not caves.any():
        return out
    zyx = np.argwhere((edt.edt(~caves, anisotropy=mm) <= CRACK_MM + coarse.spacing_mm) & ~near) + low
    at = canal.coordinates(coarse.patient_from_index(zyx))
    beside = (np.hypot(at[:, 1], at[:, 2]) < CANAL_MM) | (np.abs(at[:, 1]) > SPINE_MM) | (at[:, 0] < 0.0)
    out[tuple(zyx[~beside].T)] = True
    return out


def _hollows_beside_metal(
    bone: NDArray[np.bool_], coarse: Working, canal: Canal, metal_away_mm: NDArray[np.float32]
) -> NDArray[np.bool_]:
    import edt

    mm = (coarse.spacing_mm,) * 3
    thick = edt.edt(~bone, anisotropy=mm) <= CRACK_MM
    whole = fill_cavities(thick)
    caves = whole & ~thick
    out = np.zeros_like(bone)
    if caves.any():
        zyx = np.argwhere((edt.edt(~caves, anisotropy=mm) <= CRACK_MM + coarse.spacing_mm) & ~bone)
        at = canal.coordinates(coarse.patient_from_index(zyx))
        out[tuple(zyx[(np.hypot(at[:, 1], at[:, 2]) >= CANAL_MM) | (at[:, 0] < 0.0)].T)] = True
    whole &= metal_away_mm < CRACKED_MM + CRACK_MM
    zyx = np.argwhere((edt.edt(whole, anisotropy=mm) > CRACK_MM) & ~bone)
    at = canal.coordinates(coarse.patient_from_index(zyx))
    across = np.hypot(at[:, 1], at[:, 2])
    front = (at[:, 2] > FRONT_MM) & (across < BODY_MM) & (across >= CANAL_MM) & (at[:, 0] > 0.0)
    out[tuple(zyx[front].T)] = True
    return out
