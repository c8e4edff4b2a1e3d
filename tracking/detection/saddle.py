"""Sub-pixel corners of a chessboard: two blurred edges that cross, fitted to the pixels around each corner.

Around a corner the picture is modelled as (m + c E(d1 / sigma) E(d2 / sigma)) (1 + g . d): E(z) = erf(z / sqrt 2), d1
and d2 the distances in px from the two edges, sigma the blur with the pixel's own area in it, g uneven light. Newton
with Geman-McClure weights on the pixels themselves; its normal matrix gives the covariance. A half turn about the
corner leaves a chessboard as it is, whatever the blur, the angle of the edges or the camera's response to light, so
what the model lacks widens the fit's noise and does not move the corner. Pixel centres are at integers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spatial.compiled import njit
from spatial.rigid import Array

FLOOR_PX = 0.003  # what the model leaves out: edges that the lens bends, sampling (chi-square on rendered boards)
WIDEST_PX, NARROWEST_PX = 9.0, 2.5  # radius of the pixels that are fitted


@dataclass(frozen=True, eq=False)
class FittedSaddles:
    """Corners (N, 2) px, covariance (N, 2, 2) px2, blur (N,) sd in px, and whether each could be fitted (N,)."""

    corners_px: Array
    covariance_px2: Array
    blur_px: Array
    fitted: NDArray[np.bool_]


def fit_saddles(picture: NDArray[np.uint8], coarse_px: Array, edges: Array, reach_px: Array) -> FittedSaddles:
    """Refine coarse corners (N, 2) of a grey picture, known to some two pixels.

    `edges` (N, 2, 2): the directions of the two edges through each; `reach_px` (N,): how far the pattern around it is
    only those two edges. A corner that can't be fitted keeps its place, with NaN for its covariance.
    """
    corners, cov, blur, fitted = _fit(
        np.require(picture, requirements=("C", "W")),  # a read-only picture is another type to the compiler
        np.require(coarse_px, np.float64, ("C", "W")),
        np.require(edges, np.float64, ("C", "W")),
        np.clip(np.asarray(reach_px, dtype=np.float64), NARROWEST_PX, WIDEST_PX),
    )
    return FittedSaddles(corners, cov + FLOOR_PX**2 * np.eye(2), blur, fitted)


@njit
def _fit(
    picture: NDArray[np.uint8], coarse: Array, edges: Array, reach: Array
) -> tuple[Array, Array, Array, NDArray[np.bool_]]:
    n = len(coarse)
    height, width = picture.shape
    corners = coarse.copy()
    cov = np.full((n, 2, 2), np.nan)
    blur = np.full(n, np.nan)
    fitted = np.zeros(n, dtype=np.bool_)
    p = np.zeros(9)  # x, y, angles of the two normals, sigma, m, c, gx, gy
    normal = np.zeros((9, 9))
    for k in range(n):
        r = reach[k]
        x, y = coarse[k, 0], coarse[k, 1]
        if not (x > r + 1 and y > r + 1 and x < width - 2 - r and y < height - 2 - r):
            continue
        p[0], p[1] = x, y
        p[2] = math.atan2(edges[k, 0, 0], -edges[k, 0, 1])
        p[3] = math.atan2(edges[k, 1, 0], -edges[k, 1, 1])
        p[4], p[7], p[8] = max(1.5, 0.3 * r), 0.0, 0.0
        if not _levels(picture, p, r):
            continue
        noise = -1.0
        for turn in range(3):  # the window follows the corner; the blur is set free once the corner is near
            noise = _gauss_newton(picture, p, r, normal, 6 if turn == 0 else 10, turn == 0)
            if noise < 0 or abs(p[0] - x) > 0.6 * r + 1 or abs(p[1] - y) > 0.6 * r + 1:
                noise = -1.0
                break
        if noise < 0 or abs(p[6]) < max(4.0, 2.0 * noise) or p[4] > 0.8 * r or abs(math.sin(p[2] - p[3])) < 0.25:
            continue
        inverse = np.linalg.inv(normal)
        noise = max(noise, 0.3)  # below a third of a grey level the digitising itself is the noise
        corners[k, 0], corners[k, 1], blur[k] = p[0], p[1], p[4]
        for i in range(2):
            for j in range(2):
                cov[k, i, j] = inverse[i, j] * noise**2
        fitted[k] = True
    return corners, cov, blur, fitted


@njit
def _levels(picture: NDArray[np.uint8], p: Array, r: float) -> bool:
    """Mean and contrast by regression on the pattern's sign, at the start."""
    n = s = ss = g = gs = 0.0
    for v in range(int(p[1] - r), int(p[1] + r) + 2):
        for u in range(int(p[0] - r), int(p[0] + r) + 2):
            dx, dy = u - p[0], v - p[1]
            if dx * dx + dy * dy > r * r:
                continue
            d1 = dx * math.cos(p[2]) + dy * math.sin(p[2])
            d2 = dx * math.cos(p[3]) + dy * math.sin(p[3])
            e = math.erf(d1 / p[4] * 0.7071067811865476) * math.erf(d2 / p[4] * 0.7071067811865476)
            grey = float(picture[v, u])
            n, s, ss, g, gs = n + 1, s + e, ss + e * e, g + grey, gs + grey * e
    bottom = n * ss - s * s
    if n < 16 or bottom <= 1e-9:
        return False
    p[6] = (n * gs - s * g) / bottom
    p[5] = (g - p[6] * s) / n
    return bool(abs(p[6]) > 4.0 and p[5] > 1.0)


