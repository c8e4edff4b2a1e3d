"""The codes of marker dictionaries as numbers, in all rotations and mirrored: OpenCV's, and those of users' files."""

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
