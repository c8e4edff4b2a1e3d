"""What lies around the bones: skin, fat, muscle, bowel, vessels, the dural sac, and the table under the patient.

Everything follows a few curves along z, tabulated every half millimetre from the phantom's own anatomy.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from spatial.compiled import njit
from twin.scan.phantom.patient import Phantom
from twin.scan.phantom.pelvis import sacral_middles

F64 = NDArray[np.float64]
STEP_MM = 0.5

AIR, FAT, MUSCLE, SKIN, BLOOD, CORD, VISCERA = -1000.0, -98.0, 55.0, 35.0, 45.0, 28.0, 38.0
# columns of the table
CENTRE_X, FRONT_Y, BACK_Y, HALF_WIDTH, FAT_MM, CANAL_Y, BODY_Y = range(7)
BODY_X, PSOAS_X, PSOAS_Y, PSOAS_MM, PELVIC, TABLE_Y, SAC, CANAL_X = range(7, 15)


@njit
def lattice(i: int, j: int, k: int) -> float:
    """A fixed pseudo-random number in [-1, 1) for a lattice point."""
    h = np.uint64(i * 73856093) ^ np.uint64(j * 19349663) ^ np.uint64(k * 83492791)
    h ^= h >> np.uint64(15)
    h *= np.uint64(0x2C1B3C6D)
    h ^= h >> np.uint64(13)
    h *= np.uint64(0x297A2D39)
    h ^= h >> np.uint64(16)
    return float(h & np.uint64(0xFFFFFF)) / 8388608.0 - 1.0


@njit
def grain(x: float, y: float, z: float, size_mm: float) -> float:
    """Smooth zero-mean noise of a given grain size, about -0.7 to 0.7."""
    x /= size_mm
    y /= size_mm
    z /= size_mm
    i, j, k = math.floor(x), math.floor(y), math.floor(z)
    u, v, w = x - i, y - j, z - k
    total = 0.0
    for a in range(2):
        for b in range(2):
            for c in range(2):
                weight = (u if a else 1 - u) * (v if b else 1 - v) * (w if c else 1 - w)
                total += weight * lattice(i + a, j + b, k + c)
    return total


@njit
def soft_hu(x: float, y: float, z: float, row: F64) -> float:
    """The HU of a point outside every bone; `row` is the table's row at this z."""
    back = row[BACK_Y]
    half = 0.5 * (back - row[FRONT_Y])
    u = abs(x - row[CENTRE_X]) / row[HALF_WIDTH]
    v = abs(y - 0.5 * (back + row[FRONT_Y])) / half
    u2, v2 = u * u, v * v
    r = 1.5 if u2 + v2 > 1.75 else 0.35 * math.sqrt(u2 + v2) + 0.65 * math.sqrt(math.sqrt(u2 * u2 + v2 * v2))
    depth = (1.0 - r) * half
    if depth < 0.0:
        below = y - row[TABLE_Y]
        if 0.0 < below < 42.0 and abs(x - row[CENTRE_X]) < 215.0:
            return -150.0 if below < 1.5 or below > 40.5 else -940.0
        return AIR
    if depth < 1.7:
        return SKIN
    fat = row[FAT_MM]
    dx = abs(x - row[BODY_X])
    cy = row[CANAL_Y]
    # dural sac with its fat, between bodies and laminae
    cx = abs(x - row[CANAL_X])
    e = (cx / 9.0) ** 2 + ((y - cy) / 6.2) ** 2
    if e < 1.0 and row[SAC] > 0.5:
        return CORD
    if row[SAC] > 0.5 and (cx / 12.5) ** 2 + ((y - cy) / 8.5) ** 2 < 1.0:
        return -70.0
    # erector spinae, either side of the spinous processes, and their fascia
    e = ((cx - 31.0) / 30.0) ** 2 + ((y - cy - 19.0) / 23.0) ** 2
    if e < 1.0 and depth > 5.0:
        return MUSCLE + 8.0 * grain(x, y, z, 9.0)
    if row[PELVIC] > 0.5:
        inner = (dx / 58.0) ** 2 + ((y - row[BODY_Y] + 45.0) / 52.0) ** 2
        if inner > 1.0:
            return FAT if depth < fat else MUSCLE + 10.0 * grain(x, y, z, 12.0)
    if depth < fat:
        return FAT + 6.0 * grain(x, y, z, 14.0)
    e = ((dx - row[PSOAS_X]) ** 2 + (y - row[PSOAS_Y]) ** 2) / (row[PSOAS_MM] ** 2 + 1e-9)
    if e < 1.0:
        return MUSCLE + 3.0
    vx, vy = x - row[BODY_X] - 9.0, y - row[BODY_Y] + 30.0
    if vx * vx + vy * vy < 81.0:
        return BLOOD  # aorta
    vx += 24.0
    if vx * vx * 0.7 + vy * vy < 90.0:
        return BLOOD  # inferior vena cava
    if (dx / 34.0) ** 2 + ((y - cy + 8.0) / 42.0) ** 2 < 1.0:
        return MUSCLE  # the ligaments and small muscles that wrap the column
    if depth < fat + 13.0:
        return MUSCLE + 8.0 * grain(x, y, z, 9.0)
    if y > row[BODY_Y] + 8.0 + 6.0 * grain(x, y, z, 30.0):
        return FAT if dx > 38.0 else MUSCLE
    g = grain(x, y, z, 26.0) + 0.35 * grain(x, y, z, 9.0)
    return VISCERA + 10.0 * g if g > -0.08 else FAT


