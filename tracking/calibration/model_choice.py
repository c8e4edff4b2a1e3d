"""Which lens model, and whether the board is taken as printed: decided on pictures that the fit has not seen.

Pictures are left out in turn, the lens is fitted to the others, the left-out boards are placed with it, and their
residuals are what counts. The smallest model that is no worse than the best by more than one standard error of their
difference is taken (Hastie et al. 2009, 7.10).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from spatial.pinhole import BadLens, Pinhole
from spatial.rigid import Array
from tracking.calibration.board_view import BoardView
from tracking.calibration.camera_fit import CameraFit, NoFit, fit_camera, resect
from tracking.calibration.lens_model import MODELS, LensModel

FOLDS = 5
BOARD_SD_MM = 0.2  # what prints and their mounts are off by
EXCESS_PX = 0.06  # residuals beyond the corners' own noise, above which the board is suspected
Progress = Callable[[str, float], None]


@dataclass(frozen=True, eq=False)
class Score:
    """A model's residuals: `fitted_px` on all pictures, `held_out_px` on pictures it had not seen (RMS).

    `squares` (V,): mean squared held-out residual of each picture, px2. `refused`: why it can't be had, or None.
    """

    name: str
    parameters: int
    fitted_px: float
    held_out_px: float
    squares: Array
    refused: str | None = None


@dataclass(frozen=True, eq=False)
class Choice:
    """The fit that was chosen, its model's name (`+board` where the board was estimated) and all scores."""

    fit: CameraFit
    name: str
    scores: tuple[Score, ...]

    @property
    def score(self) -> Score:
        """The chosen one's."""
        return next(score for score in self.scores if score.name == self.name)


def choose(
    views: Sequence[BoardView],
    points_mm: Array,
    size_px: tuple[int, int],
    *,
    models: Sequence[str] = tuple(MODELS),
    board: str = "auto",
    progress: Progress | None = None,
) -> Choice:
    """Fit all `models`, choose one. `board`: "flat" (as printed), "free" (estimated), "auto". Raises NoFit."""
    tell = progress or (lambda what, share: None)
    fits: dict[str, CameraFit] = {}
    scores: list[Score] = []
    for k, name in enumerate(models):
        tell(f"lens model {name}", k / (len(models) + 1))
        score, fit = _score(views, points_mm, MODELS[name], size_px, _near(fits, MODELS[name]))
        scores.append(score)
        if fit is not None:
            fits[name] = fit
    if not fits:
        raise NoFit("; ".join(f"{score.name}: {score.refused}" for score in scores))
    best = _smallest(scores)
    suspect = fits[best.name].excess_px > EXCESS_PX and _often(views, len(points_mm))
    if board == "free" or (board == "auto" and suspect):
        tell("the board's own shape", len(models) / (len(models) + 1))
        score, fit = _score(
            views, points_mm, MODELS[best.name], size_px, fits[best.name], board_sd_mm=BOARD_SD_MM, folds=3
        )
        scores.append(score)
        if fit is not None:
            fits[score.name] = fit
            if board == "free" or _better(score, best):
                best = score
    return Choice(fits[best.name], best.name, tuple(scores))


def invertible(pinhole: Pinhole, views: Sequence[BoardView]) -> bool:
    """Whether every pixel has its ray; for a fisheye, whose rim may be dark, every pixel where the boards were."""
    w, h = pinhole.width_px - 1.0, pinhole.height_px - 1.0
    u, v = np.meshgrid(np.linspace(0, w, 17), np.linspace(0, h, 13))
    pixels = np.stack([u.ravel(), v.ravel()], axis=1)
    if pinhole.lens == "fisheye":
        pixels = np.concatenate([view.corners_px for view in views])
    try:
        pinhole.normalised(pixels)
    except BadLens:
        return False
    return True


def _score(
    views: Sequence[BoardView],
    points_mm: Array,
    model: LensModel,
    size_px: tuple[int, int],
    start: CameraFit | None,
    *,
    board_sd_mm: float = 0.0,
    folds: int = FOLDS,
) -> tuple[Score, CameraFit | None]:
    name = f"{model.name}+board" if board_sd_mm > 0 else model.name
    count = len(model.names)
    try:
        fit = fit_camera(views, points_mm, model, size_px, start=start, board_sd_mm=board_sd_mm)
        if not invertible(fit.pinhole, views):
            raise NoFit("it folds over inside the picture")
        squares = np.zeros(len(views))
        limit = 9 * (start or fit).rms_px ** 2  # a wrong corner counts as three sd, alike for all models
        folds = min(folds, len(views) // 2)
        for fold in range(folds):
            out = np.arange(len(views)) % folds == fold
            kept = [view for view, left in zip(views, out, strict=True) if not left]
            left = [view for view, left in zip(views, out, strict=True) if left]
            poses = tuple(pose for pose, gone in zip(fit.poses, out, strict=True) if not gone)
            part = fit_camera(kept, points_mm, model, size_px, start=replace(fit, poses=poses), board_sd_mm=board_sd_mm)
            _, residuals = resect(left, points_mm, part)
            capped = np.minimum((residuals**2).sum(axis=1), limit)
            ends = np.cumsum([0, *(len(view) for view in left)]).tolist()
            squares[out] = [capped[a:b].mean() for a, b in pairwise(ends)]
    except (NoFit, BadLens) as fault:
        return Score(name, count, float("nan"), float("nan"), np.zeros(0), fault.message), None
    return Score(name, count, fit.rms_px, float(np.sqrt(squares.mean())), squares), fit


def _near(fits: dict[str, CameraFit], model: LensModel) -> CameraFit | None:
    """A fit of the same lens to start from."""
    same = [fit for fit in fits.values() if fit.model.lens == model.lens]
    return same[-1] if same else None


def _smallest(scores: Sequence[Score]) -> Score:
    there = sorted((s for s in scores if s.refused is None), key=lambda s: (s.parameters, s.held_out_px))
    plain = [s for s in there if MODELS[s.name].lens == "brown"] or there
    best = min(plain, key=lambda s: s.held_out_px)
    chosen = next(s for s in plain if s is best or not _better(best, s))
    # a fisheye fitted to a narrow lens is wild beyond the corners seen: it has to be clearly better than as small a one
    for score in there:
        rivals = [s for s in plain if s.parameters <= score.parameters + 1]
        if MODELS[score.name].lens == "fisheye" and all(_better(score, s, 3.0) for s in rivals):
            return chosen if chosen not in rivals and _better(chosen, score) else score
    return chosen


def _better(one: Score, other: Score, errors: float = 1.0) -> bool:
    """Whether `one` is better on unseen pictures by more than so many standard errors."""
    gain = other.squares - one.squares
    return bool(gain.mean() > errors * gain.std(ddof=1) / np.sqrt(len(gain)))


def _often(views: Sequence[BoardView], corners: int) -> bool:
    """Whether nearly every corner of the board was seen often enough to be placed."""
    seen = np.bincount(np.concatenate([view.ids for view in views]), minlength=corners)
    return len(views) >= 6 and float((seen >= 4).mean()) > 0.8
