"""The last two ribs of each side: flat, curved, floating."""

from __future__ import annotations

import numpy as np
from scipy.interpolate import CubicSpline

from twin.scan.phantom.anatomy import Anatomy
from twin.scan.phantom.solids import Solid
from twin.scan.phantom.vertebra import SIDES, Stand

# from the head outward: lateral beyond the body's side, backward of the body's centre, down (mm)
_COURSE = {
    11: ((6.0, 11.0, 3.0), (14.0, 20.5, 2.0), (32.0, 33.0, -3.0), (58.0, 36.0, -17.0), (86.0, 17.0, -42.0), (99.0,
    -22.0, -72.0), (98.0, -54.0, -94.0)),
    12: ((5.0, 12.0, 1.0), (14.0, 22.0, -1.0), (32.0, 33.0, -8.0), (54.0, 34.0, -24.0), (74.0, 22.0, -44.0), (84.0,
    6.0, -59.0)),
}  # fmt: skip


def rib_solid(anatomy: Anatomy, stand: Stand, number: int, side_index: int) -> Solid:
    """One rib as a chain of flattened round cones along a smooth course."""
    side_name, side = SIDES[side_index]
    solid = Solid(f"rib_{side_name}_{number}", 0.9 * anatomy.cortex_scale, anatomy.trabecular_hu * 0.8)
    size = stand.size
    course = np.array(_COURSE[number])
    points = stand.body.origin + np.column_stack(
        [side * (course[:, 0] + size.width_mm / 2), course[:, 1], course[:, 2]]
    )  # fmt: skip
    s = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    line = CubicSpline(s, points)
    count = 22
    knots = np.linspace(0.0, s[-1], count + 1)
    along = line(knots)
    fraction = knots / s[-1]
    thick = np.interp(fraction, [0, 0.05, 0.12, 0.4, 0.9, 1.0], [3.6, 3.0, 2.9, 3.3, 2.7, 2.1])
    flat = np.interp(fraction, [0, 0.08, 0.25, 0.8, 1.0], [1.1, 1.25, 1.7, 1.9, 1.5])
    for n in range(count):
        outward = np.array([along[n, 0] - stand.body.origin[0], along[n, 1] - stand.body.origin[1] - 5.0, 0.0])
        run = along[n + 1] - along[n]
        solid.cone(
            along[n], along[n + 1], thick[n], thick[n + 1], k=0.2, stretch=float(flat[n]), wide=np.cross(outward, run)
        )
    return solid