def table_of(phantom: Phantom, z_low_mm: float, z_high_mm: float) -> F64:
    """The curves between two heights: rows every STEP_MM, columns as named above."""
    z = np.arange(z_low_mm, z_high_mm + STEP_MM, STEP_MM)
    hips, scale = phantom.pelvis.hips.origin, phantom.pelvis.scale
    up = (z - hips[2]) / scale
    bones = phantom.bones
    back = float(bones.high_mm[:, 1].max()) + 13.0
    rows = np.zeros((len(z), 15))
    rows[:, CENTRE_X] = rows[:, BODY_X] = phantom.s1.origin[0]
    rows[:, BACK_Y] = back - np.interp(up, [60, 150, 230, 330], [0, 6, 6, 0])
    rows[:, FRONT_Y] = back - np.interp(up, [-100, 0, 90, 160, 260, 420], [205, 222, 226, 228, 232, 236])
    rows[:, HALF_WIDTH] = np.interp(up, [-100, -20, 40, 120, 190, 260, 420], [180, 184, 181, 170, 157, 158, 163])
    rows[:, FAT_MM] = phantom.anatomy.skin_mm * np.interp(up, [-40, 60, 200, 400], [1.1, 1.2, 1.0, 0.6])
    rows[:, TABLE_Y] = back + 1.0
    middles, marks = (list(points) for points in zip(*sacral_middles(phantom.pelvis), strict=True))
    for stand in phantom.stands:
        marks.append(stand.body.at(0.0, stand.size.depth_mm / 2 + stand.size.canal_depth_mm / 2, 0.0))
        middles.append(stand.body.origin)
    for across, column, points in ((CANAL_X, CANAL_Y, marks), (BODY_X, BODY_Y, middles)):
        line = np.array(points)[np.argsort(np.array(points)[:, 2])]
        rows[:, across] = np.interp(z, line[:, 2], line[:, 0])
        rows[:, column] = np.interp(z, line[:, 2], line[:, 1])
    rows[:, PSOAS_X] = np.interp(up, [-40, 20, 80, 140, 280], [88, 84, 56, 40, 28])
    rows[:, PSOAS_Y] = rows[:, BODY_Y] + np.interp(up, [-40, 20, 80, 140, 280], [-70, -62, -22, 2, 10])
    rows[:, PSOAS_MM] = np.interp(up, [-40, 0, 120, 200, 285, 300], [14, 17, 21, 16, 7, 0])
    rows[:, PELVIC] = up < 118
    rows[:, SAC] = z > min(float(m[2]) for m in marks)  # the dural sac ends in the sacrum
    return rows
