"""Poses ahead of the last picture, and how quiet they are: the history beside what peers do.

Peers hold the last pose (scikit-surgery's BARD, HoloLens marker apps) or draw a line through the last two.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from scipy.stats import chi2

from spatial.frames import Camera
from spatial.pinhole import Pinhole
from spatial.rigid import Array, Rigid, rotation_exp, rotation_log
from tests.bench.measure import Job, Judgement, Side
from tests.tracking.hands import Hand, Kind, camera_noise, seen
from tracking.bodies.body import Body, board
from tracking.detection.markers import find_dictionary
from tracking.frame import Frame
from tracking.history.history import PoseHistory
from tracking.history.timed import TimedPose
from tracking.synthetic.camera import SyntheticCamera
from tracking.synthetic.optics import Optics
from tracking.tracker import Tracker

LENS = Pinhole(1920, 1080, 1650.0, 1645.0, 962.3, 537.8, (-0.11, 0.06, 4e-4, -3e-4, 0.0))
BOARD: Body[Any] = board("board", "DICT_APRILTAG_36h11", range(4), 40.0, 20.0, 2)
MS = 1_000_000
FPS, PICTURES, SPEED_MM_S, AHEAD_NS = 60.0, 150, 200.0, 33 * MS
MOVING = Optics(blur_px=0.7, noise_grey=3.0, gradient=0.3, exposure_ns=8 * MS, readout_ns=16 * MS)
STILL = Optics(blur_px=0.7, noise_grey=3.0, gradient=0.3)
SETTLED = 12
FACING = rotation_exp([0.35, 0.25, 0.1]) @ np.diag([1.0, -1.0, -1.0])


@dataclass(frozen=True, eq=False)
class Recording:
    """Rendered pictures and the path that was filmed (of the time in ns)."""

    frames: tuple[Frame, ...]
    path: Any

    def truth(self, t_ns: int) -> Rigid[Camera, Any]:
        """Where the board was."""
        pose: Rigid[Camera, Any] = self.path(t_ns)
        return pose


@cache
def walking() -> Recording:
    """Somebody walks with the camera or the board: its median speed is SPEED_MM_S."""

    def path(brisk: float) -> Any:
        hand = Hand.of("walk", 11, brisk=brisk)
        origin = hand(1.25).translation_mm
        middle = np.array([0.0, 0.0, 600.0])

        def at(t_ns: float) -> Rigid[Camera, Any]:
            pose = hand(t_ns * 1e-9)
            R = pose.rotation @ hand.start.rotation.T @ FACING
            return Rigid[Camera, Any](R, pose.translation_mm - origin + middle)

        return at

    def speed(brisk: float) -> float:
        places = np.array([path(brisk)(k * 1e9 / FPS).translation_mm for k in range(PICTURES)])
        return float(np.median(np.linalg.norm(np.diff(places, axis=0), axis=1)) * FPS)

    once = path(SPEED_MM_S / speed(1.0))
    camera = SyntheticCamera(LENS, [BOARD], optics=MOVING, fps=FPS, seed=4, mono=True)
    return Recording(tuple(camera.shoot(k, Rigid.identity(), {"board": once}).frame for k in range(PICTURES)), once)


@cache
def standing() -> Recording:
    """Camera and board on stands."""
    pose = Rigid[Camera, Any](FACING, np.array([10.0, -20.0, 600.0]))
    camera = SyntheticCamera(LENS, [BOARD], optics=STILL, fps=FPS, seed=5, mono=True)
    frames = tuple(camera.shoot(k, Rigid.identity(), {"board": pose}).frame for k in range(60))
    return Recording(frames, lambda _: pose)


def tracked(recording: Recording, ahead_ns: int) -> list[tuple[TimedPose[Any], TimedPose[Any]]]:
    """For each picture: the pose foretold for `ahead_ns` later, and what the picture itself says."""
    out = []
    with Tracker(LENS, [BOARD]) as tracker:
        history = tracker.histories["board"]
        for frame in recording.frames:
            tracker.see(frame)
            out.append((history.at(frame.t_ns + ahead_ns), history.raw_at(frame.t_ns)))
    return out


def by_opencv(recording: Recording) -> list[Rigid[Camera, Any] | None]:
    """The pose of each picture by OpenCV's SUBPIX and solvePnP, as peers have it."""
    parameters = cv2.aruco.DetectorParameters()
    parameters.cornerRefinementMethod = cv2.aruco.CORNER_REFINE_SUBPIX
    detector = cv2.aruco.ArucoDetector(find_dictionary(BOARD.dictionary), parameters)
    out: list[Rigid[Camera, Any] | None] = []
    for frame in recording.frames:
        quads, ids, _ = detector.detectMarkers(frame.picture)
        known = [] if ids is None else [(int(i), q) for i, q in zip(ids.ravel(), quads, strict=True) if i < 4]
        if not known:
            out.append(None)
            continue
        model = np.concatenate([BOARD.corners_mm[i] for i, _ in known])
        corners = np.concatenate([q.reshape(4, 2) for _, q in known]).astype(float)
        _, turn, shift = cv2.solvePnP(model, corners, LENS.matrix, np.array(LENS.distortion))
        out.append(Rigid[Camera, Any](cv2.Rodrigues(turn)[0], shift.ravel()))
    return out


