"""The compiled loops that grade screws by the hundred thousand.

The distance grid tells how far the nearest surface is, so most of a screw needs no look at all: along the axis, and
around it at the best wall distance so far, the next place worth a look is as far away as the surface was. What remains
is the smallest wall distance of `twin.plan.screws.walls` (rays across the axis, angle 0 medial, 90 degrees superior).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spatial.compiled import njit, njit_parallel, prange
from spatial.distance_kernels import trace_ray
from spatial.rigid import Array

WINDOW_MM = 6.0
REACH_MM = 25.0  # no wall of a pedicle is further; the ala of the sacrum may be
STEP_MM = 0.02
STATION_MM = 1.0
FINEST_MM = 0.25
SLACK_MM = 0.015  # a wall that is nearer by less than this is not looked for
RAYS = 120
COSINE = np.cos(2.0 * np.pi * np.arange(RAYS) / RAYS)
SINE = np.sin(2.0 * np.pi * np.arange(RAYS) / RAYS)
CHUNK = 64  # screws that one thread takes
FAR_MM = 1e9
Triple = tuple[float, float, float]


@njit
def at(values: NDArray[np.float32], o: Array, inverse: float, x: float, y: float, z: float) -> float:
    """Trilinear value at a point in mm; outside the grid what its nearest point has (grids have air around them)."""
    nx, ny, nz = values.shape
    u = min(max((x - o[0]) * inverse, 0.0), nx - 1.000001)
    v = min(max((y - o[1]) * inverse, 0.0), ny - 1.000001)
    w = min(max((z - o[2]) * inverse, 0.0), nz - 1.000001)
    i, j, k = int(u), int(v), int(w)
    u -= i
    v -= j
    w -= k
    a = values[i, j, k] + w * (values[i, j, k + 1] - values[i, j, k])
    b = values[i, j + 1, k] + w * (values[i, j + 1, k + 1] - values[i, j + 1, k])
    c = values[i + 1, j, k] + w * (values[i + 1, j, k + 1] - values[i + 1, j, k])
    d = values[i + 1, j + 1, k] + w * (values[i + 1, j + 1, k + 1] - values[i + 1, j + 1, k])
    a += v * (b - a)
    c += v * (d - c)
    return float(a + u * (c - a))


@njit
def along(point: Triple, way_mm: float, way: Triple) -> Triple:
    """The point that far on."""
    return point[0] + way_mm * way[0], point[1] + way_mm * way[1], point[2] + way_mm * way[2]


@njit
def run(
    values: NDArray[np.float32], o: Array, inverse: float, sign: float,
    x: float, y: float, z: float, ux: float, uy: float, uz: float, first: float, most: float,
) -> float:  # fmt: skip
    """Way along a ray to where `sign` * value turns from negative, between `first` and `most`; FAR_MM: not there."""
    t = first
    before = first
    d = sign * at(values, o, inverse, x + t * ux, y + t * uy, z + t * uz)
    while d < 0.0:
        if t >= most:
            return FAR_MM
        before = t
        t = min(t + max(-0.98 * d, STEP_MM), most)
        d = sign * at(values, o, inverse, x + t * ux, y + t * uy, z + t * uz)
    while t - before > 1e-3:
        middle = 0.5 * (before + t)
        if sign * at(values, o, inverse, x + middle * ux, y + middle * uy, z + middle * uz) < 0.0:
            before = middle
        else:
            t = middle
    return 0.5 * (before + t)


@njit
def around(
    values: NDArray[np.float32], o: Array, inverse: float, sign: float, p: Triple, m: Triple, u: Triple,
    near: float, best: float, best_turn: float,
) -> tuple[float, float]:  # fmt: skip
    """The shortest ray across the axis at a place, and its angle, where it is shorter than `best`; else those given."""
    n = 0
    while n < RAYS:
        x = COSINE[n] * m[0] + SINE[n] * u[0]
        y = COSINE[n] * m[1] + SINE[n] * u[1]
        z = COSINE[n] * m[2] + SINE[n] * u[2]
        ring = best - SLACK_MM
        d = sign * at(values, o, inverse, p[0] + ring * x, p[1] + ring * y, p[2] + ring * z)
        if d >= 0.0:
            t = run(values, o, inverse, sign, p[0], p[1], p[2], x, y, z, near, best)
            if t < best:
                best, best_turn = max(t, 2.0 * SLACK_MM), 2.0 * np.pi * n / RAYS
            n += 1
        else:
            n += max(int(-0.98 * d / best * RAYS / (2.0 * np.pi)), 1)
    return best, best_turn


@njit
def toward(values: NDArray[np.float32], o: Array, inverse: float, p: Triple, m: Triple, u: Triple) -> float:
    """The angle across the axis in which the value rises most."""
    h = 0.5 / inverse
    a = at(values, o, inverse, p[0] + h * m[0], p[1] + h * m[1], p[2] + h * m[2])
    a -= at(values, o, inverse, p[0] - h * m[0], p[1] - h * m[1], p[2] - h * m[2])
    b = at(values, o, inverse, p[0] + h * u[0], p[1] + h * u[1], p[2] + h * u[2])
    b -= at(values, o, inverse, p[0] - h * u[0], p[1] - h * u[1], p[2] - h * u[2])
    return float(np.arctan2(b, a))


@njit
def quick(
    values: NDArray[np.float32], o: Array, inverse: float, sign: float, p: Triple, m: Triple, u: Triple,
    near: float, most: float,
) -> tuple[float, float]:  # fmt: skip
    """The ray in the angle that the gradient tells: its way (FAR_MM: none within `most`) and the angle."""
    turn = toward(values, o, inverse, p, m, u)
    if sign < 0.0:
        turn += np.pi
    c, s = np.cos(turn), np.sin(turn)
    x, y, z = c * m[0] + s * u[0], c * m[1] + s * u[1], c * m[2] + s * u[2]
    return run(values, o, inverse, sign, p[0], p[1], p[2], x, y, z, near, most), turn


@njit
def smallest_wall(
    values: NDArray[np.float32], o: Array, inverse: float, point: Triple, way: Triple, m: Triple, u: Triple,
    first: float, last: float,
) -> tuple[float, float]:  # fmt: skip
    """The smallest wall distance between two places along the axis, negative beyond the wall, and the angle of it."""
    count = int(np.ceil((last - first) / STATION_MM - 1e-9)) + 1
    step = (last - first) / (count - 1) if count > 1 else 0.0
    d = np.empty(count)
    out, worst = False, 0
    for n in range(count):
        p = along(point, first + n * step, way)
        d[n] = at(values, o, inverse, p[0], p[1], p[2])
        out |= d[n] >= 0.0
        if d[n] > d[worst]:
            worst = n
    if out:
        wall, angle, _ = beyond(values, o, inverse, point, way, m, u, first, step, d)
        return wall, angle
    best, turn = REACH_MM, 0.0
    place = first + worst * step
    p = along(point, place, way)
    t, angle = quick(values, o, inverse, 1.0, p, m, u, -d[worst], REACH_MM)
    if t < best:
        best, turn = t, angle
    for k in range(count):
        n = (worst + k) % count
        if -d[n] < best - SLACK_MM:
            p = along(point, first + n * step, way)
            t, angle = around(values, o, inverse, 1.0, p, m, u, -d[n], best, turn)
            if t < best:
                best, turn, place = t, angle, first + n * step
    half = 0.5 * step
    while half > 0.5 * FINEST_MM:
        middle = place
        for side in (-1.0, 1.0):
            s = middle + side * half
            if first < s < last:
                p = along(point, s, way)
                near = -at(values, o, inverse, p[0], p[1], p[2])
                if 0.0 < near < best - SLACK_MM:
                    t, angle = around(values, o, inverse, 1.0, p, m, u, near, best, turn)
                    if t < best:
                        best, turn, place = t, angle, s
        half *= 0.5
    return best, turn


@njit
def beyond(
    values: NDArray[np.float32], o: Array, inverse: float, point: Triple, way: Triple, m: Triple, u: Triple,
    first: float, step: float, d: Array,
) -> tuple[float, float, float]:  # fmt: skip
    """Where the axis itself leaves the bone: minus the longest of the shortest ways back, the angle away, the place."""
    most, turn, place = -1.0, 0.0, first
    worst = int(np.argmax(d))
    for k in range(len(d)):
        n = (worst + k) % len(d)
        if d[n] < 0.0:
            continue
        found, angle = back(values, o, inverse, along(point, first + n * step, way), m, u, d[n], most)
        if found > most:
            most, turn, place = found, angle, first + n * step
    half = 0.5 * step
    last = first + (len(d) - 1) * step
    while half > 0.5 * FINEST_MM:
        middle = place
        for side in (-1.0, 1.0):
            s = middle + side * half
            if first < s < last:
                p = along(point, s, way)
                v = at(values, o, inverse, p[0], p[1], p[2])
                if v >= 0.0:
                    found, angle = back(values, o, inverse, p, m, u, v, most)
                    if found > most:
                        most, turn, place = found, angle, s
        half *= 0.5
    return -most, turn, place


@njit
def back(
    values: NDArray[np.float32], o: Array, inverse: float, p: Triple, m: Triple, u: Triple, d: float, most: float
) -> tuple[float, float]:
    """The shortest way across the axis from outside back to the bone, and the angle away from it; nothing (-1) as soon
    as it is clear to be shorter than `most`. Without bone around: the distance itself.
    """
    best, turn = quick(values, o, inverse, -1.0, p, m, u, d, REACH_MM)
    if best <= most + SLACK_MM:
        return -1.0, 0.0
    if best >= FAR_MM:
        best = REACH_MM
        for n in range(24):
            angle = 2.0 * np.pi * n / 24
            c, s = np.cos(angle), np.sin(angle)
            x, y, z = c * m[0] + s * u[0], c * m[1] + s * u[1], c * m[2] + s * u[2]
            t = run(values, o, inverse, -1.0, p[0], p[1], p[2], x, y, z, d, best)
            if t < best:
                best, turn = t, angle
        if best >= REACH_MM:
            return d, 0.0
    best, turn = around(values, o, inverse, -1.0, p, m, u, d, best, turn)
    return best, turn + np.pi


@njit
def triple(rows: Array, n: int) -> Triple:
    """Row n."""
    return rows[n, 0], rows[n, 1], rows[n, 2]


@njit
def frame_across(way: Triple, inward: Array, cranial: Array) -> tuple[Triple, Triple]:
    """The medial and superior directions across an axis, as `twin.plan.screws.walls.Across` has them."""
    a = cranial[0] * way[0] + cranial[1] * way[1] + cranial[2] * way[2]
    x, y, z = cranial[0] - a * way[0], cranial[1] - a * way[1], cranial[2] - a * way[2]
    long = np.sqrt(x * x + y * y + z * z)
    u = (x / long, y / long, z / long)
    x, y, z = way[1] * u[2] - way[2] * u[1], way[2] * u[0] - way[0] * u[2], way[0] * u[1] - way[1] * u[0]
    sign = 1.0 if x * inward[0] + y * inward[1] + z * inward[2] > 0.0 else -1.0
    return (sign * x, sign * y, sign * z), u


@njit
def foot(isthmus: Array, entry: Triple, way: Triple) -> float:
    """Place of the isthmus along the axis from the entry."""
    return float((isthmus[0] - entry[0]) * way[0] + (isthmus[1] - entry[1]) * way[1] + (isthmus[2] - entry[2]) * way[2])


@njit
def window(place: float, length: float) -> tuple[float, float]:
    """The part of the pedicle's window that a screw passes, from the isthmus; all of it when it never gets there."""
    first, last = max(-WINDOW_MM, -place), min(WINDOW_MM, length - place)
    return (-WINDOW_MM, WINDOW_MM) if first >= last else (first, last)


