"""Find square markers in a picture: squares, what they say, and where their corners are to a hundredth of a pixel.

One pass over the squares serves every dictionary that is asked for. Corners come from our own edge fit; what is too
small for it gets OpenCV's corner refinement and says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import cv2
import numpy as np
from numpy.typing import NDArray

from spatial.pinhole import Pinhole
from spatial.rigid import Array
from tracking.detection.codes import CodeBook, UnknownDictionary, code_book, dictionary_names, find_dictionary, match
from tracking.detection.edges import fit_corners
from tracking.detection.quads import Quads, quads
from tracking.detection.reading import LEVELS, READ, Readings, read

cv2.setNumThreads(2)

SUBPIX_SD_PX = 0.7  # its RMS on rendered markers with sides of 8 to 14 px, where the edge fit gives up
SUBPIX_SHARE = 0.02  # of a side: a large marker gives up for another reason, a square wrongly found
HALVED_FROM_PX = 700  # a picture whose shorter edge is longer is searched at half its size
__all__ = ["Detections", "UnknownDictionary", "detect", "detect_all", "dictionary_names", "find_dictionary", "grey"]


@dataclass(frozen=True, eq=False)
class Detections:
    """Markers of one dictionary in one raw picture; nothing here says which body they belong to.

    `ids` (N,), `corners_px` (N, 4, 2) in OpenCV's order, pixel centres at integers. `whitening` (N, 8, 8) times a
    corner error (x0, y0, ... y3) has unit variance. `method` (N,):
    EDGES, PARTLY (some sides could not be fitted) or SUBPIX (too small for the fit). `blur_px` (N,): the widest of a
    marker's edges, 0 where none was fitted.
    """

    dictionary: str
    ids: NDArray[np.int64]
    corners_px: Array
    whitening: Array
    method: tuple[str, ...]
    blur_px: Array = field(default_factory=lambda: np.zeros(0))

    def __len__(self) -> int:
        """How many markers were seen."""
        return len(self.ids)

    def by_id(self) -> Mapping[int, int]:
        """Index of each id that was seen exactly once; an id seen twice is nobody's."""
        ids, first, count = np.unique(self.ids, return_index=True, return_counts=True)
        return MappingProxyType({int(i): int(k) for i, k, n in zip(ids, first, count, strict=True) if n == 1})

    def plus(self, other: Detections) -> Detections:
        """These and others of the same dictionary."""
        return Detections(
            self.dictionary,
            np.concatenate([self.ids, other.ids]),
            np.concatenate([self.corners_px, other.corners_px]),
            np.concatenate([self.whitening, other.whitening]),
            (*self.method, *other.method),
            np.concatenate([self.blur_px, other.blur_px]),
        )

    def where(self, rows: NDArray[np.bool_]) -> Detections:
        """Some of them."""
        method = tuple(m for m, keep in zip(self.method, rows.tolist(), strict=True) if keep)
        return Detections(
            self.dictionary, self.ids[rows], self.corners_px[rows], self.whitening[rows], method, self.blur_px[rows]
        )

    def covariance_px2(self) -> Array:
        """Covariance (N, 8, 8) of each marker's corner coordinates."""
        root = np.linalg.inv(self.whitening)
        return np.asarray(root @ np.swapaxes(root, -1, -2))


@dataclass(frozen=True, eq=False)
class Coarse:
    """Markers of one dictionary before their corners are fitted: half a pixel good.

    `ids` (N,), `corners_px` (N, 4, 2) in OpenCV's order, `inverted` (N,): printed white on black.
    """

    ids: NDArray[np.int64]
    corners_px: Array
    inverted: NDArray[np.bool_]


