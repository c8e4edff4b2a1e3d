"""Where a marker body is, from one picture: the robust pose over all its corners, with its covariance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from spatial.frames import B, Camera
from spatial.pinhole import Pinhole
from spatial.rigid import Array, Points, Rigid, UncertainRigid
from tracking.bodies.body import Body, outward_normal
from tracking.detection.markers import Detections
from tracking.pose.estimate import MAX_RMS_PX, SURE_ODDS, Earlier, estimate
from tracking.pose.lens import lens_vector, straighten
from tracking.pose.lens_watch import lens_view
from tracking.pose.minima import loosened
from tracking.pose.motion import Motion
from tracking.pose.sighting import Cause, Sighting
from tracking.pose.solver import Problem

CERTAIN = 1e9
WARP_SHARE = 0.2  # of the correction in `unwarped` is not believed: edges are not spread evenly over a code
UNMEASURED = np.zeros((6, 6))


def track_body(
    detections: Detections,
    body: Body[B],
    pinhole: Pinhole,
    *,
    t_ns: int = 0,
    prior: Rigid[Camera, B] | UncertainRigid[Camera, B] | None = None,
    prior_odds: float = CERTAIN,
    readout_ns: int = 0,
    motion: Motion | None = None,
    lens_covariance: Array | None = None,
    watch_lens: bool = False,
) -> Sighting[B]:
    """The pose of `body` at `t_ns`, the instant of the middle row, from the markers of one raw picture.

    `prior`, an earlier pose carried on to `t_ns`, is a first guess and decides between the two poses of a flat body;
    `prior_odds` is the `ambiguity` of the sighting that it came from. It never moves the pose. With `readout_ns` (a
    rolling shutter) each corner is taken at its own row's time, with the body's `motion` (None: unknown) and what is
    not known of it in the covariance. `lens_covariance` (12, 12) of fx fy cx cy k1 k2 p1 p2 k3 k4 k5 k6 adds the
    calibration's share; it is the sighting's `systematic`. `watch_lens` asks the picture what it says of the lens.
    """
    seen = detections.by_id()
    ids = [marker for marker in body.corners_mm if marker in seen]
    corners_px = MappingProxyType({marker: detections.corners_px[seen[marker]] for marker in ids})

    def lost(cause: Cause, reason: str, rms_px: float | None = None) -> Sighting[B]:
        return Sighting[B](body.name, t_ns, "LOST", reason, None, rms_px, corners_px, cause=cause)

    earlier = Earlier.of(prior, prior_odds)
    if not ids:
        doubled = sorted(set(detections.ids[np.isin(detections.ids, list(body.corners_mm))].tolist()))
        twice = f"; seen twice: {', '.join(map(str, doubled))}" if doubled else ""
        if earlier is not None and not twice and _beyond(body, pinhole, earlier.pose):
            return lost("out of view", f"0 of {len(body.corners_mm)} markers seen; it went out of the picture")
        return lost("too few markers", f"0 of {len(body.corners_mm)} markers seen{twice}")
    problem, ids = pose_problem(detections, body, pinhole, [(i, seen[i]) for i in ids], readout_ns, motion)
    if not ids:
        return lost(
            "out of view",
            "the markers lie where the lens model can't be inverted; was it calibrated to the picture's rim?",
        )
    if problem.moving and motion is not None and earlier is not None:
        problem = unwarped(problem, earlier.pose, motion, pinhole, readout_ns)
    found = estimate(problem, earlier, [lens_covariance])
    if found is None:
        return lost("residual", "no pose explains the corners")
    kept, rms_px = int(found.kept.sum()), found.rms_px
    if not np.isfinite(rms_px) or rms_px > MAX_RMS_PX:
        return lost(
            "residual",
            f"residual {rms_px:.1f} px over {MAX_RMS_PX:g} px; is the body or camera file another one's?",
            rms_px,
        )
    if kept < len(ids) and 2 * kept <= len(ids):
        return lost("residual", f"only {kept} of {len(ids)} markers agree on a pose; is it another body?", rms_px)
    doubt = found.odds < SURE_ODDS
    words = []
    if kept < len(ids):
        out = ", ".join(str(marker) for marker, good in zip(ids, found.kept, strict=True) if not good)
        words.append(f"left out as contradicting the others: marker {out}; covered, or not where the file says?")
    if doubt:
        words.append(f"seen so flat and small that another pose is nearly as likely (odds {found.odds:.3g})")
    elif found.misfit_px > 0:
        words.append(
            f"corners are {found.misfit_px:.1f} px off their places; is the body or camera file another one's?"
        )
    return Sighting[B](
        body.name,
        t_ns,
        "TRACKED",
        "; ".join(words) or None,
        UncertainRigid(found.pose, found.covariance),
        rms_px,
        corners_px,
        found.odds,
        "ambiguous" if doubt else None,
        found.second,
        found.systematic,
        lens_view(found, t_ns) if watch_lens and not doubt else None,
    )


def pose_problem(
    detections: Detections,
    body: Body[B],
    pinhole: Pinhole,
    places: Sequence[tuple[int, int]],
    readout_ns: int,
    motion: Motion | None,
    late_ns: int = 0,
) -> tuple[Problem, list[int]]:
    """One camera's problem in its own frame, from (id, row of the detections); and the ids that are in it.

    Markers whose corners the lens model can't undo are left out. `late_ns`: how much later than the pose's instant the
    middle row was exposed.
    """
    lens = lens_vector(pinhole)
    rows = [row for _, row in places]
    corners = np.ascontiguousarray(detections.corners_px[rows], dtype=np.float64)
    usable = np.asarray(np.isfinite(straighten(corners.reshape(-1, 2), lens)).reshape(-1, 8).all(axis=1))
    ids = [marker for (marker, _), good in zip(places, usable, strict=True) if good]
    corners = corners[usable]
    lag_s = row_lag_s(corners[..., 1], pinhole.height_px, readout_ns) + late_ns * 1e-9
    moving = bool(readout_ns > 0 or late_ns != 0)
    speed = (motion or Motion.unknown()) if moving else None
    problem = Problem(
        mm=np.array([body.corners_mm[marker] for marker in ids]).reshape(-1, 4, 3),
        px=corners,
        root=np.ascontiguousarray(detections.whitening[rows][usable]),
        eye=np.zeros(len(ids), dtype=np.int64),
        lag_s=lag_s,
        lenses=lens[None],
        eye_turn=np.eye(3)[None],
        eye_mm=np.zeros((1, 3)),
        velocity=np.zeros(6) if speed is None else np.concatenate([speed.turn_rad_s, speed.speed_mm_s]),
        information=np.zeros((0, 0))
        if speed is None
        else np.asarray(np.linalg.inv(speed.covariance), dtype=np.float64),
        moving=moving,
        shaky=False,
        body_covariance=np.array([body.covariance.get(marker, UNMEASURED) for marker in ids]).reshape(-1, 6, 6),
    )
    return problem, ids


def unwarped(problem: Problem, pose: Rigid[Camera, B], motion: Motion, pinhole: Pinhole, readout_ns: int) -> Problem:
    """Corners as a rolling shutter took them, not as the best perspective picture of the whole code has them.

    A marker that turns while its rows are read is sheared unevenly, and no perspective picture is: the fit over the
    whole code misses all corners alike (a turn in the picture's plane moves them by the square of the marker's height).
    To first order the shift of each place is its flow times its row's lag; what a perspective change can't follow of
    it is put back, and a share of it believed uncertain.
    """
    corners = problem.mm
    at = np.einsum("kc,ncd->nkd", WEIGHTS, corners)  # places over the code, the four corners last
    turned = at @ pose.rotation.T
    p = turned + pose.translation_mm
    speed = motion.speed_mm_s + np.cross(motion.turn_rad_s, turned)
    depth = p[..., 2:]
    px = p[..., :2] / depth * (pinhole.fx_px, pinhole.fy_px) + (pinhole.cx_px, pinhole.cy_px)
    flow = (speed[..., :2] - p[..., :2] / depth * speed[..., 2:]) / depth * (pinhole.fx_px, pinhole.fy_px)
    shift = flow * row_lag_s(px[..., 1], pinhole.height_px, readout_ns)[..., None]
    q = px - px.mean(axis=1, keepdims=True)
    q /= np.abs(q).max(axis=(1, 2), keepdims=True)
    x, y = q[..., 0], q[..., 1]
    one, none = np.ones_like(x), np.zeros_like(x)
    across = np.stack([one, x, y, none, none, none, x * x, x * y], axis=-1)
    down = np.stack([none, none, none, one, x, y, x * y, y * y], axis=-1)
    basis = np.stack([across, down], axis=2)  # (n, k, 2, 8): small changes of a perspective picture
    over = basis[:, :-4].reshape(len(corners), -1, 8)
    change = np.linalg.pinv(over) @ shift[:, :-4].reshape(len(corners), -1, 1)
    missed = (basis[:, -4:].reshape(len(corners), 8, 8) @ change)[..., 0] - shift[:, -4:].reshape(len(corners), 8)
    doubt = (WARP_SHARE * missed)[:, :, None] * (WARP_SHARE * missed)[:, None, :]
    return loosened(replace(problem, px=problem.px - missed.reshape(-1, 4, 2)), doubt)


def _places(across: int) -> Array:
    """Weights (k, 4) of a square's corners at k places: a grid over it, then the corners themselves."""
    s, t = (v.ravel() for v in np.meshgrid(np.linspace(0, 1, across), np.linspace(0, 1, across)))
    grid = np.stack([(1 - s) * (1 - t), s * (1 - t), s * t, (1 - s) * t], axis=1)
    return np.concatenate([grid, np.eye(4)])


WEIGHTS = _places(9)


def row_lag_s(rows_px: Array, height_px: int, readout_ns: int) -> Array:
    """How much later than the middle row the rows were exposed, s."""
    return np.asarray((rows_px / max(height_px - 1, 1) - 0.5) * (readout_ns * 1e-9))


def _beyond(body: Body[B], pinhole: Pinhole, pose: Rigid[Camera, B]) -> bool:
    """Whether every marker is expected outside the picture, behind the camera or turned away."""
    for corners_mm in body.corners_mm.values():
        mm = (pose @ Points(corners_mm)).mm
        if mm[:, 2].min() < 1.0 or outward_normal(mm) @ mm.mean(axis=0) >= 0:
            continue
        px = pinhole.project(Points[Camera](mm))
        if (px >= 0).all() and (px[:, 0] < pinhole.width_px).all() and (px[:, 1] < pinhole.height_px).all():
            return False
    return True
