"""Views of a board that were never photographed: projected corners with noise of a known covariance."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from spatial.pinhole import Pinhole
from spatial.rigid import Array, rotation_exp
from tracking.calibration.board import Board
from tracking.calibration.board_view import BoardView

CHARUCO = Board.parse("charuco:9x7,25,18,DICT_5X5_100")
WEBCAM = Pinhole(1280, 720, 980.0, 983.0, 645.0, 352.0, (-0.12, 0.06, 0.0006, -0.0004))


def opencv(camera: Pinhole, mm: Array, R: Array, t: Array) -> Array:
    """OpenCV's projection, so that the truth shares no code with the fit."""
    k = np.array(camera.distortion or (0.0,) * 4)
    if camera.lens == "fisheye":
        px, _ = cv2.fisheye.projectPoints(mm[:, None], cv2.Rodrigues(R)[0], t, camera.matrix, k)
    else:
        px, _ = cv2.projectPoints(mm, cv2.Rodrigues(R)[0], t, camera.matrix, k)
    return np.asarray(px, dtype=np.float64).reshape(-1, 2)


def placed(
    rng: Any, camera: Pinhole, board: Board, *, tilt_deg: float = 45.0, spread: float = 0.35, far: float = 1.0
) -> tuple[Array, Array]:
    """A pose (R, t) of the board somewhere in the picture, turned by up to `tilt_deg`."""
    azimuth, tilt = rng.uniform(0, 2 * np.pi), np.radians(tilt_deg) * np.sqrt(rng.uniform(0, 1))
    R = rotation_exp(tilt * np.array([np.cos(azimuth), np.sin(azimuth), 0])) @ rotation_exp(
        [0, 0, rng.uniform(-0.4, 0.4)]
    )
    size = np.ptp(board.points_mm, axis=0)[0]
    z = far * size * camera.fx_px / camera.width_px * rng.uniform(1.3, 2.6)
    x, y = (
        rng.uniform(-spread, spread, 2)
        * z
        * np.array([camera.width_px / camera.fx_px, camera.height_px / camera.fy_px])
    )
    return R, np.array([x, y, z]) - R @ board.points_mm.mean(axis=0)


def views_of(
    rng: Any,
    camera: Pinhole,
    board: Board = CHARUCO,
    count: int = 20,
    *,
    noise_px: float = 0.05,
    bow_mm: float = 0.0,
    **place: float,
) -> list[BoardView]:
    """`count` views with at least twelve corners inside the picture."""
    out: list[BoardView] = []
    mm = board.points_mm.copy()
    half = np.ptp(mm[:, 0]) / 2
    mm[:, 2] = bow_mm * (1 - ((mm[:, 0] - mm[:, 0].mean()) / half) ** 2)
    while len(out) < count:
        R, t = placed(rng, camera, board, **place)
        if (mm @ R.T + t)[:, 2].min() < 20:
            continue
        px = opencv(camera, mm, R, t)
        inside = ((px > 3) & (px < np.array([camera.width_px, camera.height_px]) - 4)).all(axis=1)
        if board.kind == "chessboard" and not inside.all():
            continue
        if inside.sum() < 12:
            continue
        ids = np.flatnonzero(inside)
        cov = np.tile(noise_px**2 * np.eye(2), (len(ids), 1, 1))
        seen = px[inside] + noise_px * rng.standard_normal((len(ids), 2))
        size = (camera.width_px, camera.height_px)
        out.append(BoardView(f"{len(out):02d}.png", ids, seen, cov, size, len(out) * 10**9, 0.8))
    return out
