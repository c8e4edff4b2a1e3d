"""Names beside a picture: each with a thin line to what it names, in columns where no two overlap.

Layout is pure; drawing is Pillow's, smoothed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy.optimize import linear_sum_assignment

from render.glyphs import FONTS
from render.scene import Rgb

FINER = 3  # lines and dots are drawn this many times as fine and averaged
LINE_RGB: Rgb = (0.62, 0.66, 0.72)


@dataclass(frozen=True, slots=True)
class Callout:
    """A name, where its thing is seen (px), the colour of its dot, and in which column it stands."""

    text: str
    at_px: tuple[float, float]
    rgb: Rgb
    column: Literal["left", "right"] = "right"
    y_px: float = 0.0


@lru_cache(maxsize=32)
def font(size_px: int, weight: Literal["Medium", "SemiBold"] = "Medium") -> Any:
    """The program's font at a size."""
    return ImageFont.truetype(str(FONTS / f"Inter-{weight}.otf"), size_px)


def placed(
    callouts: Sequence[Callout], top_px: float, bottom_px: float, line_px: float, columns_px: tuple[float, float]
) -> list[Callout]:
    """The callouts with their heights: as near to their things as lines of `line_px` allow.

    `columns_px` are the left and the right column's edge. The lines are as short as they can be together, so no two
    cross. A column that is too short for its lines sets them closer.
    """
    found: list[Callout] = []
    for column, edge_px in zip(("left", "right"), columns_px, strict=True):
        own = sorted((one for one in callouts if one.column == column), key=lambda one: one.at_px[1])
        if not own:
            continue
        step = min(line_px, (bottom_px - top_px) / len(own))
        heights = _spread(np.array([one.at_px[1] for one in own]), step, top_px + step / 2, bottom_px - step / 2)
        at = np.array([one.at_px for one in own])
        lengths = np.hypot(at[:, :1] - edge_px, at[:, 1:] - heights[None, :])
        rows, slots = linear_sum_assignment(lengths)
        order = sorted(zip(slots.tolist(), rows.tolist(), strict=True))
        found += [replace(own[row], y_px=float(heights[slot])) for slot, row in order]
    return found


def _spread(wanted: Any, step: float, low: float, high: float) -> Any:
    """The heights nearest to the wanted ones (in order) that lie `step` apart within [low, high].

    Pool adjacent violators: what must touch becomes a block at the mean of what its members want.
    """
    blocks: list[list[float]] = []  # sum of the wanted places of the block's start, count
    for n, y in enumerate(wanted):
        blocks.append([float(y) - n * step, 1.0])
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] > blocks[-1][0] / blocks[-1][1]:
            last = blocks.pop()
            blocks[-1] = [blocks[-1][0] + last[0], blocks[-1][1] + last[1]]
    starts = np.concatenate([np.full(int(count), total / count) for total, count in blocks])
    top = low, high - (len(wanted) - 1) * step
    return np.clip(starts, min(top), max(top)) + np.arange(len(wanted)) * step


def draw_callouts(
    image: Image.Image, callouts: Sequence[Callout], columns_px: tuple[float, float], size_px: int
) -> None:
    """Draw placed callouts: words up to the left column's edge or from the right one's, and lines to the things."""
    left_px, right_px = columns_px
    wide, high = image.size
    layer = Image.new("L", (wide * FINER, high * FINER))
    pen = ImageDraw.Draw(layer)
    for one in callouts:
        x = left_px + 6 if one.column == "left" else right_px - 6
        points = [(x * FINER, one.y_px * FINER), (one.at_px[0] * FINER, one.at_px[1] * FINER)]
        pen.line(points, fill=255, width=FINER)
    _tint(image, layer, LINE_RGB, 0.75)
    for one in callouts:
        dot(image, one.at_px, 4.0, (0.05, 0.06, 0.08))
        dot(image, one.at_px, 3.0, one.rgb)
    words = ImageDraw.Draw(image)
    for one in callouts:
        place = (left_px, one.y_px) if one.column == "left" else (right_px, one.y_px)
        anchor = "rm" if one.column == "left" else "lm"
        words.text(place, one.text, fill=bytes_of((0.93, 0.95, 0.97)), font=font(size_px), anchor=anchor)


def dot(image: Image.Image, at_px: tuple[float, float], radius_px: float, rgb: Rgb) -> None:
    """A smooth disc."""
    reach = int(radius_px) + 2
    x0, y0 = round(at_px[0]) - reach, round(at_px[1]) - reach
    side = 2 * reach + 1
    layer = Image.new("L", (side * FINER, side * FINER))
    cx, cy, r = (at_px[0] - x0 + 0.5) * FINER, (at_px[1] - y0 + 0.5) * FINER, radius_px * FINER
    ImageDraw.Draw(layer).ellipse((cx - r, cy - r, cx + r, cy + r), fill=255)
    cover = layer.resize((side, side), Image.Resampling.BOX)
    image.paste(bytes_of(rgb), (x0, y0), cover)


def bytes_of(rgb: Rgb) -> tuple[int, int, int]:
    """A colour as Pillow takes it."""
    r, g, b = (round(255 * c) for c in rgb)
    return r, g, b


def _tint(image: Image.Image, layer: Image.Image, rgb: Rgb, opacity: float) -> None:
    cover = layer.resize(image.size, Image.Resampling.BOX).point(lambda v: round(v * opacity))
    image.paste(bytes_of(rgb), (0, 0), cover)
