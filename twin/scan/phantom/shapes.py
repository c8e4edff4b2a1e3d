"""The bones' building blocks: implicit primitives and the fold that joins them, compiled.

A bone is a list of rows of one table. Each row is a primitive placed in the patient frame,
with the operation that joins
it to what came before: smooth union,
subtraction or intersection (cubic polynomial minimum of width k: exactly the plain
minimum where the two fields differ by k or more, twice differentiable elsewhere). A row may open a group, which a later
MERGE row joins to the rest; groups don't nest.

Every field is negative inside, zero on the surface,
and changes by at most LIPSCHITZ per mm; away from its zero level set
it is no distance (see `distance.py` for that).

Row layout: type, operation, k_mm, cortex_mm, trabecular_hu, origin_mm (3), local_from_patient rotation (9, rows),
shape parameters (18).
"""

import math

import numpy as np
from numpy.typing import NDArray

from spatial.compiled import njit, njit_parallel, prange

ROW = 35
PARAMETERS = 17  # first shape parameter
LIPSCHITZ = 1.3  # bound on |grad f|, checked in the tests

ROUND_CONE, ELLIPSOID, BOX, HALF_SPACE, BODY, PEDICLE, SHEET, CYLINDER, MERGE = range(9)
UNION, SUBTRACT, INTERSECT, OPEN = range(4)


@njit
def smooth_min(a: float, b: float, k: float) -> float:
    """Cubic smooth minimum; equals min(a, b) where |a - b| >= k."""
    m = min(a, b)
    if k <= 0.0:
        return m
    h = k - abs(a - b)
    if h <= 0.0:
        return m
    h /= k
    return m - h * h * h * k / 6.0


@njit
def _round_cone(x: float, y: float, z: float, h: float, r1: float, r2: float) -> float:
    # Exact distance to the convex hull of two spheres on the z axis (I. Quilez, "Distance functions").
    q = math.hypot(x, y)
    b = (r1 - r2) / h
    a = math.sqrt(max(1.0 - b * b, 0.0))
    k = -b * q + a * z
    if k < 0.0:
        return math.hypot(q, z) - r1
    if k > a * h:
        return math.hypot(q, z - h) - r2
    return q * a + z * b - r1


@njit
def _ellipsoid(x: float, y: float, z: float, a: float, b: float, c: float) -> float:
    k0 = math.sqrt((x / a) ** 2 + (y / b) ** 2 + (z / c) ** 2)
    k1 = math.sqrt((x / (a * a)) ** 2 + (y / (b * b)) ** 2 + (z / (c * c)) ** 2)
    low = min(a, b, c)
    if k0 < 1.0:
        return (k0 - 1.0) * low
    return max(k0 * (k0 - 1.0) / k1, (k0 - 1.0) * low)


@njit
def _box(x: float, y: float, z: float, a: float, b: float, c: float, r: float) -> float:
    u = abs(x) - a + r
    v = abs(y) - b + r
    w = abs(z) - c + r
    outside = math.sqrt(max(u, 0.0) ** 2 + max(v, 0.0) ** 2 + max(w, 0.0) ** 2)
    return outside + min(max(u, v, w), 0.0) - r


@njit
def _body(x: float, y: float, z: float, p: NDArray[np.float64]) -> float:
    # A vertebral body: kidney-shaped section, concave waist, wedge and concave endplates, rounded rim.
    # p: half width, half depth, half height, superior slope, inferior slope, superior and inferior concavity,
    #    waist (fraction), posterior dent (mm), rim radius, anterior taper of the width (fraction), superior and
    #    inferior slope to the left
    a = p[0]
    b = p[1]
    half = p[2]
    s = min(max(z / half, -1.0), 1.0)
    g = 1.0 - p[7] * (1.0 - s * s) * (1.0 - s * s)
    u = x / (a * g * (1.0 - p[10] * s))
    v = y / (b * g)
    if v > 0.0:
        v += p[8] / b * math.exp(-((x / (0.42 * a)) ** 2)) * min(v * 1.5, 1.0)
        r = math.sqrt(math.sqrt(u * u * u * u + v * v * v * v))
    else:
        r = (abs(u) ** 2.4 + abs(v) ** 2.4) ** (1.0 / 2.4)
    side = (r - 1.0) * min(a, b) * g
    q = r / 0.9
    bowl = (1.0 - q * q) * (1.0 - q * q) if q < 1.0 else 0.0
    top = (z - (half + p[3] * y + p[11] * x - p[5] * bowl)) / math.sqrt(1.0 + p[3] * p[3] + p[11] * p[11])
    bottom = ((-half + p[4] * y + p[12] * x + p[6] * bowl) - z) / math.sqrt(1.0 + p[4] * p[4] + p[12] * p[12])
    return -smooth_min(smooth_min(-side, -top, p[9]), -bottom, p[9])


