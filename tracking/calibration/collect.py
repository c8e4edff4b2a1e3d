"""Pictures of a board for a calibration: all of a folder, those of a stream that are still, sharp and new."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from spatial.pinhole import Pinhole
from tracking.calibration.board import Board
from tracking.calibration.board_view import BoardView, NoBoard, find_board
from tracking.calibration.camera_file import require_resolution
from tracking.frame import Frame, FrameSource, Stopped
from tracking.sources.folder import FolderSource

STILL_SHARE = 0.03  # of the picture's width a second: a rolling shutter of 20 ms then bends the board by 0.06 %
BLUR_PX = 2.2
NEW_SHARE = 0.045  # of the picture's width: corners have moved by so much (RMS) since every picture that was kept
EVERY_NS = 66_000_000  # a moving picture is looked at 15 times a second
MOST = 60
Watch = Callable[[Frame, "Offer", "Picker"], bool]


@dataclass(frozen=True, eq=False)
class Offer:
    """What became of a picture: `taken`, and why or why not in words; `view` where the board was found."""

    taken: bool
    words: str
    view: BoardView | None = None


@dataclass
class Picker:
    """Chooses from a stream; `kept` are the views, `found` those and the refusals that a report tells of."""

    board: Board
    most: int = MOST
    kept: list[BoardView] = field(default_factory=list)
    samples: list[NDArray[np.uint8]] = field(default_factory=list)
    looked_at: int = 0
    turned_down: dict[str, int] = field(default_factory=dict)
    _before: BoardView | None = None
    _seen_ns: int | None = None

    def offer(self, frame: Frame) -> Offer | None:
        """Look at a picture; None for one that comes too soon after the last."""
        if frame.repeated or (self._seen_ns is not None and frame.t_ns - self._seen_ns < EVERY_NS):
            return None
        self._seen_ns = frame.t_ns
        self.looked_at += 1
        view = find_board(frame.picture, self.board, name=f"picture {frame.index}", t_ns=frame.t_ns)
        before, self._before = self._before, view if isinstance(view, BoardView) else None
        if isinstance(view, NoBoard):
            if len(self.samples) < 3 and self.looked_at % 10 == 1:
                self.samples.append(frame.picture)
            return self._no("no board", view.reason)
        if view.blur_px > BLUR_PX:
            return self._no("blurred", "blurred: hold still, give more light, or focus", view)
        speed = _speed(before, view)
        if speed is None or speed > STILL_SHARE * view.size_px[0]:
            return self._no("moving", "hold still", view)
        if any(_near(view, other) for other in self.kept):
            return self._no("seen already", "seen already: move or tilt the board", view)
        self.kept.append(view)
        return Offer(True, f"taken ({len(self.kept)})", view)

    @property
    def full(self) -> bool:
        """Whether more pictures would only cost time."""
        return len(self.kept) >= self.most

    def _no(self, kind: str, words: str, view: BoardView | None = None) -> Offer:
        self.turned_down[kind] = self.turned_down.get(kind, 0) + 1
        return Offer(False, words, view)


@dataclass(frozen=True, eq=False)
class Collected:
    """Views and pictures without one, a few of those pictures themselves, and how a stream was picked from."""

    found: tuple[BoardView | NoBoard, ...]
    samples: tuple[NDArray[np.uint8], ...]
    looked_at: int
    turned_down: dict[str, int]


def collect(
    source: FrameSource,
    board: Board,
    *,
    most: int = MOST,
    progress: Callable[[str, float], None] | None = None,
    watch: Watch | None = None,
) -> Collected:
    """Look through a source; `watch` sees every picture that was looked at and may end it by returning True."""
    if isinstance(source, FolderSource):
        return _folder(source, board, progress)
    picker = Picker(board, most)
    for frame in source:
        offer = picker.offer(frame)
        if offer is None:
            continue
        if progress is not None and offer.taken:
            progress(f"{len(picker.kept)} pictures taken", min(1.0, len(picker.kept) / most))
        if (watch is not None and watch(frame, offer, picker)) or picker.full:
            break
    return Collected(tuple(picker.kept), tuple(picker.samples), picker.looked_at, picker.turned_down)


def collect_rig(
    instants: Iterable[Sequence[Frame | None] | Stopped],
    board: Board,
    lenses: Sequence[Pinhole],
    *,
    most: int = MOST,
    told: Callable[[str], None] | None = None,
) -> list[dict[int, BoardView]]:
    """From live cameras: instants at which the board is still and new to the first camera and seen by another.

    Views by the camera's number. Raises WrongResolution.
    """
    picker, shots = Picker(board, most), list[dict[int, BoardView]]()
    last = ""
    for instant in instants:
        words = None
        if isinstance(instant, Stopped):
            words = instant.reason
        elif (first := instant[0]) is not None and (offer := picker.offer(first)) is not None:
            words = offer.words
            if offer.taken:
                views = _views(instant, board, lenses)
                if len(views) > 1:
                    shots.append(views)
                    words = f"taken ({len(shots)}), seen by {len(views)} cameras"
                else:
                    picker.kept.pop()  # it would keep a better instant from being new
                    words = "seen by one camera alone: hold the board where the pictures overlap"
        if told is not None and words is not None and words != last:
            told(words)
        last = words or last
        if len(shots) >= most:
            break
    return shots


def _views(instant: Sequence[Frame | None], board: Board, lenses: Sequence[Pinhole]) -> dict[int, BoardView]:
    """What each camera sees of the board."""
    out = {}
    for camera, (frame, pinhole) in enumerate(zip(instant, lenses, strict=True)):
        if frame is not None:
            require_resolution(frame.picture, pinhole)
            view = find_board(frame.picture, board, name=f"picture {frame.index}", t_ns=frame.t_ns, pinhole=pinhole)
            if isinstance(view, BoardView):
                out[camera] = view
    return out


def _folder(source: FolderSource, board: Board, progress: Callable[[str, float], None] | None) -> Collected:
    found: list[BoardView | NoBoard] = []
    samples: list[NDArray[np.uint8]] = []
    for frame in source:
        name = source.files[frame.index].name
        if progress is not None:
            progress(f"looking for the board in {name}", frame.index / len(source.files))
        view = find_board(frame.picture, board, name=name, t_ns=frame.t_ns)
        found.append(view)
        if isinstance(view, NoBoard) and len(samples) < 3:
            samples.append(frame.picture)
    return Collected(tuple(found), tuple(samples), len(found), {})


def _speed(before: BoardView | None, view: BoardView) -> float | None:
    """How fast the corners move, px a second; None without a picture before."""
    if before is None or view.t_ns <= before.t_ns:
        return None
    shared, a, b = np.intersect1d(before.ids, view.ids, return_indices=True)
    if len(shared) < 4:
        return None
    moved = np.linalg.norm(view.corners_px[b] - before.corners_px[a], axis=1)
    return float(np.median(moved)) / ((view.t_ns - before.t_ns) * 1e-9)


def _near(view: BoardView, other: BoardView) -> bool:
    shared, a, b = np.intersect1d(view.ids, other.ids, return_indices=True)
    if len(shared) < 0.6 * max(len(view), len(other)):
        return False
    moved = view.corners_px[a] - other.corners_px[b]
    return float(np.sqrt((moved**2).sum(axis=1).mean())) < NEW_SHARE * view.size_px[0]
