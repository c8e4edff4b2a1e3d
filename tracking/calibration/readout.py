"""How long a camera takes from its first row to its last, from a board that is moved before it.

A rolling shutter sees row v of a moving board at (v / (h - 1) - 1/2) of the readout time before or after the middle
row. The board's speed is known from the neighbouring pictures, so the shear that it leaves in each picture, once the
board's own pose is eliminated, tells the time that all pictures have in common.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from spatial.faults import Fault
from spatial.rigid import Array, rotation_log
from tracking.calibration.board import Board
from tracking.calibration.board_view import BoardView
from tracking.calibration.camera_file import Calibrated
from tracking.calibration.camera_fit import CameraFit, Pose, resect
from tracking.calibration.lens_model import project
from tracking.calibration.recheck import as_fit

FEWEST = 10
NEIGHBOUR_NS = 120_000_000
LONGEST_S = 0.1
ENOUGH_SD_S = 0.002


class NoReadout(Fault):
    """Pictures that can't tell the readout time: too few, or a board that hardly moved."""


@dataclass(frozen=True)
class Readout:
    """Seconds from the first row to the last with their sd, over so many pictures; `speed_px_s` the median speed.

    `rms_px` before and `corrected_px` after the time was taken into account.
    """

    seconds: float
    sd: float
    pictures: int
    speed_px_s: float
    rms_px: float
    corrected_px: float

    @property
    def rolling(self) -> bool:
        """Whether it is a rolling shutter beyond doubt."""
        return self.seconds > 4 * self.sd

    @property
    def readout_ns(self) -> int:
        """For the camera file: 0 unless the shutter rolls beyond doubt."""
        return round(self.seconds * 1e9) if self.rolling else 0


def measure_readout(camera: Calibrated, views: Sequence[BoardView], board: Board) -> Readout:
    """From views of a moving board in the order of their stamps. Raises NoReadout, NoFit, BadLens."""
    views = sorted(views, key=lambda view: view.t_ns)
    height = camera.pinhole.height_px
    fit = as_fit(camera, views, board)
    seconds, sd, used, speed = 0.0, float("inf"), 0, 0.0
    first_rms = last_rms = float("nan")
    seen = list(views)
    for turn in range(4):
        poses, residuals = resect(seen, board.points_mm, fit)
        twists = _twists(views, poses)
        moving = np.concatenate([np.full(len(v), t is not None) for v, t in zip(views, twists, strict=True)])
        rms = float(np.sqrt((residuals[moving] ** 2).sum(axis=1).mean())) if moving.any() else float("nan")
        first_rms, last_rms = (rms, rms) if turn == 0 else (first_rms, rms)
        used = sum(twist is not None for twist in twists)
        if used < FEWEST:
            raise NoReadout(
                f"{used} of {len(views)} pictures show the board moving with neighbours in time, {FEWEST} are needed; "
                "film the board for some seconds while it is moved to and fro, up and down"
            )
        change, sd, speed = _solve(fit, board, seen, poses, twists, residuals, height)
        if turn and abs(change) < 0.05 * sd:
            break
        seconds += change
        seen = [
            view if twist is None else _as_global(fit, board, view, pose, twist, seconds, height)
            for view, pose, twist in zip(views, poses, twists, strict=True)
        ]
    if sd > ENOUGH_SD_S:
        raise NoReadout(
            f"readout {1e3 * seconds:.1f} ms with an sd of {1e3 * sd:.1f} ms, {1e3 * ENOUGH_SD_S:g} ms is the limit: "
            f"the board moved at {speed:.0f} px a second; move it faster"
        )
    if not -4 * sd <= seconds <= LONGEST_S:
        raise NoReadout(
            f"readout {1e3 * seconds:.1f} ms (sd {1e3 * sd:.1f}) can't be; are the time stamps those of the pictures, "
            "is it this camera's file?"
        )
    return Readout(seconds, sd, used, speed, first_rms, last_rms)


