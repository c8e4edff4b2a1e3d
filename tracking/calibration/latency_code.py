"""A picture for the screen that says its own number, and the reading of that number in a camera's picture.

Sixteen by nine fields: a marker in each corner finds the screen, twelve columns across the middle show the number in
Gray code, each bit above its opposite. From one number to the next a single bit changes, so a camera that exposes while
the screen changes sees that one bit grey: how grey tells when within the exposure it changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from spatial.rigid import Array
from tracking.detection.markers import detect, grey
from tracking.synthetic.plates import pattern

DICTIONARY = "DICT_4X4_50"
IDS = (46, 47, 48, 49)  # top-left, top-right, bottom-right, bottom-left: unlikely to be in use on a body
COLUMNS, ROWS, BITS = 16, 9, 12
NUMBERS = 1 << BITS
FIRST_COLUMN, BIT_ROW = 2, 3.5
EDGE, INSET = 2.0, 0.75  # of a marker, and its distance from the rim, in fields
CONTRAST_MIN = 12.0
DARK, BRIGHT = 12, 243
SPAN_MAX = 4  # pictures of the screen within one exposure


@dataclass(frozen=True)
class Reading:
    """What one picture shows: `shares` of numbers `first`, `first` + 1 … within its exposure (they sum to 1).

    `row_px`: where the code's middle is in the picture, for a rolling shutter. `misfit`: largest difference of a bit
    from what the shares explain, 0 to 1.
    """

    first: int
    shares: tuple[float, ...]
    row_px: float
    misfit: float


def gray(number: int) -> NDArray[np.float64]:
    """Its bits (12,), 0 or 1, in Gray code, highest first."""
    code = number ^ (number >> 1)
    return np.array([(code >> (BITS - 1 - k)) & 1 for k in range(BITS)], dtype=np.float64)


@lru_cache(maxsize=1)
def _codes() -> Array:
    return np.stack([gray(n) for n in range(NUMBERS)])


def marker_corners() -> dict[int, Array]:
    """Corners (4, 2) of the fiducials in fields from the picture's top-left corner."""
    square = np.array([[0.0, 0], [EDGE, 0], [EDGE, EDGE], [0, EDGE]])
    right, low = COLUMNS - INSET - EDGE, ROWS - INSET - EDGE
    places = ((INSET, INSET), (right, INSET), (right, low), (INSET, low))
    return {marker: square + place for marker, place in zip(IDS, places, strict=True)}


def bit_centres() -> tuple[Array, Array]:
    """Middles (12, 2) of the bits' fields and of their opposites' below, in fields."""
    x = FIRST_COLUMN + 0.5 + np.arange(BITS)
    return np.stack([x, np.full(BITS, BIT_ROW + 0.5)], axis=1), np.stack([x, np.full(BITS, BIT_ROW + 1.5)], axis=1)


@lru_cache(maxsize=4)
def _ground(width_px: int, height_px: int) -> NDArray[np.uint8]:
    picture = np.full((height_px, width_px), BRIGHT, dtype=np.uint8)
    fx, fy = width_px / COLUMNS, height_px / ROWS
    for marker, corners in marker_corners().items():
        cells = pattern(DICTIONARY, marker)
        n = len(cells)
        for j in range(n):
            for i in range(n):
                if cells[j, i]:
                    continue
                low = corners[0] + EDGE * np.array([i, j]) / n
                high = corners[0] + EDGE * np.array([i + 1, j + 1]) / n
                rows, columns = (
                    slice(round(low[1] * fy), round(high[1] * fy)),
                    slice(round(low[0] * fx), round(high[0] * fx)),
                )
                picture[rows, columns] = DARK
    return picture


def draw(number: int, width_px: int = 1280, height_px: int = 720) -> NDArray[np.uint8]:
    """The picture (h, w) for the screen that shows `number` (it repeats after 4096)."""
    picture = _ground(width_px, height_px).copy()
    fx, fy = width_px / COLUMNS, height_px / ROWS
    for k, bit in enumerate(gray(number % NUMBERS)):
        columns = slice(round((FIRST_COLUMN + k) * fx), round((FIRST_COLUMN + k + 1) * fx))
        for row, value in ((BIT_ROW, bit), (BIT_ROW + 1, 1 - bit)):
            picture[round(row * fy) : round((row + 1) * fy), columns] = BRIGHT if value else DARK
    return picture


