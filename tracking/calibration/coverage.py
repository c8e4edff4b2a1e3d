"""Where in the picture, how tilted and how far the board has been seen; what is missing, in words; the next best view.

The picture is a grid of cells. A tilt is the angle between the board and the picture's plane (boards parallel to it say
nothing of the focal length); its direction is the side of the board that is nearer to the camera. The next best view is
the candidate whose corners, if they were added, would lower the mean squared pose error over the working volume most
(A-optimal design; Pukelsheim 2006).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from spatial.frames import Camera
from spatial.pinhole import BadLens
from spatial.rigid import Array, Points, rotation_exp
from tracking.calibration.board import Board
from tracking.calibration.board_view import BoardView
from tracking.calibration.camera_fit import CameraFit, Pose
from tracking.calibration.lens_model import project
from tracking.calibration.predicted import Foresight

CELLS = (8, 6)  # across, down
TILTED_DEG = 18.0
SIDES = ("left", "right", "top", "bottom")
DEPTHS = 1.35  # the farthest board at least so many times as far as the nearest


@dataclass(frozen=True, eq=False)
class Coverage:
    """`cells` (6, 8): corners seen in each part of the picture. A view: `tilts_deg`, `nearer` (its side), `far_mm`.

    `spread_deg`: the largest angle between any two boards.
    """

    cells: NDArray[np.int64]
    tilts_deg: Array
    spread_deg: float
    nearer: tuple[str, ...]
    far_mm: Array

    @property
    def share(self) -> float:
        """Share of the picture's cells in which a corner was seen."""
        return float((self.cells > 0).mean())

    def missing(self) -> tuple[str, ...]:
        """What to photograph next, in words; empty when nothing is missing."""
        out = []
        empty = [name for name, part in _regions(self.cells).items() if (part > 0).mean() < 0.4]
        if empty:
            out.append(f"the board was hardly seen {_list(empty)} of the picture")
        tilted = [side for side, tilt in zip(self.nearer, self.tilts_deg, strict=True) if tilt >= TILTED_DEG]
        lacking = [side for side in SIDES if side not in tilted]
        if lacking:
            turns = _list([f"with its {side} edge" for side in lacking])
            out.append(f"tilt the board by 30 to 45 degrees, {turns} nearer to the camera")
        if len(self.far_mm) and self.far_mm.max() < DEPTHS * self.far_mm.min():
            out.append("hold the board at several distances: so that it fills the picture, and from twice as far")
        return tuple(out)

    def to_json(self) -> dict[str, object]:
        """For `--json`."""
        return {
            "cells": self.cells.tolist(),
            "share": self.share,
            "spread_deg": round(self.spread_deg, 2),
            "tilts_deg": [round(float(t), 2) for t in self.tilts_deg],
            "nearer": list(self.nearer),
            "far_mm": [round(float(d), 1) for d in self.far_mm],
            "missing": list(self.missing()),
        }


def coverage(views: Sequence[BoardView], poses: Sequence[Pose], board: Board, size_px: tuple[int, int]) -> Coverage:
    """Of views with their poses (R, t) of camera_from_board."""
    cells = np.zeros((CELLS[1], CELLS[0]), dtype=np.int64)
    for view in views:
        place = np.clip(view.corners_px / size_px * CELLS, 0, np.array(CELLS) - 1).astype(int)
        np.add.at(cells, (place[:, 1], place[:, 0]), 1)
    middle = board.points_mm.mean(axis=0)
    tilts, nearer, far = [], [], []
    for R, t in poses:
        tilts.append(np.degrees(np.arccos(np.clip(R[2, 2], -1, 1))))
        nearer.append(_nearer(R))
        far.append(float(np.linalg.norm(R @ middle + t)))
    normals = np.array([R[:, 2] for R, _ in poses]).reshape(-1, 3)
    apart = np.degrees(np.arccos(np.clip(normals @ normals.T, -1, 1)))
    return Coverage(cells, np.array(tilts), float(apart.max(initial=0.0)), tuple(nearer), np.array(far))