def errors(found: list[Rigid[Camera, Any] | None], truths: list[Rigid[Camera, Any]]) -> Array:
    """Distance mm and angle in degrees (n, 2); what is missing is left out."""
    pairs = [(a, b) for a, b in zip(found, truths, strict=True) if a is not None]
    return np.array(
        [(np.linalg.norm(a.translation_mm - b.translation_mm), np.degrees(rotation_angle(a, b))) for a, b in pairs]
    )


def rotation_angle(a: Rigid[Any, Any], b: Rigid[Any, Any]) -> float:
    """Of the turn between two poses, rad."""
    return float(np.linalg.norm(rotation_log(a.rotation @ b.rotation.T)))


def line_on(poses: list[Rigid[Camera, Any] | None], ahead: float) -> list[Rigid[Camera, Any] | None]:
    """Each pose carried on by the last step, `ahead` steps far."""
    out: list[Rigid[Camera, Any] | None] = [None]
    for a, b in pairwise(poses):
        if a is None or b is None:
            out.append(None)
            continue
        turn = rotation_log(b.rotation @ a.rotation.T)
        shift = b.translation_mm - a.translation_mm
        out.append(Rigid[Camera, Any](rotation_exp(ahead * turn) @ b.rotation, b.translation_mm + ahead * shift))
    return out


def square(found: TimedPose[Any], truth: Rigid[Any, Any]) -> float:
    """Squared Mahalanobis error."""
    assert found.pose is not None
    assert found.covariance is not None
    turn = rotation_log(truth.rotation @ found.pose.rotation.T)
    e = np.concatenate([turn, truth.translation_mm - found.pose.translation_mm])
    return float(e @ np.linalg.solve(found.covariance, e))


