"""Line segments as rows for the line shader: brought before the near plane and into clip coordinates in float64."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from render.scene import LinePart, View
from spatial.rigid import Array, Similarity

LAYOUT = "4f4 4f4 4f4 1f4/i"
INPUTS = ("in_start", "in_stop", "in_colour", "in_width_px")
_COLUMNS = 13
_LIFT_MM = 0.25  # lines on a surface stand this much nearer to the eye, on the same pixel, so that they are not eaten


def line_rows(lines: Iterable[LinePart[Any]], view: View[Any]) -> Array:
    """Rows (N, 13) of what of the segments lies before the near plane."""
    E = view.eye_from_world.matrix()
    P = view.projection
    lift_mm = _LIFT_MM * (view.eye_from_world.scale if isinstance(view.eye_from_world, Similarity) else 1.0)
    found = []
    for line in lines:
        if not len(line.points_mm):
            continue
        eye = line.points_mm @ E[:3, :3].T + E[:3, 3]
        if view.is_parallel:
            eye[..., 2] += lift_mm
        else:
            eye *= 1.0 - lift_mm / np.maximum(np.linalg.norm(eye, axis=-1, keepdims=True), 4.0 * lift_mm)
        clip = eye @ P[:, :3].T + P[:, 3]
        clip = _before_near_plane(clip)
        rows = np.empty((len(clip), _COLUMNS))
        rows[:, :8] = clip.reshape(-1, 8)
        rows[:, 8:12] = (*line.rgb, line.opacity)
        rows[:, 12] = line.width_px
        found.append(rows)
    return np.concatenate(found) if found else np.zeros((0, _COLUMNS))


def _before_near_plane(clip: Array) -> Array:
    """Segments (N, 2, 4) cut at z = -w; those wholly behind it are left out."""
    d = clip[..., 2] + clip[..., 3]
    clip, d = clip[(d > 0).any(axis=1)], d[(d > 0).any(axis=1)]
    behind = d <= 0
    if not behind.any():
        return clip
    t = np.clip(d[:, 0] / np.where(d[:, 0] == d[:, 1], 1.0, d[:, 0] - d[:, 1]), 0.0, 1.0)[:, None]
    crossing = clip[:, 0] * (1 - t) + clip[:, 1] * t
    out = clip.copy()
    for end in (0, 1):
        out[behind[:, end], end] = crossing[behind[:, end]]
    return out
