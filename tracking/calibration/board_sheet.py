"""A calibration board on paper at true scale, with rulers to check the printer."""

from __future__ import annotations

import numpy as np

from spatial.rigid import Array
from tracking.bodies.sheet import (
    FOOT_MM,
    MARGIN_MM,
    PAPERS_MM,
    SMALL_MM,
    NotPrintable,
    Sheet,
    Word,
    WrongSheet,
    outline,
    ruler,
)
from tracking.calibration.board import Board
from tracking.synthetic.plates import pattern


def lay_out_board(board: Board, paper: str | None = None) -> Sheet:
    """One page; `paper` is a key of PAPERS_MM, the smallest that fits when left out. Raises NotPrintable."""
    if paper is not None and paper not in PAPERS_MM:
        raise WrongSheet(f"paper {paper}: {', '.join(PAPERS_MM)} are known")
    less = 0 if board.kind == "charuco" else 1
    columns, rows = board.columns + less, board.rows + less
    need = np.array([columns, rows]) * board.square_mm
    for name in (paper,) if paper else ("A4", "A3"):
        for width, height in (PAPERS_MM[name], PAPERS_MM[name][::-1]):
            if need[0] <= width - 2 * MARGIN_MM and need[1] <= height - MARGIN_MM - FOOT_MM:
                start = np.array([(width - need[0]) / 2, MARGIN_MM])
                inks = _inks(board, columns, rows, start)
                top = height - FOOT_MM + 5
                inks += ruler(np.array([MARGIN_MM, top + 9]), np.array([1.0, 0.0]), 100.0)
                inks += ruler(np.array([width - 10.0, height - FOOT_MM]), np.array([0.0, -1.0]), 100.0)
                words = (
                    Word(MARGIN_MM, top, f"--board {board}"),
                    Word(
                        MARGIN_MM, top + 4, "print at 100 % on matt paper, glue it to a plate that is flat; measure a "
                        "row of squares and state what you measured", SMALL_MM,
                    ),
                    Word(MARGIN_MM + 103, top + 12, "100 mm, as the one up the right side: measure both", SMALL_MM),
                )  # fmt: skip
                return Sheet(width, height, tuple(inks), words=words)
    raise NotPrintable(
        f"{board} is {need[0]:.0f} x {need[1]:.0f} mm, more than {paper or 'A3'} holds; smaller or fewer squares"
    )


def _inks(board: Board, columns: int, rows: int, start: Array) -> list[tuple[Array, ...]]:
    """Black squares and, in a ChArUco's white ones, its markers, counted along the rows."""
    edge = board.square_mm
    swapped = board.legacy and rows % 2 == 0
    inks: list[tuple[Array, ...]] = []
    marker = 0
    for row in range(rows):
        for column in range(columns):
            corner = start + edge * np.array([column, row])
            square = corner + edge * np.array([[0.0, 0], [1, 0], [1, 1], [0, 1]])
            if (row + column) % 2 == (1 if swapped else 0):
                inks.append((square,))
            elif board.kind == "charuco":
                inset = (edge - board.marker_mm) / 2
                small = corner + inset + board.marker_mm * np.array([[0.0, 0], [1, 0], [1, 1], [0, 1]])
                inks.append(outline(small, pattern(board.dictionary, marker)))
                marker += 1
    return inks
