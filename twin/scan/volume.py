"""A CT in patient coordinates: the grid apart from the voxels, so a label map can share it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spatial.faults import Fault
from spatial.frames import Patient, Voxel
from spatial.rigid import Array, Points, Rigid, readonly
from twin.scan.fitness import Fitness


class BadVolume(Fault):
    """Voxels that do not fit their grid, or a grid with no sound geometry."""


@dataclass(frozen=True, eq=False)
class Grid:
    """Where voxels stand: `size` (columns i, rows j, slices k); arrays are stored (k, j, i).

    The centre of voxel (0, 0, 0) is `origin_mm` (Patient LPS); `axes` (3, 3) has the unit directions of i, j, k as
    columns, right-handed (a mirrored file is flipped on import, never stored mirrored).
    """

    size: tuple[int, int, int]
    spacing_mm: Array
    origin_mm: Array
    axes: Array

    def __post_init__(self) -> None:
        """Validate; raises BadVolume or NotRigid."""
        spacing = readonly(self.spacing_mm, (3,), "Grid.spacing_mm")
        if (spacing <= 0).any() or any(n < 1 for n in self.size):
            raise BadVolume(f"size {self.size}, spacing {spacing.tolist()} mm; all must be above zero")
        rigid: Rigid[Patient, Voxel] = Rigid(self.axes, self.origin_mm)
        object.__setattr__(self, "spacing_mm", spacing)
        object.__setattr__(self, "origin_mm", rigid.translation_mm)
        object.__setattr__(self, "axes", rigid.rotation)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Array shape (k, j, i)."""
        return self.size[2], self.size[1], self.size[0]

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel."""
        return float(np.prod(self.spacing_mm)) / 1000.0

    def patient_from_index(self, ijk: Array) -> Points[Patient]:
        """Patient points (..., 3) of (fractional) indices (..., 3) in order (i, j, k)."""
        return Points[Patient]((np.asarray(ijk, float) * self.spacing_mm) @ self.axes.T + self.origin_mm)

    def index_from_patient(self, points: Points[Patient]) -> Array:
        """Fractional indices (..., 3), order (i, j, k), of patient points."""
        return np.asarray(((points.mm - self.origin_mm) @ self.axes) / self.spacing_mm)

    def same_as(self, other: Grid, tolerance_mm: float = 0.01) -> bool:
        """Whether the two grids coincide at every corner."""
        corners = np.array([[0, 0, 0], [self.size[0] - 1, 0, 0], [0, self.size[1] - 1, 0], [0, 0, self.size[2] - 1]])
        if self.size != other.size:
            return False
        gap = self.patient_from_index(corners).mm - other.patient_from_index(corners).mm
        return bool(np.linalg.norm(gap, axis=1).max() <= tolerance_mm)

    def cropped(self, start_ijk: tuple[int, int, int], size: tuple[int, int, int]) -> Grid:
        """The grid of a block that begins at voxel `start_ijk`."""
        origin = self.patient_from_index(np.asarray(start_ijk, float)).mm
        return Grid(size, self.spacing_mm, origin, self.axes)


@dataclass(frozen=True, eq=False)
class Volume:
    """A CT: int16 Hounsfield units (k, j, i) on a grid, read-only; `about` says where it came from (no identifiers)."""

    grid: Grid
    hu: NDArray[np.int16]
    about: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    fitness: Fitness | None = None

    def __post_init__(self) -> None:
        """Check shape and type; the array is frozen in place, not copied (a CT is hundreds of megabytes)."""
        if self.hu.shape != self.grid.shape or self.hu.dtype != np.int16:
            raise BadVolume(f"voxels {self.hu.shape} {self.hu.dtype}, the grid needs {self.grid.shape} int16")
        self.hu.flags.writeable = False
        object.__setattr__(self, "about", MappingProxyType(dict(self.about)))


@dataclass(frozen=True, eq=False)
class LabelMap:
    """Which bone each voxel belongs to: uint8 or uint16 (k, j, i), 0 is none; `names` maps numbers to bone names."""

    grid: Grid
    labels: NDArray[np.uint8] | NDArray[np.uint16]
    names: Mapping[int, str]
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check shape, type and names; frozen in place."""
        if self.labels.shape != self.grid.shape or self.labels.dtype not in (np.uint8, np.uint16):
            raise BadVolume(
                f"labels {self.labels.shape} {self.labels.dtype}, {self.grid.shape} uint8 or uint16 is needed"
            )
        if 0 in self.names or len(set(self.names.values())) != len(self.names):
            raise BadVolume("label 0 means no bone, and each bone has one number")
        self.labels.flags.writeable = False
        object.__setattr__(self, "names", MappingProxyType(dict(self.names)))
