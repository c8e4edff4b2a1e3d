"""Where a screw's thread leaves the bone anywhere between the pedicle and its tip, beside the grade at the isthmus.

A place of the thread that is outside the bone is told by where the surface looks that it has passed. In the pedicle:
medial = canal, superior and inferior = the foramina, lateral. In the body: forward = anterior, toward an endplate =
disc, else beside the body; behind its back wall as in the pedicle. The way in behind the pedicle is left out: screws
enter obliquely.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spatial.compiled import njit
from spatial.distance import DistanceGrid
from spatial.frames import Bone, Patient
from spatial.rigid import Array, Rigid
from twin.plan.screws.batch_kernels import Triple, along, at
from twin.plan.screws.screw import Screw
from twin.plan.screws.walls import WINDOW_MM, Across

STEP_MM = 0.5
AROUND = 24
ONWARD_MM = 3.0  # beyond the window the pedicle goes over into the body
CANAL, ABOVE, BELOW, LATERAL, FRONT, BESIDE, DISC = range(7)


@dataclass(frozen=True)
class Breaches:
    """How far the thread stands out of the bone, mm, 0: nowhere. `tip_mm`: the least depth of the tip's rim and middle
    in the bone; negative: it stands out.
    """

    canal_mm: float
    foramen_above_mm: float
    foramen_below_mm: float
    lateral_mm: float
    anterior_mm: float
    beside_mm: float
    disc_mm: float
    tip_mm: float

    def to_json(self) -> dict[str, float]:
        """As `breach_whole_mm`."""
        return {
            "canal": round(self.canal_mm, 3),
            "foramen_superior": round(self.foramen_above_mm, 3),
            "foramen_inferior": round(self.foramen_below_mm, 3),
            "pedicle_lateral": round(self.lateral_mm, 3),
            "anterior": round(self.anterior_mm, 3),
            "body_lateral": round(self.beside_mm, 3),
            "disc": round(self.disc_mm, 3),
        }


@njit
def _outward(values: NDArray[np.float32], o: Array, inverse: float, p: Triple) -> Triple:
    """Where the nearest surface looks, not of unit length."""
    h = 0.5 / inverse
    return (
        at(values, o, inverse, p[0] + h, p[1], p[2]) - at(values, o, inverse, p[0] - h, p[1], p[2]),
        at(values, o, inverse, p[0], p[1] + h, p[2]) - at(values, o, inverse, p[0], p[1] - h, p[2]),
        at(values, o, inverse, p[0], p[1], p[2] + h) - at(values, o, inverse, p[0], p[1], p[2] - h),
    )


@njit
def _dot(a: Triple, b: Triple) -> float:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@njit
def _breaches(
    values: NDArray[np.float32], o: Array, inverse: float, entry: Triple, way: Triple, m: Triple, u: Triple,
    front: Triple, up: Triple, first: float, neck: float, length: float, radius: float,
) -> tuple[Array, float]:  # fmt: skip
    """The deepest breach of each sort (7,) from `first` along the axis on, the pedicle ending at `neck`; and the tip's
    depth.
    """
    worst = np.zeros(7)
    tip = 1e9
    count = max(int(np.ceil((length - first) / STEP_MM)), 1) + 1
    for s in range(count):
        place = first + (length - first) * s / (count - 1)
        c = along(entry, place, way)
        middle = at(values, o, inverse, c[0], c[1], c[2])
        last = s == count - 1
        if last:
            tip = min(tip, -middle)
        elif -middle >= radius:
            continue
        for n in range(AROUND):
            angle = 2.0 * np.pi * n / AROUND
            a, b = radius * np.cos(angle), radius * np.sin(angle)
            p = (c[0] + a * m[0] + b * u[0], c[1] + a * m[1] + b * u[1], c[2] + a * m[2] + b * u[2])
            d = at(values, o, inverse, p[0], p[1], p[2])
            if last:
                tip = min(tip, -d)
            if d <= 0.0:
                continue
            g = _outward(values, o, inverse, p)
            size = max(np.sqrt(_dot(g, g)), 1e-9)
            x, y = _dot(g, m), _dot(g, u)
            if place > neck:
                upward, forward = abs(_dot(g, up)), _dot(g, front)
                aside = np.sqrt(max(size * size - upward * upward - forward * forward, 0.0))
                if upward >= max(abs(forward), aside):
                    sort = DISC
                elif forward >= aside:
                    sort = FRONT
                elif aside > -forward:
                    sort = BESIDE
                else:
                    sort = -1
                if sort >= 0:
                    worst[sort] = max(worst[sort], d)
                    continue
            if x * x + y * y < 0.1 * size * size:  # the body's back wall, which the pedicle runs into
                if place <= neck:
                    continue
                x, y = a, b
            sideways = CANAL if x > 0.0 else LATERAL
            sort = sideways if abs(x) >= abs(y) else (ABOVE if y > 0.0 else BELOW)
            worst[sort] = max(worst[sort], d)
    return worst, tip


def whole_breaches(
    grid: DistanceGrid[Patient], screw: Screw, isthmus_mm: float, across: Across, frame: Rigid[Patient, Bone]
) -> Breaches:
    """Of the thread from 6 mm behind the isthmus (`isthmus_mm` along the axis) to the tip."""
    _, front, up = (_triple(v) for v in frame.rotation.T)
    first = min(max(isthmus_mm - WINDOW_MM, min(screw.diameter_mm, isthmus_mm), 0.0), screw.length_mm)
    axis = screw.axis
    neck = isthmus_mm + WINDOW_MM + ONWARD_MM
    worst, tip = _breaches(
        grid.values_mm, grid.origin_mm, 1.0 / grid.spacing_mm, _triple(axis.point_mm), _triple(axis.direction),
        _triple(across.medial), _triple(across.superior), front, up, first, neck, screw.length_mm,
        screw.diameter_mm / 2.0,
    )  # fmt: skip
    return Breaches(*(float(v) for v in (*worst, tip)))


def _triple(v: Array) -> Triple:
    return float(v[0]), float(v[1]), float(v[2])
