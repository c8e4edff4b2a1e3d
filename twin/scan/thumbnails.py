"""A small picture of a series, to choose by: three of its slices side by side, in a window for bone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from spatial.faults import Fault
from twin.scan.headers import Header
from twin.scan.series import Series
from twin.scan.voxels import read_slices

CENTRE_HU, WIDTH_HU = 300.0, 1600.0
PANEL_PX = 256
AT = (0.25, 0.5, 0.75)  # along the stack
MOST_PIXELS = 1 << 26


def draw_thumbnail(series: Series, path: Path) -> bool:
    """Write a PNG of the series; False when it holds no picture. A slice that can't be read is an empty panel."""
    layout = series.verdict.layout
    headers = list(layout.headers) if layout is not None else [h for h in series.headers if _is_grey(h)]
    if not headers:
        return False
    if layout is None:
        headers.sort(key=lambda h: (h.instance_number or 0, h.frame))
    count = len(headers)
    chosen = sorted({round(share * (count - 1)) for share in AT}) if count > 2 else list(range(count))
    sheet = Image.new("L", (PANEL_PX * len(chosen), PANEL_PX + 20), 0)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for column, index in enumerate(chosen):
        panel = _panel(headers[index])
        if panel is None:
            pen.text((column * PANEL_PX + 80, PANEL_PX // 2), "cannot be read", fill=200, font=font)
        else:
            _put(sheet, panel, column)
        pen.text((column * PANEL_PX + 6, PANEL_PX + 2), f"{index + 1} of {count}", fill=255, font=font)
    sheet.save(path)
    return True


def draw_volume_thumbnail(hu: NDArray[np.int16], spacing_mm: Sequence[float], path: Path) -> None:
    """The same of voxels (k, j, i) from an image file."""
    chosen = sorted({round(share * (len(hu) - 1)) for share in AT})
    sheet = Image.new("L", (PANEL_PX * len(chosen), PANEL_PX), 0)
    for column, index in enumerate(chosen):
        _put(sheet, _shown(hu[index], (spacing_mm[1], spacing_mm[0]), CENTRE_HU, WIDTH_HU), column)
    sheet.save(path)


def _put(sheet: Image.Image, panel: Image.Image, column: int) -> None:
    sheet.paste(panel, (column * PANEL_PX + (PANEL_PX - panel.width) // 2, (PANEL_PX - panel.height) // 2))


def _is_grey(header: Header) -> bool:
    return header.pixels is not None and header.pixels.samples == 1


def _panel(header: Header) -> Image.Image | None:
    pixels = header.pixels
    if pixels is None or pixels.rows * pixels.columns > MOST_PIXELS or pixels.bits_allocated not in (8, 16, 32):
        return None
    is_hu = header.slope not in (None, 0.0) and header.intercept is not None
    try:
        plane = read_slices([header if is_hu else replace(header, slope=1.0, intercept=0.0)])[0]
    except Fault:
        return None
    sides = (1.0, 1.0) if header.spacing_mm is None else (float(header.spacing_mm[0]), float(header.spacing_mm[1]))
    if is_hu and plane.max() > CENTRE_HU - WIDTH_HU / 2:
        return _shown(plane, sides, CENTRE_HU, WIDTH_HU)
    low, high = (float(v) for v in np.percentile(plane, (1, 99)))
    return _shown(plane, sides, (low + high) / 2, max(high - low, 1.0))


def _shown(plane: NDArray[np.int16], pixel_mm: tuple[float, float], centre: float, width: float) -> Image.Image:
    """Grey levels in the window; the longer side fills the panel, in true proportions where the pixels say them."""
    grey = np.clip((plane.astype(np.float32) - (centre - width / 2)) / width, 0, 1) * 255
    height, breadth = plane.shape[0] * abs(pixel_mm[0]), plane.shape[1] * abs(pixel_mm[1])
    if not 0.05 < height / max(breadth, 1e-6) < 20:
        height, breadth = float(plane.shape[0]), float(plane.shape[1])
    scale = PANEL_PX / max(height, breadth)
    size = (max(1, round(breadth * scale)), max(1, round(height * scale)))
    return Image.fromarray(grey.astype(np.uint8)).resize(size, Image.Resampling.BILINEAR)
