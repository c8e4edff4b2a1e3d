"""Screw proposals: for each pedicle the best place and aim, its size, and why it is no larger.

The search moves the axis across the isthmus and turns it, and looks for the largest smallest wall distance, where the
medial and the inferior wall have to be further away than the others (neural structures lie nearest there: Lien 2007,
PMC2200778). Diameter: the largest of the set within 80 % of the isthmus width. Length: the largest 5 mm step within
85 % of the chord that keeps 2 mm of bone before the whole tip and 1 mm beside it. The nearest wall and every critical
structure keep 0.3 mm, and the scan's own spread (95 %, one-sided) on top. Nothing is random: the same twin gives the
same screw.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from spatial.distance import DistanceGrid
from spatial.frames import Patient
from spatial.rigid import Array, Directions, Points
from spatial.shapes import Line
from twin.anatomy.bone import Side
from twin.anatomy.twin import NoLandmark, Twin
from twin.plan.auto.pedicle import Aim, Pedicle, PedicleOutside
from twin.plan.levels import level_of
from twin.plan.screws.clearance import Clearance, clearances, nearest_critical
from twin.plan.screws.grade import ANTERIOR_KEEP_MM, OffBone, ScrewGrade, anterior_cortex_mm, entry_on_bone, grade_screw
from twin.plan.screws.ladder import Rung, alternatives
from twin.plan.screws.screw import Screw
from twin.plan.screws.walls import Across, Walls, measure_walls
from twin.scan.volume import Volume

DIAMETERS_MM = (4.0, 4.5, 5.0, 5.5, 6.0, 6.5, 7.0, 7.5, 8.5)
LENGTHS_MM = tuple(float(n) for n in range(25, 65, 5))
FILL = 0.8  # of the isthmus width
CHORD = 0.85  # of the way to the anterior cortex
LEAST_MARGIN_MM = 0.3
SURE = 1.645  # sigmas: 95 of 100 walls are at least as far away as this says
SIDE_KEEP_MM = 1.0  # of bone beside the tip
BODY_SLACK_MM = 1.0  # where every tenth of a wall counts, the body's surfaces may be nearer: the tip's own rules hold
HOOKS = "hooks, a sublaminar band or an in-out-in path"


@dataclass(frozen=True, eq=False)
class Refusal:
    """Why a pedicle takes no screw, and what could be done instead."""

    reason: str
    instead: str


@dataclass(frozen=True, eq=False)
class Sized:
    """A screw on an axis, and what kept it from being thicker or longer, in words."""

    screw: Screw
    walls: Walls
    limits: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class Alternative:
    """Another screw for the same pedicle: how it differs, and what it gains (+) and costs (-) against the proposal."""

    kind: str
    screw: Screw
    grade: ScrewGrade
    trades: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """The screw with its grade, and the trade."""
        return {"kind": self.kind, "trades": dict(self.trades), **self.screw.to_json(), **self.grade.to_json()}


@dataclass(frozen=True, eq=False)
class Proposal:
    """A screw with its grade, or why there is none and what could be done instead.

    `limits` says what kept it from being thicker, longer, or elsewhere; `alternatives` are ranked, best first. `rungs`:
    what to do where no screw fits, best first.
    """

    bone: str
    side: Side
    screw: Screw | None
    grade: ScrewGrade | None
    reason: str | None = None
    instead: str | None = None
    limits: Mapping[str, str] = field(default_factory=dict)
    alternatives: tuple[Alternative, ...] = ()
    rungs: tuple[Rung, ...] = ()

    def __post_init__(self) -> None:
        """Freeze."""
        object.__setattr__(self, "limits", MappingProxyType(dict(self.limits)))

    def reasons(self) -> dict[str, Any]:
        """What a report of the screw says of how it was found; nothing of a screw by hand."""
        if not self.limits:
            return {}
        return {"limits": dict(self.limits), "alternatives": [one.to_json() for one in self.alternatives]}

    def refusal(self) -> dict[str, Any]:
        """The answer of a pedicle that takes no screw."""
        return {
            "bone": self.bone,
            "side": self.side,
            "reason": self.reason,
            "instead": self.instead,
            "alternatives": [rung.to_json() for rung in self.rungs],
        }


def fitting_diameter_mm(width_mm: float, diameters_mm: Sequence[float] = DIAMETERS_MM) -> float | None:
    """The largest screw within 80 % of the isthmus width; None when the smallest one is too thick."""
    return max((d for d in diameters_mm if d <= FILL * width_mm + 1e-9), default=None)


def fitting_length_mm(chord_mm: float, lengths_mm: Sequence[float] = LENGTHS_MM) -> float | None:
    """The longest screw within 85 % of the chord that keeps 2 mm from the anterior cortex along the axis."""
    return max((v for v in lengths_mm if v <= min(CHORD * chord_mm, chord_mm - ANTERIOR_KEEP_MM)), default=None)


def screw_id(bone: str, side: Side) -> str:
    """The name of the screw of a pedicle: `L4-left`, `S1-right`."""
    return f"{level_of(bone) or bone}-{side}"


def keep_mm(twin: Twin) -> float:
    """What every wall and critical structure keeps: the least margin, and the scan's own spread."""
    return LEAST_MARGIN_MM + SURE * (twin.surface_sd_mm or 0.0)


