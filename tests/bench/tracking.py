"""Corners and poses of printed markers, on rendered pictures whose truth is known."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np

from spatial.pinhole import Pinhole
from spatial.rigid import Rigid, rotation_log
from tests.bench import (
    tracking_calibration,
    tracking_corners,
    tracking_motion,
    tracking_pose,
    tracking_real,
    tracking_soak,
    tracking_time,
    tracking_wire,
)
from tests.bench.measure import Job, Judgement, Side
from tests.tracking.scene import bench
from tracking.detection.markers import detect, find_dictionary
from tracking.pose.pose import track_body

LENS = Pinhole(1920, 1080, 1650.0, 1645.0, 962.3, 537.8, (-0.11, 0.06, 4e-4, -3e-4, 0.0))
DICTIONARY = "DICT_APRILTAG_36h11"
VIEWS = 6


def jobs() -> Iterator[Job]:
    """Four 40 mm tags on a board at 0.4 to 0.8 m, tilted 5 to 55 degrees; blur, noise, uneven light, a bent lens."""
    setup = bench(LENS)
    shots = [setup.view(number, 400.0, 800.0) for number in range(VIEWS)]
    pictures = [shot.frame.picture for shot, _ in shots]
    poses = [pose for _, pose in shots]
    matrix = np.array([[LENS.fx_px, 0, LENS.cx_px], [0, LENS.fy_px, LENS.cy_px], [0, 0, 1.0]])
    bend = np.array(LENS.distortion)
    parameters = cv2.aruco.DetectorParameters()
    parameters.cornerRefinementMethod = cv2.aruco.CORNER_REFINE_SUBPIX
    detector = cv2.aruco.ArucoDetector(find_dictionary(DICTIONARY), parameters)

    def subpix() -> list[dict[int, Any]]:
        out = []
        for picture in pictures:
            quads, ids, _ = detector.detectMarkers(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY))
            out.append({int(i): q.reshape(4, 2).astype(float) for i, q in zip(ids.ravel(), quads, strict=True)})
        return out

    def tracked() -> list[Rigid[Any, Any]]:
        out = []
        for picture in pictures:
            pose = track_body(detect(picture, DICTIONARY, LENS), setup.body, LENS).camera_from_body
            assert pose is not None
            out.append(pose.pose)
        return out

    def pnp(frames: list[dict[int, Any]]) -> list[Rigid[Any, Any]]:
        out = []
        for corners in frames:
            model = np.concatenate([setup.body.corners_mm[i] for i in corners])
            _, turn, shift = cv2.solvePnP(model, np.concatenate(list(corners.values())), matrix, bend)
            out.append(Rigid[Any, Any](cv2.Rodrigues(turn)[0], shift.ravel()))
        return out

    def same_poses(ours: list[Rigid[Any, Any]], peer: list[Rigid[Any, Any]]) -> Judgement:
        figures, worst = {}, 0.0
        for who, found in (("ours", ours), ("peer", peer)):
            mm = [np.linalg.norm(a.translation_mm - b.translation_mm) for a, b in zip(found, poses, strict=True)]
            turns = [np.linalg.norm(rotation_log(a.rotation.T @ b.rotation)) for a, b in zip(found, poses, strict=True)]
            figures |= {f"{who}_rms_mm": float(np.sqrt(np.mean(np.square(mm))))}
            figures |= {f"{who}_rms_deg": float(np.degrees(np.sqrt(np.mean(np.square(turns)))))}
            worst = max(worst, float(np.max(mm)))
        words = (
            f"off by {figures['ours_rms_mm']:.3f} mm / {figures['ours_rms_deg']:.4f} deg RMS, "
            f"the peer {figures['peer_rms_mm']:.3f} / {figures['peer_rms_deg']:.4f}"
        )
        return Judgement(worst < 5.0, words, figures)

    several = f"{VIEWS} pictures of 1920 x 1080, 4 tags each"
    yield from tracking_corners.jobs()
    yield Job(
        "tracking", f"pose of the board, {several}", Side("detect + track_body", tracked),
        Side("cv2 SUBPIX + solvePnP", lambda: pnp(subpix())), same_poses,
    )  # fmt: skip
    yield from tracking_time.jobs()
    yield from tracking_wire.jobs()
    yield from tracking_calibration.jobs()
    yield from tracking_soak.jobs()
    yield from tracking_motion.jobs()
    yield from tracking_pose.jobs()
    yield from tracking_real.jobs()
