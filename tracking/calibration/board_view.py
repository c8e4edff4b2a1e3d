"""A calibration board in one picture: which of its inner corners, where, and how well each place is known.

OpenCV finds a chessboard, our own marker detector a ChArUco's markers; the corners themselves are then fitted to the
pixels (tracking/detection/saddle). A picture without a usable board is a reason, not an error.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from spatial.pinhole import Pinhole
from spatial.rigid import Array
from tracking.calibration.board import Board
from tracking.detection.markers import Detections, detect, grey
from tracking.detection.saddle import fit_saddles

SEARCH_PX = 1000.0  # a larger picture is made smaller to find a chessboard in it
FEWEST = 6


@dataclass(frozen=True, eq=False)
class BoardView:
    """`ids` (N,) of the board's corners seen in the picture `name`, taken at `t_ns`, `size_px` (width, height).

    `corners_px` (N, 2), pixel centres at integers; `covariance_px2` (N, 2, 2); `blur_px`: the median blur of the
    edges there, as the sd of a Gaussian. `marker_share`: how large a ChArUco's markers are, of a square's edge.
    """

    name: str
    ids: NDArray[np.int64]
    corners_px: Array
    covariance_px2: Array
    size_px: tuple[int, int]
    t_ns: int = 0
    blur_px: float = float("nan")
    marker_share: float = float("nan")

    def __len__(self) -> int:
        """How many corners."""
        return len(self.ids)


@dataclass(frozen=True)
class NoBoard:
    """Why a picture shows no board that can be used; `markers` are those of its dictionary that were seen even so."""

    name: str
    reason: str
    markers: tuple[int, ...] = field(default=())


def find_board(
    picture: NDArray[np.uint8], board: Board, *, name: str = "", t_ns: int = 0, pinhole: Pinhole | None = None
) -> BoardView | NoBoard:
    """Look for `board` in a raw picture, grey or RGB; `pinhole`, where known, only steadies the search."""
    luma = grey(picture)
    share = float("nan")
    if board.kind == "chessboard":
        found = _chessboard(luma, board)
        if isinstance(found, str):
            return NoBoard(name, found)
        ids, coarse = np.arange(len(found)), found
        reach = np.inf
    else:
        seen = detect(picture, board.dictionary, pinhole)
        markers = tuple(sorted(set(seen.ids.tolist())))
        guess = _by_markers(seen, board)
        if isinstance(guess, str):
            return NoBoard(name, guess, markers)
        ids, coarse, share = guess
        reach = 0.5 * (board.square_mm - board.marker_mm) / board.square_mm * np.sqrt(2) * 0.9
    directions = _edges(ids, coarse, board)
    if directions is None:
        return NoBoard(name, f"the {len(ids)} corners seen lie in a line")
    edges, pitch_px = directions
    fit = fit_saddles(luma, coarse, edges, np.minimum(0.4, reach) * pitch_px)
    good = fit.fitted & (np.trace(fit.covariance_px2, axis1=1, axis2=2) < 2.0)
    if board.kind == "chessboard" and good.mean() < 0.5:
        return NoBoard(name, f"only {int(good.sum())} of {len(ids)} corners are sharp enough to be fitted")
    if good.sum() < FEWEST or np.ptp(ids[good] % board.across[0]) < 1 or np.ptp(ids[good] // board.across[0]) < 1:
        return NoBoard(
            name, f"{int(good.sum())} of {len(board.points_mm)} corners seen, {FEWEST} in two rows are needed"
        )
    return BoardView(
        name,
        ids[good],
        fit.corners_px[good],
        fit.covariance_px2[good],
        (luma.shape[1], luma.shape[0]),
        t_ns,
        float(np.median(fit.blur_px[good])),
        share,
    )


def _chessboard(luma: NDArray[np.uint8], board: Board) -> Array | str:
    """Corners (N, 2) row by row, or why there are none."""
    factor = min(1.0, SEARCH_PX / max(luma.shape))
    small = luma if factor == 1 else cv2.resize(luma, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    flags = cv2.CALIB_CB_ADAPTIVE_THRESH | cv2.CALIB_CB_NORMALIZE_IMAGE
    done, corners = cv2.findChessboardCorners(small, board.across, flags=flags | cv2.CALIB_CB_FAST_CHECK)
    if not done:
        done, corners = cv2.findChessboardCornersSB(small, board.across, flags=cv2.CALIB_CB_NORMALIZE_IMAGE)
    if not done:
        return f"no chessboard of {board.columns} x {board.rows} inner corners, seen whole and sharp"
    found = (np.asarray(corners, dtype=np.float64).reshape(-1, 2) + 0.5) / factor - 0.5
    nx, ny = board.across
    grid = found.reshape(ny, nx, 2)
    right, down = grid[0, -1] - grid[0, 0], grid[-1, 0] - grid[0, 0]
    if right[0] * down[1] - right[1] * down[0] < 0:  # seen from behind: OpenCV counted from the wrong side
        found = grid[:, ::-1].reshape(-1, 2)
    return np.asarray(found)


def _by_markers(seen: Detections, board: Board) -> tuple[NDArray[np.int64], Array, float] | str:
    """A ChArUco's corners (ids, rough px) from the markers beside them and the markers' share of a square."""
    known = board.markers_mm
    where = {marker: k for marker, k in seen.by_id().items() if marker in known}
    if len(where) < 3:
        return f"{len(where)} of {len(known)} markers seen, 3 are needed"
    mm = {marker: known[marker][:, :2] for marker in where}
    px = {marker: seen.corners_px[k] for marker, k in where.items()}
    agree = _neighbours_agree(list(where), mm, px, board)
    if agree.mean() < 0.6:
        return (
            f"the {len(where)} markers seen do not lie as on a board of {board.columns} x {board.rows} squares; "
            "is it another one (columns and rows swapped?), or OpenCV's pattern before 4.6 (add ,legacy)?"
        )
    use = [m for m, good in zip(where, agree, strict=True) if good]
    centres_mm = np.array([mm[m].mean(axis=0) for m in use])
    ids, coarse = [], []
    for corner, point in enumerate(board.points_mm[:, :2]):
        far = np.linalg.norm(centres_mm - point, axis=1)
        near = [use[k] for k in np.argsort(far)[:2] if far[k] < 0.75 * board.square_mm]
        if not near:
            continue
        local, _ = cv2.findHomography(np.concatenate([mm[m] for m in near]), np.concatenate([px[m] for m in near]))
        if local is None:
            continue
        q = local @ np.array([*point, 1.0])
        ids.append(corner)
        coarse.append(q[:2] / q[2])
    across = board.across[0]
    if len(ids) < FEWEST or not np.ptp(np.array(ids) % across) or not np.ptp(np.array(ids) // across):
        return f"{len(use)} of {len(known)} markers seen, too few side by side for {FEWEST} corners in two rows"
    return np.array(ids), np.array(coarse), _share([(mm[m], px[m]) for m in use], board)


def _neighbours_agree(
    markers: list[int], mm: dict[int, Array], px: dict[int, Array], board: Board
) -> NDArray[np.bool_]:
    """Whether each marker's neighbours lie where it says (to 0.4 squares): true of any lens, however much it bends."""
    centres_mm = np.array([mm[m].mean(axis=0) for m in markers])
    centres_px = np.array([px[m].mean(axis=0) for m in markers])
    votes = np.zeros((len(markers), 2), dtype=np.int64)
    for k, marker in enumerate(markers):
        near = np.flatnonzero(np.linalg.norm(centres_mm - centres_mm[k], axis=1) < 1.6 * board.square_mm)
        near = near[near != k]
        sides_mm, sides_px = mm[marker] - centres_mm[k], px[marker] - centres_px[k]
        turn = np.linalg.lstsq(sides_mm, sides_px, rcond=None)[0]
        off = np.linalg.norm(centres_px[near] - centres_px[k] - (centres_mm[near] - centres_mm[k]) @ turn, axis=1)
        good = off < 0.4 * np.sqrt(abs(float(np.linalg.det(turn)))) * board.square_mm
        np.add.at(votes[:, 0], near, good)
        np.add.at(votes[:, 1], near, 1)
    return np.asarray((votes[:, 1] > 0) & (2 * votes[:, 0] >= votes[:, 1]))


