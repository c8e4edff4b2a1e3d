"""What a square says: its cells sampled in the full picture, compared with the codes of several dictionaries at once.

A square is read through the homography of its four corners, several samples a cell. The dark level is a plane through
the border's cells and the bright one a plane through the ring just outside it (Wang & Olson 2016, AprilTag 2: light
that falls off over the marker moves both); a cell is bright above their middle. Rotations are rotated code words, so
reading a square for a dictionary more costs a search in a table, no picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from spatial.compiled import njit
from spatial.faults import Misuse
from spatial.rigid import Array

MIN_CONTRAST = 6.0  # grey levels between the dark and the bright plane
MAX_BORDER_SHARE = 0.2  # cells of the border that may be bright: a highlight, a thread, a finger's tip
LEVELS = (0.36, 0.64)  # tried where a square can't be read at half
MIN_PURITY = 0.82  # of a cell's samples on its own side of the threshold: a code read with a wrong grid has less
READ, DIM, BORDER, IMPURE, OUTSIDE = 0, 1, 2, 3, 4


class UnknownDictionary(Misuse):
    """A dictionary name that OpenCV does not have, or a file that holds none."""


@dataclass(frozen=True, eq=False)
class CodeBook:
    """The codes of one dictionary. `words` (N, 4): each id as a number, its bits row by row, in its four rotations.

    Rotation r is how the code reads from corner r on. `mirrored` (N, 4): the same of its mirror image. `corrects`: how
    many wrong bits are forgiven when nothing else speaks for an id; `distance`: the bits between the nearest two ids.
    """

    dictionary: str
    bits: int
    words: NDArray[np.uint64]
    mirrored: NDArray[np.uint64]
    corrects: int
    distance: int

    @property
    def oriented(self) -> NDArray[np.bool_]:
        """Which ids (N,) look different from each side; id 1023 of DICT_ARUCO_ORIGINAL has no first corner."""
        return np.asarray((self.words[:, :1] != self.words[:, 1:]).all(axis=1))

    @property
    def cells(self) -> int:
        """Cells along a side, with the border."""
        return self.bits + 2

    def __len__(self) -> int:
        """How many ids there are."""
        return len(self.words)

    def patterns(self, ids: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Cells (N, n, n) of ids (N,) with their border, 1 white and 0 black."""
        out = np.zeros((len(ids), self.cells, self.cells), dtype=np.uint8)
        shifts = np.arange(self.bits**2, dtype=np.uint64)[::-1]
        bits = (self.words[ids, 0][:, None] >> shifts) & np.uint64(1)
        out[:, 1:-1, 1:-1] = bits.reshape(-1, self.bits, self.bits)
        return out


@dataclass(frozen=True, eq=False)
class Readings:
    """What N squares say on a grid of `bits` x `bits` cells.

    `words` (N,) the code from corner 0 on, `verdict` (N,): READ, DIM, BORDER (not dark all round), IMPURE (cells half
    dark, half bright) or OUTSIDE the picture. `inverted` (N,): a bright square on dark. `purity` (N,) 0.5 to 1.
    """

    words: NDArray[np.uint64]
    verdict: NDArray[np.int64]
    inverted: NDArray[np.bool_]
    purity: Array
    contrast: Array


def dictionary_names() -> tuple[str, ...]:
    """OpenCV's dictionary names."""
    return tuple(sorted(name for name in dir(cv2.aruco) if name.startswith("DICT_")))


@lru_cache(maxsize=64)
def find_dictionary(name: str) -> Any:
    """OpenCV's dictionary by name (DICT_6X6_250), or one from an OpenCV dictionary file. Raises UnknownDictionary."""
    if name.startswith("DICT_") and hasattr(cv2.aruco, name):
        return cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, name))
    if Path(name).is_file():
        return _from_file(name)
    wanted = name.removeprefix("DICT_").split("_")[0][:4].lower()
    near = [known for known in dictionary_names() if wanted in known.lower()]
    hint = f"meant perhaps {', '.join(near)}?" if near else f"there are {', '.join(dictionary_names())}"
    raise UnknownDictionary(f"{name} is no dictionary of OpenCV and no file; {hint}")


def _from_file(name: str) -> Any:
    dictionary = cv2.aruco.Dictionary()
    try:
        store = cv2.FileStorage(name, cv2.FILE_STORAGE_READ)
        if store.isOpened() and dictionary.readDictionary(store.root()) and len(dictionary.bytesList):
            return dictionary
    except (cv2.error, SystemError):
        pass  # a file of another kind: refused below with what is asked for
    raise UnknownDictionary("no marker dictionary in this file (nmarkers, markersize, marker_0 …)", path=name)


