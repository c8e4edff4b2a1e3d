"""Calibrate a camera from views of a board, and decide whether the result is good for anything.

Good is: the picture covered, the board tilted, the lens the same in all pictures, residuals that hold on unseen
pictures, and pose errors foretold for the working volume below the limit. Everything else is refused with its reason
and with what to photograph next.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from spatial.faults import Fault
from spatial.rigid import Array
from tracking.calibration.board import Board
from tracking.calibration.board_hunt import marker_share
from tracking.calibration.board_view import BoardView, NoBoard
from tracking.calibration.camera_file import Calibrated
from tracking.calibration.camera_fit import NoFit, fit_camera
from tracking.calibration.coverage import Coverage, coverage, next_view
from tracking.calibration.drift import FocalDrift, focal_drift
from tracking.calibration.lens_model import MODELS
from tracking.calibration.model_choice import Choice, choose
from tracking.calibration.predicted import Foresight, Predicted, Volume

FEWEST = 8
BLURRED_PX = 2.5
SHARE = 0.5  # of the picture's cells
SPREAD_DEG = 15.0
UNSEEN = 1.6  # held-out residuals may be so many times the fitted ones
ALIKE_PX = 0.7
Progress = Callable[[str, float], None]


class TooFewPictures(Fault):
    """Fewer usable pictures of the board than a lens needs."""


class MixedPictures(Fault):
    """Pictures of several sizes, or seen in a mirror."""


class WrongBoard(Fault):
    """The pictures show another board than the one that was named."""


@dataclass(frozen=True, eq=False)
class CameraCalibration:
    """What came out, good or not: `refusals` are the reasons against it, `advice` what to photograph next.

    `used` are the views behind the fit; `aside` says of each other picture why it was left out; `notes` are findings
    that don't forbid the use.
    """

    board: Board
    used: tuple[BoardView, ...]
    aside: dict[str, str]
    choice: Choice
    coverage: Coverage
    predicted: Predicted
    limit_mm: float
    drift: FocalDrift
    refusals: tuple[str, ...]
    advice: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def good(self) -> bool:
        """Whether nothing speaks against it."""
        return not self.refusals

    def calibrated(self, *, taken: str = "", readout_ns: int = 0) -> Calibrated:
        """For the camera file."""
        fit = self.choice.fit
        return Calibrated(
            fit.pinhole,
            fit.names,
            fit.covariance,
            rms_px=fit.rms_px,
            readout_ns=readout_ns,
            board=str(self.board),
            pictures=len(self.used),
            corners=sum(len(view) for view in self.used),
            predicted_mm=self.predicted.worst_mm,
            limit_mm=self.limit_mm,
            accepted=self.good,
            taken=taken,
        )


def calibrate_camera(
    found: Sequence[BoardView | NoBoard],
    board: Board,
    body_mm: Array,
    *,
    volume: Volume | None = None,
    limit_mm: float = 0.3,
    models: Sequence[str] = tuple(MODELS),
    board_shape: str = "auto",
    progress: Progress | None = None,
) -> CameraCalibration:
    """Fit and judge. `body_mm` (K, 3): the body whose pose errors are foretold; `board_shape`: see `choose`.

    Raises TooFewPictures, MixedPictures, WrongBoard, NoFit, NothingSeen.
    """
    views, aside = sift(found)
    wrong = marker_share(views, board)
    if wrong is not None:
        raise WrongBoard(wrong)
    if len(views) < FEWEST:
        raise TooFewPictures(_too_few(len(found), len(views), aside))
    size_px = views[0].size_px
    views, outliers = _outliers(views, board, size_px)
    aside |= outliers
    if len(views) < FEWEST:
        raise TooFewPictures(_too_few(len(found), len(views), aside))
    choice = choose(views, board.points_mm, size_px, models=models, board=board_shape, progress=progress)
    fit = choice.fit
    seen = coverage(views, fit.poses, board, size_px)
    foresight = Foresight.of(fit.model, fit.pinhole, body_mm, volume or Volume())
    predicted = foresight.of_covariance(fit.covariance)
    drift = focal_drift(views, board.points_mm, fit)
    refusals = _refusals(choice, seen, predicted, limit_mm, drift, views, len(found))
    advice: list[str] = []
    if refusals:
        advice += seen.missing()
        words, ratio = next_view(fit, board, foresight, size_px)
        if predicted.worst_mm > limit_mm and ratio < 1:
            more = int(np.ceil(len(views) * ((predicted.worst_mm / limit_mm) ** 2 - 1)))
            about = f"; about {more} more pictures like these would do" if more < 100 else ""
            advice.append(f"most useful next: {words} (the error falls to {ratio:.0%}){about}")
    notes = _notes(choice, seen)
    return CameraCalibration(
        board, tuple(views), aside, choice, seen, predicted, limit_mm, drift, refusals, tuple(advice), notes
    )


def sift(found: Sequence[BoardView | NoBoard]) -> tuple[list[BoardView], dict[str, str]]:
    """The views that can be used, and why the other pictures can't. Raises MixedPictures."""
    aside = {item.name: item.reason for item in found if isinstance(item, NoBoard)}
    views = [item for item in found if isinstance(item, BoardView)]
    sizes = sorted({view.size_px for view in views})
    if len(sizes) > 1:
        raise MixedPictures(
            f"pictures of {' and '.join(f'{w} x {h}' for w, h in sizes)} px; was the camera's mode changed in between?"
        )
    typical = float(np.median([view.blur_px for view in views])) if views else 0.0
    kept: list[BoardView] = []
    for view in views:
        if view.blur_px > max(BLURRED_PX, 1.8 * typical):
            aside[view.name] = f"blurred: edges {view.blur_px:.1f} px wide"
            continue
        twin = next((other for other in kept if _alike(view, other)), None)
        if twin is not None:
            aside[view.name] = f"the same view as {twin.name}"
            continue
        kept.append(view)
    return kept, aside


