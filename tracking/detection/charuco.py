"""ChArUco diamonds: three by three squares with a marker in each of the four white ones.

Four markers that stand as a diamond's do, none of them with another's orientation, name it; its place are the four
corners of the middle square, fitted to the pixels as a chessboard's corners are (tracking/detection/saddle). A corner
that is covered is not invented: the diamond is left out. Boards of more squares: tracking/calibration/board_view.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from spatial.rigid import Array
from tracking.detection.markers import Detections
from tracking.detection.saddle import fit_saddles

SQUARES = (1.1, 3.5)  # how large a square may be, in markers
OFF = 0.3  # of a square: how far a marker may stand from its place, as its neighbour's perspective foretells it
MOST_MISFIT = 0.06  # of a square: how far the markers' corners may lie off one plane
PLACES = np.array([[0.0, -1.0], [-1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])  # top, left, right, bottom, in squares
MIDDLE = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])
UNIT = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])


@dataclass(frozen=True, eq=False)
class Diamond:
    """`ids`: its markers at the top, left, right and bottom, as OpenCV counts them.

    `corners_px` (4, 2) of the middle square from the top left, clockwise, `covariance_px2` (4, 2, 2). `square` is the
    edge of a square in markers' edges.
    """

    ids: tuple[int, int, int, int]
    corners_px: Array
    covariance_px2: Array
    square: float

    @property
    def name(self) -> str:
        """As in `diamond:10-4-11-12`."""
        return "diamond:" + "-".join(map(str, self.ids))


def find_diamonds(luma: NDArray[np.uint8], seen: Detections) -> list[Diamond]:
    """The diamonds that the markers of a grey picture make; an id may stand in several of them."""
    out = []
    used: set[int] = set()
    for top in range(len(seen)):
        if top in used:
            continue
        four = _four(seen.corners_px, top, used)
        if four is None:
            continue
        diamond = _fitted(luma, seen, four)
        if diamond is not None:
            out.append(diamond)
            used |= set(four)
    return sorted(out, key=lambda d: d.ids)


def as_detections(diamonds: list[Diamond], numbers: dict[tuple[int, int, int, int], int]) -> Detections:
    """Diamonds as if each were one marker, with the number that its ids have in `numbers`."""
    n = len(diamonds)
    whitening = np.zeros((n, 8, 8))
    for k, diamond in enumerate(diamonds):
        for corner, root in enumerate(np.linalg.inv(np.linalg.cholesky(diamond.covariance_px2))):
            whitening[k, 2 * corner : 2 * corner + 2, 2 * corner : 2 * corner + 2] = root
    return Detections(
        "diamonds",
        np.array([numbers[d.ids] for d in diamonds], dtype=np.int64),
        np.array([d.corners_px for d in diamonds]).reshape(-1, 4, 2),
        whitening,
        ("SADDLES",) * n,
        np.zeros(n),
    )


def _four(corners_px: Array, top: int, used: set[int]) -> tuple[int, int, int, int] | None:
    """The markers to the left, the right and the bottom of a diamond's top one, all turned as it is."""
    from_px = cv2.getPerspectiveTransform(corners_px[top].astype(np.float32), UNIT.astype(np.float32))
    seen = cv2.perspectiveTransform(corners_px.reshape(1, -1, 2), from_px).reshape(-1, 4, 2)
    depth = np.concatenate([corners_px, np.ones((*corners_px.shape[:2], 1))], axis=2) @ from_px[2]
    before = (depth * depth[top, 0] > 0).all(axis=1)  # beyond the horizon of the top marker nothing is meant
    centres = seen.mean(axis=1)
    upright = (seen[:, 1] - seen[:, 0])[:, 0] > 0.5 * np.abs(seen[:, 1] - seen[:, 0])[:, 1]
    free = [k for k in range(len(seen)) if k != top and k not in used and before[k] and upright[k]]
    for bottom in free:
        x, y = centres[bottom]
        square = y / 2
        if not SQUARES[0] < square < SQUARES[1] or abs(x) > 2 * OFF * square:
            continue
        sides = []
        for place in ((-1.0, 1.0), (1.0, 1.0)):
            off = np.array([np.abs(centres[k] - square * np.array(place)).max() for k in free])
            sides.append(free[int(off.argmin())] if off.min() < OFF * square else -1)
        left, right = sides
        if min(sides) >= 0 and len({left, right, bottom}) == 3:
            return top, left, right, bottom
    return None


def _fitted(luma: NDArray[np.uint8], seen: Detections, four: tuple[int, int, int, int]) -> Diamond | None:
    """The middle square's corners; None where one of them is not seen."""
    px = seen.corners_px[list(four)].reshape(-1, 2)

    def plane(square: float) -> tuple[float, Array]:
        flat = (square * PLACES[:, None] + UNIT).reshape(-1, 2) / square  # in squares
        H, _ = cv2.findHomography(flat, px)
        if H is None:
            return np.inf, np.eye(3)
        back = cv2.perspectiveTransform(px[None], np.linalg.inv(H))[0]
        return float(np.sqrt(((back - flat) ** 2).sum(axis=1).mean())), H

    low, high = SQUARES
    for _ in range(40):  # the misfit has one minimum over the squares' size
        a, b = low + 0.382 * (high - low), low + 0.618 * (high - low)
        low, high = (low, b) if plane(a)[0] < plane(b)[0] else (a, high)
    square = (low + high) / 2
    misfit, H = plane(square)
    if misfit > MOST_MISFIT:
        return None
    at = np.concatenate([MIDDLE + 0.05 * np.array(step) for step in ((0, 0), (1, 0), (0, 1))])
    coarse, right, down = cv2.perspectiveTransform(at[None], H)[0].reshape(3, 4, 2)
    edges = np.stack([right - coarse, down - coarse], axis=1)
    pitch = np.linalg.norm(edges, axis=2) / 0.05
    edges = edges / np.linalg.norm(edges, axis=2, keepdims=True)
    gap = 0.5 * (square - 1) / square * np.sqrt(2) * 0.9  # to the nearest marker's corner, in squares
    fit = fit_saddles(luma, coarse, edges, min(0.4, gap) * pitch.min(axis=1))
    if not fit.fitted.all():
        return None
    ids = seen.ids[list(four)].tolist()
    return Diamond((ids[0], ids[1], ids[2], ids[3]), fit.corners_px, fit.covariance_px2, square)
