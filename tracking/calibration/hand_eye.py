"""Where a camera is on the hand that carries it (a head, an endoscope, a robot's flange), from what both report.

With world_from_hand H_i of a tracker or a robot and camera_from_target C_i of the camera itself, H_i X C_i = Z for
every pose: X is hand_from_camera, Z world_from_target (AX = ZB; between two poses AX = XB). Started in closed form
(Park & Martin 1994), then X and Z are refined together over all poses with the covariances of both sides. A camera that
stands still and looks at a target on the hand is the same equation with H inverted: X is world_from_camera, Z is
hand_from_target.
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
from spatial.rigid import Array, Rigid, UncertainRigid, rotation_exp, rotation_log, skew
from tracking.calibration.recording import Sample

POSES_MIN = 8
TURN_MIN_DEG, ACROSS_MIN_DEG = 30.0, 20.0
AGREE_MIN = 0.7
GAP_MAX_NS = 100_000_000
PAIRS_OF = 60  # the closed form looks at the pairs among so many poses
OUTLIER = float(chi2.ppf(0.999, 6))
RADIUS95 = math.sqrt(float(chi2.ppf(0.95, 3)))


class PoorHandEye(Fault):
    """Poses of hand and camera that do not determine how one sits on the other."""


@dataclass(frozen=True, eq=False)
class Pair:
    """Hand and camera at one instant: `world_from_hand` and `camera_from_target`, each with covariance."""

    world_from_hand: UncertainRigid[Any, Any]
    camera_from_target: UncertainRigid[Any, Any]


@dataclass(frozen=True, eq=False)
class HandEye:
    """`x` and `z` of H X C = Z with covariance, and what speaks for them.

    `held_out_mm`, `held_out_deg`: RMS of the target's place and turn as predicted for poses that were left out.
    `excess`: how many times larger the residuals are than the covariances of both sides say (1: they are true).
    """

    x: UncertainRigid[Any, Any]
    z: UncertainRigid[Any, Any]
    poses: int
    kept: int
    turn_deg: float
    across_deg: float
    residual_mm: float
    residual_deg: float
    held_out_mm: float
    held_out_deg: float
    excess: float

    @property
    def radius95_mm(self) -> float:
        """X's origin lies within this distance with 95 %."""
        return RADIUS95 * math.sqrt(float(np.linalg.eigvalsh(self.x.covariance[3:, 3:])[2]))

    @property
    def angle95_deg(self) -> float:
        """X's turn is right within this angle with 95 %."""
        return math.degrees(RADIUS95 * math.sqrt(float(np.linalg.eigvalsh(self.x.covariance[:3, :3])[2])))

    def to_json(self) -> dict[str, Any]:
        """For `--json`, less the poses, whose names depend on what is mounted where."""
        return {
            "poses": self.poses,
            "poses_kept": self.kept,
            "turn_deg": self.turn_deg,
            "turn_across_deg": self.across_deg,
            "radius95_mm": self.radius95_mm,
            "angle95_deg": self.angle95_deg,
            "residual_mm": self.residual_mm,
            "residual_deg": self.residual_deg,
            "held_out_mm": self.held_out_mm,
            "held_out_deg": self.held_out_deg,
            "excess": self.excess,
        }


def pair_up(hand: Sequence[Sample], eye: Sequence[Sample]) -> tuple[Pair, ...]:
    """The hand's pose at each instant of the camera, interpolated between neighbours no further apart than 0.1 s."""
    known = [sample for sample in hand if sample.pose is not None]
    stamps = np.array([sample.t_ns for sample in known], dtype=np.int64)
    out = []
    for seen in eye:
        if seen.pose is None or not known:
            continue
        place = int(np.searchsorted(stamps, seen.t_ns))
        if place < len(known) and stamps[place] == seen.t_ns:
            pose = known[place].pose
        elif 0 < place < len(known) and stamps[place] - stamps[place - 1] <= GAP_MAX_NS:
            share = (seen.t_ns - stamps[place - 1]) / (stamps[place] - stamps[place - 1])
            pose = _between(known[place - 1], known[place], float(share))
        else:
            continue
        if pose is not None:
            out.append(Pair(pose, seen.pose))
    return tuple(out)


def turned_round(pairs: Sequence[Pair]) -> tuple[Pair, ...]:
    """The same for a camera that stands still and a target on the hand: H inverted."""
    return tuple(Pair(pair.world_from_hand.inverse(), pair.camera_from_target) for pair in pairs)


