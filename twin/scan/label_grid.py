"""Label numbers brought onto the CT's grid: copied where the voxels coincide, else the nearest one, and said so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spatial.frames import Patient
from spatial.rigid import Array, Points
from twin.scan.orientation import Turn, nearest_turn, patient_from_index
from twin.scan.refusals import BadLabels
from twin.scan.relabel import nearest
from twin.scan.volume import Grid

INSIDE_SHARE = 0.9  # of the labelled voxels that must lie in the CT
ALL_INSIDE_SHARE = 0.999  # below it the part outside is told
SAMPLE = 200_000  # labelled voxels that are looked up
SAME_PLACE_VOXELS = 0.05


def onto(values: NDArray[np.uint8], matrix: Array, grid: Grid, path: Path, notes: list[str]) -> NDArray[np.uint8]:
    """Numbers (k, j, i) that lie where the (4, 4) `matrix` says, on `grid`. Raises BadLabels: of another place."""
    size = values.shape[::-1]
    turn = nearest_turn(matrix[:3, :3] / np.linalg.norm(matrix[:3, :3], axis=0), grid.axes)
    inside = _share_inside(values, matrix, grid)
    if inside < INSIDE_SHARE:
        raise BadLabels(
            f"{inside:.0%} of the labelled voxels lie inside the CT, {INSIDE_SHARE:.0%} must; are they of another "
            "scan?",
            path=path,
        )
    if inside < ALL_INSIDE_SHARE:
        notes.append(f"{1 - inside:.1%} of the labelled voxels lie outside the CT and are left out")
    start = start_on_grid(turn, size, matrix, grid)
    if start is not None:
        turned = turn.array(values)
        if turned.shape == grid.shape and not any(start):
            return turned
        return _pasted(turned, start, grid)
    shown = " x ".join(str(n) for n in size)
    steps = " x ".join(f"{mm:.3g}" for mm in np.linalg.norm(matrix[:3, :3], axis=0))
    notes.append(f"labels on another grid ({shown} of {steps} mm) than the CT; each voxel took its nearest label")
    return nearest(values, matrix, grid)


def _share_inside(values: NDArray[np.uint8], matrix: Array, grid: Grid) -> float:
    labelled = np.flatnonzero(values)
    if not len(labelled):
        return 1.0
    k, j, i = np.unravel_index(labelled[:: max(1, len(labelled) // SAMPLE)], values.shape)
    places = np.column_stack([i, j, k]) @ matrix[:3, :3].T + matrix[:3, 3]
    at = grid.index_from_patient(Points[Patient](places))
    return float(((at > -0.5) & (at < np.array(grid.size) - 0.5)).all(axis=1).mean())


def start_on_grid(turn: Turn, size: tuple[int, ...], matrix: Array, grid: Grid) -> tuple[int, int, int] | None:
    """Where the turned block begins on the grid (i, j, k) when its voxels are the grid's own; else None."""
    turned_size = np.array([size[old] for old in turn.order])
    grid_from_block = np.linalg.inv(patient_from_index(grid)) @ turn.affine(size, matrix)
    corners = np.array([[i, j, k, 1] for i in (0, 1) for j in (0, 1) for k in (0, 1)], float)
    corners[:, :3] *= turned_size
    at = (corners @ grid_from_block.T)[:, :3]
    start = np.rint(at[0]).astype(int)
    if np.abs(at - start - corners[:, :3]).max() > SAME_PLACE_VOXELS:
        return None
    return int(start[0]), int(start[1]), int(start[2])


def _pasted(block: NDArray[np.uint8], start: tuple[int, int, int], grid: Grid) -> NDArray[np.uint8]:
    out = np.zeros(grid.shape, np.uint8)
    to, at = [], []
    for first, length, limit in zip(start[::-1], block.shape, grid.shape, strict=True):
        low, high = max(0, first), max(0, min(limit, first + length))
        to.append(slice(low, max(low, high)))
        at.append(slice(low - first, max(low, high) - first))
    out[tuple(to)] = block[tuple(at)]
    return out
