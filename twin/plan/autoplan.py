"""One screw proposal a pedicle: the pedicle's own axis first, then the best place and aim around it.

The search moves the axis across the isthmus and turns it, and looks for the largest smallest wall distance, where the
medial and the inferior wall have to be further away than the others (neural structures lie nearest there: Lien 2007,
PMC2200778). Diameter: the largest of the set within 80 % of the isthmus width. Length: the largest 5 mm step within
85 % of the chord that keeps 2 mm of bone before the whole tip and 1 mm beside it. The nearest wall and every critical
structure keep 0.3 mm, and the scan's own spread (95 %, one-sided) on top. Nothing is random: the same twin gives the
same screw.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from spatial.distance import DistanceGrid
from spatial.frames import Bone, Patient
from spatial.rigid import Array, Directions, Points, Rigid
from spatial.shapes import Line
from twin.anatomy.bone import Landmark, Side
from twin.anatomy.local_frame import bone_frame
from twin.anatomy.twin import NoLandmark, Twin
from twin.plan.clearance import Clearance, clearances, nearest_critical
from twin.plan.corridor import best_corridor, moved_axis
from twin.plan.grade import ANTERIOR_KEEP_MM, OffBone, ScrewGrade, anterior_cortex_mm, entry_on_bone, grade_screw
from twin.plan.levels import level_of
from twin.plan.screw import Screw
from twin.plan.walls import WALLS, Across, measure_walls
from twin.scan.volume import Volume

DIAMETERS_MM = (4.0, 4.5, 5.0, 5.5, 6.0, 6.5, 7.0, 7.5, 8.5)
LENGTHS_MM = tuple(float(n) for n in range(25, 65, 5))
FILL = 0.8  # of the isthmus width
CHORD = 0.85  # of the way to the anterior cortex
LEAST_MARGIN_MM = 0.3
SURE = 1.645  # sigmas: 95 of 100 walls are at least as far away as this says
SIDE_KEEP_MM = 1.0  # of bone beside the tip
EXTRA_MM = {"medial": 0.5, "inferior": 0.5, "superior": 0.2, "lateral": 0.0}  # wanted beyond the others


@dataclass(frozen=True, eq=False)
class Proposal:
    """A screw with its grade, or why there is none and what could be done instead."""

    bone: str
    side: Side
    screw: Screw | None
    grade: ScrewGrade | None
    reason: str | None = None
    instead: str | None = None

    def refusal(self) -> dict[str, Any]:
        """The answer of a pedicle that takes no screw."""
        return {"bone": self.bone, "side": self.side, "reason": self.reason, "instead": self.instead}


@dataclass(frozen=True, eq=False)
class _Pedicle:
    """What the search needs of one pedicle."""

    grid: DistanceGrid[Patient]
    frame: Rigid[Patient, Bone]
    side: Side
    isthmus_mm: Array
    direction: Array
    across: Across

    def axis(self, x: Array) -> Line[Patient]:
        """The axis shifted by x[0] mm medially and x[1] mm up, its tip turned x[2] rad medially and x[3] rad up."""
        point, way = moved_axis(self.isthmus_mm, self.direction, self.across.medial, self.across.superior, x)
        return Line[Patient](point, way)


def fitting_diameter_mm(width_mm: float, diameters_mm: Sequence[float] = DIAMETERS_MM) -> float | None:
    """The largest screw within 80 % of the isthmus width; None when the smallest one is too thick."""
    return max((d for d in diameters_mm if d <= FILL * width_mm + 1e-9), default=None)


def fitting_length_mm(chord_mm: float, lengths_mm: Sequence[float] = LENGTHS_MM) -> float | None:
    """The longest screw within 85 % of the chord that keeps 2 mm from the anterior cortex along the axis."""
    return max((v for v in lengths_mm if v <= min(CHORD * chord_mm, chord_mm - ANTERIOR_KEEP_MM)), default=None)


def screw_id(bone: str, side: Side) -> str:
    """The name of the screw of a pedicle: `L4-left`, `S1-right`."""
    return f"{level_of(bone) or bone}-{side}"


def propose_screw(
    twin: Twin,
    bone: str,
    side: Side,
    volume: Volume | None = None,
    *,
    diameters_mm: Sequence[float] = DIAMETERS_MM,
    lengths_mm: Sequence[float] = LENGTHS_MM,
) -> Proposal:
    """The proposal for one pedicle. A pedicle that takes no screw is an answer; raises NoBone for an unknown bone."""
    surface = twin.bone(bone).surface
    try:
        isthmus = twin.landmark(f"pedicle_{side}", bone)
        frame = bone_frame(twin, bone)
    except NoLandmark as fault:
        return _refused(bone, side, fault.message, "mark the pedicle by hand, or plan with `--entry` and `--target`")
    pedicle = _pedicle(DistanceGrid[Patient].of(surface), frame, side, isthmus)
    if float(pedicle.grid.distance_mm(Points[Patient](pedicle.isthmus_mm))) >= 0:
        return _refused(bone, side, "the pedicle's landmark lies outside the bone", "check the landmarks of this bone")
    try:
        return _sized(twin, bone, side, pedicle, _search(pedicle), volume, diameters_mm, lengths_mm)
    except OffBone as fault:
        return _refused(bone, side, fault.message, "check the landmarks of this bone")


def _pedicle(grid: DistanceGrid[Patient], frame: Rigid[Patient, Bone], side: Side, isthmus: Landmark) -> _Pedicle:
    anterior = frame.rotation[:, 1]
    direction = anterior if isthmus.direction is None else isthmus.direction.unit
    across = Across.of(direction, frame, side)
    return _Pedicle(grid, frame, side, isthmus.position.mm, direction, across)


def _search(pedicle: _Pedicle) -> Line[Patient]:
    """The best axis, by compass search from several starts."""
    right, _, cranial = pedicle.frame.rotation.T
    x = best_corridor(
        pedicle.grid.values_mm, pedicle.grid.origin_mm, pedicle.grid.spacing_mm, pedicle.isthmus_mm, pedicle.direction,
        pedicle.across.medial, pedicle.across.superior, right if pedicle.side == "left" else -right, cranial,
        np.array([EXTRA_MM[name] for name in WALLS]),
    )  # fmt: skip
    return pedicle.axis(x)


def _sized(
    twin: Twin,
    bone: str,
    side: Side,
    pedicle: _Pedicle,
    through: Line[Patient],
    volume: Volume | None,
    diameters_mm: Sequence[float],
    lengths_mm: Sequence[float],
) -> Proposal:
    """Entry, diameter and length on the axis that was found."""
    entry = entry_on_bone(pedicle.grid, Points[Patient](through.point_mm), Directions[Patient](through.direction))
    axis = Line[Patient](entry.mm, through.direction)
    across = Across.of(axis.direction, pedicle.frame, side)
    walls = measure_walls(pedicle.grid, axis, float(axis.along_mm(Points[Patient](through.point_mm))), across)
    if np.isnan(walls.width_mm):
        return _refused(
            bone, side, "no straight axis stays within the pedicle", "hooks, a sublaminar band or an in-out-in path"
        )
    chord = anterior_cortex_mm(pedicle.grid, axis)
    nearest = min(walls.wall_mm.values())
    keep = LEAST_MARGIN_MM + SURE * (twin.surface_sd_mm or 0.0)
    diameter = fitting_diameter_mm(walls.width_mm, [d for d in diameters_mm if d / 2 + keep <= nearest])
    if diameter is None:
        thin = min(diameters_mm) > FILL * walls.width_mm
        return _refused(
            bone,
            side,
            f"the isthmus is {walls.width_mm:.1f} mm wide and takes {FILL * walls.width_mm:.1f} mm by the 80 % rule; "
            f"the smallest screw has {min(diameters_mm):g} mm"
            if thin
            else f"on the best axis the nearest wall is {nearest:.1f} mm away; the smallest screw needs "
            f"{min(diameters_mm) / 2 + keep:.1f} mm",
            "hooks, a sublaminar band or an in-out-in path",
        )
    if not _lengths(pedicle.grid, axis, across, diameter, chord, lengths_mm):
        return _refused(
            bone,
            side,
            f"the chord is {chord:.1f} mm, and no screw from {min(lengths_mm):g} mm on keeps its whole tip "
            f"{ANTERIOR_KEEP_MM:g} mm behind the front of the body and {SIDE_KEEP_MM:g} mm within its sides",
            "a shorter screw, or another entry and target by hand",
        )
    critical: Clearance | None = None
    for thinner in sorted((d for d in diameters_mm if d <= diameter), reverse=True):
        for length in _lengths(pedicle.grid, axis, across, thinner, chord, lengths_mm):
            screw = Screw(screw_id(bone, side), bone, side, entry, axis.at(length), float(thinner), float(length))
            critical = nearest_critical(clearances(twin, screw))
            if critical is None or critical.distance_mm >= keep:
                return Proposal(bone, side, screw, grade_screw(twin, screw, volume, patient_from_bone=pedicle.frame))
    assert critical is not None  # some length fits, so the last screw tried was too near to something
    return _refused(
        bone,
        side,
        f"on the best axis even the smallest screw comes within {critical.distance_mm:.1f} mm of {critical.structure} "
        f"(critical); {keep:.1f} mm are kept",
        "another entry and target by hand, or a hook",
    )


def _lengths(
    grid: DistanceGrid[Patient],
    axis: Line[Patient],
    across: Across,
    diameter_mm: float,
    chord_mm: float,
    lengths_mm: Sequence[float],
) -> list[float]:
    """Those that fit the chord with the tip's whole rim behind the front and within the sides, longest first."""
    angle = 2 * np.pi * np.arange(24) / 24
    ring = diameter_mm / 2 * (np.cos(angle)[:, None] * across.medial + np.sin(angle)[:, None] * across.superior)
    shorter, found = list(lengths_mm), []
    while (length := fitting_length_mm(chord_mm, shorter)) is not None:
        shorter = [v for v in shorter if v < length]
        rim = Points[Patient](axis.at(length).mm + ring)
        if float(grid.distance_mm(rim).max()) > -SIDE_KEEP_MM:
            continue
        ahead = grid.trace(rim, Directions[Patient](np.broadcast_to(axis.direction, rim.mm.shape)))
        if float(ahead.min()) >= ANTERIOR_KEEP_MM:
            found.append(length)
    return found


def _refused(bone: str, side: Side, reason: str, instead: str) -> Proposal:
    return Proposal(bone, side, None, None, reason, instead)
