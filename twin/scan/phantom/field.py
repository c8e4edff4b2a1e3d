"""All bones as one compiled table, and the cell grid that makes looking them up fast.

The grid marks each cell that may hold surface (or cortex) of some bones and keeps, for each of them, only the rows that
can matter in that cell; other cells know whose inside they are, and how far the next marked cell is at least.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from spatial.compiled import njit, njit_parallel, prange
from twin.scan.phantom import shapes
from twin.scan.phantom.solids import Solid

F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
KEPT_MOST = 96  # rows a bone may have, and so the most a cell can keep


@dataclass(frozen=True)
class Bones:
    """Packed bones: rows, plate outlines, fold programs and where each bone's program lies."""

    names: tuple[str, ...]
    table: F64
    outline: F64
    program: I32
    starts: I32  # (bones + 1,)
    low_mm: F64  # (bones, 3)
    high_mm: F64

    @classmethod
    def pack(cls, solids: Sequence[Solid]) -> Bones:
        """Put solids behind one another."""
        rows: list[F64] = []
        outlines: list[F64] = []
        program: list[int] = []
        starts = [0]
        for solid in solids:
            before = sum(map(len, outlines))
            for row in solid.rows:
                copy = row.copy()
                if copy[0] == shapes.SHEET:
                    copy[shapes.PARAMETERS + 13] += before
                program.append(2 * len(rows) + int(copy[1] == shapes.OPEN))
                rows.append(copy)
            outlines.extend(solid.outline)
            starts.append(len(rows))
        if len(starts) > 1 and max(np.diff(starts)) > KEPT_MOST:
            raise ValueError(f"{max(np.diff(starts))} rows in one bone; at most {KEPT_MOST}")
        outline = np.concatenate([*outlines, np.zeros((1, 2))]).ravel()
        table = np.array(rows).reshape(-1, shapes.ROW)
        return cls(
            tuple(s.name for s in solids), table, outline, np.array(program, np.int32), np.array(starts,
            np.int32),
            np.array([s.low for s in solids]).reshape(-1, 3), np.array([s.high for s in solids]).reshape(-1, 3),
        )  # fmt: skip

    def value(self, bone: int, points_mm: F64) -> F64:
        """The field of one bone at (N, 3) points."""
        out = np.empty(len(points_mm))
        shapes.values(
            self.table, self.outline, self.program, int(self.starts[bone]), int(self.starts[bone + 1]),
            np.ascontiguousarray(points_mm, np.float64), out,
        )  # fmt: skip
        return out


@njit
def cell_entry(entry: NDArray[np.int32], corner: F64, cell: float, x: float, y: float, z: float) -> int:
    """The first entry of the cell that holds a point, -1 where it is unmarked or outside the grid."""
    i = math.floor((x - corner[0]) / cell)
    j = math.floor((y - corner[1]) / cell)
    k = math.floor((z - corner[2]) / cell)
    if i < 0 or j < 0 or k < 0 or i >= entry.shape[0] or j >= entry.shape[1] or k >= entry.shape[2]:
        return -1
    return int(entry[i, j, k])


@njit_parallel
def _cull_cells(
    table: F64, outline: F64, program: I32, start: int, stop: int, centres: F64, reach_mm: float, kept: I32,
    counts: I32,
) -> None:  # fmt: skip
    for n in prange(centres.shape[0]):
        counts[n] = shapes.cull(
            table, outline, program, start, stop, centres[n, 0], centres[n, 1], centres[n, 2], reach_mm, kept[n]
        )