def hand_eye(pairs: Sequence[Pair], *, limit_mm: float = 1.0, limit_deg: float = 0.3) -> HandEye:
    """X and Z from all pairs; the limits are X's 95 % radius and angle. Raises PoorHandEye."""
    if len(pairs) < POSES_MIN:
        raise PoorHandEye(
            f"{len(pairs)} instants at which hand and camera both have a pose, at least {POSES_MIN} are needed; "
            "do both recordings use the same clock?"
        )
    data = _Data.of(pairs)
    turn, across = _turns_deg(data.Rh)
    if turn < TURN_MIN_DEG:
        raise PoorHandEye(
            f"the hand turned by {turn:.0f} degrees at most, at least {TURN_MIN_DEG:.0f} are needed: the camera's "
            "place on the hand stays open; tilt and roll it more between the pictures"
        )
    if across < ACROSS_MIN_DEG:
        raise PoorHandEye(
            f"the hand turned about one axis only ({across:.0f} degrees across it, at least {ACROSS_MIN_DEG:.0f} are "
            "needed): the camera's place along that axis stays open; turn it about a second one too"
        )
    start = _closed_form(data)
    kept = _near(data, start)
    fit = _refine(data.part(kept), start)
    for _ in range(10):
        now = _squares(data, fit) <= OUTLIER * max(fit.excess, 1.0)
        if (now == kept).all() or now.sum() < POSES_MIN:
            break
        kept = now
        fit = _refine(data.part(kept), fit.unknowns)
    agree = int(kept.sum())
    good = data.part(kept)
    left_mm, left_deg = _errors(good, fit.unknowns)
    residual_mm, residual_deg = _rms(left_mm), _rms(left_deg)
    cause = "are both clocks the same, is the target fixed, are the hand's poses world_from_hand?"
    if agree < AGREE_MIN * len(pairs) or agree < POSES_MIN:
        raise PoorHandEye(f"only {agree} of {len(pairs)} poses agree on one place of the camera; {cause}")
    if residual_mm > 10 * limit_mm:
        raise PoorHandEye(
            f"hand and camera disagree by {residual_mm:.1f} mm and {residual_deg:.2f} degrees RMS, limit "
            f"{10 * limit_mm:g} mm; {cause}"
        )
    held_mm, held_deg = _held_out(good, fit)
    Rx, tx, Rz, tz = fit.unknowns
    found = HandEye(
        UncertainRigid(Rigid(Rx, tx), fit.covariance[:6, :6]), UncertainRigid(Rigid(Rz, tz), fit.covariance[6:, 6:]),
        len(pairs), agree, turn, across, residual_mm, residual_deg, held_mm, held_deg, math.sqrt(fit.excess),
    )  # fmt: skip
    if found.radius95_mm > limit_mm or found.angle95_deg > limit_deg:
        raise PoorHandEye(
            f"the camera's place is known to {found.radius95_mm:.2f} mm and {found.angle95_deg:.2f} degrees (95 %), "
            f"limits {limit_mm:g} and {limit_deg:g}; take more poses, turned further, nearer to the target"
        )
    return found


Unknowns = tuple[Array, Array, Array, Array]  # rotation and translation mm of X, then of Z


@dataclass(frozen=True, eq=False)
class _Data:
    """Hand and camera poses: rotations (n, 3, 3), translations (n, 3) mm, covariances (n, 6, 6)."""

    Rh: Array
    th: Array
    Ch: Array
    Rc: Array
    tc: Array
    Cc: Array

    @classmethod
    def of(cls, pairs: Sequence[Pair]) -> _Data:
        hands = [pair.world_from_hand for pair in pairs]
        eyes = [pair.camera_from_target for pair in pairs]
        return cls(
            np.stack([p.pose.rotation for p in hands]), np.stack([p.pose.translation_mm for p in hands]),
            np.stack([p.covariance for p in hands]), np.stack([p.pose.rotation for p in eyes]),
            np.stack([p.pose.translation_mm for p in eyes]), np.stack([p.covariance for p in eyes]),
        )  # fmt: skip

    def part(self, rows: NDArray[Any]) -> _Data:
        return _Data(self.Rh[rows], self.th[rows], self.Ch[rows], self.Rc[rows], self.tc[rows], self.Cc[rows])

    def __len__(self) -> int:
        return len(self.th)


