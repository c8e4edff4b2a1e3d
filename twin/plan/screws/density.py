"""What the CT shows where a screw will lie: mean Hounsfield units in the pedicle, the body and around the thread."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spatial.compiled import njit
from spatial.frames import Patient
from spatial.rigid import Array, Points
from twin.plan.screws.screw import Screw
from twin.scan.volume import Volume

STEP_MM = 0.5
THREAD_MM = 1.0  # the shell of bone that the thread holds: this far outside and inside the outer radius
RINGS = 5  # of that shell
AROUND = 16
PLACES = ("body", "pedicle", "thread")


@njit
def _rings(
    hu: NDArray[np.int16], start: Array, step: Array, one: Array, other: Array, count: int, radii_mm: Array
) -> Array:
    """Mean HU (S, R), trilinear, on circles around an axis; indices (k, j, i), nan where the CT does not reach."""
    out = np.empty((count, len(radii_mm)))
    nk, nj, ni = hu.shape
    for s in range(count):
        for r in range(len(radii_mm)):
            total = 0.0
            for n in range(AROUND):
                angle = 2.0 * np.pi * n / AROUND
                a, b = radii_mm[r] * np.cos(angle), radii_mm[r] * np.sin(angle)
                k = start[0] + s * step[0] + a * one[0] + b * other[0]
                j = start[1] + s * step[1] + a * one[1] + b * other[1]
                i = start[2] + s * step[2] + a * one[2] + b * other[2]
                if not (0.0 <= k <= nk - 1.0 and 0.0 <= j <= nj - 1.0 and 0.0 <= i <= ni - 1.0):
                    total = np.nan
                    break
                p, q, t = min(int(k), nk - 2), min(int(j), nj - 2), min(int(i), ni - 2)
                u, v, w = k - p, j - q, i - t
                low = (hu[p, q, t] * (1 - w) + hu[p, q, t + 1] * w) * (1 - v) + (
                    hu[p, q + 1, t] * (1 - w) + hu[p, q + 1, t + 1] * w
                ) * v
                high = (hu[p + 1, q, t] * (1 - w) + hu[p + 1, q, t + 1] * w) * (1 - v) + (
                    hu[p + 1, q + 1, t] * (1 - w) + hu[p + 1, q + 1, t + 1] * w
                ) * v
                total += low * (1 - u) + high * u
            out[s, r] = total / AROUND
    return out


@dataclass(frozen=True, eq=False)
class AlongScrew:
    """Mean HU (S,) in the screw's core and in the shell about its thread, at places (S,) mm from the entry; nan: the CT
    ends short of it.
    """

    place_mm: Array
    core_hu: Array
    thread_hu: Array

    def places(self, pedicle_mm: tuple[float, float]) -> dict[str, float | None]:
        """Means: `pedicle`: the core over that stretch of the axis, `body`: what is beyond, `thread`: all the shell."""
        first, last = pedicle_mm
        spans = {
            "body": self.core_hu[self.place_mm > last],
            "pedicle": self.core_hu[(self.place_mm > first) & (self.place_mm <= last)],
            "thread": self.thread_hu,
        }
        return {name: float(v.mean()) if len(v) and np.isfinite(v).all() else None for name, v in spans.items()}


def along_screw(volume: Volume, screw: Screw, across: tuple[Array, Array]) -> AlongScrew:
    """Sampled every half millimetre, each ring weighted with its radius; `across`: unit vectors square to the axis."""
    radius = screw.diameter_mm / 2
    core = np.arange(STEP_MM / 2, radius, STEP_MM)
    shell = np.linspace(max(radius - THREAD_MM, 0.1), radius + THREAD_MM, RINGS)
    place = np.arange(STEP_MM / 2, screw.length_mm, STEP_MM)
    axis = screw.axis
    start = volume.grid.index_from_patient(Points[Patient](axis.at(STEP_MM / 2).mm))[::-1]
    ways = ((np.stack([axis.direction, *across]) @ volume.grid.axes) / volume.grid.spacing_mm)[:, ::-1]
    rings = _rings(
        volume.hu, np.ascontiguousarray(start), np.ascontiguousarray(STEP_MM * ways[0]), np.ascontiguousarray(ways[1]),
        np.ascontiguousarray(ways[2]), len(place), np.concatenate([core, shell]),
    )  # fmt: skip
    n = len(core)
    return AlongScrew(place, rings[:, :n] @ core / core.sum(), rings[:, n:] @ shell / shell.sum())


def screw_hu(
    volume: Volume | None, screw: Screw, pedicle_mm: tuple[float, float], across: tuple[Array, Array]
) -> dict[str, float | None]:
    """Mean HU (trilinear): `pedicle` and `body` in the core of the screw, `thread` in a shell about the outer radius.

    `pedicle_mm` is the pedicle's stretch along the axis; the body is all beyond it. None where the CT shows nothing.
    """
    if volume is None:
        return dict.fromkeys(PLACES)
    return along_screw(volume, screw, across).places(pedicle_mm)
