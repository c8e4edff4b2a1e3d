"""Pages written as PDF (all in one file), SVG or PNG (a file a page), exact to a thousandth of a millimetre."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from spatial.rigid import Array
from tracking.bodies.sheet import Sheet, WrongSheet
from tracking.part_file import part_file

DPI = 600
FINE = 4  # scan lines a dot of a PNG; a dot is black when more than half of it is
POINTS_PER_MM = 72.0 / 25.4
LINE_MM, DASH_MM = 0.18, 1.5
GREY = 0.55


def write_sheets(sheets: Sequence[Sheet], path: str | Path) -> tuple[Path, ...]:
    """Write `.pdf`, `.svg` or `.png` (600 dpi); returns the files, several (`NAME-1.svg` …) where a page is a file.

    Raises WrongSheet.
    """
    file = Path(path)
    if not file.absolute().parent.is_dir():
        raise WrongSheet("there is no such folder to write into", path=file.parent)
    kind = file.suffix.lower()
    if kind == ".pdf":
        return (_put(file, _pdf(sheets)),)
    if kind not in (".svg", ".png"):
        raise WrongSheet(f"{file.suffix or 'no suffix'}: .pdf, .svg or .png can be written", path=file)
    write = _svg if kind == ".svg" else _png
    if len(sheets) == 1:
        return (_put(file, write(sheets[0])),)
    return tuple(
        _put(file.with_name(f"{file.stem}-{number}{file.suffix}"), write(sheet))
        for number, sheet in enumerate(sheets, start=1)
    )


def _put(file: Path, content: bytes) -> Path:
    with part_file(file) as part:
        part.write_bytes(content)
    return file


def _svg(sheet: Sheet) -> bytes:
    def path(loops: Sequence[Array], close: str) -> str:
        return "".join("M" + "L".join(f"{x:.4f} {y:.4f}" for x, y in loop) + close for loop in loops)

    inks = "".join(f'<path d="{path(ink, "Z")}" fill-rule="evenodd"/>' for ink in sheet.inks_mm)
    shade = f"#{round(255 * GREY):02x}" + f"{round(255 * GREY):02x}" * 2
    lines = ""
    for loops, dash in ((sheet.cuts_mm, ""), (sheet.folds_mm, f' stroke-dasharray="{DASH_MM}"')):
        if loops:
            lines += f'<path d="{path(loops, "")}" fill="none" stroke="{shade}" stroke-width="{LINE_MM}"{dash}/>'
    texts = "".join(
        f'<text x="{word.x_mm:.3f}" y="{word.y_mm:.3f}" font-family="sans-serif" font-size="{word.size_mm:g}"'
        f"{' text-anchor=' + chr(34) + 'middle' + chr(34) if word.middle else ''}>{_escape(word.text)}</text>"
        for word in sheet.words
    )
    w, h = sheet.width_mm, sheet.height_mm
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{w:g}mm" height="{h:g}mm" viewBox="0 0 {w:g} {h:g}">'
        f'<rect width="{w:g}" height="{h:g}" fill="white"/>{lines}{inks}{texts}</svg>\n'
    ).encode()


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")


def _pdf(sheets: Sequence[Sheet]) -> bytes:
    """Filled paths, thin lines and Helvetica (PDF 1.4, by hand: no library draws less)."""
    kids = " ".join(f"{4 + 2 * k} 0 R" for k in range(len(sheets)))
    objects = [
        # no viewer may shrink the page to its printer's margins
        b"<< /Type /Catalog /Pages 2 0 R /ViewerPreferences << /PrintScaling /None >> >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(sheets)} >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    ]
    for k, sheet in enumerate(sheets):
        box = f"[0 0 {sheet.width_mm * POINTS_PER_MM:.3f} {sheet.height_mm * POINTS_PER_MM:.3f}]"
        stream = _page_stream(sheet)
        objects += [
            f"<< /Type /Page /Parent 2 0 R /MediaBox {box} /Contents {5 + 2 * k} 0 R "
            "/Resources << /Font << /F1 3 0 R >> >> >>".encode(),
            b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream),
        ]
    out, places = bytearray(b"%PDF-1.4\n"), []
    for number, content in enumerate(objects, start=1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % place for place in places)
    out += b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, start)
    return bytes(out)


def _page_stream(sheet: Sheet) -> bytes:
    def place(x: float, y: float) -> str:
        return f"{x * POINTS_PER_MM:.4f} {(sheet.height_mm - y) * POINTS_PER_MM:.4f}"

    def path(loop: Array) -> str:
        return " ".join(f"{place(x, y)} {'l' if k else 'm'}" for k, (x, y) in enumerate(loop))

    lines = [f"{GREY} G {LINE_MM * POINTS_PER_MM:.3f} w"]
    lines += [path(line) + " S" for line in sheet.cuts_mm]
    lines.append(f"[{DASH_MM * POINTS_PER_MM:.3f}] 0 d")
    lines += [path(line) + " S" for line in sheet.folds_mm]
    lines += [" ".join(path(loop) + " h" for loop in ink) + " f*" for ink in sheet.inks_mm]
    for word in sheet.words:
        text = word.text.encode("cp1252", "replace").decode("cp1252")
        safe = text.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)")
        left = word.x_mm - (0.28 * word.size_mm * len(text) if word.middle else 0.0)
        lines.append(f"BT /F1 {word.size_mm * POINTS_PER_MM:.2f} Tf {place(left, word.y_mm)} Td ({safe}) Tj ET")
    return "\n".join(lines).encode("cp1252")


def _png(sheet: Sheet) -> bytes:
    scale = DPI / 25.4
    dots = np.full((round(sheet.height_mm * scale), round(sheet.width_mm * scale)), 255, dtype=np.uint8)
    picture = Image.fromarray(dots)
    draw = ImageDraw.Draw(picture)
    for line in sheet.cuts_mm:
        draw.line([tuple(p) for p in line * scale], fill=round(255 * GREY), width=4)
    for line in sheet.folds_mm:
        length = float(np.linalg.norm(line[1] - line[0]))
        for start in np.arange(0.0, length, 2 * DASH_MM):
            ends = np.array([start, min(start + DASH_MM, length)])[:, None] / length
            dash = line[0] + ends * (line[1] - line[0])
            draw.line([tuple(p) for p in dash * scale], fill=round(255 * GREY), width=4)
    for word in sheet.words:
        font = ImageFont.load_default(word.size_mm * scale)
        anchor = "ms" if word.middle else "ls"
        draw.text((word.x_mm * scale, word.y_mm * scale), word.text, fill=0, font=font, anchor=anchor)
    inked = np.array(picture)
    for ink in sheet.inks_mm:
        fill(inked, [loop * scale for loop in ink])
    buffer = io.BytesIO()
    Image.fromarray(inked).save(buffer, "PNG", dpi=(DPI, DPI))
    return buffer.getvalue()


def fill(dots: NDArray[np.uint8], loops: Sequence[Array]) -> None:
    """Blacken the dots that lie mostly within the loops (dot (i, j) covers [i, i + 1]), by the even-odd rule."""
    every = np.concatenate(list(loops))
    low = np.maximum(np.floor(every.min(axis=0)).astype(int) - 1, 0)
    high = np.minimum(np.ceil(every.max(axis=0)).astype(int) + 1, np.array(dots.shape[::-1]))
    if (high <= low).any():
        return
    width, height = (int(n) for n in high - low)
    lines, places = [], []
    for loop in loops:  # where each scan line, FINE of them a dot, crosses the outline
        for a, b in zip(loop - low, np.roll(loop - low, -1, axis=0), strict=True):
            first, last = np.ceil(np.sort([a[1], b[1]]) * FINE - 0.5).astype(int)
            line = np.arange(max(first, 0), min(last, height * FINE))
            lines.append(line)
            places.append(a[0] + ((line + 0.5) / FINE - a[1]) / (b[1] - a[1]) * (b[0] - a[0]) if len(line) else line)
    line, x = np.concatenate(lines), np.clip(np.concatenate(places), 0, width)
    order = np.lexsort((x, line))
    line, x = line[order], x[order]
    sign = np.where(np.arange(len(line)) % 2 == 0, 1.0, -1.0)  # a line enters and leaves in turns
    covered = np.zeros((height * FINE, width + 2))
    dot = np.floor(x).astype(int)
    np.add.at(covered, (line, dot), sign * (1 - (x - dot)))
    np.add.at(covered, (line, dot + 1), sign * (x - dot))
    share = np.cumsum(covered, axis=1)[:, :width].reshape(height, FINE, width).mean(axis=1)
    dots[low[1] : high[1], low[0] : high[0]][share > 0.5] = 0
