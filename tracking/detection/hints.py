"""Why no marker was found: another dictionary, a mirrored picture, squares too small to be read.

Every square is read for all of OpenCV's dictionaries and for their mirror images. By chance a square bears some code of
a dictionary in 4 N of 2^bits cases, so only what chance can hardly explain is said: where the codes are short, more
squares are needed.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spatial.rigid import Array
from tracking.detection.codes import CodeBook, code_book, dictionary_names, match
from tracking.detection.markers import squares
from tracking.detection.reading import READ, read

CHANCE = 1e-4  # that squares of something else read as well as this


@dataclass(frozen=True)
class Hint:
    """`markers` of `dictionary` explain what is seen; `mirrored`: as in a mirror. `chance` that nothing is there."""

    dictionary: str
    markers: tuple[int, ...]
    mirrored: bool
    chance: float

    @property
    def words(self) -> str:
        """A sentence's part: what would explain the picture."""
        ids = ", ".join(map(str, self.markers[:8])) + (" …" if len(self.markers) > 8 else "")
        squares = f"{len(self.markers)} square" + ("s" if len(self.markers) > 1 else "")
        if self.mirrored:
            return f"{squares} would be markers of {self.dictionary} in a mirror (ids {ids}); is the picture mirrored?"
        return f"{self.dictionary} would explain {squares} (ids {ids})"


def explain(luma: NDArray[np.uint8], asked: Mapping[str, Collection[int] | None]) -> Hint | None:
    """What would best explain the squares of a grey picture in which nothing of `asked` (ids of each dictionary) is.

    None where nothing does better than chance.
    """
    candidates = squares(luma)
    if not len(candidates):
        return None
    readings = {}
    hints = []
    names = dict.fromkeys([*asked, *{name.lower(): name for name in dictionary_names()}.values()])
    for name in names:
        book = code_book(name)
        if book.bits not in readings:
            reading = read(luma, candidates.corners_px, book.bits)
            rows = np.flatnonzero((reading.verdict == READ) & (reading.inverted == candidates.bright))
            lit = np.bitwise_count(reading.words[rows]) / book.bits**2
            rows = rows[(lit > 0.15) & (lit < 0.85)]  # no chessboard's squares
            readings[book.bits] = reading.words[rows], _places(candidates.corners_px[rows])
        for mirrored in (False, True):
            hint = _judge(book, *readings[book.bits], mirrored)
            if hint is not None:
                hints.append(hint)
    return min(hints, key=lambda h: (h.dictionary not in asked, h.chance), default=None)


def _judge(book: CodeBook, words: NDArray[np.uint64], place: NDArray[np.int64], mirrored: bool) -> Hint | None:
    n = len(set(place.tolist()))
    ids, _, off = match(words, book.mirrored if mirrored else book.words)
    found = ids[off == 0]
    if not len(found):
        return None
    # the chance that so many of n places match by accident (Chernoff); several squares may stand in one place
    p = min(1.0, 4 * len(book) / 2.0 ** (book.bits**2) * len(words) / n)
    share = len(set(place[off == 0].tolist())) / n
    if share <= p:
        return None
    rest = (1 - share) * math.log((1 - share) / (1 - p)) if share < 1 else 0.0
    chance = math.exp(-n * (share * math.log(share / p) + rest))
    return Hint(book.dictionary, tuple(sorted(set(found.tolist()))), mirrored, chance) if chance < CHANCE else None


def _places(corners_px: Array) -> NDArray[np.int64]:
    """Which place each square stands in: nested ones share it."""
    place = np.arange(len(corners_px))
    centres = corners_px.mean(axis=1)
    spans = np.ptp(corners_px, axis=1).max(axis=1)
    for k in range(len(corners_px)):
        near = np.abs(centres[:k] - centres[k]).max(axis=1) < 0.3 * np.minimum(spans[:k], spans[k])
        if near.any():
            place[k] = place[int(np.argmax(near))]
    return place
