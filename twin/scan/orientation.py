"""Turning voxel arrays in steps of 90 degrees: exact, no voxel is resampled."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spatial.rigid import Array
from twin.scan.volume import Grid, Volume


@dataclass(frozen=True)
class Turn:
    """New axis a (of i, j, k) is old axis `order[a]`, run backward where `flip[a]`."""

    order: tuple[int, int, int]
    flip: tuple[bool, bool, bool]

    def array(self, values: NDArray[Any]) -> NDArray[Any]:
        """The turned (k, j, i) array, contiguous."""
        out = values.transpose([2 - self.order[2 - axis] for axis in range(3)])
        for axis in range(3):
            if self.flip[axis]:
                out = np.flip(out, 2 - axis)
        return np.ascontiguousarray(out)

    def affine(self, size: tuple[int, ...], patient_from_index: Array) -> Array:
        """The (4, 4) map of the turned indices, of an image that had `size` (i, j, k) and this map before."""
        new = np.eye(4)
        new[:3, 3] = patient_from_index[:3, 3]
        for axis in range(3):
            old = self.order[axis]
            column = patient_from_index[:3, old]
            new[:3, axis] = -column if self.flip[axis] else column
            if self.flip[axis]:
                new[:3, 3] += column * (size[old] - 1)
        return new

    def grid(self, grid: Grid) -> Grid:
        """The turned grid; raises NotRigid when the turn mirrors."""
        size = tuple(grid.size[old] for old in self.order)
        matrix = self.affine(grid.size, patient_from_index(grid))
        axes = np.column_stack([grid.axes[:, old] * (-1 if self.flip[a] else 1) for a, old in enumerate(self.order)])
        return Grid((size[0], size[1], size[2]), grid.spacing_mm[list(self.order)], matrix[:3, 3], axes)


def patient_from_index(grid: Grid) -> Array:
    """The grid's (4, 4) map from (i, j, k) to LPS mm."""
    matrix = np.eye(4)
    matrix[:3, :3] = grid.axes * grid.spacing_mm
    matrix[:3, 3] = grid.origin_mm
    return matrix


def nearest_turn(axes: Array, target_axes: Array) -> Turn:
    """The turn that brings columns `axes` closest to columns `target_axes`; it mirrors if their handedness differs."""
    likeness = target_axes.T @ axes
    order = max(permutations(range(3)), key=lambda p: sum(abs(likeness[a, p[a]]) for a in range(3)))
    i, j, k = (bool(likeness[axis, order[axis]] < 0) for axis in range(3))
    return Turn((order[0], order[1], order[2]), (i, j, k))


def lps_volume(volume: Volume) -> Volume:
    """The same CT with i toward the left, j posterior, k cranial (as nearly as turns allow)."""
    turn = nearest_turn(volume.grid.axes, np.eye(3))
    return Volume(turn.grid(volume.grid), turn.array(volume.hu), volume.about, volume.warnings, volume.fitness)
