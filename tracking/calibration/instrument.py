"""Where an instrument's tip is in its marker body: pivot calibration, with checks that a small residual can't fool.

The tip rests in a divot while the instrument sways: R_i p + t_i = w for every pose. Solved by generalised least squares
with each pose's own covariance, from a start that a third of wrong poses can't spoil (random triples, the median
decides; Yaniv 2015 compares such ways), plus one more variance for the play of the tip. A small RMS proves little: a
narrow cone leaves the tip's depth open, a slowly sliding tip and a wrong marker geometry are fitted away. So the cone
is measured in both directions, blocks of time are left out in turn (their scatter widens the covariance where it
exceeds what independent errors would give), and the two halves of the cone have to find the same tip.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from spatial.faults import Fault
from spatial.rigid import Array, readonly
from tracking.calibration.recording import Sample

POSES_MIN = 30
CONE_MIN_DEG = (40.0, 20.0)  # across its wide and its narrow direction
CONDITION_MAX = 1e3
RMS_MAX_MM = 0.8
STAYED_MIN = 0.7
BLOCKS = 10
OUTLIER = float(chi2.ppf(0.999, 3))
RADIUS95 = math.sqrt(float(chi2.ppf(0.95, 3)))


class PoorPivot(Fault):
    """A pivot recording that does not determine the tip well enough."""


@dataclass(frozen=True, eq=False)
class Pivot:
    """A tip (3,) mm in the instrument's body with its covariance (3, 3), and what speaks for it.

    `pivot_mm` (3,) is the divot in the frame the poses are told in. `rms_mm` and `held_out_mm`: distance of the tip
    from the divot over the poses that were fitted, and over blocks that were left out. `play_mm`: sd a coordinate
    beyond what the poses' covariances explain. `halves_mm`: how far apart the tips from the two halves of the cone
    are, `halves_sd_mm` what is expected. `drift_mm`: how far the divot moved from the first third to the last.
    """

    tip_mm: Array
    covariance_mm2: Array
    pivot_mm: Array
    poses: int
    kept: int
    rms_mm: float
    held_out_mm: float
    play_mm: float
    cone_deg: tuple[float, float]
    condition: float
    halves_mm: float
    halves_sd_mm: float
    drift_mm: float

    @property
    def radius95_mm(self) -> float:
        """The tip lies within this distance with 95 % (of the covariance's longest axis: never less)."""
        return RADIUS95 * math.sqrt(float(np.linalg.eigvalsh(self.covariance_mm2)[2]))

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "tip_mm": self.tip_mm.tolist(),
            "tip_covariance_mm2": self.covariance_mm2.tolist(),
            "tip_radius95_mm": self.radius95_mm,
            "poses": self.poses,
            "poses_kept": self.kept,
            "rms_mm": self.rms_mm,
            "held_out_rms_mm": self.held_out_mm,
            "play_sd_mm": self.play_mm,
            "cone_deg": list(self.cone_deg),
            "condition": self.condition,
            "halves_differ_mm": self.halves_mm,
            "halves_expected_sd_mm": self.halves_sd_mm,
            "drift_mm": self.drift_mm,
        }


@dataclass(frozen=True, eq=False)
class _Poses:
    """Rotations (n, 3, 3), translations (n, 3) mm, covariances (n, 6, 6), in the order of time."""

    R: Array
    t: Array
    covariance: Array

    def part(self, rows: NDArray[Any]) -> _Poses:
        return _Poses(self.R[rows], self.t[rows], self.covariance[rows])

    def __len__(self) -> int:
        return len(self.t)


@dataclass(frozen=True, eq=False)
class _Solution:
    """(tip, divot) (6,) with covariance, residuals (n, 3) mm, their covariances without play, the play's variance."""

    x: Array
    covariance: Array
    residuals: Array
    noise: Array
    play_mm2: float

    @property
    def squares(self) -> Array:
        """Mahalanobis squares (n,) of the residuals."""
        return _squares(self.residuals, self.noise + self.play_mm2 * np.eye(3))


