"""Markers from picture to picture: looked for where they are expected, and everywhere only where that is needed.

A marker whose place is predicted is tried there first: its sides are laid onto the picture's edges and its code is
read, which costs a tenth of a millisecond. Where that fails the region around it is searched, and then the whole
picture: in the same picture for recordings, so the result never depends on the machine's speed, or in a thread of its
own for a live camera, where tracking must not wait. What the thread finds is old by then; it is a place to look at, no
measurement.
"""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from spatial.pinhole import Pinhole
from spatial.rigid import Array
from tracking.detection.align import align
from tracking.detection.codes import CodeBook, code_book, match
from tracking.detection.luma import Luma
from tracking.detection.markers import Coarse, Detections, identify, refine, squares
from tracking.detection.quads import quads
from tracking.detection.reading import READ, partly, read
from tracking.latest import Latest

ALIGN_CELLS = 1.4  # sides are laid onto edges within this many cells: two further in lies the next edge of its kind
LEAST_SIDE_PX = 9.0  # a marker that is expected to be smaller is left to the search
REGION_SIDE_PX = 28.0  # a region is made smaller until its marker's sides are about this long
FORGIVEN_SHARE = 0.5  # of the bits that tell two ids apart may be wrong where the id is expected
HIDDEN_SD_PX = 30.0  # a side that was only predicted says next to nothing
SEARCH_AGAIN, SEARCH_MISSING = 30, 4  # pictures between a live camera's whole searches, and while something is missing
VARIES, VARIED = 8, 0.03  # a place in so many cells each way; mean change from one to the next, of the contrast
Miss = Literal["glare", "blur", "dark", "hidden"]


