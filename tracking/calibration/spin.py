"""The direction of an instrument's shaft in its marker body: spin calibration.

The instrument turns about its own axis in a block or a sleeve: R_i a = s, the same direction for every pose. Solved in
the tangent planes of a and s with each pose's covariance and one more variance for the wobble. Where the shaft's line
lies follows from the translations, so a tip that isn't on it is noticed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import chi2

from spatial.faults import Fault
from spatial.rigid import Array, readonly, rotation_log
from tracking.calibration.instrument import rotating
from tracking.calibration.recording import Sample

POSES_MIN = 30
TURN_MIN_DEG = 90.0
WOBBLE_MAX_DEG = 2.0
ANGLE95 = math.sqrt(float(chi2.ppf(0.95, 2)))


class PoorSpin(Fault):
    """A spin recording that does not determine the shaft's direction well enough."""


@dataclass(frozen=True, eq=False)
class Spin:
    """The shaft: unit `axis` (3,) in the body, its covariance (3, 3), and a point (3,) mm of its line with its spread.

    `turn_deg`: how far the instrument turned about it. `wobble_deg`: RMS angle between the shaft and its mean
    direction. `held_out_deg`: the same for the half of the poses that was not fitted.
    """

    axis: Array
    covariance: Array
    point_mm: Array
    point_covariance_mm2: Array
    poses: int
    turn_deg: float
    wobble_deg: float
    held_out_deg: float

    @property
    def angle95_deg(self) -> float:
        """The direction is right within this angle with 95 %."""
        return math.degrees(ANGLE95 * math.sqrt(float(np.linalg.eigvalsh(self.covariance)[2])))

    def offset(self, point_mm: Array) -> tuple[float, float]:
        """Distance mm of a point, as a tip, from the shaft's line, and its sd."""
        across = np.eye(3) - np.outer(self.axis, self.axis)
        arm = across @ (point_mm - self.point_mm)
        length = float(np.linalg.norm(arm))
        along = float(self.axis @ (point_mm - self.point_mm))
        spread = across @ (self.point_covariance_mm2 + along**2 * self.covariance) @ across
        way = arm / length if length > 1e-9 else np.linalg.svd(across)[0][:, 0]
        return length, math.sqrt(max(float(way @ spread @ way), 0.0))

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "axis": self.axis.tolist(),
            "axis_covariance": self.covariance.tolist(),
            "axis_angle95_deg": self.angle95_deg,
            "point_mm": self.point_mm.tolist(),
            "poses": self.poses,
            "turn_deg": self.turn_deg,
            "wobble_deg": self.wobble_deg,
            "held_out_deg": self.held_out_deg,
        }


def spin(samples: Sequence[Sample], *, toward_mm: Array | None = None, limit_deg: float = 0.5) -> Spin:
    """The shaft's direction from poses that turned about it; it points to `toward_mm`, the tip, where that is known.

    `limit_deg`: what its 95 % angle may be at most. Raises PoorSpin.
    """
    R, t, covariance = rotating(samples)
    if len(R) < POSES_MIN:
        raise PoorSpin(f"{len(R)} poses of the instrument, at least {POSES_MIN} are needed; was it seen?")
    kept = np.ones(len(R), dtype=bool)
    for _ in range(5):
        a, s, spread, angles = _fit(R[kept], covariance[kept])
        every = _angles(R, a, s)
        limit = 4.0 * float(np.sqrt((angles**2).mean()))
        now = every <= max(limit, math.radians(0.05))
        if (now == kept).all():
            break
        kept = now
    wobble = math.degrees(float(np.sqrt((angles**2).mean())))
    turn = _turn_deg(R[kept], a)
    if turn < TURN_MIN_DEG:
        raise PoorSpin(
            f"the instrument turned by {turn:.0f} degrees about its shaft, at least {TURN_MIN_DEG:.0f} are needed; "
            "turn it on, as far as its markers can be seen"
        )
    if wobble > WOBBLE_MAX_DEG or kept.sum() < 0.7 * len(R):
        raise PoorSpin(
            f"the shaft wobbled by {wobble:.1f} degrees, limit {WOBBLE_MAX_DEG:g} (in {int(kept.sum())} of {len(R)} "
            "poses); is it turned in a block or a sleeve?"
        )
    point, point_spread = _line(R[kept], t[kept], a, s)
    if toward_mm is not None and a @ (toward_mm - point) < 0:
        a, s = -a, -s
    odd = np.flatnonzero(kept)[1::2]
    even = np.flatnonzero(kept)[::2]
    other, other_s, _, _ = _fit(R[even], covariance[even])
    held_out = math.degrees(float(np.sqrt((_angles(R[odd], other, other_s) ** 2).mean())))
    found = Spin(
        readonly(a, (3,), "axis"), readonly(spread, (3, 3), "covariance"), readonly(point, (3,), "point"),
        readonly(point_spread, (3, 3), "covariance"), int(kept.sum()), turn, wobble, held_out,
    )  # fmt: skip
    if found.angle95_deg > limit_deg:
        raise PoorSpin(
            f"the shaft's direction is known to {found.angle95_deg:.2f} degrees (95 %), limit {limit_deg:g}; "
            "turn it slower and longer, nearer to the camera"
        )
    return found


