"""One marker fitted as a whole: eight corner coordinates and one spread of light from all pieces of its code's edges.

Each piece (see pieces.py) says how far its edge lies off the lattice, and how well it knows. Weighted least squares
with redescending weights turns that into the corners; pieces under a finger or a highlight disagree and drop out. The
spread (px) is by how much bright cells look larger than they are: a response to light that is not linear, sharpening,
bleeding ink. On the outline alone it could not be told from the marker's size; the code's inner edges face both ways
and tell it. Blur is measured for either family of lines, levels are planes over the marker, and both are shared by
all pieces as far as their scatter allows.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from spatial.compiled import njit
from spatial.rigid import Array
from tracking.detection.lattice import corner_masses, lay_lattice, place, place_slopes
from tracking.detection.pieces import (
    BLUR_INFO,
    BLUR_STEP,
    BRIGHT,
    CLIPPED,
    COLUMNS,
    COUNT,
    DARK,
    FAMILY,
    INFO,
    NOISE2,
    NX,
    NY,
    SIDE,
    SIGN,
    VAR_BRIGHT,
    VAR_DARK,
    WEIGHT,
    E,
    U,
    V,
    list_pieces,
    measure,
    measure_by_area,
    sample,
)

FEWEST_PIECES = 12
LEAST_CONTRAST = 8.0
SHARPEST_PX = 0.36  # a step between two pixels, seen as if half way; the pixel's own width is 0.29
LEAST_NOISE2 = 0.09  # below a third of a grey level the digitising itself is the noise
# a fit's state: blur of both families, spread and its sd, planes of dark and bright, evidence
BLUR0, BLUR1, SPREAD, SPREAD_SD, LEVELS, SQUARES, FREEDOM = 0, 1, 2, 3, 4, 10, 11
NOISE, PIECES, OK, MOVED, TRUST, OFF_INSIDE = 12, 13, 14, 15, 16, 17
STATE = 18


@njit
def fit_markers(
    picture: NDArray[np.uint8],
    light: Array,
    profiles: Array,
    coarse: Array,
    corners: Array,
    bend: Array,
    codes: NDArray[np.uint8],
    inside: bool,
    start: bool,
    passes: int,
    prior: Array,
    bins: Array,
    state: Array,
    covariance: Array,
    sides: Array,
) -> None:
    """Improve `corners` (N, 4, 2) in place; on `start` from `coarse` ones, else from `state` (N, STATE).

    `prior` (N, 3): spread per blur, its sd, and the coarse corners' sd (px). `covariance` (N, 9, 9) of the corners and
    the spread, `sides` (N, 4, 2): share of each side's pieces that were used, and that were clipped.
    """
    n = codes.shape[1] - 4
    lattice = np.zeros((n + 1, n + 1, 2))
    mass, d_mass, x, h = np.zeros(4), np.zeros((4, 8)), np.zeros(9), np.zeros(9)
    pieces = np.zeros((2 * n * (n + 1), COLUMNS))
    normal, right = np.zeros((9, 9)), np.zeros(9)
    blur, levels, elsewhere = np.zeros(2), np.zeros((2, 3)), np.zeros_like(bins)
    for k in range(len(corners)):
        c, s = corners[k], state[k]
        if start:
            s[OK] = _begin(
                picture, light, c, bend[k], codes[k], pieces, levels, lattice, mass, d_mass, x, h, normal, right
            )
            s[SPREAD], blur[0], blur[1], trust = prior[k, 0] * 0.9, 0.9, 0.9, 1e-3
        else:
            blur[0], blur[1] = s[BLUR0], s[BLUR1]
            for row in range(2):
                for column in range(3):
                    levels[row, column] = s[LEVELS + 3 * row + column]
            trust = s[TRUST]
        for number in range(passes):
            if s[OK] == 0.0:
                break
            lay_lattice(c, bend[k], mass, d_mass, lattice)
            count = list_pieces(lattice, codes[k], inside, pieces)
            for q in range(count):
                pieces[q, E] = -pieces[q, SIGN] * s[SPREAD]
            edge_px = math.sqrt(abs(mass[1]) / 2)
            # what earlier passes leave over is not the profile's fault
            gather = bins if number == passes - 1 or not start else elsewhere
            stride = max(1, int(edge_px / n / 2.5)) if start else max(1, int(edge_px / n / 24.0))
            measure(picture, light, profiles, pieces, count, blur, levels, trust, stride, gather)
            noise2 = _noise2(pieces, count)
            if noise2 < 0:
                s[OK] = 0.0
                break
            trust = noise2 / _levels(pieces, count, noise2, levels, normal, right)
            _blur(pieces, count, noise2, blur)
            wide = 0.5 * (blur[0] + blur[1])
            spread = prior[k, 0] * wide
            last = number == passes - 1 or not start
            spread_sd = max(prior[k, 1] * wide, 1e-6)
            used = _solve(
                pieces, count, c, coarse[k], prior[k, 2], spread, spread_sd, mass, d_mass, normal, right, x, h, s, last
            )
            if used < FEWEST_PIECES or levels[1, 0] - levels[0, 0] < LEAST_CONTRAST:
                s[OK] = 0.0
                break
            moved = 0.0
            for a in range(4):
                for axis in range(2):
                    c[a, axis] += x[2 * a + axis]
                    moved = max(moved, abs(x[2 * a + axis]))
            s[SPREAD], s[NOISE], s[PIECES], s[MOVED] = x[8], math.sqrt(noise2), used, moved
            far = 0.0
            for a in range(4):
                far = max(far, abs(c[a, 0] - coarse[k, a, 0]), abs(c[a, 1] - coarse[k, a, 1]))
            if not math.isfinite(far) or far > max(6.0, 0.15 * edge_px):
                s[OK] = 0.0
            elif not start and moved < 0.006:
                break
        s[BLUR0], s[BLUR1], s[TRUST] = blur[0], blur[1], trust
        for row in range(2):
            for column in range(3):
                s[LEVELS + 3 * row + column] = levels[row, column]
        if start or s[OK] == 0.0:
            continue
        covariance[k] = np.linalg.inv(normal)
        s[SPREAD_SD] = math.sqrt(covariance[k, 8, 8])
        for side in range(4):
            share = clipped = number_of = 0.0
            for q in range(count):
                if pieces[q, SIDE] == side:
                    number_of += 1
                    clipped += pieces[q, CLIPPED]
                    if pieces[q, INFO] > 0:
                        share += pieces[q, WEIGHT] * min(1.0, 2 * noise2 / pieces[q, NOISE2])
            sides[k, side, 0], sides[k, side, 1] = share / number_of, clipped / number_of


@njit
def _begin(
    picture: NDArray[np.uint8],
    light: Array,
    corners: Array,
    bend: Array,
    code: NDArray[np.uint8],
    pieces: Array,
    levels: Array,
    lattice: Array,
    mass: Array,
    d_mass: Array,
    x: Array,
    h: Array,
    normal: Array,
    right: Array,
) -> float:
    """Levels from the border's cells and those around it, corners from the outline by areas; 1 where it went well."""
    n = len(lattice) - 1
    scratch = np.zeros(STATE)
    for attempt in range(2):
        lay_lattice(corners, bend, mass, d_mass, lattice)
        if not (mass.min() > 4.0 or mass.max() < -4.0):  # a bow tie, or hardly a pixel
            return 0.0
        if attempt == 0:
            border = outside = 0.0
            for i in range(n):
                u = (i + 0.5) / n
                for side in range(4):
                    for out in range(2):
                        near = 0.5 / n if out == 0 else -0.5 / n
                        a = near if side % 2 == 0 else 1 - near
                        px, py = place(corners, mass, u, a) if side < 2 else place(corners, mass, a, u)
                        value = sample(picture, light, px, py)
                        if out == 0:
                            border += value / (4 * n)
                        else:
                            outside += value / (4 * n)
            white_border = code[2, 2] > 0
            levels[:] = 0.0
            levels[0, 0], levels[1, 0] = (outside, border) if white_border else (border, outside)
            if levels[1, 0] - levels[0, 0] < LEAST_CONTRAST:
                return 0.0
        count = list_pieces(lattice, code, False, pieces)
        measure_by_area(picture, light, pieces, count, levels[0, 0], levels[1, 0])
        if (
            _solve(pieces, count, corners, corners, 3.0, 0.0, 1e-6, mass, d_mass, normal, right, x, h, scratch, False)
            < 8
        ):
            return 0.0
        for a in range(4):
            corners[a, 0] += x[2 * a]
            corners[a, 1] += x[2 * a + 1]
    return 1.0