@dataclass(frozen=True)
class CellGrid:
    """Where the bones' surfaces run. Arrays over cells, indexed [i, j, k] along x, y, z."""

    corner_mm: F64
    cell_mm: float
    entry: NDArray[np.int32]  # first entry of a marked cell, -1 elsewhere
    inside: NDArray[np.int16]  # bone that fills an unmarked cell, -1: none
    skip_mm: NDArray[np.float32]  # any point of the cell is at least this far from any marked cell
    entry_bone: I32  # per entry: bone; entries of one cell are consecutive
    entry_start: I32  # per entry: start in `program`; ends at the next entry's start
    entry_last: NDArray[np.bool_]  # per entry: the last one of its cell
    program: I32

    @classmethod
    def build(cls, bones: Bones, chosen: Sequence[int], cell_mm: float, margin_mm: float) -> CellGrid:
        """Mark cells within `margin_mm` of a surface of the chosen bones."""
        low = bones.low_mm[list(chosen)].min(axis=0) - margin_mm - cell_mm
        high = bones.high_mm[list(chosen)].max(axis=0) + margin_mm + cell_mm
        shape = tuple(int(n) for n in np.ceil((high - low) / cell_mm))
        inside = np.full(shape, -1, np.int16)
        radius = np.sqrt(3.0) / 2 * cell_mm
        cells: list[NDArray[np.int64]] = []
        owners: list[I32] = []
        lists: list[I32] = []
        lengths: list[I32] = []
        for b in chosen:
            i0 = np.floor((bones.low_mm[b] - margin_mm - low) / cell_mm).astype(int)
            i1 = np.minimum(np.ceil((bones.high_mm[b] + margin_mm - low) / cell_mm).astype(int), shape)
            value = np.empty(tuple(i1 - i0), np.float32)
            start, stop = int(bones.starts[b]), int(bones.starts[b + 1])
            _field_at_centres(
                bones.table, bones.outline, bones.program, start, stop, low + i0 * cell_mm, cell_mm, value
            )
            near = np.argwhere(np.abs(value) <= shapes.LIPSCHITZ * (radius + margin_mm))
            box = inside[i0[0] : i1[0], i0[1] : i1[1], i0[2] : i1[2]]
            box[value < 0] = b
            centres = low + (near + i0 + 0.5) * cell_mm
            kept = np.empty((len(near), stop - start + 1), np.int32)
            counts = np.empty(len(near), np.int32)
            _cull_cells(bones.table, bones.outline, bones.program, start, stop, centres, radius + 1e-3, kept, counts)
            mask = np.arange(kept.shape[1]) < counts[:, None]
            cells.append(np.ravel_multi_index(tuple((near + i0).T), shape).astype(np.int64))
            owners.append(np.full(len(near), b, np.int32))
            lists.append(kept[mask])
            lengths.append(counts)
        cell, owner, length = np.concatenate(cells), np.concatenate(owners), np.concatenate(lengths)
        flat = np.concatenate(lists)
        first = np.concatenate([[0], np.cumsum(length)[:-1]])
        order = np.argsort(cell, kind="stable")
        cell, owner, length, first = cell[order], owner[order], length[order], first[order]
        start_of = np.concatenate([[0], np.cumsum(length)]).astype(np.int32)
        gather = np.repeat(first - start_of[:-1], length) + np.arange(start_of[-1])
        entry = np.full(int(np.prod(shape)), -1, np.int32)
        unique, at = np.unique(cell, return_index=True)
        entry[unique] = at
        last = np.concatenate([cell[1:] != cell[:-1], [True]]) if len(cell) else np.zeros(0, bool)
        grid = entry.reshape(shape)
        steps = ndimage.distance_transform_edt(grid < 0) if len(cell) else np.full(shape, 1e6)
        skip = np.maximum((steps - np.sqrt(3.0)) * cell_mm, 0.0).astype(np.float32)
        return cls(low, cell_mm, grid, inside, skip, owner, start_of, last, flat[gather])


@njit_parallel
def _field_at_centres(
    table: F64, outline: F64, program: I32, start: int, stop: int, corner: F64, cell: float, out: NDArray[np.float32]
) -> None:
    nx, ny, nz = out.shape
    for i in prange(nx):
        x = corner[0] + (i + 0.5) * cell
        for j in range(ny):
            y = corner[1] + (j + 0.5) * cell
            for k in range(nz):
                z = corner[2] + (k + 0.5) * cell
                out[i, j, k] = shapes.fold(table, outline, program, start, stop, x, y, z)[0]
