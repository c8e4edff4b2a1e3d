"""The search for the best axis through a pedicle: compiled, deterministic, some hundred axes a millisecond.

An axis is x = (shift medially mm, shift up mm, turn of the tip medially rad, turn up rad) away from the pedicle's own.
It is worth its smallest weighted wall distance in the pedicle, or distance to any surface on its way into the body, as
far as that is not more than ENOUGH; less a cost for leaving the pedicle's own axis, so that a wide pedicle keeps it.
A wall distance counts less `extra_mm` (medial, superior, lateral, inferior; blended by the squared cosine between
them).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spatial.compiled import njit
from spatial.distance_kernels import trace_ray, value_at
from spatial.rigid import Array

ENOUGH_MM = 6.5  # wall distance: the thickest screw with 2 mm around it
SHIFT_COST = 0.04  # mm a square millimetre of shift
TURN_COST = 30.0  # mm a square radian of turn: 3 degrees cost 0.08 mm
BODY_STATIONS = 8  # two millimetres apart, from the end of the window into the body
STATIONS = 9
WINDOW_MM = 6.0
RAYS = 24
REACH_MM = 10.0
FIRST_MM, FIRST_RAD = 1.0, 0.05
LAST_SCALE = 0.05
STARTS = np.array(
    [[0.0, 0.0, 0.0, 0.0], [1.5, 0.0, 0.0, 0.0], [-1.5, 0.0, 0.0, 0.0], [0.0, 0.0, 0.1, 0.0], [0.0, 0.0, -0.1, 0.0]]
)


@njit
def moved_axis(point: Array, direction: Array, medial: Array, superior: Array, x: Array) -> tuple[Array, Array]:
    """Point and unit direction of the axis x away from the pedicle's own (see above)."""
    way = direction + np.tan(x[2]) * medial + np.tan(x[3]) * superior
    return point + x[0] * medial + x[1] * superior, way / np.sqrt((way * way).sum())


@njit
def _worth(
    values: NDArray[np.float32],
    origin: Array,
    spacing: float,
    point: Array,
    direction: Array,
    medial: Array,
    superior: Array,
    inward: Array,
    cranial: Array,
    extra_mm: Array,
    x: Array,
) -> float:
    """What an axis is worth in mm."""
    start, way = moved_axis(point, direction, medial, superior, x)
    up = cranial - (cranial * way).sum() * way
    up = up / np.sqrt((up * up).sum())
    side = np.cross(way, up)
    if (side * inward).sum() < 0.0:
        side = -side
    worst = ENOUGH_MM
    for s in range(STATIONS):
        p = start + WINDOW_MM * (2.0 * s / (STATIONS - 1) - 1.0) * way
        d = value_at(values, origin, spacing, p[0], p[1], p[2])
        if d >= 0.0:
            worst = min(worst, -d - 1.0)
            continue
        for t in range(RAYS):
            angle = 2.0 * np.pi * t / RAYS
            c, w = np.cos(angle), np.sin(angle)
            extra = c * c * (extra_mm[0] if c > 0 else extra_mm[2]) + w * w * (extra_mm[1] if w > 0 else extra_mm[3])
            if -d >= worst + extra:  # nothing is nearer than that, in any direction
                continue
            r = c * side + w * up
            run = trace_ray(values, origin, spacing, p[0], p[1], p[2], r[0], r[1], r[2], REACH_MM)
            worst = min(worst, run - extra)
    for n in range(BODY_STATIONS):  # on through the body: to the canal, the disc and the side the way is just as near
        p = start + (WINDOW_MM + 2.0 * n) * way
        worst = min(worst, -value_at(values, origin, spacing, p[0], p[1], p[2]))
    away = SHIFT_COST * (x[0] * x[0] + x[1] * x[1]) + TURN_COST * (x[2] * x[2] + x[3] * x[3])
    return float(worst - away)


@njit
def best_corridor(
    values: NDArray[np.float32],
    origin: Array,
    spacing: float,
    point: Array,
    direction: Array,
    medial: Array,
    superior: Array,
    inward: Array,
    cranial: Array,
    extra_mm: Array,
) -> Array:
    """The best x found: compass search from each start; the first of equals wins."""
    best = np.zeros(4)
    best_worth = -1e30
    for start in range(len(STARTS)):
        x = STARTS[start].copy()
        worth = _worth(values, origin, spacing, point, direction, medial, superior, inward, cranial, extra_mm, x)
        scale = 1.0
        while scale >= LAST_SCALE:
            chosen, chosen_worth = x, worth + 1e-6
            for n in range(8):
                tried = x.copy()
                step = scale * (FIRST_MM if n < 4 else FIRST_RAD)
                tried[n // 2] += step if n % 2 == 0 else -step
                w = _worth(
                    values, origin, spacing, point, direction, medial, superior, inward, cranial, extra_mm, tried
                )
                if w > chosen_worth:
                    chosen, chosen_worth = tried, w
            if chosen_worth > worth + 1e-6:
                x, worth = chosen, chosen_worth
            else:
                scale /= 2.0
        if worth > best_worth + 1e-6:
            best, best_worth = x, worth
    return best