def judge_ahead(ours: list[tuple[TimedPose[Any], TimedPose[Any]]], peer: list[Rigid[Camera, Any] | None]) -> Judgement:
    """Ours foretold, the peer's last pose held, and lines through the last two of either."""
    recording = walking()
    truths = [recording.truth(frame.t_ns + AHEAD_NS) for frame in recording.frames]
    raw = [now.pose for _, now in ours]
    ahead = AHEAD_NS * 1e-9 * FPS
    rows = {
        "ours": [pose.pose for pose, _ in ours],
        "peer_held": peer,
        "peer_line": line_on(peer, ahead),
        "raw_line": line_on(raw, ahead),
    }
    figures: dict[str, float] = {}
    for who, poses in rows.items():
        found = errors(poses[SETTLED:], truths[SETTLED:])
        figures[f"{who}_p50_mm"], figures[f"{who}_p50_deg"] = map(float, np.median(found, axis=0))
        figures[f"{who}_p95_mm"] = float(np.percentile(found[:, 0], 95))
    known = [(pose, t) for (pose, _), t in zip(ours[SETTLED:], truths[SETTLED:], strict=True) if pose.pose is not None]
    figures["inside_95"] = float(np.mean([square(pose, t) < chi2.ppf(0.95, 6) for pose, t in known]))
    here = [(now, recording.truth(frame.t_ns)) for (_, now), frame in zip(ours, recording.frames, strict=True)]
    told = [square(now, t) < chi2.ppf(0.95, 6) for now, t in here[SETTLED:] if now.pose is not None]
    figures["raw_inside_95"] = float(np.mean(told))
    figures["foretold"] = len(known) / (PICTURES - SETTLED)
    words = (
        f"33 ms ahead off by {figures['ours_p50_mm']:.2f} mm, {figures['ours_p50_deg']:.2f} deg (95 %: "
        f"{figures['ours_p95_mm']:.2f} mm); the peer's last pose held {figures['peer_held_p50_mm']:.2f} mm, its last "
        f"two drawn on {figures['peer_line_p50_mm']:.2f} mm; ours drawn on {figures['raw_line_p50_mm']:.2f} mm; "
        f"{100 * figures['inside_95']:.0f} % within the 95 % claimed (each picture's own pose: "
        f"{100 * figures['raw_inside_95']:.0f} %)"
    )
    return Judgement(figures["foretold"] > 0.98 and figures["ours_p50_mm"] < 1.0, words, figures)


def judge_still(ours: list[tuple[TimedPose[Any], TimedPose[Any]]], peer: list[Rigid[Camera, Any] | None]) -> Judgement:
    """Jitter: the spread of the poses of pictures in which nothing moves."""
    figures: dict[str, float] = {}
    rows = {"filtered": [now.pose for now, _ in ours], "raw": [raw.pose for _, raw in ours], "peer": peer}
    for who, poses in rows.items():
        kept = [pose for pose in poses[SETTLED:] if pose is not None]
        places = np.array([pose.translation_mm for pose in kept])
        turns = np.array([rotation_log(pose.rotation @ kept[0].rotation.T) for pose in kept])
        figures[f"{who}_sd_mm"] = float(np.sqrt(places.var(axis=0).sum()))
        figures[f"{who}_sd_deg"] = float(np.degrees(np.sqrt(turns.var(axis=0).sum())))
        truth = standing().truth(0)
        figures[f"{who}_offset_mm"] = float(np.linalg.norm(places.mean(axis=0) - truth.translation_mm))
    words = "jitter " + ", ".join(
        f"{who} {figures[f'{who}_sd_mm']:.4f} mm {figures[f'{who}_sd_deg']:.4f} deg (mean off by "
        f"{figures[f'{who}_offset_mm']:.3f} mm)"
        for who in rows
    )
    return Judgement(figures["filtered_sd_mm"] < 0.1, words, figures)


@cache
def streams() -> dict[Kind, list[tuple[Any, list[Rigid[Camera, Any]]]]]:
    """Sightings of simulated hands with errors drawn from their covariance, and the truth at the HORIZONS."""
    out: dict[Kind, list[tuple[Any, list[Rigid[Camera, Any]]]]] = {}
    kinds: tuple[Kind, ...] = ("hold", "walk", "jerk")
    for kind in kinds:
        rows = []
        for seed in range(100, 106):
            hand, rng = Hand.of(kind, seed), np.random.default_rng(seed)
            for k in range(480):
                t_ns = round(k * 1e9 / FPS) + seed * 3_600_000 * MS
                true_s = k / FPS
                truths = [hand(true_s + ms * 1e-3) for ms in HORIZONS_MS]
                rows.append((seen(truths[0], t_ns, camera_noise(), rng), truths))
        out[kind] = rows
    return out


HORIZONS_MS = (0, 17, 33, 66, 99)


