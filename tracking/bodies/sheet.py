"""Marker bodies on paper at true scale, with a ruler to check the printer: SVG, PDF or PNG."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spatial.faults import Fault
from spatial.rigid import Array
from tracking.bodies.body import Body, outward_normal
from tracking.synthetic.plates import pattern

PAPERS_MM = {"A4": (210.0, 297.0), "A3": (297.0, 420.0)}
MARGIN_MM = 12.0
FOOT_MM = 22.0
DPI = 600
POINTS_PER_MM = 72.0 / 25.4


class NotPrintable(Fault):
    """A body that fits no sheet, or a file type that can't be written."""


@dataclass(frozen=True, eq=False)
class Sheet:
    """Black polygons (N, 2) mm and words (x, y, text) on a page; y down from its top-left corner."""

    width_mm: float
    height_mm: float
    polygons_mm: tuple[Array, ...]
    words: tuple[tuple[float, float, str], ...]


def lay_out(body: Body[Any]) -> Sheet:
    """A flat body as it is, a solid one as separate squares to cut out. Raises NotPrintable."""
    squares = _flat(body) if body.is_flat and _one_side(body) else _tiles(body)
    everything = np.concatenate(list(squares.values()))
    low, high = everything.min(axis=0), everything.max(axis=0)
    cell = max(
        float(np.linalg.norm(c[1] - c[0])) / len(pattern(body.dictionary, marker)) for marker, c in squares.items()
    )
    need = high - low + 2 * (MARGIN_MM + cell) + np.array([0.0, FOOT_MM])
    fitting = [(w, h) for a, b in PAPERS_MM.values() for w, h in ((a, b), (b, a)) if need[0] <= w and need[1] <= h]
    if not fitting:
        raise NotPrintable(
            f"{body.name} needs {need[0]:.0f} x {need[1]:.0f} mm of paper; A3 (297 x 420 mm) is the largest known"
        )
    width, height = fitting[0]
    shift = np.array([(width - high[0] + low[0]) / 2, MARGIN_MM + cell]) - low
    polygons: list[Array] = []
    words: list[tuple[float, float, str]] = []
    for marker, square in squares.items():
        polygons += _cells(square + shift, pattern(body.dictionary, marker))
    edge = float(np.linalg.norm(next(iter(squares.values()))[1] - next(iter(squares.values()))[0]))
    ids = ", ".join(map(str, squares))
    words.append((MARGIN_MM, height - MARGIN_MM - 11, f"{body.name}: {body.dictionary}, ids {ids}, {edge:g} mm"))
    ruler = 100.0 if width >= 100 + 2 * MARGIN_MM else 50.0
    top = height - MARGIN_MM - 6
    polygons.append(_box(MARGIN_MM, top, ruler, 0.25))
    for mm in range(int(ruler) + 1):
        tall = 4.0 if mm % 10 == 0 else 2.5 if mm % 5 == 0 else 1.5
        polygons.append(_box(MARGIN_MM + mm - 0.06, top, 0.12, tall))
    words.append(
        (MARGIN_MM + ruler + 3, top + 3.5, f"{ruler:g} mm: measure it; print at 100 %, no fitting to the page")
    )
    return Sheet(width, height, tuple(polygons), tuple(words))


def write_sheet(sheet: Sheet, path: str | Path) -> None:
    """Write `.svg`, `.pdf` (both exact) or `.png` (600 dpi). Raises NotPrintable."""
    file = Path(path)
    writers = {".svg": _svg, ".pdf": _pdf, ".png": _png}
    if file.suffix.lower() not in writers:
        raise NotPrintable(f"{file.suffix or 'no suffix'}: .svg, .pdf or .png can be written", path=file)
    part = file.with_name(f".{file.name}.part")
    part.write_bytes(writers[file.suffix.lower()](sheet))
    os.replace(part, file)


def _one_side(body: Body[Any]) -> bool:
    normals = np.array([outward_normal(c) for c in body.corners_mm.values()])
    return bool((normals @ normals[0] > 0.99).all())


def _flat(body: Body[Any]) -> dict[int, Array]:
    first = next(iter(body.corners_mm.values()))
    right = (first[1] - first[0]) / np.linalg.norm(first[1] - first[0])
    down = (first[3] - first[0]) / np.linalg.norm(first[3] - first[0])
    axes = np.stack([right, down], axis=1)
    return {marker: (corners - first[0]) @ axes for marker, corners in body.corners_mm.items()}


