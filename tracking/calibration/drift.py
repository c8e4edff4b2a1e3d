"""Whether a camera's focal length and centre stayed where they were: between pictures, and since its calibration.

Each view of a board, its pose eliminated, says how the focal length would have to change to explain it (a common
factor of fx and fy), with its sd. A lens that focused itself between pictures, or a zoom ring that was touched, shows
as changes beyond those sds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from spatial.rigid import Array
from tracking.calibration.board_view import BoardView
from tracking.calibration.camera_fit import CameraFit, evidence
from tracking.pose.lens_watch import WORRY


@dataclass(frozen=True, eq=False)
class FocalDrift:
    """Relative change of the focal length in each picture (V,), its sd (V,), and their scatter beyond those sds."""

    change: Array
    sd: Array
    scatter: float
    significant: bool

    @property
    def moved(self) -> bool:
        """Whether the pictures were taken with different focal lengths."""
        return self.significant and self.scatter > WORRY


@dataclass(frozen=True, eq=False)
class LensChange:
    """How a lens has changed: focal length (relative), centre (px), each with its sd; `chi2` of it, 3 degrees.

    `change` (m) and `covariance` (m x m) are the same for the lens' parameters; `rms_px` is the residual without it.
    The sds, `chi2` and `covariance` hold the file's own uncertainty, by which chance is judged; `seen` (m x m) is what
    the pictures alone leave open of the present lens, whatever the file knew.
    """

    focal: float
    focal_sd: float
    centre_px: tuple[float, float]
    centre_sd_px: tuple[float, float]
    chi2: float
    change: Array
    covariance: Array
    seen: Array
    rms_px: float


def focal_drift(views: Sequence[BoardView], points_mm: Array, fit: CameraFit) -> FocalDrift:
    """Compare the pictures of one calibration with each other (random effects; DerSimonian & Laird 1986)."""
    normals, gradients, _ = evidence(views, points_mm, fit)
    direction = np.zeros(len(fit.names))
    direction[:2] = fit.pinhole.fx_px, fit.pinhole.fy_px
    known = np.maximum(np.einsum("i,vij,j->v", direction, normals, direction), 1e-12)
    change, weight = gradients @ direction / known, known
    mean = float((weight * change).sum() / weight.sum())
    q, freedom = float((weight * (change - mean) ** 2).sum()), len(change) - 1
    spare = weight.sum() - (weight**2).sum() / weight.sum()
    scatter = np.sqrt(max(0.0, (q - freedom) / spare)) if spare > 0 else 0.0
    return FocalDrift(change, 1 / np.sqrt(known), float(scatter), q > freedom + 4.5 * np.sqrt(2 * freedom))


def lens_change(
    views: Sequence[BoardView], points_mm: Array, fit: CameraFit, *, board_sd_mm: float = 0.0
) -> LensChange:
    """How focal length and centre have changed since `fit`, from new views, be it one. Raises NoFit, BadLens.

    `fit.covariance` counts: what the calibration did not know is no drift. Distortion is held. With `board_sd_mm` the
    board's corners may be off their places by about as much: a bent board looks like another focal length.
    """
    m = len(fit.names)
    basis = np.zeros((m, 3))
    basis[:2, 0] = fit.pinhole.fx_px, fit.pinhole.fy_px
    basis[2, 1] = basis[3, 2] = 1.0
    now, total = fit, np.zeros(3)
    bend = np.zeros(fit.offsets_mm.size if board_sd_mm > 0 else 0)
    wide = np.zeros((m + len(bend), 3 + len(bend)))  # from (focal length, centre, board) to all that is estimated
    wide[:m, :3], wide[m:, 3:] = basis, np.eye(len(bend))
    prior = np.concatenate([np.zeros(3), np.full(len(bend), 1 / max(board_sd_mm, 1e-9) ** 2)])
    _, _, first = evidence(views, points_mm, now)
    rms = float(np.sqrt((first**2).sum(axis=1).mean()))
    for _ in range(8):
        normals, gradients, _ = evidence(views, points_mm, now, board_sd_mm)
        H = wide.T @ normals.sum(axis=0) @ wide + np.diag(prior)
        g = wide.T @ gradients.sum(axis=0) - prior * np.concatenate([np.zeros(3), bend])
        step = np.linalg.solve(H + 1e-9 * np.diag(np.diag(H)), g)
        step[0] = np.clip(step[0], -0.1, 0.1)
        total, bend = total + step[:3], bend + step[3:]
        moved = fit.parameters + basis @ total
        now = replace(
            fit, pinhole=fit.model.pinhole(moved, fit.pinhole.width_px, fit.pinhole.height_px),
            offsets_mm=fit.offsets_mm + bend.reshape(-1, 3) if len(bend) else fit.offsets_mm,
        )  # fmt: skip
        if abs(step[0]) < 1e-7:
            break
    lift = np.linalg.pinv(basis)
    alone = np.linalg.inv(H)[:3, :3]
    covariance = alone + lift @ fit.covariance @ lift.T
    sd = np.sqrt(np.diag(covariance))
    return LensChange(
        float(total[0]),
        float(sd[0]),
        (float(total[1]), float(total[2])),
        (float(sd[1]), float(sd[2])),
        float(total @ np.linalg.solve(covariance, total)),
        basis @ total,
        basis @ covariance @ basis.T,
        basis @ alone @ basis.T,
        rms,
    )