@dataclass(frozen=True, eq=False)
class _Fit:
    unknowns: Unknowns
    covariance: Array
    excess: float


def _between(first: Sample, second: Sample, share: float) -> UncertainRigid[Any, Any] | None:
    a, b = first.pose, second.pose
    if a is None or b is None:
        return None
    turn = rotation_log(b.pose.rotation @ a.pose.rotation.T)
    pose = Rigid[Any, Any](
        rotation_exp(share * turn) @ a.pose.rotation,
        (1 - share) * a.pose.translation_mm + share * b.pose.translation_mm,
    )
    return UncertainRigid(pose, (1 - share) ** 2 * a.covariance + share**2 * b.covariance)


def _turns_deg(rotations: Array) -> tuple[float, float]:
    """The largest turn between two poses, and the largest one across the main axis of all turns."""
    some = rotations[np.unique(np.linspace(0, len(rotations) - 1, PAIRS_OF).astype(int))]
    turns = np.array([rotation_log(b @ a.T) for i, a in enumerate(some) for b in some[i + 1 :]])
    axis = np.linalg.svd(turns, full_matrices=False)[2][0]
    across = turns - np.outer(turns @ axis, axis)
    largest, sideways = (math.degrees(float(np.linalg.norm(t, axis=1).max())) for t in (turns, across))
    return largest, sideways


def _closed_form(data: _Data) -> Unknowns:
    """Park & Martin's X over pairs of poses (turns matched, then translations), Z as the mean of H X C."""
    some = np.unique(np.linspace(0, len(data) - 1, PAIRS_OF).astype(int))
    alphas, betas, left, right = [], [], [], []
    for k, i in enumerate(some):
        for j in some[k + 1 :]:
            A = data.Rh[j].T @ data.Rh[i]
            B = data.Rc[j] @ data.Rc[i].T
            alpha, beta = rotation_log(A), rotation_log(B)
            length = np.linalg.norm([alpha, beta], axis=1)
            # a turn has the same angle on both sides; near half a turn its axis may flip
            if length.max() > 2.8 or length.min() < 0.1 or abs(length[0] - length[1]) > 0.1:
                continue
            alphas.append(alpha)
            betas.append(beta)
            left.append(A - np.eye(3))
            a = data.Rh[j].T @ (data.th[i] - data.th[j])
            right.append((a, data.tc[j] - B @ data.tc[i]))
    if len(alphas) < 3:
        raise PoorHandEye(
            "hand and camera do not turn by the same angles; are the clocks the same, is the target fixed, or is a "
            "pose told the wrong way round?"
        )
    u, _, vt = np.linalg.svd(np.array(alphas).T @ np.array(betas))
    Rx = u @ np.diag([1.0, 1.0, np.linalg.det(u @ vt)]) @ vt
    rows = np.concatenate(left)
    values = np.concatenate([Rx @ b - a for a, b in right])
    tx = np.linalg.lstsq(rows, values, rcond=None)[0]
    for _ in range(10):  # a few wrong poses must not move the start far
        gap = np.linalg.norm((rows @ tx - values).reshape(-1, 3), axis=1)
        weight = np.repeat(1.0 / np.maximum(gap, np.median(gap) + 1e-9), 3)
        tx = np.linalg.lstsq(rows * weight[:, None], values * weight, rcond=None)[0]
    Rz = data.Rh @ Rx @ data.Rc
    tz = np.einsum("nij,nj->ni", data.Rh, (data.tc @ Rx.T) + tx) + data.th
    u, _, vt = np.linalg.svd(np.median(Rz, axis=0))
    return Rx, tx, u @ np.diag([1.0, 1.0, np.linalg.det(u @ vt)]) @ vt, np.median(tz, axis=0)


def _near(data: _Data, unknowns: Unknowns) -> NDArray[np.bool_]:
    """Poses that are not far off the start compared with the others."""
    mm, deg = _errors(data, unknowns)
    return np.asarray((mm <= 5 * np.median(mm) + 1e-6) & (deg <= 5 * np.median(deg) + 1e-9))


def _predict(data: _Data, unknowns: Unknowns) -> tuple[Array, Array, Array]:
    """camera_from_target as X, H and Z have it: rotation, translation mm, and X's arm before it is turned."""
    Rx, tx, Rz, tz = unknowns
    back = np.swapaxes(data.Rh, 1, 2)
    arm = np.einsum("nij,nj->ni", back, tz - data.th) - tx
    return Rx.T @ back @ Rz, arm @ Rx, arm


