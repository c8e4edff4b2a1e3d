"""A scoliotic curve: how far each endplate tilts in the coronal plane and each vertebra turns about its own axis.

One structural curve between two end vertebrae: the tilt falls from half the Cobb angle to minus that along half a
cosine; below it climbs from the level sacrum, above it fades out. The vertebrae turn their fronts to the convex side,
most at the apex, by about a third of the Cobb angle. Of the bending, 30 % is in the bodies (wedges), the rest in the
discs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twin.scan.phantom.anatomy import Anatomy

BODY_SHARE = 0.3
AXIAL_SHARE = 0.33
ENDS = {"lumbar": (1, 6), "pelvis": (1, 6)}  # lower and upper end vertebra, counted from the sacrum; elsewhere:
THORACIC_ENDS = (5, 12)  # T12 to T5


@dataclass(frozen=True)
class Curve:
    """Per vertebra from the sacrum upward, degrees: tilt of the lower and upper endplate (leaning to the left +)."""

    lower_deg: NDArray[np.float64]
    upper_deg: NDArray[np.float64]
    axial_deg: NDArray[np.float64]  # about the cranial axis, the front turning left +
    lower_end: int
    upper_end: int

    @classmethod
    def of(cls, anatomy: Anatomy) -> Curve:
        """The patient's curve, convex to his own side."""
        sizes = anatomy.vertebrae
        low, high = ENDS.get(anatomy.region, THORACIC_ENDS)
        extra = 1 if anatomy.transitional in ("L6", "T13") else -1 if anatomy.transitional == "L4" else 0
        low, high = low + (extra if low > 1 else max(extra, 0)), high + extra
        discs = np.array([s.disc_mm for s in sizes])
        bodies = np.array([s.height_mm for s in sizes])
        feet = np.cumsum(discs + bodies) - bodies
        heads = feet + bodies
        # an even tilt at the middle of every body and disc, then handed out so that bodies bend less than discs
        start, stop = float(feet[low]), float(heads[high])
        half = anatomy.scoliosis_deg / 2 * (1.0 if anatomy.convex_left else -1.0)

        def tilt(s: float) -> float:
            if s < start:
                return half * math.sin(0.5 * math.pi * max(s, 0.0) / start) ** 2
            u = (s - start) / (stop - start)
            if u <= 1.0:
                return half * math.cos(math.pi * u)
            return -half * (0.5 + 0.5 * math.cos(math.pi * min((u - 1.0) / 0.8, 1.0)))

        def turn(s: float) -> float:
            u = (s - start) / (stop - start)
            v = min(max((u + 0.3) / 1.6, 0.0), 1.0)
            return math.sin(math.pi * v) ** 2

        count = len(sizes)
        lower, upper, axial = np.zeros(count), np.zeros(count), np.zeros(count)
        for n in range(count):
            middle = (feet[n] + heads[n]) / 2
            lean = tilt(float(middle))
            # the tilt across body and the half discs about it; the body takes its share
            below = float(feet[n] - discs[n] / 2)
            above = float(heads[n] + (discs[n + 1] / 2 if n + 1 < count else 0.0))
            wedge = BODY_SHARE * (tilt(above) - tilt(below))
            lower[n], upper[n] = lean - wedge / 2, lean + wedge / 2
            # a column that leans left at its foot bows to the left, and its fronts turn left too
            axial[n] = AXIAL_SHARE * 2 * half * turn(float(middle))
        reach = lower[low] - upper[high]
        scale = 2 * half / reach  # the end plates themselves show the angle asked for
        return cls(lower * scale, upper * scale, axial, low, high)
