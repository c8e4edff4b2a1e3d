"""Calibration beside OpenCV's: a board's corners, and a lens from views of a board; the truth is known in both."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np

from spatial.pinhole import Pinhole
from spatial.rigid import Rigid
from tests.bench.measure import Job, Judgement, Side
from tests.tracking.calibrating import CHARUCO, WEBCAM, opencv, placed, views_of
from tracking.calibration.board import Board
from tracking.calibration.board_view import BoardView, find_board
from tracking.calibration.camera_fit import fit_camera
from tracking.calibration.lens_model import MODELS
from tracking.detection.markers import find_dictionary
from tracking.synthetic.board_plate import photograph
from tracking.synthetic.optics import Optics

LENS = Pinhole(1280, 960, 1120.0, 1124.0, 641.0, 474.0, (-0.2, 0.08, 0.0, 0.0))
BOARD = Board.parse("charuco:7x5,30,22,DICT_5X5_100")
PICTURES = 4
OUTLIERS_PX = 6.0


def jobs() -> Iterator[Job]:
    """Corners of a ChArUco in rendered pictures; a lens from twenty views, some of whose corners are wrong."""
    yield _corners()
    yield _lens()


def _corners() -> Job:
    pictures, truths = [], []
    for seed in range(PICTURES):
        R, t = placed(np.random.default_rng(seed), LENS, BOARD, spread=0.1)
        pictures.append(photograph(BOARD, LENS, Rigid[Any, Any](R, t), Optics(0.8, 2.5, 0.3), seed=seed))
        truths.append(opencv(LENS, BOARD.points_mm, R, t))
    made = cv2.aruco.CharucoBoard((7, 5), 30.0, 22.0, find_dictionary(BOARD.dictionary))
    detector = cv2.aruco.CharucoDetector(made)

    def ours() -> list[tuple[Any, Any]]:
        views = [find_board(picture, BOARD) for picture in pictures]
        return [(view.ids, view.corners_px) for view in views if isinstance(view, BoardView)]

    def theirs() -> list[tuple[Any, Any]]:
        found = [detector.detectBoard(picture)[:2] for picture in pictures]
        return [(np.ravel(ids), np.reshape(corners, (-1, 2)).astype(float)) for corners, ids in found]

    def compare(a: list[tuple[Any, Any]], b: list[tuple[Any, Any]] | None) -> Judgement:
        rms = {}
        for who, found in (("ours", a), ("peer", b or [])):
            errors = [px - truth[ids] for (ids, px), truth in zip(found, truths, strict=True)] if found else []
            rms[f"{who}_rms_px"] = float(np.sqrt(np.mean(np.square(np.concatenate(errors))))) if errors else 9.0
        words = f"corners off by {rms['ours_rms_px']:.4f} px RMS, the peer's {rms['peer_rms_px']:.4f}"
        return Judgement(rms["ours_rms_px"] < 0.02 and rms["peer_rms_px"] < 1.0, words, rms)

    return Job(
        "tracking", f"the corners of a ChArUco board in {PICTURES} pictures of 1280x960", Side("find_board", ours),
        Side("OpenCV CharucoDetector", theirs), compare,
    )  # fmt: skip


def _lens() -> Job:
    rng = np.random.default_rng(3)
    views = views_of(rng, WEBCAM, count=20, noise_px=0.05)
    for view in views[::4]:
        spoiled = view.corners_px.copy()
        spoiled[:3] += OUTLIERS_PX
        object.__setattr__(view, "corners_px", spoiled)
    size = (WEBCAM.width_px, WEBCAM.height_px)
    mm = [CHARUCO.points_mm[view.ids].astype(np.float32) for view in views]
    px = [view.corners_px.astype(np.float32) for view in views]

    def ours() -> Any:
        return fit_camera(views, CHARUCO.points_mm, MODELS["k2+tangential"], size)

    def theirs() -> Any:
        return cv2.calibrateCamera(mm, px, size, None, None, flags=cv2.CALIB_FIX_K3)[1]

    def compare(a: Any, b: Any) -> Judgement:
        off = abs(a.pinhole.fx_px - WEBCAM.fx_px)
        peer = abs(float(b[0, 0]) - WEBCAM.fx_px)
        sd = float(np.sqrt(a.covariance[0, 0]))
        words = f"focal length off by {off:.2f} px (its own sd {sd:.2f}), the peer's {peer:.2f}"
        return Judgement(off < 4 * sd and peer < 30, words, {"ours_px": off, "ours_sd_px": sd, "peer_px": peer})

    return Job(
        "tracking", "a lens from 20 views of a board, 15 of 843 corners 8 px off", Side("fit_camera", ours),
        Side("OpenCV calibrateCamera", theirs), compare,
    )  # fmt: skip