@lru_cache(maxsize=64)
def code_book(name: str) -> CodeBook:
    """The codes of a dictionary, by OpenCV's name or the path of its file. Raises UnknownDictionary."""
    dictionary = find_dictionary(name)
    bits = int(dictionary.markerSize)
    if bits > 8:
        raise UnknownDictionary(f"{name} has {bits} x {bits} bits; 8 x 8 are the most that can be read")
    grids = np.stack(
        [
            dictionary.getBitsFromByteList(dictionary.bytesList[k : k + 1], bits)
            for k in range(len(dictionary.bytesList))
        ]
    ).astype(np.uint64)
    words, mirrored = _turned(grids), _turned(grids[:, :, ::-1])
    distance = _distance(words)
    corrects = int(max(int(dictionary.maxCorrectionBits), 0) * 0.6)  # OpenCV's own share
    return CodeBook(name, bits, words, mirrored, min(corrects, max(0, (distance - 1) // 2)), distance)


def _turned(grids: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Words (N, 4) of grids (N, n, n): rotation r is the grid as read from its corner r on, clockwise."""
    n = grids.shape[1]
    weights = np.uint64(1) << np.arange(n * n, dtype=np.uint64)[::-1]
    turns = [np.rot90(grids, r, axes=(1, 2)).reshape(len(grids), -1) for r in range(4)]
    return np.ascontiguousarray(np.stack([(turn * weights).sum(axis=1, dtype=np.uint64) for turn in turns], axis=1))


def _distance(words: NDArray[np.uint64]) -> int:
    """Fewest bits between two ids, or between an id and itself turned."""
    least = 64
    for k in range(len(words)):
        own = np.bitwise_count(words[k, 0] ^ words[k, 1:])
        least = min(least, int(own.min(initial=64)))
        if k:
            least = min(least, int(np.bitwise_count(words[k, 0] ^ words[:k]).min()))
    return least


def read(luma: NDArray[np.uint8], corners_px: Array, bits: int, across: int = 4, level: float = 0.5) -> Readings:
    """Read squares (N, 4, 2), corners clockwise on the screen, as codes of `bits` x `bits` cells.

    `across` x `across` samples a cell; with one, nothing is IMPURE. `level`: how far from dark to bright a cell counts
    as bright; blur takes light from lone bright cells and gives it to lone dark ones.
    """
    corners = np.ascontiguousarray(corners_px, dtype=np.float64)
    words, verdict, inverted, purity, contrast = _read(luma, corners, bits, across, level)
    return Readings(words, verdict, inverted, purity, contrast)


def partly(luma: NDArray[np.uint8], corners_px: Array, book: CodeBook, marker: int) -> bool:
    """Whether what can be seen of a square at a predicted place, corners (4, 2) in OpenCV's order, is this marker.

    Half of its cells must be in the picture and clear, and of these three quarters as they ought to be, border and code
    taken together and the code alone: a random code has as much in one of 500 places, and the place is known.
    """
    n = book.cells
    cells, levels = np.zeros((n, n, 2)), np.zeros(6)
    contrast = sampled(luma, np.ascontiguousarray(corners_px, dtype=np.float64), book.bits, 4, 0.5, cells, levels)
    clear = cells[..., 1] > 0.75
    if abs(contrast) < MIN_CONTRAST or clear.mean() < 0.5:
        return False
    truth = np.zeros((n, n), dtype=np.bool_)
    shifts = np.arange(book.bits**2, dtype=np.uint64)[::-1]
    truth[1:-1, 1:-1] = ((book.words[marker, 0] >> shifts) & np.uint64(1)).reshape(book.bits, book.bits) > 0
    right = (cells[..., 0] > 0.5) == truth
    code = clear[1:-1, 1:-1]
    return bool(right[clear].mean() > 0.75 and right[1:-1, 1:-1][code].mean() > 0.75 and code.sum() >= 8)


def match(words: NDArray[np.uint64], table: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64], Any]:
    """The nearest code of a table (M, 4) for each word (N,): its id, its rotation, and how many bits differ."""
    return _match(np.ascontiguousarray(words), table)


@njit
def _match(
    words: NDArray[np.uint64], table: NDArray[np.uint64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    n = len(words)
    ids, turns, off = np.full(n, -1), np.zeros(n, dtype=np.int64), np.full(n, 65)
    for k in range(n):
        for i in range(table.shape[0]):
            for r in range(4):
                x = words[k] ^ table[i, r]
                x = x - ((x >> np.uint64(1)) & np.uint64(0x5555555555555555))
                x = (x & np.uint64(0x3333333333333333)) + ((x >> np.uint64(2)) & np.uint64(0x3333333333333333))
                x = (x + (x >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
                bits = np.int64((x * np.uint64(0x0101010101010101)) >> np.uint64(56))
                if bits < off[k]:
                    ids[k], turns[k], off[k] = i, r, bits
    return ids, turns, off


@njit
def _homography(corners: Array, cells: int) -> Array:
    """3x3 from cells (0 to `cells`, from corner 0 toward 1 and 3) to px; closed form (Heckbert 1989)."""
    x0, y0, x1, y1 = corners[0, 0], corners[0, 1], corners[1, 0], corners[1, 1]
    x2, y2, x3, y3 = corners[2, 0], corners[2, 1], corners[3, 0], corners[3, 1]
    sx, sy = x0 - x1 + x2 - x3, y0 - y1 + y2 - y3
    dx1, dx2, dy1, dy2 = x1 - x2, x3 - x2, y1 - y2, y3 - y2
    det = dx1 * dy2 - dx2 * dy1
    H = np.empty((3, 3))
    if abs(det) < 1e-9:
        H[:] = np.nan
        return H
    g, h = (sx * dy2 - dx2 * sy) / det, (dx1 * sy - sx * dy1) / det
    H[0, 0], H[0, 1], H[0, 2] = (x1 - x0 + g * x1) / cells, (x3 - x0 + h * x3) / cells, x0
    H[1, 0], H[1, 1], H[1, 2] = (y1 - y0 + g * y1) / cells, (y3 - y0 + h * y3) / cells, y0
    H[2, 0], H[2, 1], H[2, 2] = g / cells, h / cells, 1.0
    return H


@njit
def _grey(picture: NDArray[np.uint8], H: Array, x: float, y: float) -> float:
    """Bilinear grey at a place in cells; negative outside the picture."""
    w = H[2, 0] * x + H[2, 1] * y + H[2, 2]
    u, v = (H[0, 0] * x + H[0, 1] * y + H[0, 2]) / w, (H[1, 0] * x + H[1, 1] * y + H[1, 2]) / w
    height, width = picture.shape
    if not (u >= 0.0 and v >= 0.0 and u <= width - 1.0 and v <= height - 1.0):
        return -1.0
    i, j = min(int(v), height - 2), min(int(u), width - 2)
    a, b = u - j, v - i
    top = (1 - a) * picture[i, j] + a * picture[i, j + 1]
    return float((1 - b) * top + b * ((1 - a) * picture[i + 1, j] + a * picture[i + 1, j + 1]))


@njit
def _plane(sums: Array) -> tuple[float, float, float]:
    """Least squares v = p0 + p1 x + p2 y from sums (n, x, y, xx, xy, yy, v, vx, vy); flat where that is not known."""
    n = max(sums[0], 1e-9)
    mx, my, mv = sums[1] / n, sums[2] / n, sums[6] / n
    sxx, sxy, syy = sums[3] - n * mx * mx + 1.0, sums[4] - n * mx * my, sums[5] - n * my * my + 1.0
    bx, by = sums[7] - n * mx * mv, sums[8] - n * my * mv
    det = sxx * syy - sxy * sxy
    p1, p2 = (syy * bx - sxy * by) / det, (sxx * by - sxy * bx) / det
    return mv - p1 * mx - p2 * my, p1, p2


@njit
def _add(sums: Array, x: float, y: float, value: float) -> None:
    sums[0] += 1.0
    sums[1] += x
    sums[2] += y
    sums[3] += x * x
    sums[4] += x * y
    sums[5] += y * y
    sums[6] += value
    sums[7] += value * x
    sums[8] += value * y


@njit
def sampled(
    picture: NDArray[np.uint8], corners: Array, bits: int, across: int, level: float, cells: Array, levels: Array
) -> float:
    """Read one square. Fills `cells` (bits + 2, bits + 2, 2) with each cell's share of bright samples and its purity.

    A cell that is not in the picture has purity -1. `levels` (6,) gets the dark and the bright plane. Returns the
    contrast in grey levels, negative for a bright square on dark, 0 where there is none. Where the border is not dark
    all round the cells stay unread, with purity 0.
    """
    n = bits + 2
    H = _homography(corners, n)
    cells[:, :, 0] = 0.0
    cells[:, :, 1] = -1.0
    if not np.isfinite(H[0, 0]):
        return 0.0
    dark, bright = np.zeros(9), np.zeros(9)
    rim = np.full((4 * n, 3), -1.0)
    for place in (0.5, -0.5, -0.2, -0.07):  # within the border; outside, nearer where the picture or the paper ends
        if place < 0 and bright[0] >= 3 * n:
            break
        bright[:] = 0.0
        for k in range(4 * n):
            a, b, side = k % n + 0.5, place, k // n
            if side == 0:
                x, y = a, b
            elif side == 1:
                x, y = n - b, a
            elif side == 2:
                x, y = a, n - b
            else:
                x, y = b, a
            value = _grey(picture, H, x, y)
            if value >= 0:
                _add(dark if place > 0 else bright, x, y, value)
                if place > 0:
                    rim[k, 0], rim[k, 1], rim[k, 2] = x, y, value
    if dark[0] < 2 * n or bright[0] < n:
        return 0.0
    d0, d1, d2 = _plane(dark)
    b0, b1, b2 = _plane(bright)
    middle = n / 2.0
    contrast = b0 - d0 + (b1 - d1 + b2 - d2) * middle
    levels[0], levels[1], levels[2], levels[3], levels[4], levels[5] = d0, d1, d2, b0, b1, b2
    if abs(contrast) < 1.0:
        return 0.0
    sign = 1.0 if contrast > 0 else -1.0
    # most squares of a room are none of ours, and their border says so before a cell is read
    wrong = 0
    for k in range(4 * n):
        x, y, value = rim[k, 0], rim[k, 1], rim[k, 2]
        wrong += value >= 0 and sign * (2 * value - (d0 + b0 + (d1 + b1) * x + (d2 + b2) * y)) > 0
    if wrong > 2 * MAX_BORDER_SHARE * dark[0]:
        cells[:, :, 1] = 0.0
        return contrast
    least = 0.25 * abs(contrast)  # a plane that runs away must not turn the order of dark and bright
    for row in range(n):
        for column in range(n):
            count = above = 0
            for i in range(across):
                for j in range(across):
                    x = column + 0.5 + (j - 0.5 * (across - 1)) * 0.18
                    y = row + 0.5 + (i - 0.5 * (across - 1)) * 0.18
                    value = _grey(picture, H, x, y)
                    if value < 0:
                        continue
                    low, high = d0 + d1 * x + d2 * y, b0 + b1 * x + b2 * y
                    if sign * (high - low) < least:
                        low, high = d0 + (d1 + d2) * middle, b0 + (b1 + b2) * middle
                    count += 1
                    above += sign * (value - low - level * (high - low)) > 0
            if 2 * count > across * across:
                share = above / count
                cells[row, column, 0] = share
                cells[row, column, 1] = max(share, 1.0 - share)
    return contrast


@njit
def _read(
    picture: NDArray[np.uint8], corners: Array, bits: int, across: int, level: float
) -> tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.bool_], Array, Array]:
    count, n = len(corners), bits + 2
    words = np.zeros(count, dtype=np.uint64)
    verdict = np.zeros(count, dtype=np.int64)
    inverted = np.zeros(count, dtype=np.bool_)
    purity, contrasts = np.zeros(count), np.zeros(count)
    cells, levels = np.zeros((n, n, 2)), np.zeros(6)
    for k in range(count):
        contrast = sampled(picture, corners[k], bits, across, level, cells, levels)
        contrasts[k], inverted[k] = abs(contrast), contrast < 0
        if abs(contrast) < MIN_CONTRAST:
            verdict[k] = DIM
            continue
        if cells[0, 0, 1] == 0.0:
            verdict[k] = BORDER
            continue
        word = np.uint64(0)
        wrong, pure = 0, 0.0
        for row in range(n):
            for column in range(n):
                if cells[row, column, 1] < 0:
                    verdict[k] = OUTSIDE
                bright = cells[row, column, 0] > 0.5
                if row == 0 or column == 0 or row == n - 1 or column == n - 1:
                    wrong += bright
                else:
                    pure += cells[row, column, 1]
                    word = (word << np.uint64(1)) | np.uint64(bright)
        purity[k] = pure / (bits * bits)
        words[k] = word
        if verdict[k] == OUTSIDE:
            continue
        if wrong > MAX_BORDER_SHARE * 4 * (n - 1):
            verdict[k] = BORDER
        elif purity[k] < MIN_PURITY:
            verdict[k] = IMPURE
    return words, verdict, inverted, purity, contrasts