def next_view(fit: CameraFit, board: Board, foresight: Foresight, size_px: tuple[int, int]) -> tuple[str, float]:
    """The most useful further picture in words, and the mean pose error with it over the one without it."""
    now = float(np.trace(foresight.criterion @ fit.covariance))
    information = np.linalg.inv(fit.covariance)
    noise_px = max(float(np.sqrt(fit.excess_px**2 + np.median(np.linalg.eigvalsh(fit.stack.covariance)))), 1e-3)
    best, words = now, "any further picture"
    for spot, (side, turn), near in product(_spots(), _turns(), (0.85, 0.5)):
        pose = _stand(fit, board, size_px, spot[1], turn, near)
        gained = None if pose is None else _information(fit, board, pose, size_px, noise_px)
        if gained is None:
            continue
        after = float(np.trace(foresight.criterion @ np.linalg.inv(information + gained)))
        if after < best:
            best = after
            tilt = "square to the camera" if side == "" else f"tilted by 40 degrees with its {side} edge nearer"
            size = "large" if near > 0.7 else "half as large"
            words = f"the board {size} {spot[0]} of the picture, {tilt}"
    return words, float(np.sqrt(best / now))


def _regions(cells: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
    rows, columns = np.array_split(np.arange(CELLS[1]), 3), np.array_split(np.arange(CELLS[0]), 3)
    names = (("at the top left", "at the top", "at the top right"), ("at the left", "in the middle", "at the right"),
             ("at the bottom left", "at the bottom", "at the bottom right"))  # fmt: skip
    return {names[i][j]: cells[np.ix_(rows[i], columns[j])] for i in range(3) for j in range(3)}


def _list(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _nearer(R: Array) -> str:
    """Which edge of the board, as the picture shows it, is nearer: its normal leans toward the other side."""
    if abs(R[0, 2]) > abs(R[1, 2]):
        return "left" if R[0, 2] < 0 else "right"
    return "top" if R[1, 2] < 0 else "bottom"


def _spots() -> tuple[tuple[str, tuple[float, float]], ...]:
    return (
        ("in the middle", (0.5, 0.5)), ("at the top left", (0.27, 0.27)), ("at the top right", (0.73, 0.27)),
        ("at the bottom left", (0.27, 0.73)), ("at the bottom right", (0.73, 0.73)),
    )  # fmt: skip


def _turns() -> tuple[tuple[str, Array], ...]:
    a = np.radians(40.0)
    turns = (("", (0, 0)), ("left", (0, -a)), ("right", (0, a)), ("top", (a, 0)), ("bottom", (-a, 0)))
    return tuple((side, np.array([x, y, 0.0])) for side, (x, y) in turns)


def _stand(
    fit: CameraFit, board: Board, size_px: tuple[int, int], spot: tuple[float, float], turn: Array, near: float
) -> Pose | None:
    """The board around a spot of the picture, so large that it would fill the share `near` of the picture's height."""
    extent = np.ptp(board.points_mm, axis=0)
    focal = np.array([fit.pinhole.fx_px, fit.pinhole.fy_px])
    z = float((extent[:2] * focal / (near * np.array(size_px))).max())
    try:
        ray = fit.pinhole.normalised(np.array(spot) * size_px)
    except BadLens:
        return None
    R = rotation_exp(turn)
    return R, z * np.array([*ray, 1.0]) - R @ board.points_mm.mean(axis=0)


def _information(fit: CameraFit, board: Board, pose: Pose, size_px: tuple[int, int], noise_px: float) -> Array | None:
    """What a view would add to the lens' normal matrix, its own pose eliminated; None when too little is in sight."""
    R, t = pose
    turned = (board.points_mm + fit.offsets_mm) @ R.T
    if (turned + t)[:, 2].min() < 10:
        return None
    seen = fit.pinhole.project(Points[Camera](turned + t))
    inside = ((seen > 4) & (seen < np.array(size_px) - 5)).all(axis=1)
    if inside.sum() < (len(seen) if board.kind == "chessboard" else 8):
        return None
    _, by_point, by_lens = project(fit.model, fit.parameters, (turned + t)[inside])
    P = np.concatenate([np.cross(turned[inside][:, None, :], by_point), by_point], axis=2).reshape(-1, 6) / noise_px
    L = by_lens.reshape(len(P), -1) / noise_px
    return np.asarray(L.T @ L - L.T @ P @ np.linalg.solve(P.T @ P, P.T @ L))
