"""The edges of a marker, cell by cell: pieces between two lattice points with a dark cell on one side, a bright one on
the other.

Along a piece the picture is modelled as dark + (bright - dark) T(u, v): T is the code itself, blurred: the edge at v =
0, its parallel neighbours one cell away, and near the piece's ends the columns of cells beside it, each edge with the
same blurred profile. What a piece measures is its offset e along its normal, with the information (1/px2) that its
pixels carry once the two levels are not known better than their neighbours say.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from spatial.compiled import njit
from spatial.rigid import Array

# columns of a piece: where it starts, its unit tangent and normal, the inward normals of the lattice lines at its ends
X, Y, TX, TY, NX, NY, LX, LY, RX, RY = 0, 1, 2, 3, 4, 5, 6, 7, 8, 9
LENGTH, BOW, BEFORE, AFTER = 10, 11, 12, 13  # px: length, sagitta * 4, distance of the lattice lines before and after
FAMILY, SIDE, U, V, SIGN = 14, 15, 16, 17, 18  # 0: lines along u; side of the outline or -1; place; +1: bright after
OPEN_L, OPEN_R = 19, 20  # 1: other edges meet it at that end
OWN, LEFT, RIGHT = 21, 25, 29  # four cells across it: its own column and those beside it
E, INFO, DARK, BRIGHT, VAR_DARK, VAR_BRIGHT = 33, 34, 35, 36, 37, 38  # what is measured; variances per noise variance
NOISE2, COUNT, BLUR_STEP, BLUR_INFO, CLIPPED, WEIGHT = 39, 40, 41, 42, 43, 44
COLUMNS = 45

PROFILE_PER_SD = 64  # table steps for one sd of blur
PROFILE_REACH_SD = 5.0
BINS_PER_SD = 8
BINS = int(2 * PROFILE_REACH_SD) * BINS_PER_SD
UNEVEN_BLUR = 1.15
FEWEST_PIXELS = 4
LEAST_SHARE = 0.5  # of the marker's contrast that an edge has to have
KEEP_OFF_SD = 1.7  # from a cell's corner, where the profile's small errors add up; at most a fifth of the piece
CLIP_HIGH, CLIP_LOW = 254, 1  # grey levels beyond which the sensor or the coding may have clipped
CLIPPED_ROOT_WEIGHT = 0.1  # a picture drawn in black and white is all clipped: then it is that or nothing


@njit
def list_pieces(lattice: Array, code: NDArray[np.uint8], inside: bool, pieces: Array) -> int:
    """Fill `pieces` from a lattice (n + 1, n + 1, 2) and a code (n + 4, n + 4) with two quiet cells around; how many.

    Only the outline where `inside` is false.
    """
    n = len(lattice) - 1
    count = 0
    for family in range(2):
        for line in range(n + 1):
            outline = line == 0 or line == n
            if not outline and not inside:
                continue
            low, high = max(line - 1, 0), min(line + 1, n)
            for k in range(n):
                if _cell(code, family, line + 1, k + 2) == _cell(code, family, line + 2, k + 2):
                    continue
                p = pieces[count]
                count += 1
                for c in range(4):
                    p[LEFT + c] = _cell(code, family, line + c, k + 1)
                    p[OWN + c] = _cell(code, family, line + c, k + 2)
                    p[RIGHT + c] = _cell(code, family, line + c, k + 3)
                ax, ay = _node(lattice, family, line, k)
                bx, by = _node(lattice, family, line, k + 1)
                length = math.sqrt((bx - ax) ** 2 + (by - ay) ** 2)
                tx, ty = (bx - ax) / length, (by - ay) / length
                nx, ny = -ty, tx
                hx0, hy0 = _node(lattice, family, high, k)
                hx1, hy1 = _node(lattice, family, high, k + 1)
                lx0, ly0 = _node(lattice, family, low, k)
                lx1, ly1 = _node(lattice, family, low, k + 1)
                if (hx0 + hx1 - lx0 - lx1) * nx + (hy0 + hy1 - ly0 - ly1) * ny < 0:
                    nx, ny = -nx, -ny
                after = ((hx0 + hx1 - ax - bx) * nx + (hy0 + hy1 - ay - by) * ny) / 2
                before = ((ax + bx - lx0 - lx1) * nx + (ay + by - ly0 - ly1) * ny) / 2
                p[BEFORE], p[AFTER] = before if line > 0 else after, after if line < n else before
                for end in range(2):
                    wx, wy = (hx1 - lx1, hy1 - ly1) if end else (hx0 - lx0, hy0 - ly0)
                    wide = math.sqrt(wx * wx + wy * wy)
                    sign = 1.0 if (-wy * tx + wx * ty) * (1 - 2 * end) > 0 else -1.0
                    p[LX + 2 * end], p[LY + 2 * end] = -sign * wy / wide, sign * wx / wide
                # the line's bow over this piece: the second difference of three lattice points
                s = min(max(k, 1), n - 1)
                x0, y0 = _node(lattice, family, line, s - 1)
                x1, y1 = _node(lattice, family, line, s)
                x2, y2 = _node(lattice, family, line, s + 1)
                p[BOW] = -0.5 * ((x0 - 2 * x1 + x2) * nx + (y0 - 2 * y1 + y2) * ny)
                p[X], p[Y], p[TX], p[TY], p[NX], p[NY], p[LENGTH] = ax, ay, tx, ty, nx, ny, length
                p[SIGN] = 1.0 if p[OWN + 2] > p[OWN + 1] else -1.0
                p[OPEN_L] = 0.0 if p[LEFT + 1] == p[OWN + 1] and p[LEFT + 2] == p[OWN + 2] else 1.0
                p[OPEN_R] = 0.0 if p[RIGHT + 1] == p[OWN + 1] and p[RIGHT + 2] == p[OWN + 2] else 1.0
                p[FAMILY], p[SIDE] = family, -1.0
                if family == 0:
                    p[U], p[V] = (k + 0.5) / n, line / n
                else:
                    p[U], p[V] = line / n, (k + 0.5) / n
                if outline:  # corners 0 1 2 3 are (0, 0) (1, 0) (1, 1) (0, 1); side i runs from corner i to i + 1
                    first = line == 0
                    p[SIDE] = (0.0 if first else 2.0) if family == 0 else (3.0 if first else 1.0)
                p[E] = p[INFO] = p[CLIPPED] = p[COUNT] = 0.0
                p[NOISE2] = p[WEIGHT] = 1.0
    return count


@njit
def _cell(code: NDArray[np.uint8], family: int, across: int, along: int) -> float:
    j, i = (across, along) if family == 0 else (along, across)
    return float(code[j, i])


@njit
def _node(lattice: Array, family: int, line: int, k: int) -> tuple[float, float]:
    j, i = (line, k) if family == 0 else (k, line)
    return lattice[j, i, 0], lattice[j, i, 1]


@njit
def sample(picture: NDArray[np.uint8], light: Array, x: float, y: float) -> float:
    """Light at a place between pixels, bilinear; beyond the picture its rim."""
    height, width = picture.shape
    x, y = min(max(x, 0.0), width - 1.001), min(max(y, 0.0), height - 1.001)
    i, j = int(x), int(y)
    fx, fy = x - i, y - j
    top = light[picture[j, i]] * (1 - fx) + light[picture[j, i + 1]] * fx
    bottom = light[picture[j + 1, i]] * (1 - fx) + light[picture[j + 1, i + 1]] * fx
    return float(top * (1 - fy) + bottom * fy)


@njit
def measure_by_area(
    picture: NDArray[np.uint8], light: Array, pieces: Array, count: int, dark: float, bright: float
) -> None:
    """A first offset of each piece from far away: the share of bright light on three profiles across it."""
    for q in range(count):
        p = pieces[q]
        p[INFO] = 0.0
        half = min(0.9 * min(p[BEFORE], p[AFTER]), 5.0)
        steps = int(2 * half / 0.7) + 1
        total, good = 0.0, 0
        for a in range(3):
            f = (0.2 + 0.3 * a) * p[LENGTH]
            x, y = p[X] + f * p[TX], p[Y] + f * p[TY]
            sum_, least, most = 0.0, 1e9, -1e9
            for k in range(steps):
                v = -half + 2 * half * (k + 0.5) / steps
                g = sample(picture, light, x + v * p[NX], y + v * p[NY])
                sum_ += g
                least, most = min(least, g), max(most, g)
            if most - least > 0.35 * (bright - dark):
                least = max(least, dark - 0.25 * (bright - dark))
                most = min(most, bright + 0.25 * (bright - dark))
                total += (half - 2 * half * (sum_ / steps - least) / (most - least)) * p[SIGN]
                good += 1
        if good > 0:
            p[E], p[INFO] = total / good, good


@njit
def edge(profile: Array, z: float, step: float) -> tuple[float, float]:
    """The blurred edge at z sd and its slope; its bright flank is where `step` (up: > 0) puts it."""
    t = ((z if step >= 0.0 else -z) + 5.0) * 64.0
    if t <= 0.0:
        value, slope = 0.0, 0.0
    elif t >= 639.0:
        value, slope = 1.0, 0.0
    else:
        k = int(t)
        h = t - k
        value = profile[k, 0] + h * (profile[k + 1, 0] - profile[k, 0])
        slope = profile[k, 1] + h * (profile[k + 1, 1] - profile[k, 1])
    return (value, slope) if step >= 0.0 else (1.0 - value, slope)


@njit
def measure(
    picture: NDArray[np.uint8],
    light: Array,
    profiles: Array,
    pieces: Array,
    count: int,
    blur: Array,
    levels: Array,
    trust: float,
    stride: int,
    bins: Array,
) -> None:
    """Measure all pieces from the pixels around them, each row (or column) `stride` apart.

    `light` (256,) turns grey into light; `profiles` (2, 641, 2) the blurred edge and its slope, of sharp lines and of
    those that motion has blurred more than the others; `blur` (2,) its sd for either family of lines; `levels` (2, 3)
    planes of dark and bright over (u, v); `trust`: noise variance over the variance with which a piece's own levels
    stray from the planes. `bins` (2, 80, 2) gathers sum and number of residuals, in units of the contrast,
    over the profile. One Gauss-Newton step a call.
    """
    height, width = picture.shape
    top_light, low_light = light[CLIP_HIGH], light[CLIP_LOW]
    for q in range(count):
        p = pieces[q]
        p[INFO] = p[COUNT] = p[CLIPPED] = 0.0
        family = int(p[FAMILY])
        sd, other = blur[family], blur[1 - family]
        kind = 1 if sd > UNEVEN_BLUR * other else 0
        profile, across = profiles[kind], profiles[1 if other > UNEVEN_BLUR * sd else 0]
        before, after, length = p[BEFORE], p[AFTER], p[LENGTH]
        half = min(0.55 * min(before, after), max(3.0 * sd, 1.3))
        x0, y0, tx, ty, nx, ny = p[X], p[Y], p[TX], p[TY], p[NX], p[NY]
        x1, y1 = x0 + length * tx, y0 + length * ty
        lx, ly, rx, ry = p[LX], p[LY], p[RX], p[RY]
        bow, e0 = p[BOW], p[E]
        dark = levels[0, 0] + levels[0, 1] * (p[U] - 0.5) + levels[0, 2] * (p[V] - 0.5)
        contrast = levels[1, 0] + levels[1, 1] * (p[U] - 0.5) + levels[1, 2] * (p[V] - 0.5) - dark
        c0 = p[OWN]
        k1, k2, k3 = p[OWN + 1] - c0, p[OWN + 2] - p[OWN + 1], p[OWN + 3] - p[OWN + 2]
        near_before, near_after = before - half < 3.5 * sd, after - half < 3.5 * sd
        off = min(KEEP_OFF_SD * other, 0.2 * length)
        open_l, open_r = p[OPEN_L] > 0, p[OPEN_R] > 0
        n00 = n01 = n02 = n03 = n11 = n12 = n13 = n22 = n23 = n33 = 0.0
        g0 = g1 = g2 = g3 = squares = clipped = 0.0
        pixels = 0
        steep = abs(ty) > abs(tx)
        reach = half + abs(bow) + abs(e0)
        if steep:
            low = max(math.ceil(min(y0, y1) - reach * abs(ny)), 0)
            high = min(math.floor(max(y0, y1) + reach * abs(ny)), height - 1)
            lean, spread, edge_high = tx / ty, reach / abs(ty), width - 1
        else:
            low = max(math.ceil(min(x0, x1) - reach * abs(nx)), 0)
            high = min(math.floor(max(x0, x1) + reach * abs(nx)), width - 1)
            lean, spread, edge_high = ty / tx, reach / abs(tx), height - 1
        for outer in range(low, high + 1, stride):
            middle = x0 + (outer - y0) * lean if steep else y0 + (outer - x0) * lean
            first = max(math.ceil(middle - spread), 0)
            last = min(math.floor(middle + spread), edge_high)
            for inner in range(first, last + 1):
                x, y = (inner, outer) if steep else (outer, inner)
                dx, dy = x - x0, y - y0
                f = (dx * tx + dy * ty) / length
                v = dx * nx + dy * ny - bow * f * (1.0 - f) - e0
                if abs(v) > half:
                    continue
                ul = dx * lx + dy * ly
                ur = (x - x1) * rx + (y - y1) * ry
                if ul < 0.0 or ur < 0.0:
                    continue
                a0, a1, a2, a3 = c0, k1, k2, k3
                alone = not (near_before or near_after)
                if open_l:
                    if ul < abs(v) + off:  # nearer to an edge that crosses this one
                        continue
                    if ul < 3.5 * other:
                        alone = False
                        part, _ = edge(across, -ul / other, 1.0)
                        a0 += part * (p[LEFT] - c0)
                        a1 += part * (p[LEFT + 1] - p[LEFT] - k1)
                        a2 += part * (p[LEFT + 2] - p[LEFT + 1] - k2)
                        a3 += part * (p[LEFT + 3] - p[LEFT + 2] - k3)
                if open_r:
                    if ur < abs(v) + off:
                        continue
                    if ur < 3.5 * other:
                        alone = False
                        part, _ = edge(across, -ur / other, 1.0)
                        a0 += part * (p[RIGHT] - c0)
                        a1 += part * (p[RIGHT + 1] - p[RIGHT] - k1)
                        a2 += part * (p[RIGHT + 2] - p[RIGHT + 1] - k2)
                        a3 += part * (p[RIGHT + 3] - p[RIGHT + 2] - k3)
                z = v / sd
                value, slope = edge(profile, z, a2)
                shape = a0 + a1 + a2 * value
                d_shape = a2 * slope
                d_blur = d_shape * z
                if near_before and a1 != 0.0:
                    z = (v + before) / sd
                    value, slope = edge(profile, z, a1)
                    shape -= a1 * (1.0 - value)
                    d_shape += a1 * slope
                    d_blur += a1 * slope * z
                if near_after and a3 != 0.0:
                    z = (v - after) / sd
                    value, slope = edge(profile, z, a3)
                    shape += a3 * value
                    d_shape += a3 * slope
                    d_blur += a3 * slope * z
                grey = picture[y, x]
                clipped += 1.0 if grey >= CLIP_HIGH else 0.0
                model = dark + contrast * shape
                if (grey >= CLIP_HIGH and model >= top_light) or (grey <= CLIP_LOW and model <= low_light):
                    w = CLIPPED_ROOT_WEIGHT  # no more is known than that it is at least as bright, or as dark
                else:
                    w = 1.0
                r = w * (light[grey] - model)
                j0 = -w * contrast * d_shape / sd
                j3 = -w * contrast * d_blur / sd
                j1, j2 = w * (1.0 - shape), w * shape
                n00 += j0 * j0
                n01 += j0 * j1
                n02 += j0 * j2
                n03 += j0 * j3
                n11 += j1 * j1
                n12 += j1 * j2
                n13 += j1 * j3
                n22 += j2 * j2
                n23 += j2 * j3
                n33 += j3 * j3
                g0 += j0 * r
                g1 += j1 * r
                g2 += j2 * r
                g3 += j3 * r
                squares += r * r
                pixels += 1
                if alone and w == 1.0:
                    k = int(((v / sd) * p[SIGN] + 5.0) * BINS_PER_SD)
                    if 0 <= k < BINS:
                        bins[kind, k, 0] += r / contrast
                        bins[kind, k, 1] += 1.0
        p[CLIPPED] = clipped / max(pixels, 1)
        if pixels < FEWEST_PIXELS:
            continue
        # the piece's own levels, free: the planes are laid through these
        det = (n11 + 1e-3) * (n22 + 1e-3) - n12 * n12
        i11, i22, i12 = (n22 + 1e-3) / det, (n11 + 1e-3) / det, -n12 / det
        s1, s2 = n01 * i11 + n02 * i12, n01 * i12 + n02 * i22
        info = n00 - s1 * n01 - s2 * n02
        if info <= 1e-6 * n00 + 1e-9:
            continue
        step = (g0 - s1 * g1 - s2 * g2) / info
        p[DARK] = dark + i11 * (g1 - n01 * step) + i12 * (g2 - n02 * step)
        p[BRIGHT] = dark + contrast + i12 * (g1 - n01 * step) + i22 * (g2 - n02 * step)
        p[VAR_DARK], p[VAR_BRIGHT] = i11 + s1 * s1 / info, i22 + s2 * s2 / info
        doubt = 2.0 * math.sqrt((p[VAR_DARK] + p[VAR_BRIGHT]) * squares / pixels)
        if p[BRIGHT] - p[DARK] + doubt < LEAST_SHARE * contrast:
            continue  # no edge to be seen: something lies over it
        t1, t2 = n13 * i11 + n23 * i12, n13 * i12 + n23 * i22
        p[BLUR_STEP], p[BLUR_INFO] = g3 - t1 * g1 - t2 * g2, n33 - t1 * n13 - t2 * n23
        # and what remains of the edge's own information when they are known no better than `trust` says
        det = (n11 + trust) * (n22 + trust) - n12 * n12
        i11, i22, i12 = (n22 + trust) / det, (n11 + trust) / det, -n12 / det
        s1, s2 = n01 * i11 + n02 * i12, n01 * i12 + n02 * i22
        info = n00 - s1 * n01 - s2 * n02
        right = g0 - s1 * g1 - s2 * g2
        step = right / info
        d_dark = i11 * (g1 - n01 * step) + i12 * (g2 - n02 * step)
        d_bright = i12 * (g1 - n01 * step) + i22 * (g2 - n02 * step)
        p[E] = e0 + min(max(step, -1.5), 1.5)
        p[INFO], p[COUNT] = info, pixels
        p[NOISE2] = max(squares - step * right - d_dark * g1 - d_bright * g2, 0.0) / max(pixels - 3, 1)