def _twists(views: Sequence[BoardView], poses: Sequence[Pose]) -> list[Array | None]:
    """Velocity (rad/s, mm/s) in the camera's axes at each picture, from its neighbours.

    Central differences over two pictures, of the fourth order over four where these are evenly spaced: a hand that
    shakes is slower in the mean over three pictures than in the middle one.
    """
    out: list[Array | None] = [None] * len(views)
    for k in range(1, len(views) - 1):
        near = _difference(views, poses, k, 1)
        far = _difference(views, poses, k, 2) if 2 <= k < len(views) - 2 else None
        if near is None:
            continue
        steps = np.diff([view.t_ns for view in views[max(k - 2, 0) : k + 3]])
        even = far is not None and steps.max() < 1.2 * steps.min()
        out[k] = (4 * near - far) / 3 if even and far is not None else near
    return out


def _difference(views: Sequence[BoardView], poses: Sequence[Pose], k: int, reach: int) -> Array | None:
    span = views[k + reach].t_ns - views[k - reach].t_ns
    if not 0 < span <= 2 * reach * NEIGHBOUR_NS:
        return None
    (Ra, ta), (Rb, tb) = poses[k - reach], poses[k + reach]
    return np.asarray(np.concatenate([rotation_log(Rb @ Ra.T), tb - ta]) / (span * 1e-9))


def _flow(fit: CameraFit, board: Board, view: BoardView, pose: Pose, twist: Array) -> tuple[Array, Array]:
    """d pixel / d pose (n, 2, 6), and how fast each corner moves (n, 2) px/s."""
    R, t = pose
    turned = board.points_mm[view.ids] @ R.T
    _, by_point, _ = project(fit.model, fit.parameters, turned + t)
    by_pose = np.concatenate([np.cross(turned[:, None, :], by_point), by_point], axis=2)
    return by_pose, by_pose @ twist


def _solve(
    fit: CameraFit,
    board: Board,
    seen: Sequence[BoardView],
    poses: Sequence[Pose],
    twists: Sequence[Array | None],
    residuals: Array,
    height: int,
) -> tuple[float, float, float]:
    """The readout's change, its sd, and the median speed px/s; each picture's own pose is free beside it."""
    information = gradient = 0.0
    squares: list[Array] = []
    speeds: list[float] = []
    row = 0
    for view, pose, twist in zip(seen, poses, twists, strict=True):
        mine = residuals[row : row + len(view)]
        row += len(view)
        if twist is None:
            continue
        by_pose, flow = _flow(fit, board, view, pose, twist)
        late = view.corners_px[:, 1] / (height - 1) - 0.5
        root = np.linalg.inv(np.linalg.cholesky(view.covariance_px2 + fit.excess_px**2 * np.eye(2)))
        P = (root @ by_pose).reshape(-1, 6)
        s = np.einsum("nij,nj->ni", root, flow * late[:, None]).ravel()
        r = np.einsum("nij,nj->ni", root, mine).ravel()
        s = s - P @ np.linalg.lstsq(P, s, rcond=None)[0]
        weight = 1 / (1 + r**2 / 36 / max(1.0, float(np.median(r**2)) / 0.455)) ** 2
        information += float((weight * s * s).sum())
        gradient += float((weight * s * r).sum())
        squares.append(weight * r**2)
        speeds.append(float(np.median(np.linalg.norm(flow, axis=1))))
    if information <= 0:
        return 0.0, float("inf"), 0.0
    chi = max(1.0, float(np.concatenate(squares).mean()))
    return gradient / information, float(np.sqrt(chi / information)), float(np.median(speeds))


def _as_global(
    fit: CameraFit, board: Board, view: BoardView, pose: Pose, twist: Array, seconds: float, height: int
) -> BoardView:
    """The view as a shutter that does not roll would have seen it."""
    _, flow = _flow(fit, board, view, pose, twist)
    late = (view.corners_px[:, 1] / (height - 1) - 0.5) * seconds
    return replace(view, corners_px=view.corners_px - flow * late[:, None])
