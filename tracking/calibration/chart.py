"""A calibration drawn: where the board was seen and how it was tilted, and what the fit left over."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from spatial.faults import Fault
from spatial.pinhole import Pinhole
from spatial.rigid import Array
from tracking.calibration.board import Board
from tracking.calibration.board_view import BoardView
from tracking.calibration.camera_fit import CameraFit, Pose
from tracking.calibration.coverage import CELLS, coverage

WIDE_PX = 960
PANEL_PX = 340
MARGIN_PX = 24
HEAD_PX = 64
INK, SOFT, GRID = (30, 34, 40), (110, 118, 128), (214, 219, 226)
SEEN, EMPTY, GOOD, BAD = (30, 110, 190), (253, 232, 226), (24, 120, 80), (200, 50, 40)


class ChartNotWritten(Fault):
    """A picture that can't be written."""


def draw_coverage(views: Sequence[BoardView], poses: Sequence[Pose], board: Board, pinhole: Pinhole) -> Image.Image:
    """The picture's cells with the corners and boards seen in them; beside it every board's tilt and distance."""
    size_px = (pinhole.width_px, pinhole.height_px)
    seen = coverage(views, poses, board, size_px)
    canvas, draw, scale = _sheet(size_px, PANEL_PX)
    left, top = MARGIN_PX, HEAD_PX
    w, h = size_px[0] * scale, size_px[1] * scale
    most = max(1, int(seen.cells.max()))
    for row in range(CELLS[1]):
        for column in range(CELLS[0]):
            count = int(seen.cells[row, column])
            shade = EMPTY if count == 0 else _mix((235, 243, 250), (150, 195, 232), min(1.0, (count / most) ** 0.5))
            box = [left + column * w / CELLS[0], top + row * h / CELLS[1]]
            draw.rectangle([*box, box[0] + w / CELLS[0], box[1] + h / CELLS[1]], fill=shade, outline=(255, 255, 255))
    nx, ny = board.across
    for view in views:
        where = dict(zip(view.ids.tolist(), view.corners_px * scale + (left, top), strict=True))
        rim = [where[i] for i in (0, nx - 1, nx * ny - 1, nx * (ny - 1)) if i in where]
        if len(rim) == 4:
            draw.polygon([tuple(p) for p in rim], outline=_mix(SEEN, (255, 255, 255), 0.45))
        for x, y in where.values():
            draw.ellipse([x - 1.5, y - 1.5, x + 1.5, y + 1.5], fill=SEEN)
    draw.rectangle([left, top, left + w, top + h], outline=INK)
    _words(draw, left, 14, f"Board corners in {len(views)} pictures: {seen.share:.0%} of the cells seen", 22)
    _words(draw, left, 42, "Pink: not seen yet.", 14, SOFT)
    _tilts(draw, left + w + MARGIN_PX, top, poses, seen.tilts_deg, seen.far_mm)
    return canvas


