"""One pedicle as the search for screws sees it: its walls as points, its own axis, and what an axis is to aim at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from spatial.distance import DistanceGrid
from spatial.faults import Fault
from spatial.frames import Bone, Patient
from spatial.rigid import Array, Rigid
from spatial.shapes import Line
from twin.anatomy.bone import Side
from twin.anatomy.local_frame import bone_frame
from twin.anatomy.twin import Twin
from twin.plan.auto.corridor import (
    ENOUGH_MM,
    REACH_MM,
    STARTS,
    axis_worth,
    best_axis,
    moved_axis,
    nearest_walls,
    survey,
    wall_points,
)
from twin.plan.screws.walls import WALLS, Across
from twin.scan.volume import Volume

EXTRA_MM = {"medial": 0.5, "inferior": 0.5, "superior": 0.2, "lateral": 0.0}  # wanted beyond the others
JOINT_MM = 8.0  # from an axis to the middle of the facet joint above: half a facet and the head's neck
JOINT_COST = 0.01  # mm of wall distance a square millimetre of that
HU_WORTH = 0.002  # mm of wall distance a Hounsfield unit in the body: 100 HU are worth 0.2 mm


class PedicleOutside(Fault):
    """A pedicle's landmark that lies outside its bone."""


def _none(columns: int) -> Array:
    return np.zeros((0, columns))


@dataclass(frozen=True, eq=False)
class Aim:
    """What is asked of an axis beyond room.

    `enough_mm`: wall distance beyond which more is worth nothing; `floor_mm`: the least that is taken, and
    `counted_floor_mm` the least with the extras of each direction counted off; `body_slack_mm`: how much nearer a
    surface in the body may be than a wall. `pulls` (P, 13):
    the head's coefficient, what it should make up (3), and a quadratic form (3, 3) in mm per square millimetre;
    `head_mm`: of the head's centre before the entry. `joints` (J, 3) mm: middles of facet joints. `hu` (k, j, i) with
    `index_from_patient` (3, 4): the CT, or nothing of it.
    """

    enough_mm: float = ENOUGH_MM
    floor_mm: float = -1e6
    counted_floor_mm: float = -1e6
    body_slack_mm: float = 0.0
    head_mm: float = 0.0
    pulls: Array = field(default_factory=lambda: _none(13))
    joints: Array = field(default_factory=lambda: _none(3))
    hu: NDArray[np.int16] = field(default_factory=lambda: np.zeros((0, 0, 0), np.int16))
    index_from_patient: Array = field(default_factory=lambda: np.zeros((3, 4)))

    @classmethod
    def of(cls, twin: Twin, bone: str, side: Side, volume: Volume | None) -> Aim:
        """Room, dense bone, and the joint above left alone."""
        joints = [m.position.mm for m in twin.landmarks if m.bone == bone and m.name == f"facet_superior_{side}"]
        own = np.array(joints) if joints else _none(3)
        if volume is None:
            return cls(joints=own)
        turn = (volume.grid.axes / volume.grid.spacing_mm).T
        shift = -turn @ volume.grid.origin_mm
        return cls(joints=own, hu=volume.hu, index_from_patient=np.column_stack([turn, shift]))

    @property
    def limits(self) -> Array:
        """The numbers of the kernel: enough, both floors, slack, head, joint's distance and cost, worth of a HU."""
        dense = HU_WORTH if self.hu.size else 0.0
        floors = self.floor_mm, self.counted_floor_mm
        return np.array([self.enough_mm, *floors, self.body_slack_mm, self.head_mm, JOINT_MM, JOINT_COST, dense])


@dataclass(frozen=True, eq=False)
class Pedicle:
    """`walls`: points (N, 3) of the bone's surface from the isthmus; `across`: of the pedicle's own axis."""

    bone: str
    side: Side
    grid: DistanceGrid[Patient]
    frame: Rigid[Patient, Bone]
    isthmus_mm: Array
    direction: Array
    across: Across
    walls: Array

    @classmethod
    def of(cls, twin: Twin, bone: str, side: Side) -> Pedicle:
        """Of a twin's bone. Raises NoBone, NoLandmark, PedicleOutside."""
        grid = DistanceGrid[Patient].of(twin.bone(bone).surface)
        isthmus = twin.landmark(f"pedicle_{side}", bone)
        frame = bone_frame(twin, bone)
        direction = frame.rotation[:, 1] if isthmus.direction is None else isthmus.direction.unit
        if float(grid.distance_mm(isthmus.position)) >= 0:
            raise PedicleOutside("the pedicle's landmark lies outside the bone")
        walls = wall_points(grid.values_mm, grid.origin_mm, grid.spacing_mm, isthmus.position.mm, REACH_MM)
        return cls(
            bone, side, grid, frame, isthmus.position.mm, direction, Across.of(direction, frame, side), walls
        )  # fmt: skip

    @property
    def rows(self) -> Array:
        """The kernel's frame (6, 3): isthmus, direction, medial, superior, inward, cranial."""
        right, _, cranial = self.frame.rotation.T
        inward = right if self.side == "left" else -right
        return np.array([self.isthmus_mm, self.direction, self.across.medial, self.across.superior, inward, cranial])

    def axis(self, x: Array) -> Line[Patient]:
        """The axis shifted by x[0] mm medially and x[1] mm up, its tip turned x[2] rad medially and x[3] rad up."""
        point, way = moved_axis(self.isthmus_mm, self.direction, self.across.medial, self.across.superior, x)
        return Line[Patient](point, way)

    def best(self, aim: Aim, starts: Array = STARTS, *, even: bool = False) -> tuple[Array, float]:
        """The axis that is worth most, by compass search from each start, and its worth in mm.

        `even`: all walls count alike, no direction has an extra.
        """
        x, worth = best_axis(
            *self._field, self.walls, self.rows, 0.0 * EXTRA if even else EXTRA, aim.limits, aim.pulls, aim.joints,
            aim.hu, aim.index_from_patient, np.atleast_2d(starts),
        )  # fmt: skip
        return x, float(worth)

    def worth(self, aim: Aim, x: Array) -> float:
        """What one axis is worth, mm."""
        return float(
            axis_worth(
                *self._field, self.walls, self.rows, EXTRA, aim.limits, aim.pulls, aim.joints, aim.hu,
                aim.index_from_patient, x,
            )
        )  # fmt: skip

    def counted_mm(self, x: Array) -> float:
        """The nearest wall of an axis, or surface in the body, with the extras of each direction counted off."""
        _, counted, body = nearest_walls(*self._field, self.walls, self.rows, EXTRA, x)
        return float(min(counted, body))

    def lattice(self, steps: Sequence[Array], depth_mm: float, least_mm: float) -> tuple[Array, Array]:
        """The axes (N, 4) of a lattice with at least so much room, and their room (N,).

        `steps`: the values of each of the four numbers of x. Room is the nearest wall, or surface from the window's end
        to `depth_mm` past the isthmus.
        """
        medial_mm, up_mm, medial_rad, up_rad = steps
        room = survey(
            *self._field, self.walls, self.rows, medial_mm, up_mm, medial_rad, up_rad, depth_mm, least_mm
        )  # fmt: skip
        cells = np.argwhere(room >= least_mm)
        axes = np.column_stack([values[cells[:, n]] for n, values in enumerate(steps)])
        return axes, room[tuple(cells.T)].astype(float)

    @property
    def _field(self) -> tuple[NDArray[np.float32], Array, float]:
        return self.grid.values_mm, self.grid.origin_mm, self.grid.spacing_mm


EXTRA = np.array([EXTRA_MM[name] for name in WALLS])
