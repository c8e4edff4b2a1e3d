"""The one solver: a body's pose from marker corners in the raw pictures of one camera or several, compiled.

Minimises whitened reprojection errors (a marker travels as eight numbers and a whitening matrix, see `Detections`) by
Levenberg's method on the decoupled increment R <- Exp(w) R, t <- t + v, with Geman-McClure weights on pairs of
residuals: a pair is a marker's corner. What is known only so far stands in the state too, with its prior: the body's
velocity while a rolling shutter reads out, and where each camera of a rig is. So they take their share of the
residuals, and of the uncertainty.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from spatial.compiled import njit
from spatial.rigid import Array
from tracking.pose.lens import LENS, bend, lens_slopes, straighten

GEMAN_SD = 6.0
ITERATIONS = 40


@dataclass(frozen=True, eq=False)
class Problem:
    """n markers as c cameras see them; the state is (w, v, nuisance), nuisance (velocity 6?, cameras 6c?).

    `mm` (n, 4, 3) in the body, `px` (n, 4, 2), `root` (n, 8, 8) whitening, `eye` (n,) which camera, `lag_s` (n, 4)
    how much later than the pose's instant a corner was exposed, `lenses` (c, 13), `eye_turn` (c, 3, 3) and
    `eye_mm` (c, 3): rig_from_camera. `velocity` (6,) and `information` (m, m) are the nuisance's prior.
    `body_covariance` (n, 6, 6): of each marker's pose in the body, about its own middle.
    """

    mm: Array
    px: Array
    root: Array
    eye: NDArray[np.int64]
    lag_s: Array
    lenses: Array
    eye_turn: Array
    eye_mm: Array
    velocity: Array
    information: Array
    moving: bool
    shaky: bool
    body_covariance: Array

    def __len__(self) -> int:
        """How many markers, each camera's counted."""
        return len(self.mm)


@dataclass(frozen=True, eq=False)
class Fit:
    """A minimum: `squares` and `weights` (n, 4) of the pairs, `normal` (m, m) of the whole state without its prior."""

    rotation: Array
    translation_mm: Array
    nuisance: Array
    normal: Array
    squares: Array
    weights: Array


def refine(problem: Problem, rotation: Array, translation_mm: Array) -> Fit | None:
    """The minimum near a first guess; None where there is none in front of the cameras."""
    p = problem
    try:
        found, R, t, nuisance, normal, squares, weights = _refine(
            p.mm, p.px, p.root, p.eye, p.lag_s, p.lenses, p.eye_turn, p.eye_mm, p.velocity, p.information,
            p.moving, p.shaky, np.array(rotation), np.array(translation_mm),
        )  # fmt: skip
    except np.linalg.LinAlgError:  # the corners leave something free
        return None
    return Fit(R, t, nuisance, normal, squares, weights) if found else None


def errors_px(problem: Problem, fit: Fit) -> Array:
    """Reprojection errors (n, 4, 2) px in the raw pictures."""
    p = problem
    r, J = np.empty((len(p), 8)), np.empty((len(p), 8, 6 + len(p.information)))
    plain = np.tile(np.eye(8), (len(p), 1, 1))
    _linearise(
        p.mm, p.px, plain, p.eye, p.lag_s, p.lenses, p.eye_turn, p.eye_mm, p.velocity, fit.nuisance,
        p.moving, p.shaky, fit.rotation, fit.translation_mm, r, J,
    )  # fmt: skip
    return r.reshape(-1, 4, 2)


def linearised(problem: Problem, fit: Fit) -> tuple[Array, Array]:
    """Whitened residuals (n, 8) and their derivatives by the state (n, 8, m)."""
    p = problem
    r, J = np.empty((len(p), 8)), np.empty((len(p), 8, 6 + len(p.information)))
    _linearise(
        p.mm, p.px, p.root, p.eye, p.lag_s, p.lenses, p.eye_turn, p.eye_mm, p.velocity,
        fit.nuisance, p.moving, p.shaky, fit.rotation, fit.translation_mm, r, J,
    )  # fmt: skip
    return r, J


