"""The frame of a case's pictures: a title, panels side by side, and below what this is not and who confirmed it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from render.callouts import bytes_of, font
from render.exhibits import Exhibit, Standing
from render.scene import Rgb
from spatial.rigid import Array

CAUTION = "Research tool, not for clinical use"
BACK_RGB: Rgb = (0.055, 0.065, 0.08)
TEXT_RGB: Rgb = (0.92, 0.94, 0.96)
QUIET_RGB: Rgb = (0.68, 0.72, 0.77)
LETTER_RGB: Rgb = (0.98, 0.86, 0.45)
WARN_RGB: Rgb = (0.98, 0.72, 0.35)
HEADER_PX, FOOTER_PX = 64, 44
LABEL_PX, LINE_PX = 19, 25


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """A picture on a page with the line above it."""

    picture: Image.Image
    title: str


def framed_page(title: str, panels: Sequence[Panel], standing: Standing) -> NDArray[np.uint8]:
    """Panels side by side under a title, over the line that says what this is not, and who confirmed the levels."""
    high_px = max(panel.picture.height for panel in panels)
    footer_px = sum(font(18).getlength(text) for text in (standing.words, CAUTION)) + 80
    title_px = font(26, "SemiBold").getlength(title) + 40
    needed_px = max(footer_px, title_px, *(font(17).getlength(panel.title) + 40 for panel in panels))
    wide_px = max(sum(panel.picture.width for panel in panels), round(needed_px))
    page = Image.new("RGB", (wide_px, HEADER_PX + high_px + FOOTER_PX), bytes_of(BACK_RGB))
    pen = ImageDraw.Draw(page)
    pen.text((20, 20), title, fill=bytes_of(TEXT_RGB), font=font(26, "SemiBold"), anchor="lm")
    x = (wide_px - sum(panel.picture.width for panel in panels)) // 2
    for panel in panels:
        page.paste(panel.picture, (x, HEADER_PX))
        pen.text((x + panel.picture.width / 2, 50), panel.title, fill=bytes_of(QUIET_RGB), font=font(17), anchor="mm")
        x += panel.picture.width
    y = page.height - FOOTER_PX / 2
    pen.line((0, page.height - FOOTER_PX, wide_px, page.height - FOOTER_PX), fill=(40, 46, 54))
    state_rgb = WARN_RGB if standing.is_warning else QUIET_RGB
    pen.text((20, y), standing.words, fill=bytes_of(state_rgb), font=font(18), anchor="lm")
    pen.text((wide_px - 20, y), CAUTION, fill=bytes_of(QUIET_RGB), font=font(18), anchor="rm")
    return np.asarray(page)


def gutter_px_of(exhibits: Sequence[Exhibit]) -> int:
    """Room beside a picture for the longest name."""
    return round(max(float(font(LABEL_PX).getlength(one.label)) for one in exhibits)) + 24


def deepest(mask: NDArray[np.bool_]) -> tuple[float, float, float]:
    """Where a shape is widest: x, y and the distance to its edge; of equally wide places the most central."""
    deep = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    ys, xs = np.nonzero(deep >= 0.8 * deep.max())
    best = int(np.argmin((xs - xs.mean()) ** 2 + (ys - ys.mean()) ** 2))
    return float(xs[best]), float(ys[best]), float(deep[ys[best], xs[best]])


def low_high(values: Array) -> float:
    """The middle between the lowest and the highest."""
    return float(values.min() + values.max()) / 2.0