def followed() -> dict[Kind, tuple[list[list[TimedPose[Any]]], float, float]]:
    """Each hand followed: the poses at each horizon; microseconds of processor time for an `add` and an `at`."""
    out = {}
    for kind, rows in streams().items():
        history: PoseHistory[Any] = PoseHistory()
        answers, adding, asking = [], 0, 0
        for sighting, _ in rows:
            start = time.thread_time_ns()
            history.add(sighting)
            middle = time.thread_time_ns()
            answers.append([history.at(sighting.t_ns + ms * MS) for ms in HORIZONS_MS])
            adding, asking = adding + middle - start, asking + time.thread_time_ns() - middle
        out[kind] = answers, adding / len(rows) / 1e3, asking / len(rows) / len(HORIZONS_MS) / 1e3
    return out


def drawn_on() -> dict[Kind, list[list[Array]]]:
    """The peers' line through the last two poses, in numpy: only where it leads, with no claim."""
    out: dict[Kind, list[list[Array]]] = {}
    for kind, rows in streams().items():
        answers, before = [], rows[0][0].camera_from_body.pose
        for sighting, _ in rows:
            pose = sighting.camera_from_body.pose
            step = pose.translation_mm - before.translation_mm
            answers.append([pose.translation_mm + step * (ms * 1e-3 * FPS) for ms in HORIZONS_MS])
            before = pose
        out[kind] = answers
    return out


def judge_claims(ours: Any, peer: Any) -> Judgement:
    """Median errors and how many of the claimed 95 % hold, by hand and horizon."""
    limit = chi2.ppf(0.95, 6)
    figures: dict[str, float] = {}
    parts = []
    for kind, (answers, adding_us, asking_us) in ours.items():
        truths = [row[1] for row in streams()[kind]]
        use = [k for k in range(len(truths)) if k % 480 >= 16]
        told = []
        for place, ms in enumerate(HORIZONS_MS):
            held = np.mean([square(answers[k][place], truths[k][place]) < limit for k in use])
            mm = [np.linalg.norm(answers[k][place].pose.translation_mm - truths[k][place].translation_mm) for k in use]
            line = [np.linalg.norm(peer[kind][k][place] - truths[k][place].translation_mm) for k in use]
            figures[f"{kind}_{ms}ms_inside_95"] = float(held)
            figures[f"{kind}_{ms}ms_p50_mm"] = float(np.median(mm))
            figures[f"{kind}_{ms}ms_line_p50_mm"] = float(np.median(line))
            told.append(f"{ms} ms {np.median(mm):.2f} (line {np.median(line):.2f}) {100 * held:.0f} %")
        figures[f"{kind}_add_us"], figures[f"{kind}_at_us"] = adding_us, asking_us
        parts.append(f"{kind}: " + ", ".join(told))
    worst_us = max(value for name, value in figures.items() if name.endswith("_us"))
    inside = [figures[f"{kind}_33ms_inside_95"] for kind in ours]
    words = "; ".join(parts) + f"; add and at within {worst_us:.0f} us of processor time"
    return Judgement(min(inside) >= 0.92 and max(inside) <= 0.98, words, figures)


def jobs() -> Iterator[Job]:
    """Foretelling on rendered pictures; jitter; claims on simulated hands."""
    moving, still = walking(), standing()
    yield Job(
        "tracking", f"pose 33 ms ahead, {SPEED_MM_S:.0f} mm/s, 8 ms exposure, 16 ms readout, {PICTURES} x 1080p",
        Side("Tracker + PoseHistory.at", lambda: tracked(moving, AHEAD_NS)),
        Side("cv2 SUBPIX + solvePnP, last pose held", lambda: by_opencv(moving)), judge_ahead, rounds=1,
    )  # fmt: skip
    yield Job(
        "tracking", "jitter of a board that stands still at 600 mm, 60 x 1080p",
        Side("Tracker + PoseHistory.at", lambda: tracked(still, 0)),
        Side("cv2 SUBPIX + solvePnP", lambda: by_opencv(still)), judge_still, rounds=1,
    )  # fmt: skip
    yield Job(
        "tracking", "claims of poses 0 to 99 ms ahead, simulated hands: hold, walk, jerk (8640 sightings)",
        Side("PoseHistory.add + at (with covariance)", followed), Side("line through the last two, no claim", drawn_on),
        judge_claims, rounds=1,
    )  # fmt: skip
