"""Two eyes from one head, for pictures without a headset: 63 mm apart, looking the same way."""

from __future__ import annotations

import numpy as np

from rehearsal.events import SIDES, Side
from render.scene import View
from spatial.frames import Eye, Stage
from spatial.rigid import Array, Rigid

IPD_MM = 63.0  # the mean of adults (Dodgson 2004: 63.4 mm)
FOV_Y_RAD = 0.85
NEAR_MM, FAR_MM = 50.0, 10_000.0


def projection(width_px: int, height_px: int, fov_y_rad: float = FOV_Y_RAD) -> Array:
    """OpenGL's projection (4, 4), symmetrical."""
    f = 1.0 / np.tan(fov_y_rad / 2.0)
    P = np.zeros((4, 4))
    P[0, 0], P[1, 1] = f * height_px / width_px, f
    P[2, 2], P[2, 3] = -(FAR_MM + NEAR_MM) / (FAR_MM - NEAR_MM), -2.0 * FAR_MM * NEAR_MM / (FAR_MM - NEAR_MM)
    P[3, 2] = -1.0
    return P


def stage_from_eye(head: Rigid[Stage, Eye], side: Side, ipd_mm: float = IPD_MM) -> Rigid[Stage, Eye]:
    """One eye's pose: half the distance to its side."""
    offset = np.array([-ipd_mm / 2.0 if side == "left" else ipd_mm / 2.0, 0.0, 0.0])
    return head @ Rigid[Eye, Eye](np.eye(3), offset)


def views(
    head: Rigid[Stage, Eye], width_px: int, height_px: int, fov_y_rad: float = FOV_Y_RAD
) -> dict[Side, View[Stage]]:
    """The view of each eye."""
    P = projection(width_px, height_px, fov_y_rad)
    return {side: View(stage_from_eye(head, side).inverse(), P, width_px, height_px) for side in SIDES}