def body_noise_px2(problem: Problem, fit: Fit) -> Array:
    """The covariance (n, 8, 8) of the corners that comes from not knowing exactly where the markers are on the body."""
    plain = replace(problem, root=np.tile(np.eye(8), (len(problem), 1, 1)))
    by_place = linearised(plain, fit)[1][:, :, 3:6].reshape(-1, 4, 2, 3) @ fit.rotation
    arms = problem.mm - problem.mm.mean(axis=1, keepdims=True)
    turning = np.zeros((len(problem), 4, 3, 3))  # d point / d turn = -[arm]x
    turning[..., 0, 1], turning[..., 0, 2] = arms[..., 2], -arms[..., 1]
    turning[..., 1, 0], turning[..., 1, 2] = -arms[..., 2], arms[..., 0]
    turning[..., 2, 0], turning[..., 2, 1] = arms[..., 1], -arms[..., 0]
    slopes = np.concatenate([by_place @ turning, by_place], axis=-1).reshape(-1, 8, 6)
    return np.asarray(slopes @ problem.body_covariance @ np.swapaxes(slopes, 1, 2))


def deleted_squares(problem: Problem, fit: Fit) -> Array:
    """Each marker's whitened squares (n,) off the pose that the others give (Belsley, Kuh & Welsch 1980)."""
    r, J = linearised(problem, fit)
    whole = fit.normal.copy()
    whole[6:, 6:] += problem.information
    return _deleted(r, J, fit.weights, whole)


def by_lens(problem: Problem, fit: Fit) -> Array:
    """Derivatives (n, 8, 12) of the whitened residuals by the twelve numbers of each marker's own lens."""
    px = errors_px(problem, fit) + problem.px
    out = np.zeros((len(px), 4, 2, LENS))
    for eye, lens in enumerate(problem.lenses):
        rows = problem.eye == eye
        rays = straighten(np.ascontiguousarray(px[rows].reshape(-1, 2)), lens)
        out[rows] = lens_slopes(rays, lens).reshape(-1, 4, 2, LENS)
    return np.asarray(problem.root @ np.nan_to_num(out.reshape(-1, 8, LENS)))


@njit
def rodrigues(x: float, y: float, z: float) -> Array:
    """The matrix of a rotation vector, compiled."""
    angle2 = x * x + y * y + z * z
    if angle2 < 1e-8:
        a, b = 1.0 - angle2 / 6.0, 0.5 - angle2 / 24.0
    else:
        angle = math.sqrt(angle2)
        a, b = math.sin(angle) / angle, (1.0 - math.cos(angle)) / angle2
    R = np.empty((3, 3))
    R[0, 0], R[0, 1], R[0, 2] = 1 - b * (y * y + z * z), b * x * y - a * z, b * x * z + a * y
    R[1, 0], R[1, 1], R[1, 2] = b * x * y + a * z, 1 - b * (x * x + z * z), b * y * z - a * x
    R[2, 0], R[2, 1], R[2, 2] = b * x * z - a * y, b * y * z + a * x, 1 - b * (x * x + y * y)
    return R