def pivot(samples: Sequence[Sample], *, limit_mm: float = 0.5) -> Pivot:
    """The tip from poses of the instrument, `limit_mm` being what its 95 % radius may be at most.

    The poses are told in the frame of the divot: of a reference body beside it, or of a camera that stands still.
    Raises PoorPivot.
    """
    poses = _stack(samples)
    n = len(poses)
    if n < POSES_MIN:
        raise PoorPivot(f"{n} poses of the instrument, at least {POSES_MIN} are needed; was it seen?")
    start, kept = _robust_start(poses)
    solution = _solve(poses.part(kept), start)
    for _ in range(20):
        every = _evaluate(poses, solution)
        now = _squares(*every) <= OUTLIER
        if (now == kept).all() or now.sum() < POSES_MIN // 2:
            break
        kept = now
        solution = _solve(poses.part(kept), solution.x)
    if kept.sum() < STAYED_MIN * n:
        raise PoorPivot(
            f"in {n - int(kept.sum())} of {n} poses the tip is not at the pivot; did it leave its seat? "
            "Record only while it rests in the divot"
        )
    good = poses.part(kept)
    rms = float(np.sqrt((solution.residuals**2).sum(axis=1).mean()))
    cone = _cone_deg(good, solution.x[:3])
    condition = _condition(good)
    if condition > CONDITION_MAX:
        raise PoorPivot(
            f"the instrument was hardly turned: condition {condition:.0f}, limit {CONDITION_MAX:.0f}; sway it widely"
        )
    if cone[0] < CONE_MIN_DEG[0] or cone[1] < CONE_MIN_DEG[1]:
        raise PoorPivot(
            f"the instrument swung over {cone[0]:.0f} x {cone[1]:.0f} degrees, at least {CONE_MIN_DEG[0]:.0f} x "
            f"{CONE_MIN_DEG[1]:.0f} are needed: its residual of {rms:.2f} mm proves nothing; sway it widely, both ways"
        )
    if rms > RMS_MAX_MM:
        raise PoorPivot(
            f"the tip strays from the pivot by {rms:.2f} mm RMS, limit {RMS_MAX_MM:g}; "
            "is the divot worn, the body loose, or its geometry file another one's?"
        )
    drift = _drift_mm(solution)
    covariance, held_out = _left_out(good, solution)
    halves, halves_sd = _halves(good, solution, covariance)
    found = Pivot(
        readonly(solution.x[:3], (3,), "tip"), readonly(covariance, (3, 3), "covariance"),
        readonly(solution.x[3:], (3,), "pivot"), n, int(kept.sum()), rms, held_out, math.sqrt(solution.play_mm2),
        cone, condition, halves, halves_sd, drift,
    )  # fmt: skip
    if halves > limit_mm and halves > 3.4 * halves_sd:
        raise PoorPivot(
            f"the tips from the two halves of the swing are {halves:.2f} mm apart (expected {halves_sd:.2f}), though "
            f"the residual is {rms:.2f} mm; is the shaft bent, the body's geometry wrong, the lens badly calibrated?"
        )
    if found.radius95_mm > limit_mm:
        why = f"the pivot moved by {drift:.2f} mm meanwhile: " if drift > limit_mm / 2 else ""
        raise PoorPivot(
            f"the tip is known to {found.radius95_mm:.2f} mm (95 %), limit {limit_mm:g}; {why}"
            + ("did the tip slide or the divot move?" if why else "sway wider, slower and longer, nearer to the camera")
        )
    return found


def check_tip(samples: Sequence[Sample], tip_mm: Array) -> float:
    """RMS distance mm of a given tip from where it mostly is: for poses that were never fitted. Raises PoorPivot."""
    poses = _stack(samples)
    if not len(poses):
        raise PoorPivot("no pose of the instrument in the recording that was to check it")
    places = poses.R @ tip_mm + poses.t
    return float(np.sqrt(((places - np.median(places, axis=0)) ** 2).sum(axis=1).mean()))


def rotating(samples: Sequence[Sample]) -> tuple[Array, Array, Array]:
    """Rotations (n, 3, 3), translations (n, 3) mm and covariances (n, 6, 6) of the samples that have a pose."""
    poses = _stack(samples)
    return poses.R, poses.t, poses.covariance


