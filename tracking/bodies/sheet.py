"""Marker bodies on paper at true scale: flat boards, separate squares, nets to cut and fold; rulers to check a printer.

A page is a `Sheet`, a value in millimetres; `sheet_files` writes it. A flat body is laid out as it is. One that is
larger than the paper, or solid without known faces, comes as separate squares with cutting marks. A `Solid` comes as a
net: grey broken lines are folded, grey full lines cut, a tab goes under the edge with its letter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spatial.faults import Fault
from spatial.rigid import Array
from tracking.bodies.body import Body, outward_normal
from tracking.bodies.net import Piece, turned, unfold
from tracking.bodies.shapes import Solid
from tracking.synthetic.plates import pattern

PAPERS_MM = {"A4": (210.0, 297.0), "A3": (297.0, 420.0), "letter": (215.9, 279.4)}
MARGIN_MM = 13.0
FOOT_MM = 21.0
GAP_MM = 6.0
WORD_MM, SMALL_MM = 3.2, 2.4


class NotPrintable(Fault):
    """A body that fits no sheet."""


class WrongSheet(NotPrintable):
    """A paper, a file type or a place that a sheet can't have."""

    exit_code = 2


@dataclass(frozen=True)
class Word:
    """Text with its baseline's left end (or its middle) at x, y; `size_mm` is the font's height."""

    x_mm: float
    y_mm: float
    text: str
    size_mm: float = WORD_MM
    middle: bool = False


@dataclass(frozen=True, eq=False)
class Sheet:
    """One page; y down from its top-left corner.

    `inks_mm` are black shapes, each the loops (k, 2) of one outline, filled by the even-odd rule; `folds_mm` and
    `cuts_mm` are lines (2, 2).
    """

    width_mm: float
    height_mm: float
    inks_mm: tuple[tuple[Array, ...], ...]
    folds_mm: tuple[Array, ...] = ()
    cuts_mm: tuple[Array, ...] = ()
    words: tuple[Word, ...] = ()


@dataclass(eq=False)
class _Page:
    """What is on a page while it is laid out."""

    inks: list[tuple[Array, ...]]
    folds: list[Array]
    cuts: list[Array]
    words: list[Word]


def lay_out(body: Body[Any] | Solid, paper: str | None = None) -> tuple[Sheet, ...]:
    """Pages for a body; `paper` is a key of PAPERS_MM (a flat body takes A3 by itself where A4 is too small).

    Raises NotPrintable, WrongSheet.
    """
    if paper is not None and paper not in PAPERS_MM:
        raise WrongSheet(f"paper {paper}: {', '.join(PAPERS_MM)} are known")
    if isinstance(body, Solid):
        return _nets(body, paper or "A4")
    if body.is_flat and _one_side(body):
        whole = _board(body, paper)
        if whole is not None:
            return (whole,)
    return _squares(body, paper)


def _one_side(body: Body[Any]) -> bool:
    normals = np.array([outward_normal(c) for c in body.corners_mm.values()])
    return bool((normals @ normals[0] > 0.99).all())


def _board(body: Body[Any], paper: str | None) -> Sheet | None:
    """A flat body on one page, or None where it does not fit."""
    first = next(iter(body.corners_mm.values()))
    right = (first[1] - first[0]) / np.linalg.norm(first[1] - first[0])
    down = -np.cross(outward_normal(first), right)
    axes = np.stack([right, down], axis=1)
    squares = {marker: (corners - first[0]) @ axes for marker, corners in body.corners_mm.items()}
    everything = np.concatenate(list(squares.values()))
    low, high = everything.min(axis=0), everything.max(axis=0)
    cell = max(_edge_mm(square) / len(pattern(body.dictionary, marker)) for marker, square in squares.items())
    need = high - low + 2 * cell
    for name in (paper,) if paper else ("A4", "A3"):
        for width, height in (PAPERS_MM[name], PAPERS_MM[name][::-1]):
            if need[0] <= width - 2 * MARGIN_MM and need[1] <= height - MARGIN_MM - FOOT_MM:
                shift = np.array([(width - high[0] + low[0]) / 2, MARGIN_MM + cell]) - low
                page = _Page([], [], [], [])
                for marker, square in squares.items():
                    page.inks.append(outline(square + shift, pattern(body.dictionary, marker)))
                return _finished(page, width, height, body, 1, 1, "print at 100 %, on matt paper; keep it flat")
    return None