@njit
def _solve_symmetric(A: Array, b: Array, n: int, factor: Array, x: Array) -> bool:
    """x (n,) of A x = b for the lower triangle of a positive A, by Cholesky; False where it is not positive."""
    for i in range(n):
        for j in range(i + 1):
            s = A[i, j]
            for k in range(j):
                s -= factor[i, k] * factor[j, k]
            if i > j:
                factor[i, j] = s / factor[j, j]
            elif s > 0.0:
                factor[i, i] = math.sqrt(s)
            else:
                return False
    for i in range(n):
        s = b[i]
        for k in range(i):
            s -= factor[i, k] * x[k]
        x[i] = s / factor[i, i]
    for i in range(n - 1, -1, -1):
        s = x[i]
        for k in range(i + 1, n):
            s -= factor[k, i] * x[k]
        x[i] = s / factor[i, i]
    return True


@njit
def _noise2(pieces: Array, count: int) -> float:
    """Noise variance of a pixel: the median over the pieces, whose own are raised where they are much worse; or -1."""
    values = np.empty(count)
    used = 0
    for q in range(count):
        if pieces[q, INFO] > 0:
            values[used] = pieces[q, NOISE2]
            used += 1
    if used < FEWEST_PIECES:
        return -1.0
    noise2 = max(float(np.median(values[:used])), LEAST_NOISE2)
    for q in range(count):
        if pieces[q, INFO] > 0:
            by_chance = 1.0 + 4.0 * math.sqrt(2.0 / pieces[q, COUNT])
            pieces[q, NOISE2] = noise2 * max(1.0, pieces[q, NOISE2] / noise2 / by_chance)
    return noise2


