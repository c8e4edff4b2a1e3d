"""The flat board that a camera is calibrated with: a chessboard, or one with markers in its white squares (ChArUco).

Its frame is OpenCV's: x along a row, y down the columns, z into the print; a ChArUco's origin is the outer corner of
its first square, a chessboard's is its first inner corner.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import cv2
import numpy as np

from spatial.faults import Misuse
from spatial.rigid import Array
from tracking.detection.markers import find_dictionary

Kind = Literal["charuco", "chessboard"]


class BadBoard(Misuse):
    """A board that can't be as it is described."""


@dataclass(frozen=True)
class Board:
    """`columns` x `rows`: a ChArUco's squares, a chessboard's inner corners, as OpenCV counts them.

    `marker_mm`, `dictionary` (OpenCV's full name) and `legacy` (OpenCV's pattern before 4.6, for an even number of
    rows) are a ChArUco's.
    """

    kind: Kind
    columns: int
    rows: int
    square_mm: float
    marker_mm: float = 0.0
    dictionary: str = ""
    legacy: bool = False

    def __post_init__(self) -> None:
        """Refuse a board that can't be printed. Raises BadBoard, UnknownDictionary."""
        if min(self.columns, self.rows) < 3 or max(self.columns, self.rows) > 60:
            raise BadBoard(f"a board of {self.columns} x {self.rows}; 3 to 60 either way are understood")
        if not 0.1 <= self.square_mm <= 1000:
            raise BadBoard(f"squares of {self.square_mm:g} mm; 0.1 to 1000 mm are understood")
        if self.kind == "charuco":
            if not 0.2 * self.square_mm <= self.marker_mm < self.square_mm:
                raise BadBoard(
                    f"markers of {self.marker_mm:g} mm in squares of {self.square_mm:g} mm; smaller they must be"
                )
            known, need = len(find_dictionary(self.dictionary).bytesList), self.columns * self.rows // 2
            if need > known:
                raise BadBoard(
                    f"{self.columns} x {self.rows} squares need {need} markers; {self.dictionary} has {known}"
                )

    @classmethod
    def parse(cls, text: str) -> Board:
        """`charuco:7x5,30,22,DICT_5X5_100[,legacy]` or `chessboard:14x10,6` (squares; inner corners; mm).

        Raises BadBoard, UnknownDictionary.
        """
        kind, _, rest = text.partition(":")
        parts = [part.strip() for part in rest.split(",")]
        try:
            columns, rows = (int(n) for n in parts[0].lower().split("x"))
            if kind == "chessboard" and len(parts) == 2:
                return cls("chessboard", columns, rows, float(parts[1]))
            if kind == "charuco" and (len(parts) == 4 or (len(parts) == 5 and parts[4] == "legacy")):
                name = parts[3] if parts[3].startswith("DICT_") or "." in parts[3] else f"DICT_{parts[3]}"
                return cls("charuco", columns, rows, float(parts[1]), float(parts[2]), name, len(parts) == 5)
        except ValueError:
            pass
        raise BadBoard(
            f"--board {text}: charuco:COLUMNSxROWS,SQUARE,MARKER,DICTIONARY (squares, mm) or "
            "chessboard:COLUMNSxROWS,SQUARE (inner corners, mm), as charuco:7x5,30,22,DICT_5X5_100 or chessboard:9x6,25"
        )

    def __str__(self) -> str:
        """As on the command line."""
        if self.kind == "chessboard":
            return f"chessboard:{self.columns}x{self.rows},{self.square_mm:g}"
        old = ",legacy" if self.legacy else ""
        return f"charuco:{self.columns}x{self.rows},{self.square_mm:g},{self.marker_mm:g},{self.dictionary}{old}"

    @property
    def across(self) -> tuple[int, int]:
        """Inner corners in a row, and rows of them."""
        less = 1 if self.kind == "charuco" else 0
        return self.columns - less, self.rows - less

    @cached_property
    def points_mm(self) -> Array:
        """The inner corners (N, 3), row by row; a corner's id is its row here. Read-only."""
        nx, ny = self.across
        first = self.square_mm if self.kind == "charuco" else 0.0
        y, x = np.mgrid[0:ny, 0:nx].reshape(2, -1) * self.square_mm + first
        points = np.stack([x, y, np.zeros(nx * ny)], axis=1)
        points.flags.writeable = False
        return points

    @property
    def half_turn_alike(self) -> bool:
        """Whether the board looks the same upside down, so that which corner is first can't be told."""
        nx, ny = self.across
        return self.kind == "chessboard" and (nx + ny) % 2 == 0

    @cached_property
    def markers_mm(self) -> dict[int, Array]:
        """A ChArUco's markers by id, corners (4, 3) in OpenCV's order; empty for a chessboard."""
        if self.kind != "charuco":
            return {}
        made: Any = cv2.aruco.CharucoBoard(
            (self.columns, self.rows), self.square_mm, self.marker_mm, find_dictionary(self.dictionary)
        )
        made.setLegacyPattern(self.legacy)
        ids = np.ravel(made.getIds())
        return {int(i): np.asarray(c, dtype=np.float64) for i, c in zip(ids, made.getObjPoints(), strict=True)}