@njit
def _pedicle(x: float, y: float, z: float, p: NDArray[np.float64]) -> float:
    # An elliptic neck along z, narrowest at z = 0: half width (x), half height (y), flare, half length.
    s = z / p[3]
    g = 1.0 + p[2] * min(s * s, 1.5)
    u = x / (p[0] * g)
    v = y / (p[1] * g)
    k0 = math.sqrt(u * u + v * v)
    side = (k0 - 1.0) * min(p[0], p[1])
    return -smooth_min(-side, p[3] - abs(z), 2.0)


@njit
def _sheet(x: float, y: float, z: float, p: NDArray[np.float64], outline: NDArray[np.float64]) -> float:
    # A curved plate: mid-surface z = cubic(x, y), half thickness, clipped by a closed polygon of the (x, y) plane.
    # p: 10 cubic coefficients in units of 50 mm, half thickness, edge rounding, slope normaliser, outline start, count
    u = x / 50.0
    v = y / 50.0
    h = (
        p[0] + u * (p[1] + u * (p[3] + u * p[6]) + v * (p[4] + u * p[7] + v * p[8]))
        + v * (p[2] + v * (p[5] + v * p[9]))
    )  # fmt: skip
    start = int(p[13])
    count = int(p[14])
    best = 1e30
    inside = False
    xj = outline[2 * (start + count - 1)]
    yj = outline[2 * (start + count - 1) + 1]
    for i in range(start, start + count):
        xi = outline[2 * i]
        yi = outline[2 * i + 1]
        ex = xj - xi
        ey = yj - yi
        wx = x - xi
        wy = y - yi
        t = min(max((wx * ex + wy * ey) / (ex * ex + ey * ey), 0.0), 1.0)
        dx = wx - ex * t
        dy = wy - ey * t
        best = min(best, dx * dx + dy * dy)
        if (yi > y) != (yj > y) and x < ex * (y - yi) / ey + xi:
            inside = not inside
        xj = xi
        yj = yi
    edge = math.sqrt(best)
    if inside:
        edge = -edge
    plate = abs(z - h) / p[12] - p[10]
    r = p[11]
    du = plate + r
    dv = edge + r
    return float(math.hypot(max(du, 0.0), max(dv, 0.0)) + min(max(du, dv), 0.0) - r)


@njit
def primitive(row: NDArray[np.float64], outline: NDArray[np.float64], x: float, y: float, z: float) -> float:
    """The field of one row at a patient point, mm."""
    dx = x - row[5]
    dy = y - row[6]
    dz = z - row[7]
    u = row[8] * dx + row[9] * dy + row[10] * dz
    v = row[11] * dx + row[12] * dy + row[13] * dz
    w = row[14] * dx + row[15] * dy + row[16] * dz
    p = row[17:]
    kind = int(row[0])
    if kind == ROUND_CONE:
        return _round_cone(u / p[3], v, w, p[0], p[1], p[2])
    if kind == ELLIPSOID:
        return _ellipsoid(u, v, w, p[0], p[1], p[2])
    if kind == BOX:
        return _box(u, v, w, p[0], p[1], p[2], p[3])
    if kind == HALF_SPACE:
        return float(w)
    if kind == BODY:
        return _body(u, v, w, p)
    if kind == PEDICLE:
        return _pedicle(u, v, w, p)
    if kind == SHEET:
        return _sheet(u, v, w, p, outline)
    # CYLINDER: endless along z, elliptic
    k0 = math.sqrt((u / p[0]) ** 2 + (v / p[1]) ** 2)
    return float((k0 - 1.0) * min(p[0], p[1]))


@njit
def fold(
    table: NDArray[np.float64], outline: NDArray[np.float64], program: NDArray[np.int32], start: int, stop: int,
    x: float, y: float, z: float,
) -> tuple[float, float, float]:  # fmt: skip
    """Join the rows `program[start:stop]` at a point: field (mm), cortical thickness (mm), trabecular HU.

    An entry is 2 * row, plus 1 where it opens an accumulator (the first row of a bone or of a group).
    """
    f0 = 1e9
    c0 = 1.0
    t0 = 0.0
    f1 = 1e9
    c1 = 1.0
    t1 = 0.0
    depth = 0
    for n in range(start, stop):
        entry = program[n]
        row = table[entry >> 1]
        k = row[2]
        operation = int(row[1])
        if int(row[0]) == MERGE:
            d = f1
            c = c1
            t = t1
            f = f0
            depth = 1
        else:
            d = primitive(row, outline, x, y, z)
            c = row[3]
            t = row[4]
            if entry & 1:
                depth += 1
                if depth == 1:
                    f0 = d
                    c0 = c
                    t0 = t
                else:
                    f1 = d
                    c1 = c
                    t1 = t
                continue
            f = f0 if depth == 1 else f1
        if operation == SUBTRACT:
            f = -smooth_min(-f, d, k)
        elif operation == INTERSECT:
            f = -smooth_min(-f, -d, k)
        else:
            share = 1.0 if d < f else 0.0
            if k > 0.0:
                share = min(max(0.5 + 0.5 * (f - d) / k, 0.0), 1.0)
            f = smooth_min(f, d, k)
            if depth == 1:
                c0 += share * (c - c0)
                t0 += share * (t - t0)
            else:
                c1 += share * (c - c1)
                t1 += share * (t - t1)
        if depth == 1:
            f0 = f
        else:
            f1 = f
    return f0, c0, t0


