"""Implants: brighter than any bone, with a halo of streaks in which a plain threshold takes soft tissue for bone."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from twin.anatomy.working import Working
from twin.scan.volume import Volume

METAL_HU = 2500  # enamel and the densest cortex stay below
EDGE_HU = 1700.0  # what touches metal and is this bright is its blurred edge
EDGE_MM = 3.0
LEAST_ML = 0.03
HALO_MM = 28.0
HALO_HU = 250.0  # by how much the threshold rises beside metal
BLUR_MM = 2.0  # about metal, where its light is brighter than bone
SHAFT_MM = 5.5  # half the widest screw and its blur: bone closes over it


@dataclass(frozen=True, eq=False)
class Metal:
    """Metal with its blur on the working grid (z, y, x), how far each voxel lies from it, and its volume."""

    mask: NDArray[np.bool_]
    away_mm: NDArray[np.float32]
    volume_ml: float

    def rise_hu(self) -> NDArray[np.uint8]:
        """By how much the bone threshold rises at each working voxel: most beside the metal."""
        return np.asarray(HALO_HU * np.clip(1.0 - self.away_mm / HALO_MM, 0.0, 1.0), dtype=np.uint8)


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


def without(working: Working, metal: Metal) -> Working:
    """The same with soft tissue in place of metal, so that neither canal nor disc is sought in its light."""
    return replace(working, hu=np.where(metal.mask, np.float32(60.0), working.hu))


def closed_over(bone: NDArray[np.bool_], metal: Metal, spacing_mm: float) -> NDArray[np.bool_]:
    """The metal (z, y, x) that bone closes over: a screw's shaft is inside the bone, its head is not."""
    import edt

    mm = (spacing_mm,) * 3
    grown = edt.edt(~(bone & ~metal.mask), anisotropy=mm) <= SHAFT_MM
    return np.asarray(metal.mask & (edt.edt(grown, anisotropy=mm, black_border=False) > SHAFT_MM))
