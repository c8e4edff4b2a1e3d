"""Several calibrated cameras that see one body: all their corners in one solver, one pose in the rig's frame.

The rig's frame stands where the camera's stands elsewhere (it is usually the first camera's), so histories, filters and
guidance take a rig's sighting as a camera's. How well each camera's place in the rig is known is part of the problem:
it takes its share of the residuals, and of the covariance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Generic

import numpy as np
from scipy.special import chdtri

from spatial.faults import Misuse
from spatial.frames import B, Camera
from spatial.pinhole import Pinhole
from spatial.rigid import Array, Rigid, UncertainRigid, rotation_log
from tracking.bodies.body import Body
from tracking.detection.markers import Detections
from tracking.pose.estimate import MAX_RMS_PX, SURE_ODDS, Earlier, Estimate, estimate
from tracking.pose.motion import Motion
from tracking.pose.pose import CERTAIN, pose_problem, unwarped
from tracking.pose.sighting import Cause, Sighting
from tracking.pose.solver import Problem

DISAGREE_CHANCE = 1e-5  # that two good cameras are said to disagree
EXACT_RAD, EXACT_MM = 1e-7, 1e-5  # a camera's place that is known exactly is known so well


@dataclass(frozen=True, eq=False)
class View:
    """What one camera of a rig saw. `late_ns`: how much later than the pose's instant its middle row was exposed."""

    camera: str
    detections: Detections
    pinhole: Pinhole
    rig_from_camera: UncertainRigid[Camera, Camera]
    readout_ns: int = 0
    late_ns: int = 0
    lens_covariance: Array | None = None


@dataclass(frozen=True, eq=False)
class Share:
    """What one camera gave to a rig's pose: corners seen by id, how well they fit, and whether it was used."""

    corners_px: Mapping[int, Array]
    rms_px: float | None
    agrees: bool


@dataclass(frozen=True, eq=False)
class RigSighting(Generic[B]):
    """A sighting whose `camera_from_body` is rig_from_body, and each camera's share by its name."""

    sighting: Sighting[B]
    shares: Mapping[str, Share] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def disagreeing(self) -> tuple[str, ...]:
        """Cameras that contradict the others."""
        return tuple(name for name, share in self.shares.items() if not share.agrees)


def track_rig(
    views: Sequence[View],
    body: Body[B],
    *,
    t_ns: int = 0,
    prior: Rigid[Camera, B] | UncertainRigid[Camera, B] | None = None,
    prior_odds: float = CERTAIN,
    motion: Motion | None = None,
) -> RigSighting[B]:
    """The pose of `body` in the rig at `t_ns` from one instant's pictures of its cameras; see `track_body`.

    A camera whose own pose contradicts those of two others is left out and named; two that contradict each other give
    no pose. Raises Misuse for two cameras of one name.
    """
    names = [view.camera for view in views]
    if len(set(names)) < len(names):
        raise Misuse(f"two cameras of the rig have one name: {', '.join(names)}")
    seen = [_seen(view, body) for view in views]
    corners = [
        MappingProxyType({i: v.detections.corners_px[row] for i, row in s}) for v, s in zip(views, seen, strict=True)
    ]
    every = MappingProxyType({i: px for found in reversed(corners) for i, px in found.items()})
    shares = {name: Share(found, None, True) for name, found in zip(names, corners, strict=True)}

    def lost(cause: Cause, reason: str, rms_px: float | None = None) -> RigSighting[B]:
        sighting = Sighting[B](body.name, t_ns, "LOST", reason, None, rms_px, every, cause=cause)
        return RigSighting(sighting, MappingProxyType(shares))

    earlier = Earlier.of(prior, prior_odds)
    own: list[tuple[View, Problem, Estimate]] = []
    for view, places in zip(views, seen, strict=True):
        if places:
            problem, _ = pose_problem(
                view.detections, body, view.pinhole, places, view.readout_ns, motion, view.late_ns
            )
            if problem.moving and motion is not None and earlier is not None and view.readout_ns:
                away = view.rig_from_camera.pose.inverse()
                problem = unwarped(problem, away @ earlier.pose, motion.turned(away), view.pinhole, view.readout_ns)
            problem = _placed(problem, view)
            alone = estimate(problem, earlier, [view.lens_covariance]) if len(problem) else None
            if alone is not None:
                own.append((view, problem, alone))
    if not own:
        cameras = f"{len(views)} cameras" if len(views) != 1 else "the one camera"
        return lost("too few markers", f"0 of {len(body.corners_mm)} markers seen by {cameras}")
    agreeing, words = _consensus(own)
    for view, _, _ in own:
        if view.camera not in agreeing:
            shares[view.camera] = Share(shares[view.camera].corners_px, None, False)
    if not agreeing:
        return lost("residual", words)
    used = [item for item in own if item[0].camera in agreeing]
    joint = _joined([problem for _, problem, _ in used])
    best = min((alone for _, _, alone in used), key=lambda alone: float(np.trace(alone.covariance[3:, 3:])))
    found = estimate(joint, earlier, [view.lens_covariance for view, _, _ in used], [best.pose])
    if found is None:
        return lost("residual", "no pose explains the corners of all cameras")
    kept = int(found.kept.sum())
    eyes = joint.eye[found.kept]
    for number, (view, _, _) in enumerate(used):
        errors = found.errors_px[eyes == number]
        rms = float(np.sqrt((errors**2).sum(axis=-1).mean())) if len(errors) else None
        shares[view.camera] = Share(shares[view.camera].corners_px, rms, bool(len(errors)))
    rms_px = found.rms_px
    if not np.isfinite(rms_px) or rms_px > MAX_RMS_PX:
        return lost("residual", f"residual {rms_px:.1f} px over {MAX_RMS_PX:g} px; was a camera moved?", rms_px)
    if kept < len(joint) and 2 * kept <= len(joint):
        return lost("residual", f"only {kept} of {len(joint)} markers agree on a pose; is it another body?", rms_px)
    doubt = found.odds < SURE_ODDS
    if doubt:
        words = f"seen so flat and small that another pose is nearly as likely (odds {found.odds:.3g})"
    elif not words and found.misfit_px > 0:
        words = f"corners are {found.misfit_px:.1f} px off their places; was a camera moved, is a file another one's?"
    sighting = Sighting[B](
        body.name,
        t_ns,
        "TRACKED",
        words or None,
        UncertainRigid(found.pose, found.covariance),
        rms_px,
        every,
        found.odds,
        "ambiguous" if doubt else None,
        found.second,
        found.systematic,
    )
    return RigSighting(sighting, MappingProxyType(shares))