@njit
def _linearise(
    mm: Array, px: Array, root: Array, eye: NDArray[np.int64], lag_s: Array, lenses: Array,
    eye_turn: Array, eye_mm: Array, velocity: Array, nuisance: Array, moving: bool, shaky: bool,
    R: Array, t: Array, r: Array, J: Array,
) -> bool:  # fmt: skip
    """Whitened residuals into r (n, 8) and their derivatives into J (n, 8, m); False where a corner is not in front."""
    size = J.shape[2]
    first_eye = 12 if moving else 6
    bent, slope = np.empty(2), np.empty((2, 2))
    raw, plain = np.empty(8), np.empty((8, size))
    g = np.empty(3)
    for i in range(len(mm)):
        c = eye[i]
        lens = lenses[c]
        back = eye_turn[c].T
        if shaky:
            e = nuisance[first_eye - 6 + 6 * c : first_eye + 6 * c]
            back = back @ rodrigues(-e[0], -e[1], -e[2])
        plain[:] = 0.0
        for k in range(4):
            late = lag_s[i, k]
            X, Y, Z = mm[i, k, 0], mm[i, k, 1], mm[i, k, 2]
            a = R[0, 0] * X + R[0, 1] * Y + R[0, 2] * Z
            b = R[1, 0] * X + R[1, 1] * Y + R[1, 2] * Z
            d = R[2, 0] * X + R[2, 1] * Y + R[2, 2] * Z
            x, y, z = t[0], t[1], t[2]
            if moving:
                u = velocity + nuisance[:6]
                S = rodrigues(u[0] * late, u[1] * late, u[2] * late)
                a, b, d = (
                    S[0, 0] * a + S[0, 1] * b + S[0, 2] * d,
                    S[1, 0] * a + S[1, 1] * b + S[1, 2] * d,
                    S[2, 0] * a + S[2, 1] * b + S[2, 2] * d,
                )
                x, y, z = x + u[3] * late, y + u[4] * late, z + u[5] * late
            qx, qy, qz = x + a - eye_mm[c, 0], y + b - eye_mm[c, 1], z + d - eye_mm[c, 2]
            if shaky:
                qx, qy, qz = qx - e[3], qy - e[4], qz - e[5]
            cx = back[0, 0] * qx + back[0, 1] * qy + back[0, 2] * qz
            cy = back[1, 0] * qx + back[1, 1] * qy + back[1, 2] * qz
            cz = back[2, 0] * qx + back[2, 1] * qy + back[2, 2] * qz
            if cz < 1.0:
                return False
            xn, yn = cx / cz, cy / cz
            bend(xn, yn, lens, bent, slope)
            raw[2 * k] = lens[0] * bent[0] + lens[2] - px[i, k, 0]
            raw[2 * k + 1] = lens[1] * bent[1] + lens[3] - px[i, k, 1]
            for row in range(2):
                focal = lens[row]
                sx, sy = focal * slope[row, 0] / cz, focal * slope[row, 1] / cz
                sz = -(sx * xn + sy * yn)
                for axis in range(3):  # derivative by the point in the rig's axes
                    g[axis] = sx * back[0, axis] + sy * back[1, axis] + sz * back[2, axis]
                out = plain[2 * k + row]
                out[0], out[1], out[2] = g[2] * b - g[1] * d, g[0] * d - g[2] * a, g[1] * a - g[0] * b
                out[3], out[4], out[5] = g[0], g[1], g[2]
                if moving:
                    for j in range(6):
                        out[6 + j] = late * out[j]
                if shaky:
                    at = first_eye + 6 * c
                    out[at], out[at + 1] = g[1] * qz - g[2] * qy, g[2] * qx - g[0] * qz
                    out[at + 2] = g[0] * qy - g[1] * qx
                    out[at + 3], out[at + 4], out[at + 5] = -g[0], -g[1], -g[2]
        for row in range(8):
            total = 0.0
            for k in range(8):
                total += root[i, row, k] * raw[k]
            r[i, row] = total
            for j in range(size):
                total = 0.0
                for k in range(8):
                    total += root[i, row, k] * plain[k, j]
                J[i, row, j] = total
    return True


@njit
def _scale(squares: Array, freedom: float) -> float:
    """How much larger the residuals are than claimed, never below 1; chi-square of a pair has its median at 1.386."""
    return max(1.0, float(np.median(squares)) / 1.386 * (2.0 * squares.size / freedom))


@njit
def _determined(normal: Array, information: Array) -> bool:
    """Whether the corners leave nothing free: Cholesky's pivots of the scaled normal matrix stay above rounding."""
    size = len(normal)
    L = normal.copy()
    L[6:, 6:] += information
    sd = np.empty(size)
    for a in range(size):
        if not L[a, a] > 0:
            return False
        sd[a] = math.sqrt(L[a, a])
    for a in range(size):
        for b in range(a + 1):
            total = L[a, b] / (sd[a] * sd[b])
            for k in range(b):
                total -= L[a, k] * L[b, k]
            if a == b:
                if not total > 1e-12:
                    return False
                L[a, a] = math.sqrt(total)
            else:
                L[a, b] = total / L[b, b]
    return True


@njit
def _deleted(r: Array, J: Array, weights: Array, whole: Array) -> Array:
    """What each marker's residuals would come to without its own pull on the pose: squares (n,)."""
    out = np.empty(len(r))
    inverse = np.linalg.inv(whole)
    for i in range(len(r)):
        pull = J[i] @ inverse @ J[i].T
        free = np.eye(8) * (1 + 1e-6) - pull * weights[i].mean()
        out[i] = r[i] @ np.linalg.solve(free, r[i])
    return out


