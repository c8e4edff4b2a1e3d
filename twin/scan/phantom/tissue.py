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
LEFT_X, LEFT_Y, LEFT_MM, RIGHT_X, RIGHT_Y, RIGHT_MM, LUNG_X, LUNG_MM, KIDNEY, CONTRAST = range(15, 25)
COLUMNS = 25
AORTA_HU, CAVA_HU, KIDNEY_HU, LUNG_HU, GAS_HU = 320.0, 150.0, 190.0, -860.0, -880.0  # the first three with contrast


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
def _table_hu(x: float, y: float, row: F64) -> float:
    # the table that the patient lies on, and the air
    below = y - row[TABLE_Y]
    if 0.0 < below < 42.0 and abs(x - row[CENTRE_X]) < 215.0:
        return -150.0 if below < 1.5 or below > 40.5 else -940.0
    return AIR


@njit
def _leg_hu(x: float, y: float, z: float, cx: float, cy: float, r: float, fat: float) -> float:
    # skin, fat under it, and muscle bellies with fat between them
    if r <= 0.0:
        return AIR
    depth = r - math.sqrt((x - cx) ** 2 + (y - cy) ** 2)
    if depth < 0.0:
        return AIR
    if depth < 1.7:
        return SKIN
    if depth < 0.55 * fat * r / 80.0 + 2.0:
        return FAT + 6.0 * grain(x, y, z, 14.0)
    if abs(grain(x, y, 0.2 * z, 26.0)) < 0.035:
        return FAT
    return MUSCLE + 8.0 * grain(x, y, z, 9.0)


@njit
def soft_hu(x: float, y: float, z: float, row: F64) -> float:
    """The HU of a point outside every bone; `row` is the table's row at this z."""
    if row[LEFT_MM] > 0.0 or row[RIGHT_MM] > 0.0:
        left = _leg_hu(x, y, z, row[LEFT_X], row[LEFT_Y], row[LEFT_MM], row[FAT_MM])
        right = _leg_hu(x, y, z, row[RIGHT_X], row[RIGHT_Y], row[RIGHT_MM], row[FAT_MM])
        if max(left, right) > AIR:
            return max(left, right)
        return _table_hu(x, y, row)
    back = row[BACK_Y]
    half = 0.5 * (back - row[FRONT_Y])
    u = abs(x - row[CENTRE_X]) / row[HALF_WIDTH]
    v = abs(y - 0.5 * (back + row[FRONT_Y])) / half
    u2, v2 = u * u, v * v
    r = 1.5 if u2 + v2 > 1.75 else 0.35 * math.sqrt(u2 + v2) + 0.65 * math.sqrt(math.sqrt(u2 * u2 + v2 * v2))
    depth = (1.0 - r) * half
    if depth < 0.0:
        return _table_hu(x, y, row)
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
    filled = row[CONTRAST] > 0.5
    if vx * vx + vy * vy < 81.0:
        return AORTA_HU if filled else BLOOD
    vx += 24.0
    if vx * vx * 0.7 + vy * vy < 90.0:
        return CAVA_HU if filled else BLOOD  # inferior vena cava
    if row[KIDNEY] > 0.0:
        e = ((dx - 62.0) / 27.0) ** 2 + ((y - row[BODY_Y] - 6.0) / 24.0) ** 2
        if e < row[KIDNEY] ** 2:
            return KIDNEY_HU if e > (0.5 * row[KIDNEY]) ** 2 or dx < 50.0 else 120.0
    if (dx / 34.0) ** 2 + ((y - cy + 8.0) / 42.0) ** 2 < 1.0:
        return MUSCLE  # the ligaments and small muscles that wrap the column
    if row[LUNG_MM] > 0.0:
        e = ((x - row[CENTRE_X]) / row[LUNG_X]) ** 2 + ((y - row[BODY_Y] + 32.0) / row[LUNG_MM]) ** 2
        middle = 26.0 + (34.0 if y < row[BODY_Y] - 45.0 else 0.0)  # spine and great vessels, the heart before them
        if e < 1.0:
            if dx < middle:
                return BLOOD  # heart and great vessels
            return LUNG_HU + 60.0 * grain(x, y, z, 5.0) if abs(grain(x, y, z, 16.0)) > 0.02 else BLOOD - 300.0
    if depth < fat + 13.0:
        return MUSCLE + 8.0 * grain(x, y, z, 9.0)
    if y > row[BODY_Y] + 8.0 + 6.0 * grain(x, y, z, 30.0):
        return FAT if dx > 38.0 else MUSCLE
    g = grain(x, y, z, 26.0) + 0.35 * grain(x, y, z, 9.0)
    if filled and row[LUNG_MM] == 0.0 and g > 0.42 and y < row[BODY_Y] - 60.0:
        return GAS_HU  # bowel gas, up at the front
    return VISCERA + 10.0 * g if g > -0.08 else FAT