def propose_screw(
    twin: Twin,
    bone: str,
    side: Side,
    volume: Volume | None = None,
    *,
    diameters_mm: Sequence[float] = DIAMETERS_MM,
    lengths_mm: Sequence[float] = LENGTHS_MM,
) -> Proposal:
    """The proposal for one pedicle, alone. A pedicle that takes no screw is an answer; raises NoBone for an unknown
    bone.
    """
    pedicle = pedicle_of(twin, bone, side)
    if isinstance(pedicle, Refusal):
        return refused(bone, side, pedicle, alternatives(twin, bone, side, volume))
    _, found = fitted(twin, pedicle, diameters_mm, lengths_mm)
    if isinstance(found, Refusal):
        return refused(bone, side, found, alternatives(twin, bone, side, volume))
    grade = grade_screw(twin, found.screw, volume, patient_from_bone=pedicle.frame)
    return Proposal(bone, side, found.screw, grade, limits=found.limits)


def pedicle_of(twin: Twin, bone: str, side: Side) -> Pedicle | Refusal:
    """The pedicle for the search, or why there is none; raises NoBone."""
    try:
        return Pedicle.of(twin, bone, side)
    except NoLandmark as fault:
        return Refusal(fault.message, "mark the pedicle by hand, or plan with `--entry` and `--target`")
    except PedicleOutside as fault:
        return Refusal(fault.message, "check the landmarks of this bone")


def fitted(
    twin: Twin,
    pedicle: Pedicle,
    diameters_mm: Sequence[float] = DIAMETERS_MM,
    lengths_mm: Sequence[float] = LENGTHS_MM,
) -> tuple[Array, Sized | Refusal]:
    """The pedicle's own best axis and the largest screw on it.

    Where that leaves no screw enough, one more is tried: the axis that is farthest from every wall alike.
    """
    x, _ = pedicle.best(Aim())
    found = sized(twin, pedicle, x, diameters_mm, lengths_mm)
    if isinstance(found, Refusal):
        middle, _ = pedicle.best(Aim(body_slack_mm=BODY_SLACK_MM), even=True)
        again = sized(twin, pedicle, middle, diameters_mm, lengths_mm)
        if not isinstance(again, Refusal):
            return middle, again
    return x, found


def refused(bone: str, side: Side, why: Refusal, rungs: tuple[Rung, ...] = ()) -> Proposal:
    """The answer without a screw."""
    return Proposal(bone, side, None, None, why.reason, why.instead, rungs=rungs)


