"""What goes wrong with cameras, on purpose: pictures that are dropped, doubled, covered, mirrored, stamped wrongly.

A plan is KIND[:AMOUNT]@FIRST[-LAST] (frame numbers) or KIND[:AMOUNT]~PERCENT (of the frames, drawn by lot), several
joined by +: `drop~5+cover:2@30-40+jump:-3@90`. Kinds: drop; late (comes after the next); double (comes twice); freeze
(the picture before again, with a new stamp); unplug (no pictures; the source says Stopped); cover (AMOUNT markers
hidden, 1); swap (two markers change places); twin (one marker stands there twice); blur (AMOUNT px of motion, 15);
glare (AMOUNT times white over the markers, 2); dark (AMOUNT of the light left, 0.1); mirror; resize (by AMOUNT, 0.5);
jump (stamps off by AMOUNT seconds, 5).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from spatial.faults import Misuse
from spatial.pinhole import Pinhole
from spatial.rigid import Array
from tracking.detection.markers import find_dictionary
from tracking.frame import Frame, FrameSource, Stopped
from tracking.sources.closing import Closing
from tracking.sources.watch import watch

AMOUNTS: dict[str, tuple[float, float, float] | None] = {  # kind: default, least, most; None takes none
    "drop": None, "late": None, "double": None, "freeze": None, "unplug": None, "swap": None, "twin": None,
    "mirror": None, "cover": (1, 1, 1000), "blur": (15, 1, 200), "glare": (2, 0, 100), "dark": (0.1, 0, 1),
    "resize": (0.5, 0.01, 8), "jump": (5, -1e6, 1e6),
}  # fmt: skip
PICTURE = ("cover", "swap", "twin", "blur", "glare", "dark", "mirror", "resize")
SKIN_RGB = (176, 128, 108)


class BadPlan(Misuse):
    """A plan of faults that is not understood."""


@dataclass(frozen=True)
class Mishap:
    """One line of a plan: what, how much, and when: frames `first` to `last`, or a `share` (0 to 1) of all."""

    kind: str
    amount: float = 0.0
    first: int = 0
    last: int = 2**62
    share: float = 1.0

    def strikes(self, index: int, lot: int) -> bool:
        """Whether frame `index` is struck; `lot` tells lines of a plan apart."""
        if not self.first <= index <= self.last:
            return False
        return self.share >= 1 or float(np.random.default_rng((lot, index)).random()) < self.share


def plan(text: str) -> tuple[Mishap, ...]:
    """Read a plan. Raises BadPlan."""
    return tuple(_mishap(word) for word in text.split("+"))


class FaultySource(Closing):
    """A source with mishaps; `injected` counts those that happened. The same plan strikes the same frames."""

    def __init__(self, source: FrameSource, mishaps: Sequence[Mishap], dictionary: str) -> None:
        """`dictionary` finds the markers that are to be covered, swapped, doubled or dazzled."""
        self.source, self.mishaps, self.dictionary = source, tuple(mishaps), dictionary
        self.injected: Counter[str] = Counter()

    @property
    def name(self) -> str:
        """The source's."""
        return self.source.name

    @property
    def pinhole(self) -> Pinhole:
        """The source's own, where it has one."""
        own: Pinhole = getattr(self.source, "pinhole")  # noqa: B009 - AttributeError where there is none
        return own

    def close(self) -> None:
        """Close the source."""
        self.source.close()

    def __iter__(self) -> Iterator[Frame]:
        """The pictures that are left."""
        for event in self.events():
            if isinstance(event, Frame):
                yield event

    def events(self, patience_s: float = 0.25) -> Iterator[Frame | Stopped]:
        """Pictures, and Stopped for each one that an unplugged camera did not give."""
        before: Frame | None = None
        late: list[Frame] = []
        last_ns = 0
        for event in watch(self.source, patience_s):
            if isinstance(event, Stopped):
                yield event
                continue
            struck = {m.kind: m.amount for k, m in enumerate(self.mishaps) if m.strikes(event.index, k)}
            self.injected.update(struck.keys())
            frame = replace(event, t_ns=event.t_ns + round(struck.get("jump", 0) * 1e9))
            if "unplug" in struck:
                yield Stopped(frame.t_ns, last_ns, f"{self.name} stopped giving pictures; was it unplugged?")
                continue
            if "drop" in struck:
                continue
            if "freeze" in struck and before is not None:
                frame = replace(frame, picture=before.picture, repeated=True)
            elif struck:
                frame = replace(frame, picture=spoil(frame.picture, struck, self.dictionary))
            last_ns = frame.t_ns
            if "late" in struck:
                late.append(frame)
                continue
            yield frame
            if "double" in struck:
                yield frame
            before = frame
            yield from late
            late.clear()
        yield from late