def table_of(phantom: Phantom, z_low_mm: float, z_high_mm: float) -> F64:
    """The curves between two heights: rows every STEP_MM, columns as named above."""
    z = np.arange(z_low_mm, z_high_mm + STEP_MM, STEP_MM)
    hips, scale = phantom.pelvis.hips.origin, phantom.pelvis.scale
    up = (z - hips[2]) / scale
    bones = phantom.bones
    back = float(bones.high_mm[:, 1].max()) + 13.0
    rows = np.zeros((len(z), COLUMNS))
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
    rows[:, CONTRAST] = phantom.anatomy.contrast
    _legs(phantom, z, rows)
    _chest(phantom, z, rows)
    return rows


def _legs(phantom: Phantom, z: F64, rows: F64) -> None:
    # each leg's axis and radius, below the groin
    for leg in phantom.legs:
        x, y, r = (LEFT_X, LEFT_Y, LEFT_MM) if leg.side == "left" else (RIGHT_X, RIGHT_Y, RIGHT_MM)
        top, knee, foot = leg.head, leg.knee.origin, leg.ankle
        outward = 1.0 if leg.side == "left" else -1.0
        heights = np.array([foot[2] - 60.0, foot[2], knee[2], top[2] - 80.0])
        low_x = foot[0] + 4.0 * outward
        rows[:, x] = np.interp(z, heights, [low_x, low_x, knee[0], top[0] + 8.0 * outward])
        rows[:, y] = np.interp(z, heights, [foot[1] + 2.0, foot[1] + 2.0, knee[1] + 2.0, top[1] + 14.0])
        length = top[2] - knee[2]
        at = [foot[2] - 40.0, foot[2] + 60.0, knee[2] - 110.0, knee[2] - 20.0, knee[2] + 60.0, top[2] - 0.3 * length]
        rows[:, r] = np.interp(z, at, [48.0, 46.0, 62.0, 62.0, 66.0, 84.0]) * (z < top[2] - 78.0)


def _chest(phantom: Phantom, z: F64, rows: F64) -> None:
    # lungs above the diaphragm, kidneys beside L1 to L3
    levels = {stand.size.level: float(stand.body.origin[2]) for stand in phantom.stands}
    if phantom.anatomy.region in ("thoracic", "spine"):
        floor, apex = levels["T10"], levels["T1"]
        rise = np.clip((z - floor) / (apex - floor), 0.0, 1.0)
        inside = (z > floor) & (z < apex)
        rows[:, LUNG_X] = np.interp(rise, [0.0, 0.3, 0.7, 1.0], [112.0, 112.0, 96.0, 50.0])
        rows[:, LUNG_MM] = np.interp(rise, [0.0, 0.3, 0.7, 1.0], [78.0, 80.0, 66.0, 34.0]) * inside
    if phantom.anatomy.contrast and "L2" in levels:
        rows[:, KIDNEY] = np.sqrt(np.clip(1.0 - ((z - levels["L2"] - 8.0) / 54.0) ** 2, 0.0, 1.0))
