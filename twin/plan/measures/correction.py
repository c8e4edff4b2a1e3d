"""Osteotomies that bring a measured value to where it is wanted: which cuts, how far, and what keeps them from more.

Each way is a set of cuts that turn together: a share of each one's largest angle. What a share does is measured on the
landmarks as the plan moves them, so the answer holds for this patient and not for a rule of thumb. Nothing is random.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from scipy.optimize import brentq

from spatial.faults import Fault
from twin.anatomy.bone import Side
from twin.anatomy.twin import Twin
from twin.plan.cuts.making import Options, make
from twin.plan.cuts.osteotomy import ANGLE_DEG, Osteotomy
from twin.plan.levels import SPINE, bone_of, level_of, levels_between
from twin.plan.measures import leg_angles
from twin.plan.measures.alignment import FORMULAS
from twin.plan.measures.effects import motions_of
from twin.plan.measures.leg_angles import LEG_FORMULAS, of_side
from twin.plan.measures.measured import Formula, Marks, Measured, Unmeasured, measure
from twin.plan.request import Constraints, Goal

USUAL_MOST_DEG: Mapping[str, float] = {"SPO": 10.0, "PSO": 35.0, "VCR": 60.0}  # one level; Schwab 2014, Kose 2017
LEG_MOST_DEG, TURN_MOST_DEG = 25.0, 60.0
STEP_DEG = 0.1  # angles are given to this, toward more correction
PREFERRED = ("L4", "L3", "L5", "L2", "L1", "T12", "T11", "T10", "T9", "T8", "T7", "T6", "T5", "T4", "T3", "T2")
MOST_SPO = 4


class NoWay(Fault):
    """No osteotomy can be proposed at all: nothing to measure by, or no place where one may be."""


@dataclass(frozen=True, eq=False)
class Part:
    """One cut of a way: its kind and bone, its largest angle, and what sets that limit."""

    kind: str
    bone: str
    most_deg: float
    limit: str
    options: Options = field(default_factory=Options)

    def cut(self, twin: Twin, share: float, *, rounded: bool = False) -> Osteotomy:
        """The osteotomy at a share of its largest angle. Raises BadOsteotomy, NoLandmark, NoBone."""
        degrees = share * self.most_deg
        if rounded:
            degrees = min(self.most_deg, math.ceil(degrees / STEP_DEG - 1e-6) * STEP_DEG)
        degrees = max(degrees, ANGLE_DEG[self.kind][0])
        return make(twin, self.kind, self.bone, math.radians(degrees), options=self.options)


@dataclass(frozen=True, eq=False)
class Way:
    """Cuts that reach a goal, or come as near as they may; `short_by` in the goal's unit, 0 when it is reached."""

    parts: tuple[Part, ...]
    cuts: tuple[Osteotomy, ...]
    value: float | None
    short_by: float | None
    binding: str
    failed: str | None = None

    @property
    def words(self) -> str:
        """`PSO of L3 30°`, `SPO of L4 8.2° and L3 8.2°`; of a way that failed the cuts that it would have been."""
        if not self.cuts:
            return " and ".join(f"{p.kind} of {_place(p.bone)}" for p in self.parts) or "no cut"
        return " and ".join(f"{c.kind} of {_place(c.bone)} {math.degrees(c.angle_rad):.1f}°" for c in self.cuts)

    def to_json(self) -> dict[str, Any]:
        """As `plan request --json` lists what was tried."""
        return {
            "cuts": [
                {"kind": c.kind, "bone": c.bone, "angle_deg": math.degrees(c.angle_rad), "id": c.id} for c in self.cuts
            ],
            "words": self.words,
            "value": self.value,
            "short_by": self.short_by,
            "binding": self.binding,
            "failed": self.failed,
        }


def formula_of(name: str, side: Side | None) -> Formula:
    """What a goal's name measures, in the goal's unit: of the spine, or of one leg."""
    if name in FORMULAS:
        return FORMULAS[name]
    assert side is not None
    if name == "leg_length_difference_mm":
        other: Side = "right" if side == "left" else "left"
        return lambda marks: leg_angles.leg_mm(marks, side) - leg_angles.leg_mm(marks, other)
    return of_side(LEG_FORMULAS[name], side)


def measured_after(twin: Twin, name: str, side: Side | None, cuts: Sequence[Osteotomy]) -> Measured:
    """The goal's value with its spread when these cuts are done, or why there is none."""
    marks = Marks.of_twin(twin)
    return measure(name, formula_of(name, side), marks.moved(motions_of(twin, cuts)))


def spine_ways(twin: Twin, constraints: Constraints, fixed: Sequence[str]) -> list[tuple[Part, ...]]:
    """Ways through the spine, from little to much: SPO at one level and more, one PSO, both, VCR when it is allowed.

    Cuts lie where the request allows them, else between the outermost of the `fixed` bones.
    """
    kinds = constraints.cuts or ("SPO", "PSO")
    levels = _levels(constraints, fixed, twin)

    def part(kind: str, level: str) -> Part:
        usual, asked = USUAL_MOST_DEG[kind], constraints.max_angle_deg
        if asked is not None and asked < usual:
            return Part(kind, bone_of(level), asked, f"max_angle_deg {asked:g} of the request")
        return Part(kind, bone_of(level), usual, f"{usual:g}° is what one {kind} usually gives at most")

    small = [part("SPO", level) for level in levels][:MOST_SPO] if "SPO" in kinds else []
    spo = [tuple(small[:n]) for n in range(1, len(small) + 1)]
    pso = [(part("PSO", level),) for level in levels] if "PSO" in kinds else []
    both = [(one, *[p for p in small if p.bone not in (one.bone, _above(one.bone))][:2]) for (one,) in pso[:2] if small]
    vcr = [(part("VCR", level),) for level in levels] if "VCR" in kinds else []
    return [*spo[:2], *pso, *spo[2:], *(way for way in both if len(way) > 1), *vcr]