def draw_residuals(fit: CameraFit) -> Image.Image:
    """What the fit left over: an arrow a corner, seen less predicted, enlarged; the RMS of each part in colour."""
    size_px = (fit.pinhole.width_px, fit.pinhole.height_px)
    canvas, draw, scale = _sheet(size_px, 0)
    left, top = MARGIN_PX, HEAD_PX
    w, h = size_px[0] * scale, size_px[1] * scale
    columns, rows = 16, 12
    place = np.clip(fit.stack.px / size_px * (columns, rows), 0, (columns - 1, rows - 1)).astype(int)
    squares = (fit.residuals_px**2).sum(axis=1)
    kept = fit.weights > 0.2
    for row in range(rows):
        for column in range(columns):
            here = kept & (place[:, 0] == column) & (place[:, 1] == row)
            shade = (246, 247, 249)
            if here.any():
                level = float(np.sqrt(squares[here].mean())) / max(2 * fit.rms_px, 1e-9)
                shade = _mix((240, 247, 242), (247, 190, 160), min(1.0, level))
            box = [left + column * w / columns, top + row * h / rows]
            draw.rectangle([*box, box[0] + w / columns, box[1] + h / rows], fill=shade)
    enlarged = 14.0 / max(fit.rms_px * scale, 1e-9)
    enlarged = float(f"{enlarged:.1g}")
    chosen = np.flatnonzero(kept)
    every = max(1, len(chosen) // 2500)
    for k in chosen[::every]:
        a = fit.stack.px[k] * scale + (left, top)
        _arrow(draw, a, a + fit.residuals_px[k] * scale * enlarged, GOOD)
    for k in np.flatnonzero(~kept):
        x, y = fit.stack.px[k] * scale + (left, top)
        draw.line([x - 4, y - 4, x + 4, y + 4], fill=BAD, width=2)
        draw.line([x - 4, y + 4, x + 4, y - 4], fill=BAD, width=2)
    draw.rectangle([left, top, left + w, top + h], outline=INK)
    _words(draw, left, 14, f"Residuals: {fit.rms_px:.3f} px RMS, arrows {enlarged:g} times as long", 22)
    out = int((~kept).sum())
    _words(draw, left, 42, f"Colour: RMS of each part. {out} corners without weight (red crosses).", 14, SOFT)
    return canvas


def write_chart(chart: Image.Image, path: Path) -> None:
    """As PNG. Raises ChartNotWritten."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        chart.save(path)
    except OSError as error:
        raise ChartNotWritten(f"the picture can't be written: {error.strerror or error}", path=path) from None


def _sheet(size_px: tuple[int, int], panel_px: int) -> tuple[Image.Image, ImageDraw.ImageDraw, float]:
    scale = WIDE_PX / size_px[0]
    height = max(round(size_px[1] * scale), 440 if panel_px else 0)
    wide = WIDE_PX + 2 * MARGIN_PX + (panel_px + MARGIN_PX if panel_px else 0)
    canvas = Image.new("RGB", (wide, height + HEAD_PX + MARGIN_PX), (255, 255, 255))
    return canvas, ImageDraw.Draw(canvas), scale


def _tilts(draw: ImageDraw.ImageDraw, left: float, top: float, poses: Sequence[Pose], tilts: Array, far: Array) -> None:
    """A rose of tilts (the edge that is nearer is outward) and a bar of distances."""
    radius = PANEL_PX / 2 - 30
    x, y = left + PANEL_PX / 2, top + radius + 44
    for ring in (15, 30, 45, 60):
        r = radius * ring / 60
        draw.ellipse([x - r, y - r, x + r, y + r], outline=GRID)
        _words(draw, x + 3, y - r - 1, f"{ring}°", 11, SOFT)
    for side, dx, dy in (("left", -1, 0), ("right", 1, 0), ("top", 0, -1), ("bottom", 0, 1)):
        draw.line([x, y, x + dx * radius, y + dy * radius], fill=GRID)
        draw.text((x + dx * (radius + 16), y + dy * (radius + 12)), side, fill=SOFT, font=_font(12), anchor="mm")
    for (R, _), tilt in zip(poses, tilts, strict=True):
        length = float(np.linalg.norm(R[:2, 2]))
        toward = R[:2, 2] / length if length > 1e-9 else np.zeros(2)
        px, py = np.array([x, y]) + toward * radius * min(float(tilt), 60.0) / 60
        draw.ellipse([px - 4, py - 4, px + 4, py + 4], fill=SEEN, outline=(255, 255, 255))
    _words(draw, left, top, "Tilt of the board: which edge is nearer", 14)
    base = y + radius + 64
    _words(draw, left, base - 34, "Distance, mm", 14)
    low, high = float(far.min(initial=1e9)), float(far.max(initial=0.0))
    low, high = low * 0.9, max(high * 1.1, low + 1)
    draw.line([left, base, left + PANEL_PX, base], fill=SOFT)
    for distance in far:
        px = left + PANEL_PX * (float(distance) - low) / (high - low)
        draw.line([px, base - 8, px, base + 8], fill=SEEN, width=2)
    draw.text((left, base + 12), f"{low:.0f}", fill=SOFT, font=_font(12))
    draw.text((left + PANEL_PX, base + 12), f"{high:.0f}", fill=SOFT, font=_font(12), anchor="ra")


def _arrow(draw: ImageDraw.ImageDraw, a: Array, b: Array, colour: tuple[int, int, int]) -> None:
    draw.line([*a, *b], fill=colour)
    draw.ellipse([a[0] - 1, a[1] - 1, a[0] + 1, a[1] + 1], fill=colour)


def _words(
    draw: ImageDraw.ImageDraw, x: float, y: float, text: str, size: int, colour: tuple[int, int, int] = INK
) -> None:
    draw.text((x, y), text, fill=colour, font=_font(size))


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _mix(a: tuple[int, int, int], b: tuple[int, int, int], share: float) -> tuple[int, int, int]:
    mixed = [round(p + (q - p) * share) for p, q in zip(a, b, strict=True)]
    return mixed[0], mixed[1], mixed[2]