@njit
def _levels(pieces: Array, count: int, noise2: float, levels: Array, normal: Array, right: Array) -> float:
    """Planes of dark and bright through the pieces' own levels; returns with what variance they stray from them."""
    strays = spread = 0.0
    factor, step = np.empty((3, 3)), np.empty(3)
    for which in range(2):
        column, variance = (DARK, VAR_DARK) if which == 0 else (BRIGHT, VAR_BRIGHT)
        scale = 1e9
        for _ in range(3):
            normal[:3, :3] = 0.0
            right[:3] = 0.0
            absolute = claimed = 0.0
            used = 0
            for q in range(count):
                p = pieces[q]
                if p[INFO] <= 0:
                    continue
                u, v = p[U] - 0.5, p[V] - 0.5
                r = p[column] - levels[which, 0] - levels[which, 1] * u - levels[which, 2] * v
                w = 1.0 / (1.0 + (r / scale) ** 2) ** 2 / (p[variance] + 0.005)
                absolute += min(abs(r), 60.0)
                claimed += p[variance] * noise2
                used += 1
                for a in range(3):
                    wa = w * (1.0 if a == 0 else (u if a == 1 else v))
                    right[a] += wa * r
                    normal[a, 0] += wa
                    normal[a, 1] += wa * u
                    normal[a, 2] += wa * v
            for a in range(1, 3):
                normal[a, a] += 0.5
            if not _solve_symmetric(normal, right, 3, factor, step):
                break
            for a in range(3):
                levels[which, a] += step[a]
            spread = 1.2533 * absolute / max(used, 1)
            scale = 3.0 * spread + 0.5
        strays += max(spread * spread - claimed / max(used, 1), 0.0) / 2
    return strays + 0.02 * noise2


@njit
def _blur(pieces: Array, count: int, noise2: float, blur: Array) -> None:
    """One step of either family's blur."""
    for family in range(2):
        right = info = 0.0
        for q in range(count):
            p = pieces[q]
            if p[INFO] > 0 and int(p[FAMILY]) == family:
                w = noise2 / p[NOISE2]
                right += w * p[BLUR_STEP]
                info += w * p[BLUR_INFO]
        if info > 0:
            step = min(max(right / info, -0.3 * blur[family]), 0.4 * blur[family])
            blur[family] = min(max(blur[family] + step, SHARPEST_PX), 8.0)


