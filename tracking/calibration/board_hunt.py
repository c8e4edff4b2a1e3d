"""When pictures don't show the board that was named: which one do they show?"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from tracking.calibration.board import Board
from tracking.calibration.board_view import BoardView
from tracking.detection.markers import detect, grey

FAMILIES = (  # the largest of each: the smaller ones are its beginning
    "DICT_4X4_1000", "DICT_5X5_1000", "DICT_6X6_1000", "DICT_7X7_1000", "DICT_ARUCO_ORIGINAL", "DICT_APRILTAG_16h5",
    "DICT_APRILTAG_25h9", "DICT_APRILTAG_36h11", "DICT_ARUCO_MIP_36h12",
)  # fmt: skip
SHARE_LIMIT = 0.04  # a marker's edge measured against its square: print and fit are good for a per cent


def another_board(pictures: Sequence[NDArray[np.uint8]], board: Board) -> str | None:
    """What a few of the pictures show instead, in words; None when nothing is recognised."""
    for picture in pictures:
        words = _other_chessboard(picture, board) if board.kind == "chessboard" else _other_charuco(picture, board)
        if words is not None:
            return words
    return None


def marker_share(views: Sequence[BoardView], board: Board) -> str | None:
    """Words when a ChArUco's markers are not as large, against their squares, as the board says."""
    if board.kind != "charuco":
        return None
    measured = [view.marker_share for view in views if np.isfinite(view.marker_share)]
    if len(measured) < 3:
        return None
    share, said = float(np.median(measured)), board.marker_mm / board.square_mm
    if abs(share / said - 1) < SHARE_LIMIT:
        return None
    return (
        f"the markers' edge is {share:.3f} of a square's in the pictures, {board.marker_mm:g} mm of "
        f"{board.square_mm:g} mm are {said:.3f}; measure both on the print"
    )


def _other_chessboard(picture: NDArray[np.uint8], board: Board) -> str | None:
    luma = grey(picture)
    factor = min(1.0, 640 / luma.shape[1])
    small = cv2.resize(luma, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    columns, rows = board.columns, board.rows
    steps = (0, -1, 1, -2, 2)
    sizes = {(columns + i, rows + j) for i in steps for j in steps} | {(9, 6), (8, 6), (7, 5), (11, 8)}
    flags = cv2.CALIB_CB_ADAPTIVE_THRESH | cv2.CALIB_CB_NORMALIZE_IMAGE | cv2.CALIB_CB_FAST_CHECK
    for across in sorted(sizes, key=lambda size: -size[0] * size[1]):  # large ones first: a part of a board is one too
        if min(across) < 3 or sorted(across) == sorted((columns, rows)):
            continue
        found, _ = cv2.findChessboardCorners(small, across, flags=flags)
        if found:
            counted = " (inner corners are counted, not squares)" if across == (columns - 1, rows - 1) else ""
            return f"a chessboard of {across[0]} x {across[1]} inner corners is in sight{counted}"
    return None


def _other_charuco(picture: NDArray[np.uint8], board: Board) -> str | None:
    own = set(detect(picture, board.dictionary).ids.tolist())
    most = board.columns * board.rows // 2 - 1
    beyond = sorted(marker for marker in own if marker > most)
    if len(own) >= 4 and len(beyond) >= 2:
        return (
            f"markers up to {beyond[-1]} of {board.dictionary} are in sight; "
            f"a board of {board.columns} x {board.rows} squares bears 0 to {most}"
        )
    turned = detect(np.ascontiguousarray(picture[:, ::-1]), board.dictionary).ids.tolist()
    if len(set(turned)) > max(3, 2 * len(own)):
        return f"{len(set(turned))} markers of {board.dictionary} are in sight as in a mirror; is the picture mirrored?"
    best: tuple[int, str] = (max(3, 2 * len(own)), "")
    family = board.dictionary.rpartition("_")[0]
    for name in FAMILIES:
        if name == board.dictionary or (family != "DICT" and name.startswith(family)):
            continue
        ids = detect(picture, name).ids.tolist()
        if len(set(ids)) == len(ids) and len(ids) > best[0]:
            best = (len(ids), name)
    if best[1]:
        like = best[1].replace("_1000", "_50 to _1000")
        return f"{best[0]} markers of {like} are in sight, not of {board.dictionary}"
    return None
