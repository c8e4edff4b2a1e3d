"""The ribs: flat and curved, each from its vertebra round to where its cartilage begins (the last ones end free)."""

from __future__ import annotations

import numpy as np
from scipy.interpolate import CubicSpline

from twin.scan.phantom.anatomy import Anatomy
from twin.scan.phantom.solids import F64, Solid
from twin.scan.phantom.vertebra import SIDES, Stand, transverse_tip

# from the head outward: lateral beyond the body's side, backward of the body's centre, down (mm)
_COURSE = {
    11: ((6.0, 11.0, 3.0), (14.0, 20.5, 2.0), (32.0, 33.0, -3.0), (58.0, 36.0, -17.0), (86.0, 17.0, -42.0), (99.0,
    -22.0, -72.0), (98.0, -54.0, -94.0)),
    12: ((5.0, 12.0, 1.0), (14.0, 22.0, -1.0), (32.0, 33.0, -8.0), (54.0, 34.0, -24.0), (74.0, 22.0, -44.0), (84.0,
    6.0, -59.0)),
    13: ((5.0, 12.0, 1.0), (14.0, 22.0, -2.0), (30.0, 31.0, -8.0), (44.0, 33.0, -18.0), (58.0, 28.0, -30.0)),
}  # fmt: skip
# of the first ten: half width of the chest there, where the bone ends (from the midline, forward of the body), its fall
_CHEST = {
    1: (62.0, 40.0, 62.0, 38.0),
    2: (84.0, 44.0, 88.0, 58.0),
    3: (100.0, 48.0, 104.0, 74.0),
    4: (111.0, 53.0, 114.0, 86.0),
    5: (119.0, 60.0, 121.0, 96.0),
    6: (125.0, 69.0, 124.0, 104.0),
    7: (129.0, 80.0, 120.0, 111.0),
    8: (131.0, 94.0, 108.0, 113.0),
    9: (131.0, 107.0, 90.0, 110.0),
    10: (129.0, 117.0, 70.0, 104.0),
}
TUBERCLE_GAP_MM = 9.4  # middle of the rib's tubercle to the axis of the transverse process


def _first_ten(stand: Stand, number: int) -> F64:
    # the course of a true or false rib in the straight posture: lateral of the midline, backward, up
    size = stand.size
    half, end_x, front, fall = _CHEST[number]
    tip, root = transverse_tip(size)
    way = (tip - root) / np.linalg.norm(tip - root)
    aside = np.array([way[1], -way[0], 0.0]) / np.hypot(way[0], way[1])  # forward and outward of the process
    tubercle = tip - 2.0 * way + TUBERCLE_GAP_MM * aside
    head = np.array([size.width_mm / 2 + 4.8, 0.30 * size.depth_mm + 1.0, 1.5])
    tx, ty, tz = tubercle
    angle_x = tx + 0.42 * (half - tx)
    return np.array(
        [
            head, 0.5 * (head + tubercle) + np.array([1.0, -0.6, 0.0]), tubercle,
            (angle_x, ty + (11.0 if number > 2 else 5.0), tz - 0.10 * fall),
            (tx + 0.86 * (half - tx), ty - 8.0, tz - 0.28 * fall), (half, 0.5 * (ty - front) - 4.0, -0.54 * fall),
            (0.45 * half + 0.55 * end_x + 12.0, -0.80 * front, -0.85 * fall), (end_x, -front, -fall),
        ]
    )  # fmt: skip


def rib_solid(anatomy: Anatomy, stand: Stand, number: int, side_index: int) -> Solid:
    """One rib as a chain of flattened round cones along a smooth course."""
    side_name, side = SIDES[side_index]
    solid = Solid(f"rib_{side_name}_{number}", 0.9 * anatomy.cortex_scale, anatomy.trabecular_hu * 0.8)
    size = stand.size
    if number > 10:
        course = np.array(_COURSE[number])
        points = np.column_stack([side * (course[:, 0] + size.width_mm / 2), course[:, 1], course[:, 2]])
    else:
        points = _first_ten(stand, number) * np.array([side, 1.0, 1.0])
        points[:3] = points[:3] @ (stand.body.rotation if stand.turn is None else stand.turn.T @ stand.body.rotation).T
    if stand.turn is not None:  # the rib goes with its vertebra
        points = points @ stand.turn.T
    points = stand.body.origin + points
    s = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    line = CubicSpline(s, points)
    count = 22 if number > 10 else 34
    knots = np.linspace(0.0, s[-1], count + 1)
    along = line(knots)
    fraction = knots / s[-1]
    thick = np.interp(fraction, [0, 0.05, 0.12, 0.4, 0.9, 1.0], [3.6, 3.0, 2.9, 3.3, 2.7, 2.1])
    if number < 11:
        thick *= np.interp(number, [1, 4, 10], [0.8, 0.9, 1.0])
    flat = np.interp(fraction, [0, 0.08, 0.25, 0.8, 1.0], [1.1, 1.25, 1.7, 1.9, 1.5])
    for n in range(count):
        outward = np.array([along[n, 0] - stand.body.origin[0], along[n, 1] - stand.body.origin[1] - 5.0, 0.0])
        run = along[n + 1] - along[n]
        solid.cone(
            along[n], along[n + 1], thick[n], thick[n + 1], k=0.2, stretch=float(flat[n]), wide=np.cross(outward, run)
        )
    return solid