def _stack(samples: Sequence[Sample]) -> _Poses:
    found = [sample.pose for sample in sorted(samples, key=lambda s: s.t_ns) if sample.pose is not None]
    if not found:
        return _Poses(np.zeros((0, 3, 3)), np.zeros((0, 3)), np.zeros((0, 6, 6)))
    return _Poses(
        np.stack([p.pose.rotation for p in found]),
        np.stack([p.pose.translation_mm for p in found]),
        np.stack([p.covariance for p in found]),
    )


def _robust_start(poses: _Poses) -> tuple[Array, NDArray[np.bool_]]:
    """(tip, divot) from the triple of poses whose median residual over all is the smallest, and who agrees with it."""
    rng = np.random.default_rng(0)  # the same poses give the same tip
    n = len(poses)
    best, least = np.zeros(6), math.inf
    A = np.concatenate([poses.R, np.broadcast_to(-np.eye(3), (n, 3, 3))], axis=2)
    for _ in range(200):
        rows = rng.choice(n, 3, replace=False)
        x = np.linalg.lstsq(A[rows].reshape(-1, 6), -poses.t[rows].ravel(), rcond=1e-9)[0]
        median = float(np.median(np.linalg.norm(A @ x + poses.t, axis=1)))
        if median < least:
            best, least = x, median
    near = np.linalg.norm(A @ best + poses.t, axis=1) <= 3.0 * least + 1e-9
    return np.linalg.lstsq(A[near].reshape(-1, 6), -poses.t[near].ravel(), rcond=1e-12)[0], near


def _solve(poses: _Poses, start: Array) -> _Solution:
    """Generalised least squares for (tip, divot) and the variance of the tip's play."""
    n = len(poses)
    A = np.concatenate([poses.R, np.broadcast_to(-np.eye(3), (n, 3, 3))], axis=2)
    x, play = start, 0.0
    for _ in range(30):
        noise = _noise(poses, x[:3])
        play = _play(A @ x + poses.t, noise)
        weight = np.linalg.inv(noise + play * np.eye(3))
        normal = np.einsum("nki,nkl,nlj->ij", A, weight, A)
        step = np.linalg.lstsq(normal, -np.einsum("nki,nkl,nl->i", A, weight, A @ x + poses.t), rcond=1e-14)[0]
        x = x + step
        if np.abs(step).max() < 1e-7:
            break
    return _Solution(x, np.linalg.pinv(normal, rcond=1e-14), A @ x + poses.t, _noise(poses, x[:3]), play)


def _noise(poses: _Poses, tip_mm: Array) -> Array:
    """Covariance (n, 3, 3) of where each pose puts the tip."""
    arms = poses.R @ tip_mm
    J = np.zeros((len(poses), 3, 6))
    x, y, z = arms.T
    J[:, 0, 1], J[:, 0, 2], J[:, 1, 0], J[:, 1, 2], J[:, 2, 0], J[:, 2, 1] = z, -y, -z, x, y, -x
    J[:, :, 3:] = np.eye(3)
    return np.asarray(J @ poses.covariance @ np.swapaxes(J, 1, 2))


def _play(residuals: Array, noise: Array) -> float:
    """One more variance for every coordinate, so that the squares are as large as their number (Paule & Mandel)."""
    freedom = 3 * len(residuals) - 6

    def excess(play_mm2: float) -> float:
        return float(_squares(residuals, noise + play_mm2 * np.eye(3)).sum()) - freedom

    if excess(0.0) <= 0:
        return 0.0
    low, high = 0.0, float((residuals**2).sum()) / freedom + 1e-12
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) > 0 else (low, middle)
    return high


def _squares(residuals: Array, covariance: Array) -> Array:
    return np.asarray(np.einsum("ni,ni->n", residuals, np.linalg.solve(covariance, residuals[..., None])[..., 0]))