@njit
def cortex(values: NDArray[np.float32], o: Array, spacing: float, entry: Triple, way: Triple) -> float:
    """Way from the entry to the last crossing of the bone on the axis; nan: none before it."""
    far = spacing * np.sqrt(float(values.shape[0] ** 2 + values.shape[1] ** 2 + values.shape[2] ** 2))
    p = along(entry, far, way)
    t = trace_ray(values, o, spacing, p[0], p[1], p[2], -way[0], -way[1], -way[2], far)
    return float(far - t) if t < far else np.nan


@njit_parallel
def grade_all(
    values: NDArray[np.float32], o: Array, spacing: float, isthmus: Array, inward: Array, cranial: Array,
    entries: Array, ways: Array, radii: Array, lengths: Array,
) -> tuple[Array, Array, Array]:  # fmt: skip
    """The smallest wall margin (N,), its angle across the axis (N,), and the margin in front of the tip (N,)."""
    total = len(entries)
    margin, turn, anterior = np.empty(total), np.empty(total), np.empty(total)
    inverse = 1.0 / spacing
    for chunk in prange((total + CHUNK - 1) // CHUNK):
        for n in range(chunk * CHUNK, min((chunk + 1) * CHUNK, total)):
            way, entry = triple(ways, n), triple(entries, n)
            m, u = frame_across(way, inward, cranial)
            place = foot(isthmus, entry, way)
            first, last = window(place, lengths[n])
            wall, turn[n] = smallest_wall(values, o, inverse, along(entry, place, way), way, m, u, first, last)
            margin[n] = wall - radii[n]
            anterior[n] = cortex(values, o, spacing, entry, way) - lengths[n]
    return margin, turn, anterior


@njit
def keeps_disc(
    values: NDArray[np.float32], o: Array, inverse: float, p: Triple, m: Triple, u: Triple, room: float, need: float
) -> bool:
    """Whether no wall across the axis at a place is nearer than `need`; the surface is `room` away."""
    for n in range(4):
        c = need if n < 2 else -need
        q = m if n % 2 == 0 else u
        if at(values, o, inverse, p[0] + c * q[0], p[1] + c * q[1], p[2] + c * q[2]) >= 0.0:
            return False
    best, _ = around(values, o, inverse, 1.0, p, m, u, room, need + SLACK_MM, 0.0)
    return best >= need


@njit
def keeps_walls(
    values: NDArray[np.float32], o: Array, inverse: float, point: Triple, way: Triple, m: Triple, u: Triple,
    first: float, last: float, need: float,
) -> bool:  # fmt: skip
    """Whether every wall between two places along the axis is at least `need` away."""
    middle = min(max(0.0, first), last)  # the isthmus says no most often
    p = along(point, middle, way)
    room = -at(values, o, inverse, p[0], p[1], p[2])
    if room <= 0.0 or (room < need and not keeps_disc(values, o, inverse, p, m, u, room, need)):
        return False
    for sign in (1.0, -1.0):
        s, left = middle, (last - middle if sign > 0.0 else middle - first)
        clear = max(room - need, FINEST_MM)
        while left > 0.0:
            step = min(clear, left)
            s += sign * step
            left -= step
            p = along(point, s, way)
            here = -at(values, o, inverse, p[0], p[1], p[2])
            if here <= 0.0 or (here < need and not keeps_disc(values, o, inverse, p, m, u, here, need)):
                return False
            clear = max(here - need, FINEST_MM)
    return True


@njit_parallel
def safe_all(
    values: NDArray[np.float32], o: Array, spacing: float, isthmus: Array, inward: Array, cranial: Array,
    entries: Array, ways: Array, radii: Array, lengths: Array, keep: float, keep_ahead: float,
) -> NDArray[np.bool_]:  # fmt: skip
    """Whether each screw keeps `keep` from the walls and `keep_ahead` from the front (N,)."""
    total = len(entries)
    safe = np.zeros(total, dtype=np.bool_)
    inverse = 1.0 / spacing
    for chunk in prange((total + CHUNK - 1) // CHUNK):
        for n in range(chunk * CHUNK, min((chunk + 1) * CHUNK, total)):
            way, entry = triple(ways, n), triple(entries, n)
            place = foot(isthmus, entry, way)
            m, u = frame_across(way, inward, cranial)
            first, last = window(place, lengths[n])
            neck = along(entry, place, way)
            if not keeps_walls(values, o, inverse, neck, way, m, u, first, last, radii[n] + keep):
                continue
            p = along(entry, lengths[n] + keep_ahead, way)
            ahead = at(values, o, inverse, p[0], p[1], p[2]) < 0.0
            if not ahead:  # bone again beyond a gap counts, as it does for the chord
                ahead = cortex(values, o, spacing, entry, way) - lengths[n] >= keep_ahead
            safe[n] = ahead
    return safe