def _share(markers: list[tuple[Array, Array]], board: Board) -> float:
    """How large the markers are, of a square's edge, by their distances from their neighbours; NaN without any.

    The mean of what two neighbours make of the way between them is right to the third order, whatever the lens.
    """
    turns = [np.linalg.lstsq(mm - mm.mean(axis=0), px - px.mean(axis=0), rcond=None)[0] for mm, px in markers]
    middles = [(mm.mean(axis=0), px.mean(axis=0)) for mm, px in markers]
    ratios = []
    for i, (mm, px) in enumerate(middles):
        for j in range(i):
            apart = middles[j][0] - mm
            if np.linalg.norm(apart) < 1.6 * board.square_mm:
                said = apart @ (turns[i] + turns[j]) / 2
                ratios.append(float(np.linalg.norm(middles[j][1] - px) / np.linalg.norm(said)))
    return board.marker_mm / board.square_mm / float(np.median(ratios)) if ratios else float("nan")


def _edges(ids: NDArray[np.int64], coarse: Array, board: Board) -> tuple[Array, Array] | None:
    """Directions (N, 2, 2) of the squares' edges through each corner and the shorter edge (N,) px, from neighbours.

    None where the corners span no plane.
    """
    nx, ny = board.across
    grid = np.full((ny + 2, nx + 2, 2), np.nan)
    grid[1 + ids // nx, 1 + ids % nx] = coarse
    H, _ = cv2.findHomography(board.points_mm[ids, :2], coarse)
    if H is None:
        return None
    along = np.empty((len(ids), 2, 2))
    pitch = np.empty((len(ids), 2))
    for k, (row, column) in enumerate(zip(1 + ids // nx, 1 + ids % nx, strict=True)):
        for axis, (dr, dc) in enumerate(((0, 1), (1, 0))):
            ahead, behind = grid[row + dr, column + dc] - coarse[k], coarse[k] - grid[row - dr, column - dc]
            known = [step for step in (ahead, behind) if np.isfinite(step).all()]
            if not known:
                point = np.array([*board.points_mm[ids[k], :2], 1.0])
                q, to = H @ point, H @ (point + board.square_mm * np.array([dc, dr, 0.0]))
                known = [to[:2] / to[2] - q[:2] / q[2]]
            step = np.mean(known, axis=0)
            pitch[k, axis] = max(min(float(np.linalg.norm(s)) for s in known), 1e-6)
            along[k, axis] = step / max(float(np.linalg.norm(step)), 1e-9)
    return along, pitch.min(axis=1)