def sized(
    twin: Twin,
    pedicle: Pedicle,
    x: Array,
    diameters_mm: Sequence[float] = DIAMETERS_MM,
    lengths_mm: Sequence[float] = LENGTHS_MM,
) -> Sized | Refusal:
    """Entry, diameter and length on an axis that was found: the largest that every rule allows."""
    through, keep = pedicle.axis(x), keep_mm(twin)
    try:
        entry = entry_on_bone(pedicle.grid, Points[Patient](through.point_mm), Directions[Patient](through.direction))
        axis = Line[Patient](entry.mm, through.direction)
        chord = anterior_cortex_mm(pedicle.grid, axis)
    except OffBone as fault:
        return Refusal(fault.message, "check the landmarks of this bone")
    across = Across.of(axis.direction, pedicle.frame, pedicle.side)
    walls = measure_walls(pedicle.grid, axis, float(axis.along_mm(Points[Patient](pedicle.isthmus_mm))), across)
    if np.isnan(walls.width_mm):
        return Refusal("no straight axis stays within the pedicle", HOOKS)
    nearest = min(walls.wall_mm, key=lambda name: walls.wall_mm[name])
    room = walls.wall_mm[nearest]
    fits = [d for d in diameters_mm if d / 2 + keep <= room]
    diameter = fitting_diameter_mm(walls.width_mm, fits)
    if diameter is None:
        return _too_narrow(walls, room, keep, min(diameters_mm))
    limits = {"diameter": _diameter_limit(walls, nearest, diameter, diameters_mm, keep)}
    critical: Clearance | None = None
    for thinner in sorted((d for d in diameters_mm if d <= diameter), reverse=True):
        for length in _lengths(pedicle.grid, axis, across, thinner, chord, lengths_mm):
            screw = Screw(
                screw_id(pedicle.bone, pedicle.side), pedicle.bone, pedicle.side, entry, axis.at(length),
                float(thinner), float(length),
            )  # fmt: skip
            near = nearest_critical(clearances(twin, screw))
            if near is None or near.distance_mm >= keep:
                if critical is not None:
                    name = "length" if thinner == diameter else "diameter"
                    limits[name] = f"{critical.structure}: larger comes within {critical.distance_mm:.1f} mm"
                elif thinner < diameter:
                    limits["diameter"] = f"the tip's rim: no length of {diameter:g} mm stays within the body"
                limits.setdefault("length", _length_limit(chord, length, lengths_mm))
                return Sized(screw, walls, MappingProxyType(limits))
            critical = near
    if critical is None:
        return Refusal(
            f"the chord is {chord:.1f} mm, and no screw from {min(lengths_mm):g} mm on keeps its whole tip "
            f"{ANTERIOR_KEEP_MM:g} mm behind the front of the body and {SIDE_KEEP_MM:g} mm within its sides",
            "a shorter screw, or another entry and target by hand",
        )
    return Refusal(
        f"on the best axis even the smallest screw comes within {critical.distance_mm:.1f} mm of {critical.structure} "
        f"(critical); {keep:.1f} mm are kept",
        "another entry and target by hand, or a hook",
    )


def _too_narrow(walls: Walls, room_mm: float, keep: float, least_mm: float) -> Refusal:
    if least_mm > FILL * walls.width_mm:
        return Refusal(
            f"the isthmus is {walls.width_mm:.1f} mm wide and takes {FILL * walls.width_mm:.1f} mm by the 80 % rule; "
            f"the smallest screw has {least_mm:g} mm",
            HOOKS,
        )
    return Refusal(
        f"on the best axis the nearest wall is {room_mm:.1f} mm away; the smallest screw needs "
        f"{least_mm / 2 + keep:.1f} mm",
        HOOKS,
    )


def _diameter_limit(walls: Walls, nearest: str, diameter: float, diameters_mm: Sequence[float], keep: float) -> str:
    """Why not the next thicker screw."""
    thicker = min((d for d in diameters_mm if d > diameter), default=None)
    if thicker is None:
        return f"the largest of the set, {diameter:g} mm"
    if thicker / 2 + keep > walls.wall_mm[nearest]:
        return f"{nearest} wall: {thicker:g} mm would leave {walls.wall_mm[nearest] - thicker / 2:.1f} of {keep:.1f} mm"
    return f"80 % of the {walls.width_mm:.1f} mm wide isthmus"


def _length_limit(chord: float, length: float, lengths_mm: Sequence[float]) -> str:
    """Why not the next longer screw."""
    longer = min((v for v in lengths_mm if v > length), default=None)
    if longer is None:
        return f"the longest of the set, {length:g} mm"
    if longer > chord - ANTERIOR_KEEP_MM:
        return f"anterior cortex: {ANTERIOR_KEEP_MM:g} mm are kept of a chord of {chord:.1f} mm"
    if longer > CHORD * chord:
        return f"85 % of the chord of {chord:.1f} mm"
    return "the tip's rim: bone before or beside it"


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
