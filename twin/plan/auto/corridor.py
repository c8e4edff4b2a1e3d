"""The search for axes through a pedicle: compiled, deterministic, some hundred axes a millisecond.

An axis is x = (shift medially mm, shift up mm, turn of the tip medially rad, turn up rad) away from the pedicle's own.
The pedicle's walls are points all over the bone's surface (where the lines of its distance grid cross it); the nearest
of those within 6 mm of the isthmus along an axis is the nearest wall. A wall distance counts less `extra_mm` (medial,
superior, lateral, inferior; blended by the squared cosine between them).

An axis is worth its smallest counted wall distance in the pedicle, or distance to any surface on its way into the body,
as far as that is not more than `enough`; less a cost for leaving the pedicle's own axis, so that a wide pedicle keeps
it; less what an `Aim` asks of it: a head near the rod's line, joints left alone, dense bone.
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
REACH_MM = 14.5  # of the wall points around the isthmus: across the window as far as the widest shift needs them
BACK_MM = 60.0  # an entry is no further behind the isthmus
UNSAFE = -1000.0  # what an axis nearer to a wall than a floor is worth, plus that wall's counted distance
FIRST_MM, FIRST_RAD = 1.0, 0.05
LAST_SCALE = 0.05
STARTS = np.array(
    [[0.0, 0.0, 0.0, 0.0], [1.5, 0.0, 0.0, 0.0], [-1.5, 0.0, 0.0, 0.0], [0.0, 0.0, 0.1, 0.0], [0.0, 0.0, -0.1, 0.0]]
)


@njit
def wall_points(values: NDArray[np.float32], origin: Array, spacing: float, centre: Array, reach: float) -> Array:
    """Points (N, 3) from `centre`, within `reach` of it, where lines of the grid cross the surface."""
    shape = values.shape
    low = np.empty(3, np.int64)
    high = np.empty(3, np.int64)
    for a in range(3):
        low[a] = max(0, int(np.floor((centre[a] - reach - origin[a]) / spacing)))
        high[a] = min(shape[a] - 1, int(np.ceil((centre[a] + reach - origin[a]) / spacing)))
    found = np.empty((64, 3))
    count = 0
    step = np.zeros(3, np.int64)
    for i in range(low[0], high[0]):
        for j in range(low[1], high[1]):
            for k in range(low[2], high[2]):
                here = values[i, j, k]
                if abs(here) > spacing or (i + j + k) % 2:  # every other node: points 0.3 mm apart are enough
                    continue
                for a in range(3):
                    step[:] = 0
                    step[a] = 1
                    there = values[i + step[0], j + step[1], k + step[2]]
                    if (here < 0.0) == (there < 0.0):
                        continue
                    part = here / (here - there)
                    x = origin[0] + spacing * (i + part * step[0]) - centre[0]
                    y = origin[1] + spacing * (j + part * step[1]) - centre[1]
                    z = origin[2] + spacing * (k + part * step[2]) - centre[2]
                    if x * x + y * y + z * z > reach * reach:
                        continue
                    if count == len(found):
                        more = np.empty((2 * count, 3))
                        more[:count] = found
                        found = more
                    found[count, 0], found[count, 1], found[count, 2] = x, y, z
                    count += 1
    return found[:count].copy()


@njit
def moved_axis(point: Array, direction: Array, medial: Array, superior: Array, x: Array) -> tuple[Array, Array]:
    """Point and unit direction of the axis x away from the pedicle's own (see above)."""
    way = direction + np.tan(x[2]) * medial + np.tan(x[3]) * superior
    return point + x[0] * medial + x[1] * superior, way / np.sqrt((way * way).sum())


@njit
def across_axis(way: Array, inward: Array, cranial: Array) -> tuple[Array, Array]:
    """The medial and the superior direction across an axis."""
    up = cranial - (cranial * way).sum() * way
    up = up / np.sqrt((up * up).sum())
    side = np.cross(way, up)
    if (side * inward).sum() < 0.0:
        side = -side
    return side, up