@njit
def _off_lattice(pieces: Array, count: int, slopes: Array, x: Array, inside: bool) -> float:
    """Variance (px2) of the pieces inside, or of the outline, beyond what their pixels explain; 0 when they do."""
    z, claimed = np.empty(count), np.empty(count)
    used = 0
    for q in range(count):
        p = pieces[q]
        if p[INFO] > 0 and (p[SIDE] < 0) == inside:
            r = p[E]
            for a in range(9):
                r -= slopes[q, a] * x[a]
            claimed[used] = p[NOISE2] / p[INFO]
            z[used] = abs(r) / math.sqrt(claimed[used])
            used += 1
    if used < 6:
        return 0.0
    ratio = float(np.median(z[:used])) / 0.6745
    return (ratio * ratio - 1.0) * float(np.median(claimed[:used])) if ratio > 1.4 else 0.0


@njit
def _solve(
    pieces: Array,
    count: int,
    corners: Array,
    coarse: Array,
    coarse_sd: float,
    spread: float,
    spread_sd: float,
    mass: Array,
    d_mass: Array,
    normal: Array,
    right: Array,
    x: Array,
    h: Array,
    state: Array,
    last: bool,
) -> int:
    """Corner steps and spread x (9,) from the pieces, `normal` at the solution; how many pieces count."""
    corner_masses(corners, mass, d_mass)
    slopes, factor, step = np.empty((count, 9)), np.empty((9, 9)), np.empty(9)
    used = 0
    for q in range(count):
        p = pieces[q]
        if p[INFO] > 0:
            used += 1
            place_slopes(corners, mass, d_mass, p[U], p[V], p[NX], p[NY], h)
            slopes[q] = h
            slopes[q, 8] = -p[SIGN]
    if used < 8:
        return used
    x[:] = 0.0
    scale2 = 1.0
    # variances (px2) with which lines lie off the lattice. A code may have been drawn on whole pixels: the outline
    # speaks first, then the code says how well it fits to that
    off_inside, off_outline = 0.1, 0.0
    rounds = 8 if last else 3
    for iteration in range(rounds):
        if not last and iteration == 1:
            off_inside = 0.01
        if last and (iteration == 1 or iteration == 3):
            off_inside = _off_lattice(pieces, count, slopes, x, True)
            off_outline = _off_lattice(pieces, count, slopes, x, False)
        normal[:] = 0.0
        right[:] = 0.0
        squares = freedom = absolute = 0.0
        for q in range(count):
            p = pieces[q]
            if p[INFO] <= 0:
                continue
            info = 1.0 / (p[NOISE2] / p[INFO] + (off_inside if p[SIDE] < 0 else off_outline))
            r = p[E]
            for a in range(9):
                r -= slopes[q, a] * x[a]
            z2 = r * r * info
            w = 1.0 / (1.0 + 2.0 * abs(r)) if iteration == 0 else 1.0 / (1.0 + (z2 / scale2) ** 2)
            p[WEIGHT] = w
            squares += w * z2
            freedom += w
            absolute += math.sqrt(z2)
            for a in range(9):
                wa = w * info * slopes[q, a]
                right[a] += wa * p[E]
                for b in range(a + 1):
                    normal[a, b] += wa * slopes[q, b]
        for a in range(8):
            normal[a, a] += 1.0 / coarse_sd**2
            right[a] += (coarse[a // 2, a % 2] - corners[a // 2, a % 2]) / coarse_sd**2
        normal[8, 8] += 1.0 / spread_sd**2
        right[8] += spread / spread_sd**2
        if not _solve_symmetric(normal, right, 9, factor, step):
            return 0
        change = 0.0
        for a in range(9):
            change = max(change, abs(step[a] - x[a]))
            x[a] = step[a]
        sd = max(1.2533 * absolute / used, 1.0)
        scale2 = 20.0 * sd * sd
        if iteration > 3 and change < 1e-3:
            break
    for a in range(9):
        for b in range(a):
            normal[b, a] = normal[a, b]
    state[SQUARES], state[FREEDOM], state[OFF_INSIDE] = squares, freedom, off_inside
    return used