def _seen(view: View, body: Body[Any]) -> list[tuple[int, int]]:
    rows = view.detections.by_id() if view.detections.dictionary == body.dictionary else {}
    return [(marker, rows[marker]) for marker in body.corners_mm if marker in rows]


def _placed(problem: Problem, view: View) -> Problem:
    """A camera's problem in the rig's frame, its place uncertain as far as it is."""
    pose, covariance = view.rig_from_camera.pose, view.rig_from_camera.covariance
    known = covariance + np.diag([EXACT_RAD**2] * 3 + [EXACT_MM**2] * 3)
    return _nuisance(
        problem,
        eye_turn=np.array(pose.rotation)[None],
        eye_mm=np.array(pose.translation_mm)[None],
        places=[np.asarray(np.linalg.inv(known))],
        shaky=bool(covariance.any()),
        moving=problem.moving,
    )


def _nuisance(
    problem: Problem, *, eye_turn: Array, eye_mm: Array, places: Sequence[Array], shaky: bool, moving: bool
) -> Problem:
    """The problem with its nuisance's prior laid out anew: velocity first, then the cameras' places."""
    speed = problem.information[:6, :6]
    blocks = ([speed] if moving else []) + (list(places) if shaky else [])
    information = np.zeros((6 * len(blocks), 6 * len(blocks)))
    for k, block in enumerate(blocks):
        information[6 * k : 6 * k + 6, 6 * k : 6 * k + 6] = block
    return Problem(
        problem.mm, problem.px, problem.root, problem.eye, problem.lag_s, problem.lenses, eye_turn, eye_mm,
        problem.velocity, information, moving, shaky, problem.body_covariance,
    )  # fmt: skip


def _joined(problems: Sequence[Problem]) -> Problem:
    """All cameras' markers in one problem."""
    moving = [p for p in problems if p.moving]
    shaky = any(p.shaky for p in problems)
    exact = np.diag([EXACT_RAD**-2] * 3 + [EXACT_MM**-2] * 3)
    first = moving[0] if moving else problems[0]
    joint = Problem(
        np.concatenate([p.mm for p in problems]),
        np.concatenate([p.px for p in problems]),
        np.concatenate([p.root for p in problems]),
        np.concatenate([np.full(len(p), k, dtype=np.int64) for k, p in enumerate(problems)]),
        np.concatenate([p.lag_s for p in problems]),
        np.concatenate([p.lenses for p in problems]),
        np.concatenate([p.eye_turn for p in problems]),
        np.concatenate([p.eye_mm for p in problems]),
        first.velocity,
        first.information,
        bool(moving),
        shaky,
        np.concatenate([p.body_covariance for p in problems]),
    )
    places = [p.information[-6:, -6:] if p.shaky else exact for p in problems]
    return _nuisance(
        joint, eye_turn=joint.eye_turn, eye_mm=joint.eye_mm, places=places, shaky=shaky, moving=bool(moving)
    )


def _consensus(own: Sequence[tuple[View, Problem, Estimate]]) -> tuple[set[str], str]:
    """Names of the cameras that agree (none: nobody can say which is wrong), and words about those that don't."""
    left = list(range(len(own)))
    limit = float(chdtri(6, DISAGREE_CHANCE))
    out: list[str] = []
    apart = np.zeros((len(own), len(own)))
    for i in left:
        for j in left[:i]:
            apart[i, j] = apart[j, i] = _distance(own[i][2], own[j][2])
    while True:
        quarrels = (apart[np.ix_(left, left)] > limit).sum(axis=1)
        if not quarrels.any():
            break
        worst = np.flatnonzero(quarrels == quarrels.max())
        if len(worst) > 1:  # as many against as for
            k, j = left[int(worst[0])], left[int(worst[1])]
            gap = own[k][2].pose.translation_mm - own[j][2].pose.translation_mm
            return set(), (
                f"{own[k][0].camera} and {own[j][0].camera} put it {np.linalg.norm(gap):.2f} mm apart; "
                "was a camera moved since the rig was calibrated?"
            )
        out.append(own[left.pop(int(worst[0]))][0].camera)
    words = f"{', '.join(out)} contradicts the other cameras; was it moved?" if out else ""
    return {own[k][0].camera for k in left}, words


def _distance(a: Estimate, b: Estimate) -> float:
    """Squared Mahalanobis distance of two cameras' own poses."""
    gap = np.concatenate(
        [rotation_log(a.pose.rotation @ b.pose.rotation.T), a.pose.translation_mm - b.pose.translation_mm]
    )
    return float(gap @ np.linalg.solve(a.covariance + b.covariance, gap))
