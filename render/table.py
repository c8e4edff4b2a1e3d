"""A table as a picture: a title, columns, rows in groups, and cells that may carry a colour and a bar."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from render.callouts import bytes_of, font
from render.plate import BACK_RGB, CAUTION, LETTER_RGB, QUIET_RGB, TEXT_RGB
from render.scene import Rgb

ROW_PX, HEAD_PX, PAD_PX, BAR_PX = 34, 44, 18, 4
TEXT_PX, TITLE_PX = 19, 26
STRIPE_RGB: Rgb = (0.075, 0.088, 0.108)
LINE_RGB: Rgb = (0.17, 0.195, 0.23)


@dataclass(frozen=True, slots=True)
class Cell:
    """A word or a number with its unit. `rgb` colours it; `bar` (0 to 1) is drawn under it."""

    text: str
    rgb: Rgb | None = None
    bar: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A name and a cell a column; `stands_out` where the cells differ. Without cells it is a group's heading."""

    name: str
    cells: tuple[Cell, ...] = ()
    stands_out: bool = False


def table_page(title: str, columns: Sequence[str], rows: Sequence[Row], notes: Sequence[str]) -> NDArray[np.uint8]:
    """The picture (RGB), as large as its words need."""
    name_px = max(_long(row.name, "SemiBold" if not row.cells else "Medium") for row in rows) + 2 * PAD_PX
    wide = [
        max(_long(title, "SemiBold"), *(_long(row.cells[n].text) for row in rows if row.cells), 90) + 2 * PAD_PX
        for n, title in enumerate(columns)
    ]
    needed = max(_long(title, "SemiBold", TITLE_PX), *(_long(line) for line in (*notes, CAUTION))) + 2 * PAD_PX
    width = round(max(name_px + sum(wide), needed))
    top = TITLE_PX + 2 * PAD_PX
    height = top + HEAD_PX + ROW_PX * len(rows) + PAD_PX + 28 * (len(notes) + 1) + PAD_PX
    page = Image.new("RGB", (width, height), bytes_of(BACK_RGB))
    pen = ImageDraw.Draw(page)
    _put(pen, (PAD_PX, top / 2), title, TEXT_RGB, "lm", "SemiBold", TITLE_PX)
    edges = [name_px + sum(wide[:n]) for n in range(len(wide) + 1)]
    for n, column in enumerate(columns):
        _put(pen, (edges[n + 1] - PAD_PX, top + HEAD_PX / 2), column, TEXT_RGB, "rm", "SemiBold")
    pen.line((0, top + HEAD_PX, width, top + HEAD_PX), fill=bytes_of(LINE_RGB), width=2)
    for n, row in enumerate(rows):
        _row(pen, row, top + HEAD_PX + n * ROW_PX, edges, width)
    y = top + HEAD_PX + ROW_PX * len(rows) + PAD_PX
    pen.line((0, y - PAD_PX / 2, width, y - PAD_PX / 2), fill=bytes_of(LINE_RGB))
    for n, line in enumerate((*notes, CAUTION)):
        _put(pen, (PAD_PX, y + 14 + 28 * n), line, QUIET_RGB, "lm")
    return np.asarray(page)


def _row(pen: ImageDraw.ImageDraw, row: Row, y: float, edges: Sequence[float], width: int) -> None:
    middle = y + ROW_PX / 2
    if not row.cells:
        _put(pen, (PAD_PX, middle + 3), row.name, LETTER_RGB, "lm", "SemiBold")
        pen.line((0, y + ROW_PX, width, y + ROW_PX), fill=bytes_of(LINE_RGB))
        return
    if row.stands_out:
        pen.rectangle((0, y + 1, width, y + ROW_PX - 1), fill=bytes_of(STRIPE_RGB))
        pen.rectangle((0, y + 1, 4, y + ROW_PX - 1), fill=bytes_of(LETTER_RGB))
    _put(pen, (PAD_PX, middle), row.name, TEXT_RGB if row.stands_out else QUIET_RGB, "lm")
    for n, cell in enumerate(row.cells):
        right = edges[n + 1] - PAD_PX
        _put(pen, (right, middle), cell.text, cell.rgb or (TEXT_RGB if row.stands_out else QUIET_RGB), "rm")
        if cell.bar is not None:
            long_px = (edges[n + 1] - edges[n] - 2 * PAD_PX) * min(max(cell.bar, 0.0), 1.0)
            low = y + ROW_PX - BAR_PX - 1
            pen.rectangle((right - long_px, low, right, low + BAR_PX - 2), fill=bytes_of(cell.rgb or QUIET_RGB))


def _long(text: str, weight: str = "Medium", size_px: int = TEXT_PX) -> float:
    return float(font(size_px, "SemiBold" if weight == "SemiBold" else "Medium").getlength(text))


def _put(
    pen: ImageDraw.ImageDraw, at: tuple[float, float], text: str, rgb: Rgb, anchor: str, weight: str = "Medium",
    size_px: int = TEXT_PX,
) -> None:  # fmt: skip
    face = font(size_px, "SemiBold" if weight == "SemiBold" else "Medium")
    pen.text(at, text, fill=bytes_of(rgb), font=face, anchor=anchor)