@njit
def cull(
    table: NDArray[np.float64], outline: NDArray[np.float64], program: NDArray[np.int32], start: int, stop: int,
    x: float, y: float, z: float, reach_mm: float, kept: NDArray[np.int32],
) -> int:  # fmt: skip
    """Write into `kept` the entries that can matter within `reach_mm` of a point; return how many.

    Each field changes by at most LIPSCHITZ * reach there, so a row whose smooth minimum can't differ from the plain one
    drops out, exactly.
    """
    slack = 2.0 * LIPSCHITZ * reach_mm
    f0 = 1e9
    f1 = 1e9
    depth = 0
    count = 0
    base = 0
    group = 0
    for n in range(start, stop):
        entry = program[n]
        row = table[entry >> 1]
        k = row[2]
        operation = int(row[1])
        merging = int(row[0]) == MERGE
        if merging:
            d = f1
            f = f0
            depth = 1
        else:
            d = primitive(row, outline, x, y, z)
            if entry & 1:
                depth += 1
                if depth == 1:
                    f0 = d
                    base = count
                else:
                    f1 = d
                    group = count
                kept[count] = entry
                count += 1
                continue
            f = f0 if depth == 1 else f1
        if operation == SUBTRACT:
            old_wins = f + d > k + slack  # f above -d
            new_wins = False
            f = -smooth_min(-f, d, k)
        elif operation == INTERSECT:
            old_wins = f - d > k + slack
            new_wins = False
            f = -smooth_min(-f, -d, k)
        else:
            old_wins = d - f > k + slack
            new_wins = f - d > k + slack
            f = smooth_min(f, d, k)
        if merging:
            if old_wins:
                count = group
            elif new_wins:
                for m in range(group, count):
                    kept[base + m - group] = kept[m]
                count -= group - base
            else:
                kept[count] = entry
                count += 1
        elif new_wins:
            count = base if depth == 1 else group
            kept[count] = (entry & ~1) | 1
            count += 1
        elif not old_wins:
            kept[count] = entry
            count += 1
        if depth == 1:
            f0 = f
        else:
            f1 = f
    return count


@njit
def gradient(
    table: NDArray[np.float64], outline: NDArray[np.float64], program: NDArray[np.int32], start: int, stop: int,
    x: float, y: float, z: float,
) -> tuple[float, float, float]:  # fmt: skip
    """The field's slope from four points 0.17 um around (a tetrahedron); good to 1e-4 of its length."""
    h = 1e-4
    gx = 0.0
    gy = 0.0
    gz = 0.0
    for n in range(4):
        a = 1.0 if n == 0 or n == 3 else -1.0
        b = 1.0 if n == 1 or n == 3 else -1.0
        c = 1.0 if n == 2 or n == 3 else -1.0
        f = fold(table, outline, program, start, stop, x + a * h, y + b * h, z + c * h)[0]
        gx += a * f
        gy += b * f
        gz += c * f
    return gx / (4 * h), gy / (4 * h), gz / (4 * h)


@njit
def below(d: float, a: float, b: float, c: float) -> float:
    """The share of a box behind a plane d from its middle; a, b, c: its edges along the plane's normal."""
    if 2.0 * abs(d) >= a + b + c:
        return 0.0 if d > 0.0 else 1.0
    least = 0.03 * (a + b + c)
    a, b, c = max(a, least), max(b, least), max(c, least)
    total = 0.0
    for i in range(-1, 2, 2):
        for j in range(-1, 2, 2):
            for k in range(-1, 2, 2):
                s = -d + 0.5 * (i * a + j * b + k * c)
                if s > 0.0:
                    total += i * j * k * s * s * s
    return min(max(total / (6.0 * a * b * c), 0.0), 1.0)


@njit_parallel
def values(
    table: NDArray[np.float64], outline: NDArray[np.float64], program: NDArray[np.int32], start: int, stop: int,
    points: NDArray[np.float64], out: NDArray[np.float64],
) -> None:  # fmt: skip
    """The field at (N, 3) patient points, into `out` (N,)."""
    for i in prange(points.shape[0]):
        out[i] = fold(table, outline, program, start, stop, points[i, 0], points[i, 1], points[i, 2])[0]