def _tiles(body: Body[Any]) -> dict[int, Array]:
    out: dict[int, Array] = {}
    columns = math.ceil(math.sqrt(len(body.corners_mm)))
    sizes = {marker: float(np.linalg.norm(c[1] - c[0])) for marker, c in body.corners_mm.items()}
    pitch = max(size * (1 + 3 / len(pattern(body.dictionary, marker))) for marker, size in sizes.items())
    for k, (marker, size) in enumerate(sizes.items()):
        corner = np.array([k % columns, k // columns]) * pitch
        out[marker] = corner + size * np.array([[0.0, 0], [1, 0], [1, 1], [0, 1]])
    return out


def _cells(square: Array, cells: NDArray[np.uint8]) -> list[Array]:
    """Black runs of a marker's rows as quadrilaterals."""
    n = len(cells)
    right, down = (square[1] - square[0]) / n, (square[3] - square[0]) / n
    out = []
    for row in range(n):
        column = 0
        while column < n:
            if cells[row, column]:
                column += 1
                continue
            stop = column
            while stop < n and not cells[row, stop]:
                stop += 1
            a = square[0] + column * right + row * down
            b = square[0] + stop * right + row * down
            out.append(np.stack([a, b, b + down, a + down]))
            column = stop
    return out


def _box(x: float, y: float, width: float, height: float) -> Array:
    return np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]])


def _svg(sheet: Sheet) -> bytes:
    shapes = "".join("M" + "L".join(f"{x:.4f} {y:.4f}" for x, y in polygon) + "Z" for polygon in sheet.polygons_mm)
    texts = "".join(
        f'<text x="{x:g}" y="{y:g}" font-family="sans-serif" font-size="3.2">{_escape(text)}</text>'
        for x, y, text in sheet.words
    )
    w, h = sheet.width_mm, sheet.height_mm
    # neighbouring rows share an edge: without anti-aliasing no hairline shows between them
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{w:g}mm" height="{h:g}mm" viewBox="0 0 {w:g} {h:g}">'
        f'<rect width="{w:g}" height="{h:g}" fill="white"/>'
        f'<path d="{shapes}" shape-rendering="crispEdges"/>{texts}</svg>\n'
    ).encode()


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")


def _pdf(sheet: Sheet) -> bytes:
    """One page of filled paths and Helvetica (PDF 1.4, by hand: no library draws less)."""
    lines = []
    for polygon in sheet.polygons_mm:
        points = [(x * POINTS_PER_MM, (sheet.height_mm - y) * POINTS_PER_MM) for x, y in polygon]
        lines.append(" ".join(f"{x:.4f} {y:.4f} {'l' if k else 'm'}" for k, (x, y) in enumerate(points)) + " h f")
    for x, y, text in sheet.words:
        safe = text.encode("latin-1", "replace").decode("latin-1")
        safe = safe.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)")
        left, up = x * POINTS_PER_MM, (sheet.height_mm - y) * POINTS_PER_MM
        lines.append(f"BT /F1 9 Tf {left:.3f} {up:.3f} Td ({safe}) Tj ET")
    stream = "\n".join(lines).encode("latin-1")
    box = f"[0 0 {sheet.width_mm * POINTS_PER_MM:.3f} {sheet.height_mm * POINTS_PER_MM:.3f}]"
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        f"<< /Type /Page /Parent 2 0 R /MediaBox {box} /Contents 4 0 R "
        "/Resources << /Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >> >>".encode(),
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


def _png(sheet: Sheet) -> bytes:
    import io

    from PIL import Image, ImageDraw, ImageFont

    scale = DPI / 25.4
    picture = Image.new("L", (round(sheet.width_mm * scale), round(sheet.height_mm * scale)), 255)
    draw = ImageDraw.Draw(picture)
    for polygon in sheet.polygons_mm:
        # a pixel is filled when its centre lies inside; Pillow's polygons include their far edge
        draw.polygon([(float(x), float(y)) for x, y in np.floor(polygon * scale)], fill=0)
    for x, y, text in sheet.words:
        draw.text((x * scale, (y - 3.2) * scale), text, fill=0, font=ImageFont.load_default(3.2 * scale))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", dpi=(DPI, DPI))
    return buffer.getvalue()