def _residuals(data: _Data, unknowns: Unknowns) -> Array:
    R, t, _ = _predict(data, unknowns)
    turns = np.array([rotation_log(a @ b.T) for a, b in zip(data.Rc, R, strict=True)])
    return np.concatenate([turns, data.tc - t], axis=1)


def _errors(data: _Data, unknowns: Unknowns) -> tuple[Array, Array]:
    r = _residuals(data, unknowns)
    return np.linalg.norm(r[:, 3:], axis=1), np.degrees(np.linalg.norm(r[:, :3], axis=1))


def _slopes(data: _Data, unknowns: Unknowns) -> tuple[Array, Array]:
    """Derivatives of the prediction (n, 6, .) after X and Z (12), and after the hand's pose (6)."""
    Rx, _, _, tz = unknowns
    _, _, arm = _predict(data, unknowns)
    n = len(data)
    back = Rx.T @ np.swapaxes(data.Rh, 1, 2)
    J, Jh = np.zeros((n, 6, 12)), np.zeros((n, 6, 6))
    J[:, :3, :3] = -Rx.T
    J[:, :3, 6:9] = back
    J[:, 3:, :3] = Rx.T @ np.array([skew(y) for y in arm])
    J[:, 3:, 3:6] = -Rx.T
    J[:, 3:, 9:] = back
    Jh[:, :3, :3] = -back
    Jh[:, 3:, :3] = back @ np.array([skew(tz - t) for t in data.th])
    Jh[:, 3:, 3:] = -back
    return J, Jh


def _noise(data: _Data, Jh: Array) -> Array:
    return np.asarray(data.Cc + Jh @ data.Ch @ np.swapaxes(Jh, 1, 2))


def _squares(data: _Data, fit: _Fit) -> Array:
    r = _residuals(data, fit.unknowns)
    noise = _noise(data, _slopes(data, fit.unknowns)[1])
    return np.asarray(np.einsum("ni,ni->n", r, np.linalg.solve(noise, r[..., None])[..., 0]))


def _refine(data: _Data, start: Unknowns) -> _Fit:
    """Gauss-Newton over X and Z, residuals weighted by the covariances of both sides."""
    Rx, tx, Rz, tz = start
    for _ in range(30):
        now = (Rx, tx, Rz, tz)
        J, Jh = _slopes(data, now)
        r = _residuals(data, now)
        weight = np.linalg.inv(_noise(data, Jh))
        normal = np.einsum("nki,nkl,nlj->ij", J, weight, J)
        scale = 1 / np.sqrt(np.maximum(np.diag(normal), 1e-300))
        scaled = normal * np.outer(scale, scale)
        step = scale * np.linalg.lstsq(scaled, scale * np.einsum("nki,nkl,nl->i", J, weight, r), rcond=1e-13)[0]
        Rx, tx = rotation_exp(step[:3]) @ Rx, tx + step[3:6]
        Rz, tz = rotation_exp(step[6:9]) @ Rz, tz + step[9:]
        if np.abs(step[[0, 1, 2, 6, 7, 8]]).max() < 1e-9 and np.abs(step).max() < 1e-6:
            break
    r = _residuals(data, (Rx, tx, Rz, tz))
    chi = float(np.einsum("nk,nkl,nl->", r, weight, r)) / max(6 * len(data) - 12, 1)
    excess = max(chi, 1.0)
    covariance = scale[:, None] * np.linalg.pinv(scaled, rcond=1e-13) * scale * excess
    return _Fit((Rx, tx, Rz, tz), (covariance + covariance.T) / 2, excess)


def _held_out(data: _Data, fit: _Fit) -> tuple[float, float]:
    """RMS errors of predicted poses, five blocks left out in turn."""
    everything = np.arange(len(data))
    mm: list[Array] = []
    deg: list[Array] = []
    for block in np.array_split(everything, 5):
        other = _refine(data.part(np.setdiff1d(everything, block)), fit.unknowns)
        a, b = _errors(data.part(block), other.unknowns)
        mm.append(a)
        deg.append(b)
    return _rms(np.concatenate(mm)), _rms(np.concatenate(deg))


def _rms(values: Array) -> float:
    return float(np.sqrt((values**2).mean()))