def leg_ways(twin: Twin, constraints: Constraints, limb: str, side: Side) -> list[tuple[Part, ...]]:
    """One wedge of the femur or the tibia: opening and closing, about a lateral and a medial hinge."""
    bone = f"{limb}_{side}"
    kinds = constraints.cuts or ("open-wedge", "close-wedge")
    found: list[tuple[Part, ...]] = []
    for kind in kinds:
        for hinge in ("lateral", "medial"):
            options = Options(hinge_side="lateral" if hinge == "lateral" else "medial")
            most, limit = LEG_MOST_DEG, f"{LEG_MOST_DEG:g}° is the most that is proposed for one wedge"
            if constraints.max_angle_deg is not None and constraints.max_angle_deg < most:
                most, limit = constraints.max_angle_deg, f"max_angle_deg {constraints.max_angle_deg:g} of the request"
            if constraints.max_opening_mm is not None:
                depth = make(twin, kind, bone, math.radians(5.0), options=options).depth_mm
                share = min(1.0, constraints.max_opening_mm / (2.0 * depth))
                wide = 2.0 * math.degrees(math.asin(share))
                if wide < most:
                    most, limit = wide, f"max_opening_mm {constraints.max_opening_mm:g} of the request"
            found.append((Part(kind, bone, most, limit, options),))
    return found


def turn_ways(constraints: Constraints, limb: str, side: Side) -> list[tuple[Part, ...]]:
    """The distal part of femur or tibia turned outward or inward."""
    most, limit = TURN_MOST_DEG, f"{TURN_MOST_DEG:g}° is the most that is proposed for one derotation"
    if constraints.max_angle_deg is not None:
        most, limit = constraints.max_angle_deg, f"max_angle_deg {constraints.max_angle_deg:g} of the request"
    bone = f"{limb}_{side}"
    outward, inward = Options(toward="external"), Options(toward="internal")
    return [(Part("derotation", bone, most, limit, options),) for options in (outward, inward)]


def solve(twin: Twin, name: str, goal: Goal, side: Side | None, ways: Iterable[Sequence[Part]]) -> list[Way]:
    """Each way turned as far as the goal needs; those that reach it first, in the order given, then the nearest.

    Raises NoWay when the value can't be measured.
    """
    marks = Marks.of_twin(twin)
    formula = formula_of(name, side)
    try:
        now = formula(marks)
    except Unmeasured as fault:
        raise NoWay(f"{name} can't be measured on this twin ({fault.message}), so no cut can aim at it") from None

    def value(cuts: Sequence[Osteotomy]) -> float:
        return formula(marks.moved(motions_of(twin, cuts)))

    found = [_turned(twin, name, goal, tuple(way), now, value) for way in ways]
    return sorted(found, key=lambda way: math.inf if way.short_by is None else way.short_by)


def _turned(
    twin: Twin,
    name: str,
    goal: Goal,
    parts: tuple[Part, ...],
    now: float,
    value: Callable[[Sequence[Osteotomy]], float],
) -> Way:
    low, high = goal.bounds
    aim = goal.target if goal.target is not None else (high if now > high else low)

    def cuts(share: float, rounded: bool = False) -> list[Osteotomy]:
        return [part.cut(twin, share, rounded=rounded) for part in parts]

    try:
        share, binding = 1.0, "; ".join(dict.fromkeys(part.limit for part in parts))
        if (now - aim) * (value(cuts(1.0)) - aim) < 0.0:
            share = float(brentq(lambda t: (value(cuts(t)) if t > 0.0 else now) - aim, 0.0, 1.0, xtol=1e-5))
            binding = f"goal {name}: no more is needed"
        done = cuts(share, rounded=True)
        reached = value(done)
    except Fault as fault:
        return Way(parts, (), None, None, "", fault.message)
    if abs(reached - aim) >= abs(now - aim):
        return Way(parts, (), None, None, "", "it leads away from the goal")
    return Way(parts, tuple(done), reached, goal.short_by(reached), binding)


def _levels(constraints: Constraints, fixed: Sequence[str], twin: Twin) -> list[str]:
    """The levels that may be cut, the preferred ones first."""
    if constraints.cut_levels is not None:
        allowed = set(levels_between(constraints.cut_levels)) - {"S1"}
    else:
        held = sorted(SPINE.index(level) for bone in fixed if (level := level_of(bone)) is not None)
        allowed = set(SPINE[held[0] + 1 : held[-1]]) if held else set()
    found = [level for level in PREFERRED if level in allowed and bone_of(level) in twin.bones]
    if not found:
        where = constraints.cut_levels or "between the outermost of the fixed levels"
        raise NoWay(f"no vertebra of this twin may be cut ({where}); give cut_levels, or fix more levels")
    return found


def _above(bone: str) -> str | None:
    level = level_of(bone)
    return None if level is None or SPINE.index(level) == 0 else bone_of(SPINE[SPINE.index(level) - 1])


def _place(bone: str) -> str:
    return level_of(bone) or bone.replace("_", " ")