@njit
def nearest_walls(
    values: NDArray[np.float32], origin: Array, spacing: float, walls: Array, frame: Array, extra_mm: Array, x: Array
) -> tuple[float, float, float]:
    """Of an axis: the nearest wall, the nearest counted less its extra, and the least room in the body; mm.

    `walls`: points from the isthmus; `frame` (6, 3): isthmus, direction, medial, superior, inward, cranial. The walls
    are negative where the axis is outside the bone.
    """
    start, way = moved_axis(frame[0], frame[1], frame[2], frame[3], x)
    side, up = across_axis(way, frame[4], frame[5])
    cx, cy, cz = start[0] - frame[0, 0], start[1] - frame[0, 1], start[2] - frame[0, 2]
    most = max(extra_mm[0], extra_mm[1], extra_mm[2], extra_mm[3])
    near = counted = 2.0 * ENOUGH_MM
    limit = (counted + most) ** 2
    for n in range(len(walls)):
        px, py, pz = walls[n, 0], walls[n, 1], walls[n, 2]
        if abs(px * way[0] + py * way[1] + pz * way[2]) > WINDOW_MM:
            continue
        px, py, pz = px - cx, py - cy, pz - cz
        u = px * side[0] + py * side[1] + pz * side[2]
        w = px * up[0] + py * up[1] + pz * up[2]
        square = u * u + w * w
        if square >= limit:
            continue
        run = np.sqrt(square)
        near = min(near, run)
        if square > 0.0:
            c2 = u * u / square
            run -= c2 * (extra_mm[0] if u > 0 else extra_mm[2]) + (1.0 - c2) * (extra_mm[1] if w > 0 else extra_mm[3])
        if run < counted:
            counted = run
            limit = (counted + most) ** 2
    for s in range(STATIONS):
        along = WINDOW_MM * (2.0 * s / (STATIONS - 1) - 1.0)
        d = value_at(
            values, origin, spacing, start[0] + along * way[0], start[1] + along * way[1], start[2] + along * way[2]
        )
        if d >= 0.0:
            near, counted = min(near, -d - 1.0), min(counted, -d - 1.0)
    body = 2.0 * ENOUGH_MM
    for n in range(BODY_STATIONS):  # on through the body: to the canal, the disc and the side the way is just as near
        p = start + (WINDOW_MM + 2.0 * n) * way
        body = min(body, -value_at(values, origin, spacing, p[0], p[1], p[2]))
    return near, counted, body


@njit
def _voxel(index_from_patient: Array, p: Array) -> tuple[int, int, int]:
    """The voxel (i, j, k) that a point lies in."""
    m = index_from_patient
    return (
        int(np.rint(m[0, 0] * p[0] + m[0, 1] * p[1] + m[0, 2] * p[2] + m[0, 3])),
        int(np.rint(m[1, 0] * p[0] + m[1, 1] * p[1] + m[1, 2] * p[2] + m[1, 3])),
        int(np.rint(m[2, 0] * p[0] + m[2, 1] * p[1] + m[2, 2] * p[2] + m[2, 3])),
    )


@njit
def axis_worth(
    values: NDArray[np.float32],
    origin: Array,
    spacing: float,
    walls: Array,
    frame: Array,
    extra_mm: Array,
    limits: Array,
    pulls: Array,
    joints: Array,
    hu: NDArray[np.int16],
    index_from_patient: Array,
    x: Array,
) -> float:
    """What an axis is worth in mm. The arrays are those of an `Aim` (`twin.plan.auto.pedicle`)."""
    near, counted, body = nearest_walls(values, origin, spacing, walls, frame, extra_mm, x)
    enough, floor, counted_floor, body_slack, head_mm, joint_mm, joint_cost, hu_worth = limits
    if min(near, body) < floor or counted < counted_floor:
        return float(UNSAFE + min(counted, body))
    worth = (
        min(enough, counted, body + body_slack)
        - SHIFT_COST * (x[0] ** 2 + x[1] ** 2)
        - TURN_COST * (x[2] ** 2 + x[3] ** 2)
    )
    if len(pulls) == 0 and len(joints) == 0 and hu_worth == 0.0:
        return float(worth)
    start, way = moved_axis(frame[0], frame[1], frame[2], frame[3], x)
    if len(pulls):
        back = trace_ray(
            values, origin, spacing, start[0], start[1], start[2], -way[0], -way[1], -way[2], BACK_MM
        )  # fmt: skip
        head = start - (min(back, BACK_MM) + head_mm) * way
        for n in range(len(pulls)):  # rows: coefficient of this head, what it should make up (3), a form (3, 3)
            off = pulls[n, 0] * head - pulls[n, 1:4]
            for a in range(3):
                for b in range(3):
                    worth -= off[a] * pulls[n, 4 + 3 * a + b] * off[b]
    for n in range(len(joints)):
        away = joints[n] - start
        away = away - (away * way).sum() * way
        worth -= joint_cost * max(0.0, joint_mm - np.sqrt((away * away).sum())) ** 2
    if hu_worth > 0.0:
        total = 0.0
        for n in range(BODY_STATIONS):
            p = start + (WINDOW_MM + 2.0 * n) * way
            i, j, k = _voxel(index_from_patient, p)
            if 0 <= k < hu.shape[0] and 0 <= j < hu.shape[1] and 0 <= i < hu.shape[2]:
                total += min(max(float(hu[k, j, i]), -100.0), 400.0)
        worth += hu_worth * total / BODY_STATIONS
    return float(worth)


