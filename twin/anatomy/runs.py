"""Connected parts of a block of voxels by its rows: runs of one number, joined by union-find where they touch.

Far fewer than voxels, so hollows and pieces of a whole pelvis are found in the time of reading it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spatial.compiled import njit, njit_parallel, prange

Block = NDArray[np.bool_] | NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Runs:
    """Runs r of one number in the rows of a block (k, j, i): `span[r]` from and to which column, `part[r]` of what.

    Row n has the runs `first[n]` to `first[n + 1]`. `number` and `size` (voxels) are those of each part; parts hang
    together by faces.
    """

    first: NDArray[np.int64]
    span: NDArray[np.int32]
    part: NDArray[np.int32]
    number: NDArray[np.uint8]
    size: NDArray[np.int64]

    @classmethod
    def of(cls, block: Block, *, background: bool = False) -> Runs:
        """The runs of every number but 0; of 0 alone, as `background`, where part 0 is what reaches the edge."""
        values = block.view(np.uint8)
        count = np.empty(block.shape[:2], dtype=np.int64)
        _count(values, background, count)
        first = np.concatenate([[0], np.cumsum(count)])
        span = np.empty((first[-1], 2), dtype=np.int32)
        value = np.empty(first[-1], dtype=np.uint8)
        _find(values, background, first, span, value)
        part = np.empty(first[-1], dtype=np.int32)
        parts = _joined(block.shape[:2], block.shape[2], background, first, span, value, part)
        number = np.zeros(parts, dtype=np.uint8)
        number[part] = value
        size = np.bincount(part, span[:, 1] - span[:, 0], parts).astype(np.int64)
        return cls(first, span, part, number, size)

    def write(self, block: Block, values: NDArray[Any]) -> None:
        """Set the voxels of each part (of the block's own shape) to its value."""
        _write(self.first, self.span, self.part, values.astype(np.uint8), block.view(np.uint8))


def fill(mask: NDArray[np.bool_]) -> None:
    """Fill, in place, the background that has no way to the block's edge."""
    hollow = Runs.of(mask, background=True)
    hollow.write(mask, np.arange(len(hollow.size)) > 0)


@njit_parallel
def _count(block: NDArray[np.uint8], background: bool, out: NDArray[np.int64]) -> None:
    nk, nj, ni = block.shape
    for k in prange(nk):
        for j in range(nj):
            row = block[k, j]
            count = 0
            if background:
                count += row[0] == 0
                for i in range(1, ni):
                    count += (row[i] == 0) & (row[i - 1] != 0)
            else:
                count += row[0] != 0
                for i in range(1, ni):
                    count += (row[i] != 0) & (row[i] != row[i - 1])
            out[k, j] = count


@njit_parallel
def _find(
    block: NDArray[np.uint8],
    background: bool,
    first: NDArray[np.int64],
    span: NDArray[np.int32],
    value: NDArray[np.uint8],
) -> None:
    nk, nj, ni = block.shape
    for k in prange(nk):
        for j in range(nj):
            r = first[k * nj + j]
            end = first[k * nj + j + 1]
            row = block[k, j]
            i = 0
            while r < end:
                while (row[i] == 0) != background:
                    i += 1
                span[r, 0], value[r] = i, row[i]
                while i < ni and row[i] == value[r]:
                    i += 1
                span[r, 1] = i
                r += 1


@njit
def _joined(
    rows: tuple[int, int],
    ni: int,
    background: bool,
    first: NDArray[np.int64],
    span: NDArray[np.int32],
    value: NDArray[np.uint8],
    part: NDArray[np.int32],
) -> int:
    """The part of each run, numbered by their first runs; returns how many there are."""
    nk, nj = rows
    outside = np.int32(len(part))  # the highest, so that no other run takes its place
    root = np.arange(len(part) + 1).astype(np.int32)
    for k in range(nk):
        for j in range(nj):
            row = k * nj + j
            if background:
                at_edge = k == 0 or j == 0 or k == nk - 1 or j == nj - 1
                for r in range(first[row], first[row + 1]):
                    if at_edge or span[r, 0] == 0 or span[r, 1] == ni:
                        _join(root, np.int32(r), outside)
            if j > 0:
                _join_rows(root, span, value, first[row - 1], first[row], first[row], first[row + 1])
            if k > 0:
                _join_rows(root, span, value, first[row - nj], first[row - nj + 1], first[row], first[row + 1])
    count = 0
    number = np.full(len(root), -1, dtype=np.int32)
    if background:
        number[_root(root, outside)] = 0
        count = 1
    for r in range(len(part)):
        at = _root(root, np.int32(r))
        if number[at] < 0:
            number[at] = count
            count += 1
        part[r] = number[at]
    return count


@njit
def _root(root: NDArray[np.int32], n: np.int32) -> np.int32:
    while root[n] != n:
        root[n] = root[root[n]]
        n = root[n]
    return n


@njit
def _join(root: NDArray[np.int32], a: np.int32, b: np.int32) -> None:
    a, b = _root(root, a), _root(root, b)
    if a < b:
        root[a] = b
    else:
        root[b] = a


@njit
def _join_rows(
    root: NDArray[np.int32], span: NDArray[np.int32], value: NDArray[np.uint8], a: int, last_a: int, b: int, last_b: int
) -> None:
    """Join the runs a of one row with the runs b of its neighbour where they overlap and have one number."""
    while a < last_a and b < last_b:
        if span[a, 1] > span[b, 0] and span[b, 1] > span[a, 0] and value[a] == value[b]:
            _join(root, np.int32(a), np.int32(b))
        if span[a, 1] < span[b, 1]:
            a += 1
        else:
            b += 1


@njit_parallel
def _write(
    first: NDArray[np.int64],
    span: NDArray[np.int32],
    part: NDArray[np.int32],
    values: NDArray[np.uint8],
    out: NDArray[np.uint8],
) -> None:
    nk, nj, _ = out.shape
    for k in prange(nk):
        for j in range(nj):
            for r in range(first[k * nj + j], first[k * nj + j + 1]):
                out[k, j, span[r, 0] : span[r, 1]] = values[part[r]]
