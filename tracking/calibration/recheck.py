"""Is a camera still the one that was calibrated? One picture of a board, or more, against its file.

The change of focal length and centre is estimated, turned into the pose error that it would make in the working volume,
and judged by that: DRIFTED where the change is real and its error above the limit, GOOD where even the change that
can't be excluded (95 %) stays below it, UNSURE in between. Whether it is real counts the file's own uncertainty: what
the calibration did not know is no drift. What can't be excluded does not: the question there is how far the file's
numbers may be from the present lens, and that the pictures say alone (distortion held).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from spatial.faults import Fault
from spatial.rigid import Array
from tracking.calibration.board import Board
from tracking.calibration.board_view import BoardView
from tracking.calibration.camera_file import Calibrated
from tracking.calibration.camera_fit import CameraFit, Stack
from tracking.calibration.drift import LensChange, lens_change
from tracking.calibration.lens_model import MODELS, LensModel, model_of
from tracking.calibration.predicted import Foresight, Volume

Status = Literal["GOOD", "UNSURE", "DRIFTED"]
CHI2_999 = 16.27  # three degrees of freedom
EXCESS_PX = 0.05  # what real boards' corners are off beyond their noise, where the file says nothing


class NotThisCamera(Fault):
    """Pictures of another size than the file's, or that its lens can't explain at all."""


@dataclass(frozen=True)
class Recheck:
    """The verdict with its evidence: `error_mm` the pose error that the change makes at the worst place of the volume,
    `unsure_mm` what the pictures can't exclude beside it (95 %); `rms_px` the residual with the file's lens,
    `file_rms_px` the file's own.
    """

    status: Status
    reason: str
    change: LensChange
    error_mm: float
    unsure_mm: float
    rms_px: float
    file_rms_px: float | None
    pictures: int


def recheck(
    camera: Calibrated,
    views: Sequence[BoardView],
    board: Board,
    body_mm: Array,
    *,
    volume: Volume | None = None,
    limit_mm: float = 0.3,
) -> Recheck:
    """Compare views of `board`, be it one, with a camera file. Raises NotThisCamera, NoFit, BadLens, NothingSeen."""
    lens = camera.pinhole
    for view in views:
        if view.size_px != (lens.width_px, lens.height_px):
            raise NotThisCamera(
                f"{view.name} has {view.size_px[0]} x {view.size_px[1]} px, the camera file is for "
                f"{lens.width_px} x {lens.height_px} px"
            )
    fit = as_fit(camera, views, board)
    found = lens_change(views, board.points_mm, fit)
    foresight = Foresight.of(fit.model, lens, body_mm, volume or Volume())
    error, _ = foresight.shift(found.change)
    unsure = foresight.of_covariance(found.seen).worst_mm
    real = found.chi2 > CHI2_999
    status: Status = "DRIFTED" if real and error > limit_mm else "GOOD" if error + unsure <= limit_mm else "UNSURE"
    words = (
        f"focal length {found.focal:+.2%} (sd {found.focal_sd:.2%}), centre {found.centre_px[0]:+.1f}, "
        f"{found.centre_px[1]:+.1f} px (sd {found.centre_sd_px[0]:.1f}, {found.centre_sd_px[1]:.1f}): "
    )
    if status == "DRIFTED":
        words += f"poses are off by {error:.2f} mm, limit {limit_mm:g} mm; was the focus, the zoom or the lens touched?"
    elif status == "GOOD":
        words += f"poses are off by at most {error + unsure:.2f} mm, limit {limit_mm:g} mm"
    else:
        chance = "a change, if small" if real else "no change beyond chance"
        words += (
            f"{chance}, but a pose error of {error + unsure:.2f} mm can't be excluded by these pictures, limit "
            f"{limit_mm:g} mm; show the board nearer, tilted by 40 degrees, or in more pictures"
        )
    before = camera.rms_px
    if before is not None and found.rms_px > max(3 * before, before + 0.5):
        words += (
            f"; the residual is {found.rms_px:.2f} px, {before:.2f} px when calibrated: another board, or a bent one?"
        )
    return Recheck(status, words, found, error, unsure, found.rms_px, before, len(views))


def as_fit(camera: Calibrated, views: Sequence[BoardView], board: Board) -> CameraFit:
    """A camera file as a fit of these views, its uncertainty with it."""
    lens = camera.pinhole
    named = [m for m in MODELS.values() if m.lens == lens.lens and m.names == camera.names]
    model: LensModel = named[0] if named else model_of(lens)
    m = len(model.names)
    covariance = np.array(camera.covariance) if named else np.zeros((m, m))
    excess = EXCESS_PX if camera.rms_px is None else max(0.02, camera.rms_px / np.sqrt(2))
    stack = Stack.of(views)
    return CameraFit(
        model, lens, covariance, (), stack, np.zeros_like(stack.px), np.ones(len(stack.px)), camera.rms_px or 0.0,
        np.zeros(len(views)), float(excess), np.zeros((len(board.points_mm), 3)), 1.0,
    )  # fmt: skip
