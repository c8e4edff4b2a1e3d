"""Sorted slices and the upright grid that they fill, or the reasons why there is none."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spatial.faults import Fault
from spatial.rigid import Array
from twin.scan.headers import Header
from twin.scan.volume import Grid


@dataclass(frozen=True, eq=False)
class Layout:
    """Slices along the normal, with their grid.

    `shift_px` (n, 2) is how far slice n lies from the grid's corner along i and along j (zero without gantry tilt),
    `places` (n,) its index along k: whole numbers, or fractions where the slices are unevenly far apart.
    `gaps_mm` are the distinct distances between slices, `tilt_deg` the lean of the stack against the slice normal.
    `given` is how many images there were, those left out (localizers, copies) included.
    """

    headers: tuple[Header, ...]
    grid: Grid
    shift_px: Array
    places: Array
    gaps_mm: tuple[float, ...]
    tilt_deg: float = 0.0
    given: int = 0

    @property
    def is_tilted(self) -> bool:
        """Whether the voxels must be sheared onto the grid."""
        return bool(self.shift_px.any())

    @property
    def is_resampled(self) -> bool:
        """Whether the voxels must be interpolated along the normal."""
        return bool((self.places != np.arange(len(self.places))).any())


@dataclass(frozen=True, eq=False)
class Verdict:
    """What the headers of a series amount to: a layout, or the faults that stand against it; and words of warning."""

    layout: Layout | None
    faults: tuple[Fault, ...]
    warnings: tuple[str, ...]