def _squares(body: Body[Any], paper: str | None) -> tuple[Sheet, ...]:
    """Each marker by itself with a cell of white, its id and cutting marks, on as many pages as are needed."""
    name = paper or "A4"
    edges = {marker: _edge_mm(corners) for marker, corners in body.corners_mm.items()}
    cells = {marker: edge / len(pattern(body.dictionary, marker)) for marker, edge in edges.items()}
    pitch = max(edges[m] + 2 * cells[m] for m in edges) + GAP_MM
    size = PAPERS_MM[name]
    if paper is None and pitch > size[0] - 2 * MARGIN_MM:
        name, size = "A3", PAPERS_MM["A3"]
    width, height = size
    columns = int((width - 2 * MARGIN_MM) // pitch)
    rows = int((height - MARGIN_MM - FOOT_MM) // pitch)
    if columns < 1 or rows < 1:
        largest = max(edges.values())
        raise NotPrintable(f"a marker of {largest:g} mm of {body.name} is larger than {name}; A3 is the largest known")
    markers = list(edges)
    chunks = [markers[k : k + columns * rows] for k in range(0, len(markers), columns * rows)]
    sheets = []
    for number, chunk in enumerate(chunks, start=1):
        page = _Page([], [], [], [])
        for k, marker in enumerate(chunk):
            edge, cell = edges[marker], cells[marker]
            low = np.array([MARGIN_MM + k % columns * pitch, MARGIN_MM + k // columns * pitch]) + GAP_MM / 2
            square = low + cell + edge * np.array([[0.0, 0], [1, 0], [1, 1], [0, 1]])
            page.inks.append(outline(square, pattern(body.dictionary, marker)))
            page.cuts += _crop_marks(low, low + edge + 2 * cell)
            page.words.append(Word(low[0] + 3.5, low[1] - 0.7, f"{body.name} {marker}, this side up", SMALL_MM))
        advice = "cut out, glue on as the body file says, then osteotwin calibrate body"
        sheets.append(_finished(page, width, height, body, number, len(chunks), advice))
    return tuple(sheets)


def _nets(solid: Solid, paper: str) -> tuple[Sheet, ...]:
    width, height = PAPERS_MM[paper]
    room = np.array([width - 2 * MARGIN_MM, height - MARGIN_MM - FOOT_MM])
    pieces = unfold(solid, room[0], room[1])
    if not pieces:
        raise NotPrintable(f"a face of {solid.body.name} is larger than {paper}; A3 is the largest paper known")
    pages: list[list[tuple[Piece, Array]]] = []
    heights: list[float] = []
    for piece in pieces:
        piece = _best_turn(piece, room)
        size = piece.box_mm[1]
        for number, used in enumerate(heights):
            if used + GAP_MM + size[1] <= room[1]:
                pages[number].append((piece, np.array([0.0, used + GAP_MM])))
                heights[number] = used + GAP_MM + size[1]
                break
        else:
            pages.append([(piece, np.zeros(2))])
            heights.append(float(size[1]))
    sheets = []
    for number, placed in enumerate(pages, start=1):
        page = _Page([], [], [], [])
        for piece, shift in placed:
            size = piece.box_mm[1]
            place = np.array([MARGIN_MM + (room[0] - size[0]) / 2, MARGIN_MM + shift[1] + size[1]])
            _draw(piece, place, solid, page)
        advice = "cut along full lines, fold along broken ones, tab A under edge A; then osteotwin calibrate body"
        sheets.append(_finished(page, width, height, solid.body, number, len(pages), advice))
    return tuple(sheets)


def _best_turn(piece: Piece, room: Array) -> Piece:
    upright, lying = turned(piece, False), turned(piece, True)
    fits = [p for p in (upright, lying) if (p.box_mm[1] <= room + 1e-9).all()]
    return min(fits or [upright], key=lambda p: float(p.box_mm[1][1]))


def _draw(piece: Piece, low_left: Array, solid: Solid, page: _Page) -> None:
    """A piece (y up) on a page (y down), its low left corner at a place."""

    def put(points: Array) -> Array:
        return np.asarray(low_left + points * np.array([1.0, -1.0]))

    dictionary = solid.body.dictionary
    for marker, square in piece.markers.items():
        page.inks.append(outline(put(square), pattern(dictionary, marker)))
    page.folds += [put(line) for line in piece.folds]
    page.cuts += [put(line) for line in piece.cuts]
    for tab, letter in piece.tabs:
        page.cuts += [put(tab[k : k + 2]) for k in range(3)]
        x, y = put(tab.mean(axis=0))
        page.words.append(Word(float(x), float(y) + 0.35 * SMALL_MM, letter, SMALL_MM, middle=True))
    for middle, inward, letter in piece.mates:  # beside the marker's white where there is room, else on the waste
        place = middle + 1.6 * inward
        cell = max((_edge_mm(s) / len(pattern(dictionary, m)) for m, s in piece.markers.items()), default=0.0)
        near = [_distance(place, square) for square in piece.markers.values()]
        if near and min(near) < cell + 1.4:
            place = middle - 1.8 * inward
        x, y = put(place)
        page.words.append(Word(float(x), float(y) + 0.35 * SMALL_MM, letter, SMALL_MM, middle=True))


def _distance(point: Array, square: Array) -> float:
    """From a point to a square (4, 2), 0 inside."""
    x, y = square[1] - square[0], square[3] - square[0]
    local = np.array([(point - square[0]) @ x / (x @ x), (point - square[0]) @ y / (y @ y)])
    beyond = np.maximum(np.maximum(-local, local - 1), 0) * np.array([np.linalg.norm(x), np.linalg.norm(y)])
    return float(np.linalg.norm(beyond))


def outline(square: Array, cells: NDArray[np.uint8]) -> tuple[Array, ...]:
    """The loops (k, 2) around the black of a marker's cells: filled by the even-odd rule no seam shows between them.

    `square` (4, 2) are its corners: top-left, top-right, bottom-right, bottom-left.
    """
    n = len(cells)
    black = np.pad(cells == 0, 1)
    ahead: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for j in range(n):
        for i in range(n):
            if not black[j + 1, i + 1]:
                continue
            for free, a, b in (
                (not black[j, i + 1], (i, j), (i + 1, j)),
                (not black[j + 1, i + 2], (i + 1, j), (i + 1, j + 1)),
                (not black[j + 2, i + 1], (i + 1, j + 1), (i, j + 1)),
                (not black[j + 1, i], (i, j + 1), (i, j)),
            ):
                if free:
                    ahead.setdefault(a, []).append(b)
    right, down = (square[1] - square[0]) / n, (square[3] - square[0]) / n
    loops = []
    while ahead:
        start = min(ahead)
        path = [start]
        while True:
            exits = ahead[path[-1]]
            step = exits.pop()
            if not exits:
                del ahead[path[-1]]
            if step == start:
                break
            path.append(step)
        corners = [
            p for k, p in enumerate(path)
            if (p[0] - path[k - 1][0]) * (path[(k + 1) % len(path)][1] - p[1])
            != (p[1] - path[k - 1][1]) * (path[(k + 1) % len(path)][0] - p[0])
        ]  # fmt: skip
        loops.append(square[0] + np.array(corners) @ np.stack([right, down]))
    return tuple(loops)


def _edge_mm(square: Array) -> float:
    return float(np.linalg.norm(square[1] - square[0]))


def _crop_marks(low: Array, high: Array) -> list[Array]:
    """Two short lines at each corner, outside of what is cut out."""
    out = []
    for x, dx in ((low[0], -1), (high[0], 1)):
        for y, dy in ((low[1], -1), (high[1], 1)):
            out.append(np.array([[x + 0.5 * dx, y], [x + 2.5 * dx, y]]))
            out.append(np.array([[x, y + 0.5 * dy], [x, y + 2.5 * dy]]))
    return out


def _finished(
    page: _Page, width: float, height: float, body: Body[Any], number: int, of: int, advice: str
) -> Sheet:  # fmt: skip
    """The foot of every page: whose it is, what to do, and a ruler along each side of the paper."""
    top = height - FOOT_MM + 5
    page.inks += ruler(np.array([MARGIN_MM, top + 9]), np.array([1.0, 0.0]), 100.0)
    page.inks += ruler(np.array([width - 10.0, height - FOOT_MM]), np.array([0.0, -1.0]), 100.0)
    edges = sorted({round(_edge_mm(corners), 2) for corners in body.corners_mm.values()})
    ids = _ranges(sorted(body.corners_mm))
    sizes = " and ".join(f"{edge:g}" for edge in edges[:3]) + (" …" if len(edges) > 3 else "")
    page.words += [
        Word(MARGIN_MM, top, f"{body.name}: {body.dictionary}, ids {ids}, {sizes} mm; page {number} of {of}"),
        Word(MARGIN_MM, top + 4, advice, SMALL_MM),
        Word(
            MARGIN_MM + 103, top + 12,
            "100 mm, as the one up the right side: measure both; print at 100 %", SMALL_MM,
        ),
    ]  # fmt: skip
    return Sheet(width, height, tuple(page.inks), tuple(page.folds), tuple(page.cuts), tuple(page.words))


def ruler(start: Array, along: Array, length_mm: float) -> list[tuple[Array, ...]]:
    """A bar with a tick a millimetre, centred on the millimetre, ticks to the right of its direction."""
    across = np.array([-along[1], along[0]])

    def box(a: float, b: float, tall: float) -> tuple[Array, ...]:
        return (np.stack([start + a * along, start + b * along, start + b * along + tall * across,
                          start + a * along + tall * across]),)  # fmt: skip

    ticks = [box(0.0, length_mm, 0.25)]
    for mm in range(round(length_mm) + 1):
        ticks.append(box(mm - 0.05, mm + 0.05, 4.0 if mm % 10 == 0 else 2.5 if mm % 5 == 0 else 1.5))
    return ticks


def _ranges(ids: Sequence[int]) -> str:
    """0-3, 7, 9 for whole numbers in order."""
    runs: list[list[int]] = []
    for marker in ids:
        if runs and marker == runs[-1][-1] + 1:
            runs[-1].append(marker)
        else:
            runs.append([marker])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
