"""A panel of a picture page: a parallel view of a scene with its directions, a scale, and names beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from render.callouts import Callout, bytes_of, draw_callouts, font, placed
from render.offscreen import Offscreen
from render.orientation import edge_letters
from render.plate import BACK_RGB, LABEL_PX, LETTER_RGB, LINE_PX, QUIET_RGB, TEXT_RGB, Panel, low_high
from render.scene import Rgb, Scene, View
from spatial.frames import Patient
from spatial.rigid import Array, Points

UP = np.array([0.0, 0.0, 1.0])
FRONT = np.array([0.0, -1.0, 0.0])
TOP_PX, BOTTOM_PX = 34, 62  # of a panel: the directions, and the scale below
NICE_MM = (1, 2, 5, 10, 20, 50, 100, 200)


@dataclass(frozen=True, slots=True, eq=False)
class Name:
    """Words for what stands at a point (3,) of the patient."""

    text: str
    at_mm: Array
    rgb: Rgb


def panel(
    screen: Offscreen, scene: Scene[Patient], view: View[Patient], names: Sequence[Name], title: str, gutter_px: int
) -> Panel:
    """The scene in this parallel view; names stand in columns of `gutter_px` at its sides."""
    wide_px, high_px = view.width_px, view.height_px
    page = Image.new("RGB", (wide_px + 2 * gutter_px, TOP_PX + high_px + BOTTOM_PX), bytes_of(BACK_RGB))
    page.paste(Image.fromarray(screen.picture(scene, view)), (gutter_px, TOP_PX))
    at = [point_px(view, one.at_mm) for one in names]
    middle_px = (min(x for x, _ in at) + max(x for x, _ in at)) / 2 if at else 0.0
    callouts = [
        Callout(one.text, (x + gutter_px, y + TOP_PX), one.rgb, "left" if x < middle_px else "right")
        for one, (x, y) in zip(names, at, strict=True)
    ]
    columns_px = gutter_px - 8, wide_px + gutter_px + 8
    draw_callouts(page, placed(callouts, TOP_PX, TOP_PX + high_px, LINE_PX, columns_px), columns_px, LABEL_PX)
    draw_letters(page, view, gutter_px)
    draw_scale(page, 1.0 / float(view.pixels_per_mm(Points[Patient](scene.bounds_mm()[0]))))
    return Panel(page, title)


def gutter_px_for(names: Sequence[Name]) -> int:
    """Room beside a panel for the longest of these names."""
    return round(max((float(font(LABEL_PX).getlength(one.text)) for one in names), default=0.0)) + 24


def point_px(view: View[Patient], mm: Array) -> tuple[float, float]:
    """Where a point is drawn, kept within the picture."""
    u, v = view.pixels(Points[Patient](mm))
    return float(np.clip(u, 0, view.width_px - 1)), float(np.clip(v, 0, view.height_px - 1))


def parallel_view(
    points_mm: Array, toward_eye: Array, wide_px: int, high_px: int, margin: float = 0.03
) -> View[Patient]:
    """A parallel view (sizes can be measured in it) that holds all points in its margin; from above the front is up."""
    upright = UP if abs(float(toward_eye @ UP)) < 0.9 else FRONT
    right = np.cross(upright, toward_eye)
    right /= np.linalg.norm(right)
    up = np.cross(toward_eye, right)
    u, v = points_mm @ right, points_mm @ up
    centre = (low_high(u) * right) + (low_high(v) * up) + float(np.median(points_mm @ toward_eye)) * toward_eye
    span_mm = max(float(np.ptp(v)), float(np.ptp(u)) * high_px / wide_px, 10.0) * (1.0 + 2.0 * margin)
    return View[Patient].parallel(centre, centre + toward_eye * 2000.0, upright, wide_px, high_px, span_mm=span_mm)


def draw_letters(page: Image.Image, view: View[Patient], gutter_px: int) -> None:
    """The directions; left and right stand in the upper corners, where no name's line runs."""
    letters = edge_letters(view.rotation)
    pen = ImageDraw.Draw(page)
    w, h = page.size
    for text, place, anchor in (
        (letters["left"], (gutter_px, 6), "lt"),
        (letters["right"], (w - gutter_px, 6), "rt"),
        (letters["top"], (w / 2, 6), "mt"),
        (letters["bottom"], (w / 2, h - 36), "mb"),
    ):
        pen.text(
            place, text, fill=bytes_of(LETTER_RGB), font=font(24, "SemiBold"), anchor=anchor, stroke_width=3,
            stroke_fill=bytes_of(BACK_RGB),
        )  # fmt: skip


def draw_scale(page: Image.Image, px_mm: float) -> None:
    """A bar of a round length at the foot of the page; `px_mm` is a pixel's size."""
    w, h = page.size
    bar_mm = max((mm for mm in NICE_MM if mm / px_mm <= 0.3 * w), default=1)
    pen = ImageDraw.Draw(page)
    left, y = (w - bar_mm / px_mm) / 2, h - 8
    pen.line((left, y, left + bar_mm / px_mm, y), fill=bytes_of(TEXT_RGB), width=2)
    for x in (left, left + bar_mm / px_mm):
        pen.line((x, y - 6, x, y), fill=bytes_of(TEXT_RGB), width=2)
    pen.text((w / 2, y - 6), f"{bar_mm} mm", fill=bytes_of(QUIET_RGB), font=font(16), anchor="mb")
