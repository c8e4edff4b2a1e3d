"""What the CT shows where a screw will lie: mean Hounsfield units in the pedicle, the body and around the thread."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from spatial.frames import Patient
from spatial.rigid import Array, Points
from twin.plan.screw import Screw
from twin.scan.volume import Volume

STEP_MM = 0.5
THREAD_MM = 1.0  # the shell of bone that the thread holds: this far outside and inside the outer radius
PLACES = ("body", "pedicle", "thread")


def screw_hu(
    volume: Volume | None, screw: Screw, pedicle_mm: tuple[float, float], across: tuple[Array, Array]
) -> dict[str, float | None]:
    """Mean HU (trilinear): `pedicle` and `body` in the core of the screw, `thread` in a shell about the outer radius.

    `pedicle_mm` is the pedicle's stretch along the axis; the body is all beyond it. None where the CT shows nothing.
    """
    if volume is None:
        return dict.fromkeys(PLACES)
    radius = screw.diameter_mm / 2
    first, last = pedicle_mm
    core = np.arange(STEP_MM / 2, radius, STEP_MM)
    shell = np.linspace(max(radius - THREAD_MM, 0.1), radius + THREAD_MM, 5)
    spans = {
        "pedicle": (np.clip(first, 0, screw.length_mm), np.clip(last, 0, screw.length_mm), core),
        "body": (np.clip(last, 0, screw.length_mm), screw.length_mm, core),
        "thread": (0.0, screw.length_mm, shell),
    }
    return {name: _mean(volume, screw, float(a), float(b), radii, across) for name, (a, b, radii) in spans.items()}


def _mean(
    volume: Volume, screw: Screw, first_mm: float, last_mm: float, radii_mm: Array, across: tuple[Array, Array]
) -> float | None:
    """Mean over a stretch of the screw, each ring weighted with its radius; None when it lies outside the CT."""
    if last_mm - first_mm < STEP_MM or not len(radii_mm):
        return None
    along = np.arange(first_mm + STEP_MM / 2, last_mm, STEP_MM)
    angle = 2 * np.pi * np.arange(16) / 16
    ring = np.cos(angle)[:, None] * across[0] + np.sin(angle)[:, None] * across[1]
    points = screw.entry.mm + along[:, None, None, None] * screw.axis.direction + radii_mm[:, None, None] * ring
    ijk = volume.grid.index_from_patient(Points[Patient](points))
    kji = np.moveaxis(ijk[..., ::-1], -1, 0)
    size = np.array(volume.grid.shape).reshape(3, 1, 1, 1)
    seen = ((kji >= 0) & (kji <= size - 1)).all(axis=0)
    if not seen.all():
        return None
    low = np.maximum(np.floor(kji.reshape(3, -1).min(axis=1)).astype(int) - 1, 0)
    high = np.ceil(kji.reshape(3, -1).max(axis=1)).astype(int) + 2
    block = volume.hu[low[0] : high[0], low[1] : high[1], low[2] : high[2]].astype(np.float32)
    hu = ndimage.map_coordinates(block, kji - low.reshape(3, 1, 1, 1), order=1, mode="nearest")
    weight = np.broadcast_to(radii_mm[None, :, None], hu.shape)
    return float((hu * weight).sum() / weight.sum())