def spoil(picture: NDArray[np.uint8], struck: dict[str, float], dictionary: str) -> NDArray[np.uint8]:
    """The picture after the mishaps {kind: amount} that change pictures."""
    if not any(kind in struck for kind in PICTURE):
        return picture
    out = picture.copy()
    quads = _quads(out, dictionary) if {"cover", "swap", "twin", "glare"} & set(struck) else []
    if "swap" in struck and len(quads) > 1:
        first, second = _onto(out, quads[0], quads[1]), _onto(out, quads[1], quads[0])
        out[first[1]] = first[0][first[1]]
        out[second[1]] = second[0][second[1]]
    if "twin" in struck and len(quads) > 1:
        copied, there = _onto(out, quads[0], quads[1])
        out[there] = copied[there]
    for quad in quads[: int(struck.get("cover", 0))]:
        _cover(out, quad)
    if "glare" in struck and quads:
        _dazzle(out, np.concatenate(quads), struck["glare"])
    if "dark" in struck:
        out = np.asarray(cv2.convertScaleAbs(out, alpha=struck["dark"]), dtype=np.uint8)
    if "blur" in struck:
        size = round(struck["blur"])
        out = np.asarray(cv2.blur(out, (size, 1)), dtype=np.uint8)
    if "mirror" in struck:
        out = np.ascontiguousarray(out[:, ::-1])
    if "resize" in struck:
        by = struck["resize"]
        out = np.asarray(cv2.resize(out, (0, 0), fx=by, fy=by, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    return out


def _mishap(word: str) -> Mishap:
    head, found, when = word.partition("@")
    first, last, share = 0, 2**62, 1.0
    if found:
        low, _, high = when.partition("-")
        if not (low.isdigit() and (high.isdigit() or not high)) or when.endswith("-"):
            raise BadPlan(f"{word}: frames are as @10 or @10-20")
        first, last = int(low), int(high or low)
        if last < first:
            raise BadPlan(f"{word}: the last frame is before the first")
    else:
        head, found, percent = word.partition("~")
        if found:
            share = _number(word, percent) / 100
            if not 0 < share <= 1:
                raise BadPlan(f"{word}: {percent} % of the frames; above 0 to 100 is possible")
    kind, colon, text = head.partition(":")
    if kind not in AMOUNTS:
        raise BadPlan(f"{kind or word} is unknown; known: {', '.join(AMOUNTS)}")
    limits = AMOUNTS[kind]
    if limits is None:
        if colon:
            raise BadPlan(f"{word}: {kind} takes no amount")
        return Mishap(kind, 0.0, first, last, share)
    amount = _number(word, text) if colon else limits[0]
    if not limits[1] <= amount <= limits[2]:
        raise BadPlan(f"{word}: {limits[1]:g} to {limits[2]:g} is possible")
    return Mishap(kind, amount, first, last, share)


def _number(word: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise BadPlan(f"{word}: {text!r} is no number")
    return value


@lru_cache(maxsize=4)
def _finder(dictionary: str) -> Any:
    return cv2.aruco.ArucoDetector(find_dictionary(dictionary), cv2.aruco.DetectorParameters())


def _quads(picture: NDArray[np.uint8], dictionary: str) -> list[Array]:
    """The corners of the markers in a picture, lowest id first; OpenCV's own detector, not the one under trial."""
    corners, ids, _ = _finder(dictionary).detectMarkers(picture)
    if ids is None:
        return []
    order = np.argsort(np.asarray(ids).ravel(), kind="stable")
    return [np.asarray(corners[k], dtype=np.float64).reshape(4, 2) for k in order]


def _onto(picture: NDArray[np.uint8], source: Array, target: Array) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """What is in the quad `source`, with a tenth around it, laid over `target`; and where."""
    matrix = cv2.getPerspectiveTransform(source.astype(np.float32), target.astype(np.float32))
    height, width = picture.shape[:2]
    moved = np.asarray(cv2.warpPerspective(picture, matrix, (width, height)), dtype=np.uint8)
    mask = np.zeros((height, width), dtype=np.uint8)
    cv2.fillConvexPoly(mask, np.rint(_grown(target, 1.1)).astype(np.int32), 255)
    return moved, mask > 0


def _grown(quad: Array, by: float) -> Array:
    centre = quad.mean(axis=0)
    return np.asarray(centre + by * (quad - centre))


def _cover(picture: NDArray[np.uint8], quad: Array) -> None:
    """A finger over a marker."""
    shape = np.rint(_grown(quad, 1.3)).astype(np.int32)
    colour = SKIN_RGB if picture.ndim == 3 else (round(sum(SKIN_RGB) / 3),)
    cv2.fillConvexPoly(picture, shape, colour, lineType=cv2.LINE_AA)


def _dazzle(picture: NDArray[np.uint8], corners: Array, strength: float) -> None:
    """A lamp's reflection over the markers."""
    height, width = picture.shape[:2]
    centre, radius = corners.mean(axis=0), max(float(np.ptp(corners, axis=0).max()) / 2, 4.0)
    u, v = np.arange(width)[None, :] - centre[0], np.arange(height)[:, None] - centre[1]
    light = 255 * strength * np.exp(-(u**2 + v**2) / (2 * radius**2))
    light = light[..., None] if picture.ndim == 3 else light
    picture[:] = np.minimum(picture + light, 255).astype(np.uint8)