def _evaluate(poses: _Poses, solution: _Solution) -> tuple[Array, Array]:
    """Residuals and their covariances of any poses under a solution."""
    x = solution.x
    return poses.R @ x[:3] + poses.t - x[3:], _noise(poses, x[:3]) + solution.play_mm2 * np.eye(3)


def _swing(poses: _Poses, tip_mm: Array) -> Array:
    """Directions of the shaft (n, 2) rad about their mean, along the wide and the narrow way of the swing."""
    shaft = tip_mm if np.linalg.norm(tip_mm) > 1.0 else np.array([0.0, 0.0, 1.0])
    d = poses.R @ (shaft / np.linalg.norm(shaft))
    mean = d.mean(axis=0) / max(float(np.linalg.norm(d.mean(axis=0))), 1e-9)
    along = d @ mean
    across = d - along[:, None] * mean
    length = np.linalg.norm(across, axis=1)
    angles = np.arctan2(length, along)[:, None] * across / np.maximum(length, 1e-12)[:, None]
    axes = np.linalg.svd(angles - angles.mean(axis=0), full_matrices=False)[2][:2]
    return np.asarray(angles @ axes.T)


def _cone_deg(poses: _Poses, tip_mm: Array) -> tuple[float, float]:
    """Width of the swing both ways, without its outermost 2 % at either end."""
    wide, narrow = np.degrees(np.diff(np.percentile(_swing(poses, tip_mm), [2, 98], axis=0), axis=0)[0])
    return float(wide), float(narrow)


def _condition(poses: _Poses) -> float:
    """Condition of the tip's normal matrix after the divot is eliminated, against that of rotations all around."""
    spread = poses.R - poses.R.mean(axis=0)
    values = np.linalg.eigvalsh(np.einsum("nki,nkj->ij", spread, spread) / len(poses))
    return math.sqrt(2.0 / max(float(values[0]), 1e-30))


def _drift_mm(solution: _Solution) -> float:
    third = max(1, len(solution.residuals) // 3)
    return float(np.linalg.norm(solution.residuals[-third:].mean(axis=0) - solution.residuals[:third].mean(axis=0)))


def _left_out(poses: _Poses, solution: _Solution) -> tuple[Array, float]:
    """The tip's covariance, widened where blocks of time disagree more than chance; RMS over blocks left out."""
    n = len(poses)
    blocks = np.array_split(np.arange(n), BLOCKS)
    tips, squares = [], 0.0
    for block in blocks:
        rest = np.setdiff1d(np.arange(n), block)
        x = _solve(poses.part(rest), solution.x).x
        tips.append(x[:3])
        squares += float(((poses.R[block] @ x[:3] + poses.t[block] - x[3:]) ** 2).sum())
    model = solution.covariance[:3, :3]
    spread = np.array(tips) - np.mean(tips, axis=0)
    jackknife = (BLOCKS - 1) / BLOCKS * spread.T @ spread  # delete-a-group (Kott 2001)
    ratio = float(np.trace(np.linalg.solve(model, jackknife))) / 3
    if ratio <= float(chi2.ppf(0.975, 3 * (BLOCKS - 1))) / (3 * (BLOCKS - 1)):
        ratio = 1.0
    return np.asarray(model * ratio), math.sqrt(squares / n)


def _halves(poses: _Poses, solution: _Solution, covariance: Array) -> tuple[float, float]:
    """The largest distance between the tips of two halves of the swing, with the sd expected along it."""
    swing = _swing(poses, solution.x[:3])
    worst = (0.0, math.inf)
    widened = float(np.trace(covariance) / max(np.trace(solution.covariance[:3, :3]), 1e-30))
    for way in range(2):
        side = swing[:, way] > np.median(swing[:, way])
        one, other = (_solve(poses.part(rows), solution.x) for rows in (side, ~side))
        apart = one.x[:3] - other.x[:3]
        length = float(np.linalg.norm(apart))
        spread = (one.covariance + other.covariance)[:3, :3] * widened
        sd = math.sqrt(max(float(apart @ spread @ apart), 0.0)) / max(length, 1e-12)
        if length / max(sd, 1e-9) > worst[0] / max(worst[1], 1e-9):
            worst = (length, sd)
    return worst