def _fit(R: Array, covariance: Array) -> tuple[Array, Array, Array, Array]:
    """Axis in the body, axis in the reference, covariance (3, 3) of the first, angles (n,) rad left over."""
    u, _, vt = np.linalg.svd(R.mean(axis=0))
    a, s = vt[0], u[:, 0] * np.sign(u[:, 0] @ R.mean(axis=0) @ vt[0])
    n, play = len(R), 0.0
    for _ in range(30):
        Pa, Ps = _tangent(a), _tangent(s)
        turned = R @ a
        r = turned @ Ps  # (n, 2), and s @ Ps = 0
        J = np.concatenate([np.einsum("ki,nkl,lj->nij", Ps, R, Pa), np.broadcast_to(-np.eye(2), (n, 2, 2))], axis=2)
        turning = -np.einsum("ki,nkl->nil", Ps, _skews(turned))
        noise = turning @ covariance[:, :3, :3] @ np.swapaxes(turning, 1, 2)
        mean_noise = float(np.trace(noise.mean(axis=0))) / 2
        play = max(0.0, float((r**2).sum()) / (2 * n - 4) - mean_noise)
        weight = np.linalg.inv(noise + (play + 1e-14) * np.eye(2))
        normal = np.einsum("nki,nkl,nlj->ij", J, weight, J)
        step = np.linalg.lstsq(normal, -np.einsum("nki,nkl,nl->i", J, weight, r), rcond=1e-12)[0]
        a, s = a + Pa @ step[:2], s + Ps @ step[2:]
        a, s = a / np.linalg.norm(a), s / np.linalg.norm(s)
        if np.abs(step).max() < 1e-10:
            break
    spread = Pa @ np.linalg.pinv(normal, rcond=1e-14)[:2, :2] @ Pa.T
    return a, s, spread, _angles(R, a, s)


def _line(R: Array, t: Array, a: Array, s: Array) -> tuple[Array, Array]:
    """A point (3,) of the axis, perpendicular to it from the body's origin, with covariance: sliding along is free."""
    Pa, Ps = _tangent(a), _tangent(s)
    n = len(R)
    A = np.concatenate([np.einsum("ki,nkl,lj->nij", Ps, R, Pa), np.broadcast_to(-np.eye(2), (n, 2, 2))], axis=2)
    right = -(t @ Ps)
    x = np.linalg.lstsq(A.reshape(-1, 4), right.ravel(), rcond=None)[0]
    left = A @ x - right
    variance = float((left**2).sum()) / (2 * n - 4)
    spread = variance * np.linalg.pinv(np.einsum("nki,nkj->ij", A, A))[:2, :2]
    return Pa @ x[:2], Pa @ spread @ Pa.T


def _angles(R: Array, a: Array, s: Array) -> Array:
    return np.asarray(np.arctan2(np.linalg.norm(np.cross(R @ a, s), axis=1), (R @ a) @ s))


def _turn_deg(R: Array, a: Array) -> float:
    """The part of a full turn about `a` that was visited: 360 degrees less the largest gap."""
    about = np.array([rotation_log(R[0].T @ r) @ a for r in R])
    ordered = np.sort(np.mod(about, 2 * np.pi))
    gaps = np.diff(np.append(ordered, ordered[0] + 2 * np.pi))
    return 360.0 - math.degrees(float(gaps.max()))


def _tangent(unit: Array) -> Array:
    """Two unit columns (3, 2) across a unit vector."""
    return np.asarray(np.linalg.svd(unit[:, None])[0][:, 1:])


def _skews(v: Array) -> Array:
    out = np.zeros((len(v), 3, 3))
    out[:, 0, 1], out[:, 0, 2], out[:, 1, 0] = -v[:, 2], v[:, 1], v[:, 2]
    out[:, 1, 2], out[:, 2, 0], out[:, 2, 1] = -v[:, 0], -v[:, 1], v[:, 0]
    return out