@njit
def _refine(
    mm: Array, px: Array, root: Array, eye: NDArray[np.int64], lag_s: Array, lenses: Array,
    eye_turn: Array, eye_mm: Array, velocity: Array, information: Array, moving: bool, shaky: bool,
    R: Array, t: Array,
) -> tuple[bool, Array, Array, Array, Array, Array, Array]:  # fmt: skip
    n, extra = len(mm), len(information)
    size = 6 + extra
    r, J = np.empty((n, 8)), np.empty((n, 8, size))
    r2, J2 = np.empty((n, 8)), np.empty((n, 8, size))
    nuisance = np.zeros(extra)
    normal, right = np.zeros((size, size)), np.zeros(size)
    squares, weights = np.empty((n, 4)), np.empty((n, 4))
    if not _linearise(
        mm, px, root, eye, lag_s, lenses, eye_turn, eye_mm, velocity, nuisance, moving, shaky, R, t, r, J
    ):
        return False, R, t, nuisance, normal, squares, weights
    damping = 1e-3
    freedom = max(8.0 * n - 6.0, 2.0)
    settled = False
    for _ in range(ITERATIONS):
        for i in range(n):
            for k in range(4):
                squares[i, k] = r[i, 2 * k] ** 2 + r[i, 2 * k + 1] ** 2
        limit = GEMAN_SD**2 * _scale(squares, freedom)  # robust from the first step on
        cost = nuisance @ information @ nuisance
        normal[:] = 0.0
        right[:] = 0.0
        for i in range(n):
            for k in range(4):
                w = 1.0 / (1.0 + squares[i, k] / limit) ** 2
                weights[i, k] = w
                cost += squares[i, k] / (1.0 + squares[i, k] / limit)
                for row in range(2 * k, 2 * k + 2):
                    for a in range(size):
                        wj = w * J[i, row, a]
                        right[a] += wj * r[i, row]
                        for b in range(a + 1):
                            normal[a, b] += wj * J[i, row, b]
        for a in range(size):
            for b in range(a):
                normal[b, a] = normal[a, b]
        if settled:
            return _determined(normal, information), R, t, nuisance, normal, squares, weights
        whole = normal.copy()
        whole[6:, 6:] += information
        right[6:] += information @ nuisance
        better = False
        for _attempt in range(12):
            damped = whole.copy()
            for a in range(size):
                damped[a, a] *= 1.0 + damping
                if not damped[a, a] > 0:
                    return False, R, t, nuisance, normal, squares, weights
            step = -np.linalg.solve(damped, right)
            length = step @ whole @ step  # squared, in standard deviations
            turn = math.sqrt(step[0] ** 2 + step[1] ** 2 + step[2] ** 2)
            if not (math.isfinite(length) and turn < 1.5):
                damping = damping * 8 + 1e-6
                continue
            R2 = rodrigues(step[0], step[1], step[2]) @ R
            t2, nuisance2 = t + step[3:6], nuisance + step[6:]
            if _linearise(
                mm, px, root, eye, lag_s, lenses, eye_turn, eye_mm, velocity, nuisance2, moving, shaky, R2, t2, r2, J2
            ):
                cost2 = nuisance2 @ information @ nuisance2
                for i in range(n):
                    for k in range(4):
                        square = r2[i, 2 * k] ** 2 + r2[i, 2 * k + 1] ** 2
                        cost2 += square / (1.0 + square / limit)
                if cost2 <= cost * (1 + 1e-9) + 1e-12:
                    better = True
                    break
            damping = damping * 8 + 1e-6
        if not better:  # as low as numbers go, or stuck: either way this is where it ends
            return _determined(normal, information), R, t, nuisance, normal, squares, weights
        R, t, nuisance = R2, t2, nuisance2
        r[:] = r2
        J[:] = J2
        damping = damping / 30 if damping > 1e-9 else 0.0
        settled = bool(length < 1e-7)
    return _determined(normal, information), R, t, nuisance, normal, squares, weights
