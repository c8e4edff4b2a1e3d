"""Where a marker body is: the robust least-squares pose over all its corners, with a covariance meant to be true.

Minimises the whitened reprojection error (detections carry the covariance of each marker's eight corner coordinates) by
Gauss-Newton on the decoupled increment R <- Exp(w) R, t <- t + v, with Geman-McClure weights on pairs of residuals (a
marker's side or corner). Flat bodies have two poses that nearly explain a weak view (Schweighofer & Pinz 2006): both
are refined, and the evidence decides, or the earlier pose where the evidence doesn't. Where the residuals exceed what
the detections claim (calibration, geometry file, flatness of the print), the excess is estimated as one more variance
of every corner (a random effect), so the weights and the covariance both know of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import cv2
import numpy as np

from spatial.frames import B, Camera
from spatial.pinhole import BadLens, Pinhole
from spatial.rigid import Array, Points, Rigid, UncertainRigid, rotation_exp
from tracking.bodies.body import Body
from tracking.detection.markers import Detections
from tracking.pose.sighting import Cause, Sighting

MAX_RMS_PX = 3.0
AMBIGUOUS_RATIO = 2.0  # below it, a flat body's second pose is as good as the first
PRIOR_FREEDOM = 20.0  # the covariance's scale starts as if 20 residuals had been as large as claimed
GEMAN_SD = 6.0


@dataclass(frozen=True, eq=False)
class _Evidence:
    """The corners of n markers: body mm (4n, 3), rays (4n, 2), whitening (n, 8, 8) for errors of the rays."""

    mm: Array
    rays: Array
    whitening: Array


@dataclass(frozen=True, eq=False)
class _Fit:
    rotation: Array
    translation_mm: Array
    normal: Array
    squares: Array
    weights: Array

    def cost(self, scale: float) -> float:
        """Truncated sum of squares: comparable between poses."""
        return float(np.minimum(self.squares / scale, 2 * GEMAN_SD**2).sum())


def track_body(
    detections: Detections,
    body: Body[B],
    pinhole: Pinhole,
    *,
    t_ns: int = 0,
    prior: Rigid[Camera, B] | None = None,
) -> Sighting[B]:
    """The pose of `body` from the markers of one raw picture; `prior`, an earlier one, decides between equal ones."""
    seen = detections.by_id()
    ids = [marker for marker in body.corners_mm if marker in seen]
    corners_px = MappingProxyType({marker: detections.corners_px[seen[marker]] for marker in ids})

    def lost(cause: Cause, reason: str, rms_px: float | None = None) -> Sighting[B]:
        return Sighting[B](body.name, t_ns, "LOST", reason, None, rms_px, corners_px, cause=cause)

    if not ids:
        doubled = sorted(set(detections.ids[np.isin(detections.ids, list(body.corners_mm))].tolist()))
        twice = f"; seen twice: {', '.join(map(str, doubled))}" if doubled else ""
        return lost("too few markers", f"0 of {len(body.corners_mm)} markers seen{twice}")
    evidence, ids = _evidence(detections, body, pinhole, ids)
    if not ids:
        return lost(
            "out of view",
            "the markers lie where the lens model can't be inverted; was it calibrated to the picture's rim?",
        )
    fits = [_refine(start, evidence) for start in _starts(evidence, prior)]
    fits = [f for f in fits if f is not None and np.linalg.eigvalsh(f.normal)[0] > 0]
    if not fits:
        return lost("residual", "no pose explains the corners")
    best, ambiguity = _choose([f for f in fits if f is not None], prior)
    excess_px2 = _excess(best, evidence, pinhole, ids, detections)
    if excess_px2 > 0:
        evidence, ids = _evidence(detections, body, pinhole, ids, excess_px2)
        best = _refine((best.rotation, best.translation_mm), evidence) or best
    errors = _errors_px(best, evidence, pinhole, np.stack([corners_px[i] for i in ids]))
    kept = best.weights.reshape(len(ids), 4).mean(axis=1) > 0.2
    used = errors[kept] if kept.any() else errors
    rms_px = float(np.sqrt((used**2).sum(axis=-1).mean()))
    if not np.isfinite(rms_px) or rms_px > MAX_RMS_PX:
        return lost(
            "residual",
            f"residual {rms_px:.1f} px over {MAX_RMS_PX:g} px; is the body or camera file another one's?",
            rms_px,
        )
    if 2 * kept.sum() < len(ids):
        return lost(
            "residual", f"only {int(kept.sum())} of {len(ids)} markers agree on a pose; is it another body?", rms_px
        )
    pose = Rigid[Camera, B](best.rotation, best.translation_mm)
    freedom = float(2 * best.weights.sum() - 6)
    chi = float((best.weights * best.squares).sum())
    scale = max(1.0, (chi + PRIOR_FREEDOM) / (max(freedom, 0.0) + PRIOR_FREEDOM))
    covariance = np.linalg.inv(best.normal) * scale
    covariance = (covariance + covariance.T) / 2
    return Sighting[B](
        body.name, t_ns, "TRACKED", None, UncertainRigid(pose, covariance), rms_px, corners_px, ambiguity
    )


def _evidence(
    detections: Detections, body: Body[Any], pinhole: Pinhole, ids: list[int], excess_px2: float = 0.0
) -> tuple[_Evidence, list[int]]:
    """Corners as undistorted rays, whitened through the lens' own derivative; drops those that it can't undo."""
    seen = detections.by_id()
    corners = detections.corners_px[[seen[marker] for marker in ids]]
    rays, usable = _straighten(pinhole, corners)
    ids = [marker for marker, good in zip(ids, usable, strict=True) if good]
    if not ids:
        return _Evidence(np.zeros((0, 3)), np.zeros((0, 2)), np.zeros((0, 8, 8))), []
    root = detections.whitening[[seen[marker] for marker in ids]]
    if excess_px2 > 0:
        inverse = np.linalg.inv(root)
        root = np.linalg.inv(np.linalg.cholesky(inverse @ np.swapaxes(inverse, 1, 2) + excess_px2 * np.eye(8)))
    slopes = np.zeros((len(ids), 8, 8))  # d pixel / d ray, a 2x2 block a corner
    step = 1e-5
    for axis in range(2):
        shift = step * np.eye(2)[axis]
        change = (_pixels(pinhole, rays + shift) - _pixels(pinhole, rays - shift)) / (2 * step)
        for corner in range(4):
            slopes[:, 2 * corner : 2 * corner + 2, 2 * corner + axis] = change[:, corner]
    mm = np.concatenate([body.corners_mm[marker] for marker in ids])
    return _Evidence(mm, rays.reshape(-1, 2), root @ slopes), ids


def _straighten(pinhole: Pinhole, corners_px: Array) -> tuple[Array, list[bool]]:
    """Undistorted rays (k, 4, 2) of markers (n, 4, 2), and which of the n could be undistorted."""
    try:
        return pinhole.normalised(corners_px), [True] * len(corners_px)
    except BadLens:  # at least one lies where the model folds over: find out which
        rays, usable = [], []
        for corners in corners_px:
            try:
                rays.append(pinhole.normalised(corners))
                usable.append(True)
            except BadLens:
                usable.append(False)
        return np.array(rays).reshape(-1, 4, 2), usable


def _pixels(pinhole: Pinhole, xy: Array) -> Array:
    return pinhole.project(Points[Camera](np.concatenate([xy, np.ones((*xy.shape[:-1], 1))], axis=-1)))


def _starts(evidence: _Evidence, prior: Rigid[Camera, Any] | None) -> list[tuple[Array, Array]]:
    """First guesses: both flat solutions or SQPnP over all corners, those of the largest markers, the earlier pose."""
    found: list[tuple[Array, Array]] = []
    if prior is not None:
        found.append((prior.rotation, prior.translation_mm))
    found += _pnp(evidence.mm, evidence.rays)
    markers = len(evidence.whitening)
    if markers > 1:  # a wrong corner spoils the guess over all of them, hardly the guess of another marker
        sizes = np.ptp(evidence.rays.reshape(markers, 4, 2), axis=1).prod(axis=1)
        for k in np.argsort(-sizes)[:3]:
            part = slice(4 * k, 4 * k + 4)
            found += _pnp(evidence.mm[part], evidence.rays[part])
    scored = []
    for R, t in found:
        if (evidence.mm @ R.T + t)[:, 2].min() > 1.0:
            residual = _residuals(R, t, evidence)
            scored.append((float(np.sqrt((residual**2).sum(axis=1)).sum()), R, t))
    scored.sort(key=lambda item: item[0])
    starts: list[tuple[Array, Array]] = []
    for _, R, t in scored:
        if all(_turn_rad(R, other) > 0.05 for other, _ in starts):
            starts.append((R, t))
    return starts[:2]


def _pnp(mm: Array, rays: Array) -> list[tuple[Array, Array]]:
    centred = mm - mm.mean(axis=0)
    heights = np.abs(centred @ np.linalg.svd(centred, full_matrices=False)[2][2])
    flat = bool(heights.max() < 0.3)
    flag = cv2.SOLVEPNP_IPPE if flat else cv2.SOLVEPNP_SQPNP
    try:
        _, turns, shifts, _ = cv2.solvePnPGeneric(centred, rays, np.eye(3), None, flags=flag)
    except cv2.error:
        return []
    out = []
    for turn, shift in zip(turns, shifts, strict=True):
        R, t = rotation_exp(np.ravel(turn)), np.ravel(shift)
        if np.isfinite(R).all() and np.isfinite(t).all():
            out.append((R, t - R @ mm.mean(axis=0)))
    return out


def _residuals(R: Array, t: Array, evidence: _Evidence) -> Array:
    """Whitened residuals (4n, 2), a row a side or corner."""
    p = evidence.mm @ R.T + t
    error = (p[:, :2] / p[:, 2:] - evidence.rays).reshape(-1, 8)
    return np.asarray(np.einsum("nij,nj->ni", evidence.whitening, error).reshape(-1, 2))


def _refine(start: tuple[Array, Array], evidence: _Evidence) -> _Fit | None:
    """Iteratively re-weighted Gauss-Newton; None where it leaves the space before the camera."""
    R, t = start
    n = len(evidence.whitening)
    for iteration in range(25):
        rotated = evidence.mm @ R.T
        p = rotated + t
        if p[:, 2].min() < 1.0:
            return None
        depth = p[:, 2]
        x, y = p[:, 0] / depth, p[:, 1] / depth
        J = np.zeros((4 * n, 2, 6))  # d ray / d (w, v)
        for row, value in ((0, x), (1, y)):
            J[:, row, 3 + row] = 1 / depth
            J[:, row, 5] = -value / depth
        # d p / d w = -[rotated]x
        a, b, c = rotated[:, 0], rotated[:, 1], rotated[:, 2]
        for row in (0, 1):
            gx, gy, gz = J[:, row, 3], J[:, row, 4], J[:, row, 5]
            J[:, row, 0] = gz * b - gy * c
            J[:, row, 1] = gx * c - gz * a
            J[:, row, 2] = gy * a - gx * b
        error = np.stack([x, y], axis=1) - evidence.rays
        r = np.einsum("nij,nj->ni", evidence.whitening, error.reshape(n, 8)).reshape(4 * n, 2)
        J = (evidence.whitening @ J.reshape(n, 8, 6)).reshape(4 * n, 2, 6)
        squares = (r**2).sum(axis=1)
        # robust from the first step on; the median of a chi-square with two degrees of freedom is 1.386
        scale = max(1.0, float(np.median(squares)) / 1.386 * (8 * n / max(8 * n - 6, 2)))
        weights = 1.0 / (1.0 + squares / (GEMAN_SD**2 * scale)) ** 2
        normal = np.einsum("gki,g,gkj->ij", J, weights, J)
        right = np.einsum("gki,g,gk->i", J, weights, r)
        try:
            step = -np.linalg.solve(normal, right)
        except np.linalg.LinAlgError:
            return None
        turn = float(np.linalg.norm(step[:3]))
        if not np.isfinite(step).all() or turn > 3.0:
            return None
        R, t = rotation_exp(step[:3]) @ R, t + step[3:]
        if iteration > 2 and turn < 1e-7 and np.abs(step[3:]).max() < 1e-5:  # a hundredth of what is ever resolved
            break
    u, _, vt = np.linalg.svd(R)
    return _Fit(u @ vt, t, normal, squares, weights)


def _choose(fits: list[_Fit], prior: Rigid[Camera, Any] | None) -> tuple[_Fit, float]:
    """The best pose, and how many times worse the next different one is; a near tie goes to the earlier pose."""
    scale = max(1.0, min(float(np.median(f.squares)) / 1.386 for f in fits))
    ranked = sorted(fits, key=lambda f: f.cost(scale))
    best = ranked[0]
    others = [f for f in ranked[1:] if _turn_rad(f.rotation, best.rotation) > 0.01]
    if not others:
        return best, float("inf")
    freedom = 2.0  # keeps the ratio finite where a lone marker is fitted almost exactly
    ratio = (others[0].cost(scale) + freedom) / (best.cost(scale) + freedom)
    if ratio < AMBIGUOUS_RATIO and prior is not None:
        best = min((best, others[0]), key=lambda f: _turn_rad(f.rotation, prior.rotation))
    return best, ratio


def _excess(fit: _Fit, evidence: _Evidence, pinhole: Pinhole, ids: list[int], detections: Detections) -> float:
    """Variance (px2) of a corner coordinate beyond what the detections claim; 0 when they explain the residuals."""
    freedom = 8 * len(ids) - 6
    if float((fit.weights * fit.squares).sum()) < 3.0 * freedom:
        return 0.0
    seen = detections.by_id()
    rows = [seen[i] for i in ids]
    errors = _errors_px(fit, evidence, pinhole, detections.corners_px[rows])
    limit = 3.0 * 1.4826 * float(np.median(np.abs(errors)))  # winsorised: a wrong marker counts as three sd, not more
    spread = float(np.sqrt(np.minimum(errors**2, limit**2).mean()))
    inverse = np.linalg.inv(detections.whitening[rows])
    claimed = float(np.median(np.einsum("nij,nij->ni", inverse, inverse)))
    return max(0.0, spread**2 * 8 * len(ids) / freedom - claimed)


def _errors_px(fit: _Fit, evidence: _Evidence, pinhole: Pinhole, corners_px: Array) -> Array:
    """Reprojection errors (n, 4, 2) in the raw picture."""
    p = evidence.mm @ fit.rotation.T + fit.translation_mm
    return np.asarray(pinhole.project(Points[Camera](p)).reshape(-1, 4, 2) - corners_px)


def _turn_rad(a: Array, b: Array) -> float:
    return float(np.arccos(np.clip((np.trace(a @ b.T) - 1) / 2, -1, 1)))
