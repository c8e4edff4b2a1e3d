"""Guides a person who holds the board before a live camera: what is covered, what to do next, when it is enough."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from spatial.pinhole import BadLens
from spatial.rigid import Array
from tracking.calibration.board import Board
from tracking.calibration.camera_fit import CameraFit, NoFit, fit_camera
from tracking.calibration.collect import Offer, Picker
from tracking.calibration.coverage import CELLS, Coverage, coverage, next_view
from tracking.calibration.lens_model import MODELS
from tracking.calibration.predicted import Foresight, NothingSeen, Volume
from tracking.frame import Frame

FIRST_FIT = 6  # views before a lens is fitted at all
ENOUGH = 15
SHOWN_PX = 960
TITLE = "osteotwin calibrate camera (Q or Escape: enough)"


@dataclass
class Guide:
    """Follows the picking; `words` is what the person should do, `error_mm` what the views so far would foretell.

    `say` gets a line whenever something changed; `window` shows a picture and says whether to go on.
    """

    board: Board
    body_mm: Array
    volume: Volume
    limit_mm: float
    say: Callable[[str], None]
    window: Callable[[NDArray[np.uint8]], bool] | None = None
    words: str = "hold the board so that it fills half the picture"
    error_mm: float | None = None
    seen: Coverage | None = None
    _fit: CameraFit | None = field(default=None, repr=False)
    _last: str = ""

    def watch(self, frame: Frame, offer: Offer, picker: Picker) -> bool:
        """Look at what became of a picture; True when enough is there, or the person says so."""
        done = False
        if offer.taken:
            done = self._think(picker)
            error = "" if self.error_mm is None else f", predicted error {self.error_mm:.2f} mm"
            self.say(f"{len(picker.kept)} taken{error}. {'Enough.' if done else 'Next: ' + self.words}")
        elif offer.words != self._last:
            self.say(offer.words)
        self._last = offer.words
        if self.window is not None and not self.window(self.picture(frame, offer, picker)):
            return True
        return done

    def picture(self, frame: Frame, offer: Offer, picker: Picker) -> NDArray[np.uint8]:
        """The live picture (RGB) with the cells still to be seen, the corners found and the words."""
        raw = frame.picture if frame.picture.ndim == 3 else np.repeat(frame.picture[..., None], 3, axis=2)
        height, width = raw.shape[:2]
        scale = SHOWN_PX / width
        shown = cv2.resize(raw, (SHOWN_PX, round(height * scale)), interpolation=cv2.INTER_AREA)
        cells = np.zeros(CELLS[::-1]) if self.seen is None else self.seen.cells
        veil = shown.copy()
        h, w = shown.shape[:2]
        for row in range(CELLS[1]):
            for column in range(CELLS[0]):
                if cells[row, column] == 0:
                    start = (column * w // CELLS[0], row * h // CELLS[1])
                    stop = ((column + 1) * w // CELLS[0] - 1, (row + 1) * h // CELLS[1] - 1)
                    cv2.rectangle(veil, start, stop, (214, 96, 77), -1)
        shown = cv2.addWeighted(veil, 0.28, shown, 0.72, 0)
        if offer.view is not None:
            colour = (60, 200, 90) if offer.taken else (250, 210, 60)
            for x, y in offer.view.corners_px * scale:
                cv2.circle(shown, (round(float(x)), round(float(y))), 4, colour, 2, cv2.LINE_AA)
        bar = np.full((84, w, 3), 24, dtype=np.uint8)
        error = "" if self.error_mm is None else f"   predicted error {self.error_mm:.2f} of {self.limit_mm:g} mm"
        _put(bar, f"{len(picker.kept)} pictures{error}   {offer.words}", 26, (235, 235, 235))
        for k, line in enumerate(_wrapped(f"Next: {self.words}", 104)[:2]):
            _put(bar, line, 50 + 23 * k, (250, 210, 60))
        return np.concatenate([np.asarray(shown, dtype=np.uint8), bar])

    def _think(self, picker: Picker) -> bool:
        """Fit what is there, and find out what is missing."""
        views, board = picker.kept, self.board
        size_px = views[0].size_px
        if len(views) < FIRST_FIT:
            self.seen = coverage(views, [], board, size_px)
            self.words = "move the board about the picture and tilt it to all sides"
            return False
        try:
            fit = fit_camera(views, board.points_mm, MODELS["k2+tangential"], size_px, jackknife=False)
            foresight = Foresight.of(fit.model, fit.pinhole, self.body_mm, self.volume)
            self.error_mm = foresight.of_covariance(fit.covariance).worst_mm
            self.seen = coverage(views, fit.poses, board, size_px)
            missing = self.seen.missing()
            self.words = missing[0] if missing else next_view(fit, board, foresight, size_px)[0]
        except (NoFit, BadLens, NothingSeen, np.linalg.LinAlgError):
            self.seen = coverage(views, [], board, size_px)
            self.words = "tilt the board to all sides, nearer and farther"
            return False
        return not missing and self.error_mm <= 0.8 * self.limit_mm and len(views) >= ENOUGH


class GuideWindow:
    """The live picture on the screen."""

    def __init__(self) -> None:
        """Open it. Raises cv2.error where there is no display, or OpenCV was built without windows."""
        cv2.namedWindow(TITLE, cv2.WINDOW_AUTOSIZE)

    def __call__(self, picture: NDArray[np.uint8]) -> bool:
        """Show an RGB picture; False once Q, Escape or the window's own cross was used."""
        cv2.imshow(TITLE, np.ascontiguousarray(picture[..., ::-1]))
        key = cv2.waitKey(1) & 0xFF
        return key not in (ord("q"), ord("Q"), 27) and cv2.getWindowProperty(TITLE, cv2.WND_PROP_VISIBLE) >= 1

    def close(self) -> None:
        """Take it away."""
        cv2.destroyWindow(TITLE)


def open_window() -> GuideWindow | None:
    """A window where there is a display; None where words have to do."""
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return None
    try:
        return GuideWindow()
    except cv2.error:
        return None


def _put(picture: Any, text: str, y: int, colour: tuple[int, int, int]) -> None:
    cv2.putText(picture, text, (14, y), cv2.FONT_HERSHEY_SIMPLEX, 0.52, colour, 1, cv2.LINE_AA)


def _wrapped(text: str, width: int) -> Sequence[str]:
    return textwrap.wrap(text, width)