def _alike(one: BoardView, other: BoardView) -> bool:
    """Two pictures of a board that did not move: no new evidence of the lens."""
    shared, a, b = np.intersect1d(one.ids, other.ids, return_indices=True)
    if len(shared) < 0.9 * max(len(one), len(other)):
        return False
    return bool(np.abs(one.corners_px[a] - other.corners_px[b]).max() < ALIKE_PX)


def _outliers(views: list[BoardView], board: Board, size_px: tuple[int, int]) -> tuple[list[BoardView], dict[str, str]]:
    """Set pictures aside that no lens explains together with the others."""
    fits = []
    for name in ("k3+tangential", "fisheye"):
        try:
            fits.append(fit_camera(views, board.points_mm, MODELS[name], size_px))
        except NoFit as fault:
            failed = fault
    if not fits:
        raise failed
    rms = min(fits, key=lambda fit: float(np.median(fit.view_rms_px))).view_rms_px
    limit = max(5 * float(np.median(rms)), 0.5)
    bad = {view.name: f"residual {r:.1f} px, the others have {np.median(rms):.2f} px"
           for view, r in zip(views, rms, strict=True) if r > limit}  # fmt: skip
    if len(bad) > len(views) // 3:
        return views, {}
    return [view for view in views if view.name not in bad], bad


def _too_few(pictures: int, usable: int, aside: dict[str, str]) -> str:
    reasons = [f"{name}: {reason}" for name, reason in list(aside.items())[:3]]
    more = f" and {len(aside) - 3} others" if len(aside) > 3 else ""
    why = f" ({'; '.join(reasons)}{more})" if reasons else ""
    return (
        f"{usable} of {pictures} pictures show the board usably, at least {FEWEST} are needed, 15 to 30 are good{why}"
    )


def _refusals(
    choice: Choice,
    seen: Coverage,
    predicted: Predicted,
    limit_mm: float,
    drift: FocalDrift,
    used: Sequence[BoardView],
    pictures: int,
) -> tuple[str, ...]:
    fit, out = choice.fit, []
    if seen.share < SHARE:
        out.append(f"coverage: corners in {seen.share:.0%} of the picture, at least {SHARE:.0%} is needed")
    if seen.spread_deg < SPREAD_DEG:
        out.append(
            f"degenerate motion: all boards are parallel within {seen.spread_deg:.0f} degrees (at least "
            f"{SPREAD_DEG:.0f} are needed), so the focal length can't be told from the distance"
        )
    if drift.moved:
        worst = int(np.abs(drift.change / drift.sd).argmax())
        out.append(
            f"the focal length differs between pictures by {drift.scatter:.2%} (sd; most in {used[worst].name}); was "
            "autofocus or a zoom on, or does the board bend between pictures?"
        )
    if fit.rms_px > 1.0:
        out.append(f"residual {fit.rms_px:.2f} px over 1 px; is the board flat, still, and the one that was named?")
    held = choice.score
    if held.held_out_px > UNSEEN * held.fitted_px:
        out.append(
            f"unseen pictures have residuals of {held.held_out_px:.2f} px, fitted ones {held.fitted_px:.2f} px: the "
            "fit follows single pictures; more and more varied ones are needed"
        )
    if 2 * len(used) < pictures:
        out.append(f"{pictures - len(used)} of {pictures} pictures had to be set aside")
    if predicted.worst_mm > limit_mm:
        x, y, z = predicted.worst_at_mm
        out.append(
            f"predicted pose error {predicted.worst_mm:.2f} mm (95 %) at x {x:.0f}, y {y:.0f}, z {z:.0f} mm, "
            f"limit {limit_mm:g} mm"
        )
    return tuple(out)


def _notes(choice: Choice, seen: Coverage) -> tuple[str, ...]:
    fit, out = choice.fit, []
    if fit.widened > 1:
        out.append(f"the pictures disagree beyond their noise: all uncertainties were widened {fit.widened:.1f} times")
    if choice.name.endswith("+board"):
        bend = np.ptp(fit.offsets_mm[:, 2])
        out.append(
            f"the board is not as printed: its corners lie up to {bend:.2f} mm out of a plane; estimated with it"
        )
    if fit.excess_px > 0.1 and not choice.name.endswith("+board"):
        out.append(
            f"residuals of {fit.excess_px:.2f} px beyond the corners' noise: a bent board, motion or a rolling shutter?"
        )
    out.append(
        "scale: the board's squares are taken to be as large as stated; measure them, 1 % there is 1 % everywhere"
    )
    if seen.missing():
        out.append("not seen yet: " + "; ".join(seen.missing()))
    return tuple(out)