def read(picture: NDArray[np.uint8]) -> Reading | None:
    """The number that a camera's picture of the screen shows; None when the screen or its code can't be made out."""
    luma = grey(picture)
    found = detect(luma, DICTIONARY)
    seen = found.by_id()
    corners = marker_corners()
    there = [marker for marker in IDS if marker in seen]
    if len(there) < 3:
        return None
    fields = np.concatenate([corners[m] for m in there])
    pixels = np.concatenate([found.corners_px[seen[m]] for m in there])
    H, _ = cv2.findHomography(fields, pixels, 0)
    if H is None:
        return None
    above, below = bit_centres()
    bright, opposite = _mean(luma, H, above), _mean(luma, H, below)
    if bright is None or opposite is None:
        return None
    difference = bright - opposite
    contrast = float(np.median(np.abs(difference)))
    if contrast < CONTRAST_MIN:
        return None
    # the two fields of a bit add up to the same, wherever the light is uneven: that scales each bit by itself
    level = (bright + opposite) / 2
    local = contrast * level / max(float(np.median(level)), 1e-9)
    return _decode(np.clip(difference / local, -1.3, 1.3) / 2 + 0.5, _row(H))


def _mean(luma: NDArray[np.uint8], H: Array, centres: Array) -> Array | None:
    """Mean grey over the middle half of each field; None where a field is outside the picture."""
    offsets = np.stack(np.meshgrid(np.linspace(-0.25, 0.25, 5), np.linspace(-0.25, 0.25, 5)), axis=-1).reshape(-1, 2)
    points = (centres[:, None] + offsets).reshape(-1, 2)
    there = np.concatenate([points, np.ones((len(points), 1))], axis=1) @ H.T
    px = (there[:, :2] / there[:, 2:]).astype(np.float32)
    height, width = luma.shape
    if px.min() < 0 or px[:, 0].max() > width - 1 or px[:, 1].max() > height - 1:
        return None
    values = cv2.remap(luma, px[:, 0].reshape(1, -1), px[:, 1].reshape(1, -1), cv2.INTER_LINEAR)
    return np.asarray(values.reshape(len(centres), -1).mean(axis=1), dtype=np.float64)


def _row(H: Array) -> float:
    middle = H @ np.array([COLUMNS / 2, BIT_ROW + 1, 1.0])
    return float(middle[1] / middle[2])


def _decode(bits: Array, row_px: float) -> Reading | None:
    """The run of numbers, as short as does, whose mixture explains the bits (12,) best."""
    codes = _codes()
    sure = np.abs(bits - 0.5) > 0.35
    fits = (np.abs(codes - bits)[:, sure] < 0.5).all(axis=1)
    best: Reading | None = None
    for first in np.flatnonzero(fits | np.roll(fits, -1)):
        for span in range(1, SPAN_MAX + 1):
            run = codes[(first + np.arange(span)) % NUMBERS]
            shares = _mixture(run, bits)
            if shares is None:
                continue
            misfit = float(np.abs(shares @ run - bits).max())
            if best is None or misfit < best.misfit - 0.08:  # one more number has to explain something
                best = Reading(int(first), tuple(float(s) for s in shares), row_px, misfit)
    return best if best is not None and best.misfit < 0.25 else None


def _mixture(run: Array, bits: Array) -> Array | None:
    """Shares (span,) of the codes (span, 12), each above zero, that explain the bits best; None when one is not."""
    if len(run) == 1:
        return np.ones(1)
    rest = (run[:-1] - run[-1]).T
    found = np.linalg.lstsq(rest, bits - run[-1], rcond=None)[0]
    shares = np.append(found, 1 - found.sum())
    # a screen shows each number equally long, so one in the middle of an exposure fills no less of it than an end
    whole = len(run) < 3 or shares[1:-1].min() > 0.9 * shares.max() - 0.04
    return shares if shares.min() > 0.02 and whole else None