def grey(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Luma (h, w) of an RGB or grey picture."""
    if picture.ndim == 2:
        return np.require(picture, np.uint8, ("C", "W"))  # the kernels are compiled for arrays that could be written
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(picture[..., :3]), cv2.COLOR_RGB2GRAY), dtype=np.uint8)


def detect(picture: NDArray[np.uint8], dictionary: str, pinhole: Pinhole | None = None) -> Detections:
    """Find and refine all markers of `dictionary` in a raw picture, grey (h, w) or RGB (h, w, 3).

    With `pinhole` the sides are fitted as the curves that the lens makes of them. Raises UnknownDictionary.
    """
    return detect_all(picture, (dictionary,), pinhole)[dictionary]


def detect_all(
    picture: NDArray[np.uint8], dictionaries: Sequence[str], pinhole: Pinhole | None = None
) -> dict[str, Detections]:
    """The same for several dictionaries, by name; the picture is searched once."""
    luma = grey(picture)
    books = [code_book(name) for name in dictionaries]
    coarse = identify(luma, squares(luma), books)
    return {book.dictionary: refine(luma, found, book, pinhole) for book, found in zip(books, coarse, strict=True)}


def squares(luma: NDArray[np.uint8]) -> Quads:
    """Everything square in a whole picture. Sides under 8 px, in large pictures 16 px, are not found."""
    return quads(luma, 2 if min(luma.shape) >= HALVED_FROM_PX else 1)


def identify(luma: NDArray[np.uint8], candidates: Quads, books: Sequence[CodeBook]) -> list[Coarse]:
    """Which of the squares bear a code of each book; of squares around the same marker the clearest."""
    out = []
    readings = {bits: _readings(luma, candidates, books, bits) for bits in {book.bits for book in books}}
    for book in books:
        candidates, reading = readings[book.bits]
        ids, turns, off = match(reading.words, book.words)
        whole = (reading.verdict == READ) & (off <= book.corrects)
        for level in LEVELS if book.bits > 4 else ():  # with a short code three tries are two too many
            rest = np.flatnonzero(~whole)
            again = read(luma, candidates.corners_px[rest], book.bits, level=level)
            found, turned, wrong = match(again.words, book.words)
            better = (again.verdict == READ) & (wrong <= book.corrects)
            whole[rest[better]] = True
            ids[rest[better]], turns[rest[better]], off[rest[better]] = found[better], turned[better], wrong[better]
        good = np.flatnonzero(whole)
        good = good[book.oriented[ids[good]]]
        good = good[np.lexsort((-reading.contrast[good] * reading.purity[good], off[good]))]
        kept: list[int] = []
        corners = {int(k): np.roll(candidates.corners_px[k], turns[k], axis=0) for k in good}
        for k in good.tolist():
            size = float(np.ptp(corners[k], axis=0).max())
            near = [ids[j] == ids[k] and np.abs(corners[j] - corners[k]).max() < 0.5 * size for j in kept]
            if not any(near):
                kept.append(k)
        kept.sort(key=lambda k: (ids[k], corners[k][0, 1], corners[k][0, 0]))
        at = np.array(kept, dtype=np.int64)
        out.append(Coarse(ids[at], np.array([corners[k] for k in kept]).reshape(-1, 4, 2), reading.inverted[at]))
    return out


def _readings(
    luma: NDArray[np.uint8], candidates: Quads, books: Sequence[CodeBook], bits: int
) -> tuple[Quads, Readings]:
    """The squares that a glance (one sample a cell) takes for a code of some book of this size, and how they read."""
    glance = read(luma, candidates.corners_px, bits, across=1)
    # the inner edge of a dark border is a bright square's outline, and no marker's
    likely = (glance.verdict == READ) & (glance.inverted == candidates.bright)
    rows = np.flatnonzero(likely)
    near = np.zeros(len(rows), dtype=np.bool_)
    for book in books:
        if book.bits == bits:
            near |= match(glance.words[rows], book.words)[2] <= book.corrects + 2
    chosen = Quads(candidates.corners_px[rows[near]], candidates.bright[rows[near]])
    return chosen, read(luma, chosen.corners_px, bits)


def refine(
    luma: NDArray[np.uint8],
    coarse: Coarse,
    book: CodeBook,
    pinhole: Pinhole | None,
    hidden_sd_px: float | None = None,
) -> Detections:
    """Fit the edges of coarse markers.

    `hidden_sd_px`: the coarse corners come from a pose, so a side without an edge keeps its place with this sd, and a
    marker without any is left out.
    """
    n = len(coarse.ids)
    corners, whitening = coarse.corners_px.copy(), np.tile(np.eye(8) / SUBPIX_SD_PX, (n, 1, 1))
    method, blur = ["SUBPIX"] * n, np.zeros(n)
    codes = book.patterns(coarse.ids) ^ coarse.inverted[:, None, None].astype(np.uint8)
    sd_px = {} if hidden_sd_px is None else {"coarse_sd_px": hidden_sd_px}
    fit = fit_corners(luma, coarse.corners_px, codes, pinhole, **sd_px)
    for row, start in enumerate(coarse.corners_px):
        edge_px = float(np.linalg.norm(np.roll(start, -1, axis=0) - start, axis=1).min())
        astray = np.abs(fit.corners_px[row] - start).max() > max(4.0, 0.1 * edge_px)
        sides = int(fit.fitted[row].sum())
        if astray or sides < (2 if hidden_sd_px is None else 1):
            corners[row] = start if hidden_sd_px is not None else _subpix(luma, start, edge_px)
            whitening[row] /= max(1.0, SUBPIX_SHARE * edge_px / SUBPIX_SD_PX)  # a large square may be off by more
            continue
        corners[row], whitening[row] = fit.corners_px[row], fit.whitening[row]
        method[row] = "EDGES" if sides == 4 else "PARTLY"
        blur[row] = float(fit.blur_px[row][fit.fitted[row]].max())
    found = Detections(book.dictionary, coarse.ids, corners, whitening, tuple(method), blur)
    return found if hidden_sd_px is None else found.where(np.array([m != "SUBPIX" for m in method], dtype=np.bool_))


def _subpix(luma: NDArray[np.uint8], corners_px: Array, edge_px: float) -> Array:
    window = int(np.clip(edge_px / 8, 1, 5))
    last = np.array(luma.shape[::-1], dtype=np.float64) - 1
    inside = ((corners_px >= 0) & (corners_px <= last)).all(axis=1, keepdims=True)  # OpenCV refuses one beyond the rim
    start = np.clip(corners_px, 0, last).astype(np.float32).reshape(-1, 1, 2)
    stop = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 30, 0.01)
    refined = cv2.cornerSubPix(luma, start, (window, window), (-1, -1), stop).reshape(4, 2).astype(np.float64)
    return np.where(inside & (np.abs(refined - corners_px) <= window + 1), refined, corners_px)