@njit
def _gauss_newton(
    picture: NDArray[np.uint8], p: Array, r: float, normal: Array, iterations: int, blur_held: bool
) -> float:
    """Improve p in place; returns the noise in grey levels, negative on failure. `normal` is left at the solution."""
    height, width = picture.shape
    u0, v0 = math.floor(p[0] - r), math.floor(p[1] - r)
    u1, v1 = u0 + int(2 * r) + 2, v0 + int(2 * r) + 2
    if u0 < 0 or v0 < 0 or u1 >= width or v1 >= height:
        return -1.0
    x0, y0 = p[0], p[1]
    J = np.zeros(9)
    right = np.zeros(9)
    scale, noise = 1e9, -1.0
    for _ in range(iterations):
        normal[:] = 0.0
        right[:] = 0.0
        total = squares = absolute = 0.0
        count = 0
        c1, s1, c2, s2 = math.cos(p[2]), math.sin(p[2]), math.cos(p[3]), math.sin(p[3])
        for v in range(v0, v1 + 1):
            for u in range(u0, u1 + 1):
                if (u - x0) ** 2 + (v - y0) ** 2 > r * r:
                    continue
                dx, dy = u - p[0], v - p[1]
                z1, z2 = (dx * c1 + dy * s1) / p[4], (dx * c2 + dy * s2) / p[4]
                e1, e2 = math.erf(z1 * 0.7071067811865476), math.erf(z2 * 0.7071067811865476)
                f1, f2 = 0.7978845608028654 * math.exp(-0.5 * z1 * z1), 0.7978845608028654 * math.exp(-0.5 * z2 * z2)
                light = 1.0 + p[7] * dx + p[8] * dy
                base = p[5] + p[6] * e1 * e2
                residual = picture[v, u] - base * light
                a, b = p[6] * light * f1 * e2, p[6] * light * e1 * f2
                J[0] = -(a * c1 + b * c2) / p[4] - base * p[7]
                J[1] = -(a * s1 + b * s2) / p[4] - base * p[8]
                J[2] = a * (dy * c1 - dx * s1) / p[4]
                J[3] = b * (dy * c2 - dx * s2) / p[4]
                J[4] = -(a * z1 + b * z2) / p[4]
                J[5], J[6] = light, e1 * e2 * light
                J[7], J[8] = base * dx, base * dy
                w = 1.0 / (1.0 + (residual / scale) ** 2) ** 2
                total, squares, absolute, count = (
                    total + w,
                    squares + w * residual**2,
                    absolute + abs(residual),
                    count + 1,
                )
                for i in range(9):
                    right[i] += w * J[i] * residual
                    for j in range(i + 1):
                        normal[i, j] += w * J[i] * J[j]
        if count < 14:
            return -1.0
        for i in range(9):
            normal[i, i] += 1e-9
            for j in range(i):
                normal[j, i] = normal[i, j]
        damped = normal.copy()
        if blur_held:
            damped[4, 4] = damped[4, 4] * 1e3 + 1.0
        for i in range(2, 4):
            damped[i, i] *= 1.02
        step = np.linalg.solve(damped, right)
        longest = max(abs(step[0]), abs(step[1]))
        shorten = min(1.0, 1.5 / max(longest, 1e-12), 0.4 / max(abs(step[2]), abs(step[3]), 1e-12))
        for i in range(9):
            if i != 4:
                p[i] += step[i] * shorten
        p[4] = min(max(p[4] + step[4] * shorten, 0.6 * p[4], 0.29), 1.5 * p[4], 6.0)
        noise = math.sqrt(squares / max(total - 9, 1.0))
        scale = max(4.0 * 1.25 * absolute / count, 2.0)
        moved = abs(p[0] - x0) + abs(p[1] - y0)
        if not math.isfinite(moved) or moved > 2 * r:
            return -1.0
        if longest < 1e-4 and abs(step[4]) < 1e-3 and not blur_held:
            break
    return noise
