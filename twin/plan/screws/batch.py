"""Many screws for one pedicle at once: safe or not, or graded with depth and direction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spatial.distance import DistanceGrid
from spatial.faults import Misuse
from spatial.frames import Bone, Patient
from spatial.rigid import Array, Rigid, readonly
from twin.anatomy.bone import Side
from twin.anatomy.local_frame import bone_frame
from twin.anatomy.twin import Twin
from twin.plan.screws import batch_kernels as kernels
from twin.plan.screws.walls import WALLS

LETTERS = np.array(["A", "B", "C", "D", "E"])
BORDERS_MM = (2.0, 4.0, 6.0)


class BadCandidates(Misuse):
    """Candidates whose numbers don't belong together."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """N screws: entries (N, 3) on or near the bone, unit ways (N, 3), outer diameters (N,), lengths (N,), all mm."""

    entries_mm: Array
    ways: Array
    diameters_mm: Array
    lengths_mm: Array

    def __post_init__(self) -> None:
        """Check shapes, make the ways unit vectors; raises BadCandidates."""
        count = len(self.entries_mm)
        shapes = (np.shape(self.ways), np.shape(self.diameters_mm), np.shape(self.lengths_mm))
        if np.shape(self.entries_mm) != (count, 3) or shapes != ((count, 3), (count,), (count,)):
            raise BadCandidates(f"{count} entries with ways, diameters, lengths of shapes {shapes}")
        long = np.linalg.norm(self.ways, axis=1, keepdims=True)
        if count and (not np.isfinite(long).all() or float(long.min()) < 1e-9):
            raise BadCandidates("a way without a direction")
        object.__setattr__(self, "ways", self.ways / long)
        for name in ("entries_mm", "ways", "diameters_mm", "lengths_mm"):
            value = np.ascontiguousarray(getattr(self, name), dtype=float)
            object.__setattr__(self, name, readonly(value, value.shape, f"Candidates.{name}"))

    def __len__(self) -> int:
        """How many."""
        return len(self.entries_mm)


@dataclass(frozen=True, eq=False)
class Graded:
    """`margin_mm` (N,): the smallest wall margin, negative beyond it; `wall` (N,): which of WALLS; `anterior_mm` (N,):
    from the tip to the front along the axis, nan where the axis meets no bone.
    """

    margin_mm: Array
    wall: NDArray[np.int64]
    anterior_mm: Array

    @property
    def breach_mm(self) -> Array:
        """Depth beyond the wall (N,)."""
        return np.asarray(np.maximum(-self.margin_mm, 0.0))

    @property
    def grades(self) -> NDArray[np.str_]:
        """Letters (N,)."""
        steps = np.searchsorted(BORDERS_MM, self.breach_mm, side="right") + 1
        return np.asarray(LETTERS[np.where(self.breach_mm > 0.0, steps, 0)])

    @property
    def directions(self) -> NDArray[np.str_]:
        """Names of the walls (N,) that are breached, or that leave least room."""
        return np.asarray(np.array(WALLS)[self.wall])


@dataclass(frozen=True, eq=False)
class Pedicle:
    """What grading many screws needs of one pedicle, fetched once."""

    grid: DistanceGrid[Patient]
    isthmus_mm: Array
    inward: Array
    cranial: Array

    @classmethod
    def of(cls, twin: Twin, bone: str, side: Side, patient_from_bone: Rigid[Patient, Bone] | None = None) -> Pedicle:
        """Raises NoBone, and NoLandmark where the pedicle or the bone's axes are not known."""
        frame = bone_frame(twin, bone) if patient_from_bone is None else patient_from_bone
        right, _, cranial = frame.rotation.T
        isthmus = twin.landmark(f"pedicle_{side}", bone).position.mm
        grid = DistanceGrid[Patient].of(twin.bone(bone).surface)
        inward = right if side == "left" else -right
        return cls(grid, isthmus, np.ascontiguousarray(inward), np.ascontiguousarray(cranial))

    def grade(self, screws: Candidates) -> Graded:
        """Grades with depth and direction, as `grade_screw` gives them."""
        margin, turn, anterior = kernels.grade_all(*self._given(screws))
        wall = np.round(np.asarray(turn) / (np.pi / 2.0) - 1e-9).astype(np.int64) % 4
        return Graded(margin, wall, anterior)

    def safe(self, screws: Candidates, keep_mm: float = 0.0, keep_ahead_mm: float = 2.0) -> NDArray[np.bool_]:
        """Whether each (N,) keeps `keep_mm` from every wall and `keep_ahead_mm` from the front."""
        return np.asarray(kernels.safe_all(*self._given(screws), float(keep_mm), float(keep_ahead_mm)))

    def _given(
        self, screws: Candidates
    ) -> tuple[NDArray[np.float32], Array, float, Array, Array, Array, Array, Array, Array, Array]:
        return (
            self.grid.values_mm, self.grid.origin_mm, self.grid.spacing_mm, self.isthmus_mm, self.inward, self.cranial,
            screws.entries_mm, screws.ways, screws.diameters_mm / 2.0, screws.lengths_mm,
        )  # fmt: skip
