"""Words laid out as rows for the text shader: labels in the world and texts on the picture."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import numpy as np

from render.glyphs import EM_PX, SPREAD_PX, GlyphAtlas
from render.scene import Anchor, Rgb, ScreenText, TextPart, View
from spatial.rigid import Array, Points

LAYOUT = "4f4 4f4 4f4 4f4 3f4/i"
INPUTS = ("in_box_px", "in_box_uv", "in_colour", "in_outline", "in_style")
_COLUMNS = 19
_PANEL_RGB = (0.05, 0.06, 0.08)
_DARK_RGB: Rgb = (0.04, 0.05, 0.07)
_LIGHT_RGB: Rgb = (0.97, 0.97, 0.96)


def label_rows(atlas: GlyphAtlas, labels: Iterable[TextPart[Any]], view: View[Any]) -> Array:
    """Rows (N, 19) of labels before the eye; farther ones first."""
    found: list[tuple[float, Array]] = []
    M = view.clip_from_world()
    for label in labels:
        point: Points[Any] = Points(label.position_mm)
        clip = M[:, :3] @ label.position_mm + M[:, 3]
        if not label.text or clip[3] <= 1e-9 or not -clip[3] < clip[2] < clip[3]:
            continue
        u, v = view.pixels(point)
        size_px = label.height_px
        if label.height_mm is not None:
            size_px = label.height_mm * float(view.pixels_per_mm(point))
        reach = size_px * max(len(label.text), 2)
        if not (-reach < u < view.width_px + reach and -reach < v < view.height_px + reach):
            continue
        snap = label.height_mm is None  # a label of fixed size is crisp on whole pixels; in stereo it must not jump
        rows = _rows(
            atlas, label.text, (u, v), size_px, label.rgb, label.anchor, label.outline_rgb, clip[2] / clip[3], snap
        )
        found.append((float(clip[3]), rows))
    found.sort(key=lambda pair: -pair[0])
    return np.concatenate([rows for _, rows in found]) if found else np.zeros((0, _COLUMNS))


def screen_rows(atlas: GlyphAtlas, texts: Iterable[ScreenText]) -> Array:
    """Rows (N, 19) of texts on the picture, panels before words."""
    panels, words = [], []
    for text in texts:
        if not text.text:
            continue
        words.append(
            _rows(
                atlas, text.text, text.position_px, text.height_px, text.rgb, text.anchor, text.outline_rgb, 0.0, True
            )
        )
        if text.panel_opacity > 0:
            _, _, extent = atlas.layout(text.text, text.anchor)
            x, y = text.position_px
            pad = 0.55 * text.height_px
            edges = np.round(extent * text.height_px + np.tile((x + 0.5, y + 0.5), 2))
            box = edges + np.array([-pad, -pad, pad, pad])
            style = (0.0, 1.0, 0.35 * text.height_px)
            panels.append(np.array([[*box, 0, 0, 0, 0, *_PANEL_RGB, text.panel_opacity, 0, 0, 0, 0, *style]]))
    return np.concatenate(panels + words) if words else np.zeros((0, _COLUMNS))


def luminance(rgb: Rgb) -> float:
    """How bright a display colour looks, 0 to 1: Rec. 709 weights on the encoded values."""
    return 0.2126 * rgb[0] + 0.7152 * rgb[1] + 0.0722 * rgb[2]


def _rows(
    atlas: GlyphAtlas,
    text: str,
    position_px: tuple[float, float],
    size_px: float,
    rgb: Rgb,
    anchor: Anchor,
    outline: Rgb | Literal["contrast"] | None,
    depth: float,
    snap: bool,
) -> Array:
    boxes, uv, extent = atlas.layout(text, anchor)
    origin = np.array(position_px, dtype=np.float64) + 0.5  # pixel centres at integers, box edges at pixel edges
    if snap:  # the left edge and the baseline fall on whole pixels
        corner = origin + extent[[0, 3]] * size_px
        origin += np.round(corner) - corner
    rows = np.zeros((len(boxes), _COLUMNS))
    rows[:, :4] = boxes * size_px + np.tile(origin, 2)
    rows[:, 4:8] = uv
    rows[:, 8:12] = (*rgb, 1.0)
    halo_rgb = (_DARK_RGB if luminance(rgb) > 0.35 else _LIGHT_RGB) if outline == "contrast" else outline
    rows[:, 12:16] = (*rgb, 0.0) if halo_rgb is None else (*halo_rgb, 0.92)
    rows[:, 16:] = depth, 2.0 * SPREAD_PX * size_px / EM_PX, -1.0
    return rows