@dataclass(frozen=True, eq=False)
class Expected:
    """Where a marker ought to be: corners (4, 2) px in OpenCV's order, and the sd of its place in px."""

    dictionary: str
    marker: int
    corners_px: Array
    sd_px: float

    @cached_property
    def side_px(self) -> float:
        """Length of its shortest side."""
        px: list[list[float]] = self.corners_px.tolist()
        return min(math.dist(a, b) for a, b in zip(px, [*px[1:], px[0]], strict=True))

    @cached_property
    def span_px(self) -> float:
        """Width or height, whichever is larger."""
        return float(np.ptp(self.corners_px, axis=0).max())

    def region(self, shape: tuple[int, ...]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where to look for it in a picture of a shape: (left, top) and (right, bottom)."""
        margin = 4 * self.sd_px + 0.3 * self.span_px + 8
        low = np.maximum(np.floor(self.corners_px.min(axis=0) - margin), 0).astype(np.int64)
        high = np.minimum(np.ceil(self.corners_px.max(axis=0) + margin) + 1, shape[1::-1]).astype(np.int64)
        return low, high


@dataclass
class Tally:
    """How the markers were found, since the start. `unused`: pictures offered to the thread while it was busy."""

    pictures: int = 0
    expected: int = 0
    aligned: int = 0
    regional: int = 0
    partial: int = 0
    whole: int = 0
    background: int = 0
    unused: int = 0

    def to_json(self) -> dict[str, int]:
        """By name."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


@dataclass(frozen=True, eq=False)
class _Found:
    marker: int
    corners_px: Array
    inverted: bool


@dataclass(frozen=True, eq=False)
class _Shot:
    luma: NDArray[np.uint8]
    index: int


class Finder:
    """Finds the wanted markers in one picture after another.

    `wanted`: the ids of each dictionary (None: all of them). `each`: every `each`-th picture is searched whole, and one
    in which something expected is missing; None: that is left to a thread. Close it to end the thread. One finder
    serves one camera. Raises UnknownDictionary.
    """

    def __init__(
        self, wanted: Mapping[str, Collection[int] | None], pinhole: Pinhole | None, each: int | None = 10
    ) -> None:
        """Read the dictionaries."""
        self.wanted = {name: None if ids is None else frozenset(ids) for name, ids in wanted.items()}
        self.pinhole, self.each = pinhole, each
        self.tally = Tally()
        self._books = {name: code_book(name) for name in self.wanted}
        self._inverted: dict[str, set[int]] = {name: set() for name in self.wanted}  # printed white on black
        self._since_whole = 0
        self._slot: Latest[_Shot] | None = None
        self._results: Latest[list[Coarse] | Exception] = Latest()
        self._busy = threading.Event()
        self._luma: Luma | None = None

    def look(
        self, picture: NDArray[np.uint8], expected: Sequence[Expected], *, complete: bool
    ) -> dict[str, Detections]:
        """Every wanted marker in a raw picture, grey (h, w) or RGB (h, w, 3).

        `complete`: whatever is followed has a prediction in `expected`. Otherwise there is more to find than that, and
        the picture is searched whole (by the thread, where there is one and something else is being followed).
        """
        self.tally.pictures += 1
        self.tally.expected += len(expected)
        self._since_whole += 1
        found: dict[str, list[_Found]] = {name: [] for name in self.wanted}
        self._luma = Luma(picture, None if self._luma is None else self._luma.store)
        sought = [*expected, *self._from_thread(expected)]
        luma = self._near(sought)
        missing = self._around(luma, self._try_there(luma, sought, found), found)
        if self.each is not None:
            if not complete or missing or self._since_whole >= self.each:
                self._whole(self._luma.whole(), found)
        elif not expected:
            self._whole(self._luma.whole(), found)
        elif self._since_whole >= (SEARCH_AGAIN if complete and not missing else SEARCH_MISSING):
            self._offer(self._luma)
        out = {}
        for name, book in self._books.items():
            mine = [e for e in expected if e.dictionary == name]
            settled = _settle(found[name], mine)
            for one in settled:
                (self._inverted[name].add if one.inverted else self._inverted[name].discard)(one.marker)
            out[name] = refine(luma, _coarse(settled), book, self.pinhole)
        return out

    def look_closer(self, expected: Sequence[Expected], seen: Mapping[str, Detections]) -> dict[str, Detections]:
        """`seen` with the markers of the last picture added that are partly hidden or off it.

        `expected` comes from a pose that the picture itself gave. A marker counts when the cells that can be seen bear
        its code; sides that can't be seen weigh nothing.
        """
        out = dict(seen)
        luma = self._near(expected)
        for name, book in self._books.items():
            known = set(seen[name].ids.tolist())
            mine = [e for e in expected if e.dictionary == name and e.marker not in known]
            mine = [e for e in mine if e.side_px >= LEAST_SIDE_PX and partly(luma, e.corners_px, book, e.marker)]
            if not mine:
                continue
            self.tally.partial += len(mine)
            inverted = self._inverted[name]
            coarse = _coarse([_Found(e.marker, e.corners_px, e.marker in inverted) for e in mine])
            more = refine(luma, coarse, book, self.pinhole, hidden_sd_px=HIDDEN_SD_PX)
            out[name] = seen[name].plus(more)
        return out

    def why_missing(self, expected: Expected) -> Miss:
        """Why an expected marker of the last picture can't be read."""
        return why_missing(self._near([expected]), expected)

    def close(self) -> None:
        """End the thread; may be called twice."""
        if self._slot is not None:
            self._slot.close()

    def _near(self, expected: Sequence[Expected]) -> NDArray[np.uint8]:
        """The last picture, grey where these markers are looked for."""
        assert self._luma is not None
        boxes = np.array([(*low, *high) for low, high in (e.region(self._luma.shape) for e in expected)])
        if not len(boxes):
            return self._luma.near(0, 0, 0, 0)
        left, top = boxes[:, :2].min(axis=0).tolist()
        right, bottom = boxes[:, 2:].max(axis=0).tolist()
        return self._luma.near(left, top, right, bottom)

    def _try_there(
        self, luma: NDArray[np.uint8], expected: Sequence[Expected], found: dict[str, list[_Found]]
    ) -> list[Expected]:
        """Lay each expected marker onto the picture's edges and read it; returns those that are not there."""
        missing = []
        for name, book in self._books.items():
            mine = [e for e in expected if e.dictionary == name]
            reach = np.array([max(2.5, 3 * e.sd_px + 1.0) for e in mine])
            cell = np.array([e.side_px / book.cells for e in mine])
            near = (reach <= ALIGN_CELLS * cell) | ((reach <= 4.0) & (cell >= 1.8))
            near &= np.array([e.side_px >= LEAST_SIDE_PX for e in mine], dtype=np.bool_)
            missing += [e for e, good in zip(mine, near, strict=True) if not good]
            mine = [e for e, good in zip(mine, near, strict=True) if good]
            if not mine:
                continue
            inverted = np.array([e.marker in self._inverted[name] for e in mine])
            corners, held = align(luma, np.array([e.corners_px for e in mine]), reach[near], inverted)
            right = held >= 3
            right[right] &= _bears(
                luma, corners[right], book, [e.marker for e, r in zip(mine, right, strict=True) if r]
            )
            for k, e in enumerate(mine):
                if right[k]:
                    found[name].append(_Found(e.marker, corners[k], bool(inverted[k])))
                else:
                    missing.append(e)
            self.tally.aligned += int(right.sum())
        return missing

    def _around(
        self, luma: NDArray[np.uint8], missing: list[Expected], found: dict[str, list[_Found]]
    ) -> list[Expected]:
        """Search the regions around what is missing; returns what is not there either."""
        still = []
        height, width = luma.shape
        for e in missing:
            low, high = e.region(luma.shape)
            size = high - low
            if (size < 12).any() or size[0] * size[1] > 0.4 * width * height:
                still.append(e)
                continue
            region = np.ascontiguousarray(luma[low[1] : high[1], low[0] : high[0]])
            shrink = int(np.clip(e.side_px / REGION_SIDE_PX, 1, 8))
            there = quads(region, shrink)
            book = self._books[e.dictionary]
            (coarse,) = identify(region, there, [book])
            hits = [
                _Found(e.marker, corners + low, bool(inverted))
                for marker, corners, inverted in zip(coarse.ids, coarse.corners_px, coarse.inverted, strict=True)
                if marker == e.marker
            ]
            self.tally.regional += bool(hits)
            found[e.dictionary] += hits
            if not hits:
                still.append(e)
        return still

    def _whole(self, luma: NDArray[np.uint8], found: dict[str, list[_Found]]) -> None:
        """Search the picture; what was found already stays as it is."""
        self.tally.whole += 1
        self._since_whole = 0
        for name, coarse in zip(self._books, identify(luma, squares(luma), list(self._books.values())), strict=True):
            ids = self.wanted[name]
            for marker, corners, inverted in zip(
                coarse.ids.tolist(), coarse.corners_px, coarse.inverted.tolist(), strict=True
            ):
                if ids is None or marker in ids:
                    found[name].append(_Found(marker, corners, inverted))

    def _offer(self, luma: Luma) -> None:
        """Give the thread a picture to search, unless it has one."""
        if self._slot is None:
            self._slot = Latest()
            weakref.finalize(self, self._slot.close)
            threading.Thread(
                target=_search, args=(self._slot, self._results, self._busy, list(self._books.values())),
                name="marker search", daemon=True,
            ).start()  # fmt: skip
        if self._busy.is_set():
            self.tally.unused += 1
            return
        self._busy.set()
        self._since_whole = 0
        self._slot.put(_Shot(luma.whole().copy(), self.tally.pictures))

    def _from_thread(self, expected: Sequence[Expected]) -> list[Expected]:
        """Places that the thread found since the last picture and nobody expected."""
        found = self._results.take(0)
        if found is None:
            return []
        if isinstance(found, Exception):
            raise found
        self.tally.background += 1
        self._since_whole = 0
        known = {(e.dictionary, e.marker) for e in expected}
        out = []
        for name, coarse in zip(self._books, found, strict=True):
            ids = self.wanted[name]
            for marker, corners in zip(coarse.ids.tolist(), coarse.corners_px, strict=True):
                if (ids is None or marker in ids) and (name, marker) not in known:
                    out.append(Expected(name, marker, corners, 0.15 * float(np.ptp(corners, axis=0).max())))
        return out


def _search(
    slot: Latest[_Shot], results: Latest[list[Coarse] | Exception], busy: threading.Event, books: Sequence[CodeBook]
) -> None:
    """The thread: one picture after another until the slot is closed."""
    while (shot := slot.take()) is not None:
        try:
            results.put(identify(shot.luma, squares(shot.luma), books))
        except Exception as error:  # raised again where the next picture is looked at
            results.put(error)
        finally:
            busy.clear()


def _bears(luma: NDArray[np.uint8], corners_px: Array, book: CodeBook, markers: Sequence[int]) -> NDArray[np.bool_]:
    """Whether each square bears the code that is expected of it, upright."""
    reading = read(luma, corners_px, book.bits, across=2)
    wrong = np.bitwise_count(reading.words ^ book.words[list(markers), 0])
    forgiven = max(book.corrects, int(FORGIVEN_SHARE * (book.distance - 1)))
    ids, turns, off = match(reading.words, book.words)
    nearest = (ids == np.array(markers)) & (turns == 0)
    return np.asarray((reading.verdict == READ) & nearest & (wrong <= forgiven) & (off <= forgiven))


def _settle(found: list[_Found], expected: Sequence[Expected]) -> list[_Found]:
    """Each marker once; two of the same id stay two, unless the expected place clearly explains just one of them."""
    places: dict[int, list[_Found]] = {}
    for one in found:
        others = places.setdefault(one.marker, [])
        span = float(np.ptp(one.corners_px, axis=0).max())
        if all(np.abs(one.corners_px - other.corners_px).max() > 0.5 * span for other in others):
            others.append(one)
    where = {e.marker: e for e in expected}
    out = []
    for marker, several in sorted(places.items()):
        e = where.get(marker)
        if len(several) > 1 and e is not None:
            gate = max(4 * e.sd_px, 0.25 * e.span_px)
            inside = [one for one in several if np.abs(one.corners_px - e.corners_px).max() < gate]
            several = inside if len(inside) == 1 else several
        out += several
    return out


def _coarse(found: Sequence[_Found]) -> Coarse:
    return Coarse(
        np.array([one.marker for one in found], dtype=np.int64),
        np.array([one.corners_px for one in found]).reshape(-1, 4, 2),
        np.array([one.inverted for one in found], dtype=np.bool_),
    )


def why_missing(luma: NDArray[np.uint8], expected: Expected) -> Miss:
    """Why an expected marker can't be read: washed out, smeared, too dark, or something else is there."""
    height, width = luma.shape
    low = np.clip(np.floor(expected.corners_px.min(axis=0)), 0, (width - 2, height - 2)).astype(int)
    high = np.clip(np.ceil(expected.corners_px.max(axis=0)) + 1, low + 2, (width, height)).astype(int)
    place = luma[low[1] : high[1], low[0] : high[0]]
    inside = np.zeros(place.shape, dtype=np.uint8)
    cv2.fillConvexPoly(inside, np.rint(expected.corners_px - low).astype(np.int32), 1)
    greys = place[inside > 0]
    if not len(greys):
        return "hidden"
    if (greys >= 250).mean() > 0.55:  # of a code with as many bright cells as dark ones a third is bright
        return "glare"
    dark, bright = np.percentile(greys, (5, 95))
    if bright < 25 or bright - dark < 8:
        return "dark" if bright < 60 else "hidden"
    # motion smears one direction only: the one in which even the steepest edges are shallow
    dx, dy = cv2.Sobel(place, cv2.CV_32F, 1, 0, scale=0.125), cv2.Sobel(place, cv2.CV_32F, 0, 1, scale=0.125)
    slopes = [dx, dy, (dx + dy) * 0.7071, (dx - dy) * 0.7071]
    # … though grey does change that way: along a single straight edge, of a hand or a sheet, it does not
    small = cv2.resize(place, (VARIES, VARIES), interpolation=cv2.INTER_AREA).astype(np.float64)
    steps = [
        np.diff(small, axis=1),
        np.diff(small, axis=0),
        small[1:, 1:] - small[:-1, :-1],
        small[1:, :-1] - small[:-1, 1:],
    ]
    for slope, step in zip(slopes, steps, strict=True):
        shallow = float(np.percentile(np.abs(slope[inside > 0]), 98)) < 0.08 * (bright - dark)
        if shallow and float(np.abs(step).mean()) > VARIED * (bright - dark):
            return "blur"
    return "hidden"