@njit
def best_axis(
    values: NDArray[np.float32],
    origin: Array,
    spacing: float,
    walls: Array,
    frame: Array,
    extra_mm: Array,
    limits: Array,
    pulls: Array,
    joints: Array,
    hu: NDArray[np.int16],
    index_from_patient: Array,
    starts: Array,
) -> tuple[Array, float]:
    """The best x found and its worth: compass search from each start (S, 4); the first of equals wins."""
    best = np.zeros(4)
    best_worth = -1e30
    for begin in range(len(starts)):
        x = starts[begin].copy()
        worth = axis_worth(
            values, origin, spacing, walls, frame, extra_mm, limits, pulls, joints, hu, index_from_patient, x
        )
        scale = 1.0
        while scale >= LAST_SCALE:
            chosen, chosen_worth = x, worth + 1e-6
            for n in range(8):
                tried = x.copy()
                step = scale * (FIRST_MM if n < 4 else FIRST_RAD)
                tried[n // 2] += step if n % 2 == 0 else -step
                w = axis_worth(
                    values, origin, spacing, walls, frame, extra_mm, limits, pulls, joints, hu, index_from_patient,
                    tried,
                )  # fmt: skip
                if w > chosen_worth:
                    chosen, chosen_worth = tried, w
            if chosen_worth > worth + 1e-6:
                x, worth = chosen, chosen_worth
            else:
                scale /= 2.0
        if worth > best_worth + 1e-6:
            best, best_worth = x, worth
    return best, best_worth


@njit
def survey(
    values: NDArray[np.float32], origin: Array, spacing: float, walls: Array, frame: Array, medial_mm: Array,
    up_mm: Array, medial_rad: Array, up_rad: Array, depth_mm: float, least_mm: float,
) -> NDArray[np.float32]:  # fmt: skip
    """The room (N, M, T, U) around each axis of a lattice of shifts (N), (M) and turns (T), (U): the nearest wall in
    the window, or surface from its end to `depth_mm` past the isthmus; -1 where it is less than `least_mm`.
    """
    room = np.full((len(medial_mm), len(up_mm), len(medial_rad), len(up_rad)), np.float32(-1.0))
    u, w = np.empty(len(walls)), np.empty(len(walls))
    x = np.zeros(4)
    for a in range(len(medial_rad)):
        for b in range(len(up_rad)):
            x[:] = 0.0
            x[2], x[3] = medial_rad[a], up_rad[b]
            _, way = moved_axis(frame[0], frame[1], frame[2], frame[3], x)
            side, up = across_axis(way, frame[4], frame[5])
            count = 0
            for p in range(len(walls)):
                if abs((walls[p] * way).sum()) <= WINDOW_MM:
                    u[count], w[count] = (walls[p] * side).sum(), (walls[p] * up).sum()
                    count += 1
            for i in range(len(medial_mm)):
                for j in range(len(up_mm)):
                    across = medial_mm[i] * frame[2] + up_mm[j] * frame[3]
                    du, dw = (across * side).sum(), (across * up).sum()
                    near = (2.0 * ENOUGH_MM) ** 2
                    for p in range(count):
                        near = min(near, (u[p] - du) ** 2 + (w[p] - dw) ** 2)
                        if near < least_mm * least_mm:
                            break
                    if near < least_mm * least_mm:
                        continue
                    start = frame[0] + across
                    near = np.sqrt(near)
                    if value_at(values, origin, spacing, start[0], start[1], start[2]) >= 0.0:
                        continue  # as far from the walls, but outside
                    s = WINDOW_MM
                    while s <= depth_mm and near >= least_mm:
                        q = start + s * way
                        near = min(near, -value_at(values, origin, spacing, q[0], q[1], q[2]))
                        s += 2.0
                    if near >= least_mm:
                        room[i, j, a, b] = near
    return room
