"""A leg's deformity: its angles, which bone is at fault and where, and the wedges that would bring the load back.

The coronal deviation is shared out: femur (mLDFA beyond what is usual), tibia (MPTA short of it), joint (JLCA beyond
it). What is usual is the population's, whose ranges are unverified here, or the other leg's. Nothing is decided by it:
the numbers and the reference stand beside each other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from spatial.frames import Patient
from spatial.shapes import Line
from twin.anatomy.bone import Side
from twin.anatomy.twin import NoBone, NoLandmark, Twin
from twin.plan.cuts.limb_cuts import HingeSide, wedge
from twin.plan.cuts.osteotomy import BadOsteotomy
from twin.plan.measures import leg_angles
from twin.plan.measures.alignment import unmeasured_words
from twin.plan.measures.cora import POPULATION, Cora, Limb, Usual, bend_words, find_cora, of_other_leg, two_levels
from twin.plan.measures.leg_angles import LEG_FORMULAS, LEG_WORDS, METHODS, LegFormula
from twin.plan.measures.measured import Formula, Marks, Measured, Unmeasured, measure, measure_change, why_unknown
from twin.plan.measures.wedge_angle import WANTED_PERCENT, BadTarget, Correction, coronal_normal, propose

MIDDLE_PERCENT = 50.0
SOME_DEG = 5.0  # a wedge's hinge and cut do not depend on its angle
STRAIGHT_DEG = 2.0  # less is called straight
LOAD_NOTE = METHODS["load"]
REFERENCES = ("population", "other-leg")
PARTS: Mapping[str, tuple[str, float]] = MappingProxyType(
    {"mldfa_deg": ("distal femur", 1.0), "mpta_deg": ("proximal tibia", -1.0), "jlca_deg": ("joint line", 1.0)}
)


@dataclass(frozen=True)
class Share:
    """One part's contribution to the deviation, degrees, varus +; whether its angle lies outside what is usual, and
    whether by more than its own error.
    """

    part: str
    name: str
    varus_deg: float
    outside: bool
    sure: bool

    def words(self) -> str:
        """`varus 7.5° in the proximal tibia`."""
        unsure = "" if self.sure else " (within the error)"
        return f"{bend_words(self.varus_deg)} in the {self.part}{unsure}"

    def to_json(self) -> dict[str, Any]:
        """As `plan deformity --json` prints it."""
        return {
            "part": self.part,
            "angle": self.name,
            "varus_deg": self.varus_deg,
            "outside_usual": self.outside,
            "sure": self.sure,
        }


@dataclass(frozen=True, eq=False)
class Deformity:
    """One leg measured, shared out, its bends placed, and what would correct it."""

    side: Side
    measures: Mapping[str, Measured]
    usual: Mapping[str, Usual]
    shares: tuple[Share, ...]
    bends: tuple[Cora | str, ...]
    corrections: tuple[Correction, ...]
    differences: Mapping[str, Measured]
    notes: tuple[str, ...]

    @property
    def varus_deg(self) -> float | None:
        """180 - HKA."""
        hka = self.measures["hka_deg"].value
        return None if hka is None else 180.0 - hka

    def verdict(self) -> str:
        """`Left leg: varus 8.1° ± 0.9, of it 7.5° in the proximal tibia …`."""
        deviation = self.varus_deg
        leg = f"{self.side.capitalize()} leg"
        if deviation is None:
            return f"{leg}: the axis was not measured ({self.measures['hka_deg'].reason})"
        at_fault = [s for s in self.shares if s.outside]
        where = " and ".join(s.words() for s in at_fault)
        if abs(deviation) < STRAIGHT_DEG and not at_fault:
            return f"{leg}: straight ({bend_words(deviation)})"
        total = Measured("hka_deg", abs(deviation), self.measures["hka_deg"].sd, self.measures["hka_deg"].reason)
        kind = "varus" if deviation > 0 else "valgus"
        said = (
            f"outside {self._reference()}: {where}"
            if where
            else f"none of the angles that make it up lies outside {self._reference()}"
        )
        proposal = f"; {self.corrections[0].words()}" if self.corrections else ""
        return f"{leg}: {kind} {total.words()}; {said}{proposal}"

    def _reference(self) -> str:
        usual = self.usual["mpta_deg"]
        return f"what is usual ({usual.source}{', unverified' if usual.status == 'unverified' else ''})"

    def to_json(self) -> dict[str, Any]:
        """As `plan deformity --json` prints it: values under their names, the rest by kind."""
        return {
            "side": self.side,
            **{name: m.value for name, m in self.measures.items()},
            "measures": {name: m.to_json() for name, m in self.measures.items()},
            "methods": dict(METHODS),
            "usual": {
                name: {"low": u.low, "normal": u.normal, "high": u.high, "source": u.source, "status": u.status}
                for name, u in self.usual.items()
            },
            "shares": [s.to_json() for s in self.shares],
            "cora": [b.to_json() if isinstance(b, Cora) else {"reason": b} for b in self.bends],
            "corrections": [c.to_json() for c in self.corrections],
            "differences": {name: m.to_json() for name, m in self.differences.items()},
            "notes": list(self.notes),
            "verdict": self.verdict(),
        }

    def words(self) -> list[str]:
        """All of it in lines."""
        lines = [self.verdict()]
        for name, m in self.measures.items():
            if m.value is not None:
                usual = f" (usual {self.usual[name].words()})" if name in self.usual else ""
                lines.append(f"  {LEG_WORDS[name]}: {m.words()}{usual}")
        lines += [f"  {line}" for line in unmeasured_words(self.measures, LEG_WORDS)]
        lines += [f"  CORA: {bend if isinstance(bend, str) else bend.words()}" for bend in self.bends]
        for correction in self.corrections:
            lines.append(f"  {correction.words()}")
            lines += [f"    {note}" for note in correction.notes]
        lines += [f"  {DIFFERENCE_WORDS[n]}: {m.words()}" for n, m in self.differences.items() if m.value is not None]
        lines += [f"  {note}" for note in self.notes]
        return lines + [f"  {why}" for why in why_unknown(self.measures.values())]


DIFFERENCE_WORDS = {
    "leg_length_difference_mm": "Leg length, this leg less the other (hip to ankle)",
    "femur_difference_mm": "  of it femur",
    "tibia_difference_mm": "  of it tibia",
}


def analyse(
    twin: Twin, side: Side, *, percent: float | None = None, slack: str = "none", reference: str = "population"
) -> Deformity:
    """One leg of a twin.

    `percent`: where the weight-bearing line shall cross the plateau; None: 62.5 for a varus leg (Fujisawa, unverified),
    the middle for a valgus one, and nothing is proposed for a straight one. Raises BadTarget for a choice that can't
    be.
    """
    if reference not in REFERENCES:
        raise BadTarget(f"no reference {reference!r}; there are {', '.join(REFERENCES)}")
    marks = Marks.of_twin(twin)
    usual = POPULATION if reference == "population" else of_other_leg(marks, side)
    measures = leg_measures(marks, side)
    shares = shared_out(measures, usual)
    bends = (_bend_of(marks, side, "femur", usual), *_tibial_bends(twin, marks, side, usual))
    corrections, notes = _corrections(twin, marks, side, shares, measures, percent, slack)
    return Deformity(
        side, measures, usual, shares, bends, corrections, length_differences(marks, side), (*notes, LOAD_NOTE)
    )


def leg_measures(marks: Marks, side: Side) -> Mapping[str, Measured]:
    """Every formula of one leg, where the marks' plan puts it."""
    found = {name: measure(name, leg_angles.of_side(f, side), marks) for name, f in LEG_FORMULAS.items()}
    return MappingProxyType(found)


def leg_changes(before: Marks, after: Marks, side: Side) -> Mapping[str, Measured]:
    """What a plan changes of one leg."""
    found = {n: measure_change(n, leg_angles.of_side(f, side), before, after) for n, f in LEG_FORMULAS.items()}
    return MappingProxyType(found)


def has_leg(marks: Marks, side: Side) -> bool:
    """Whether a knee of this side is in the scan: condyles or plateau."""
    return marks.has("condyle_distal_medial", f"femur_{side}") or marks.has("plateau_medial", f"tibia_{side}")


def length_differences(marks: Marks, side: Side) -> Mapping[str, Measured]:
    """This leg less the other."""
    other: Side = "right" if side == "left" else "left"
    formulas = {
        "leg_length_difference_mm": leg_angles.leg_mm,
        "femur_difference_mm": leg_angles.femur_mm,
        "tibia_difference_mm": leg_angles.tibia_mm,
    }

    def less(formula: LegFormula) -> Formula:
        return lambda m: formula(m, side) - formula(m, other)

    return MappingProxyType({name: measure(name, less(formula), marks) for name, formula in formulas.items()})


def shared_out(measures: Mapping[str, Measured], usual: Mapping[str, Usual]) -> tuple[Share, ...]:
    """What each part adds to the varus, beyond what is usual."""
    found = []
    for name, (part, sign) in PARTS.items():
        value = measures[name].value
        if value is not None:
            u = usual[name]
            beyond = max(value - u.high, u.low - value)
            sd = measures[name].sd
            found.append(Share(part, name, sign * (value - u.normal), beyond > 0.0, sd is None or beyond > 2.0 * sd))
    return tuple(found)


def _tibial_bends(twin: Twin, marks: Marks, side: Side, usual: Mapping[str, Usual]) -> tuple[Cora | str, ...]:
    """Two where the shaft follows neither end, else the one that the ends' axes meet in."""
    try:
        both = two_levels(twin.bone(f"tibia_{side}").surface, marks, side, usual)
    except (Unmeasured, NoBone):
        both = None
    return both or (_bend_of(marks, side, "tibia", usual),)


def _bend_of(marks: Marks, side: Side, limb: Limb, usual: Mapping[str, Usual]) -> Cora | str:
    try:
        return find_cora(marks, side, limb, usual)
    except Unmeasured as fault:
        return fault.message


def _corrections(
    twin: Twin, marks: Marks, side: Side, shares: tuple[Share, ...], measures: Mapping[str, Measured],
    percent: float | None, slack: str,
) -> tuple[tuple[Correction, ...], tuple[str, ...]]:  # fmt: skip
    """Wedges of the bone that adds most to the deviation, opening and closing; of both where both are at fault."""
    hka, line = measures["hka_deg"].value, measures["weight_bearing_line_percent"].value
    if hka is None or line is None:
        why = measures["hka_deg"].reason or measures["weight_bearing_line_percent"].reason
        return (), (f"no correction: {why}",)
    if percent is None:
        if abs(180.0 - hka) < STRAIGHT_DEG:
            return (), ("the axis is straight: no correction is proposed unless a place for the load is asked for",)
        percent = WANTED_PERCENT if hka < 180.0 else MIDDLE_PERCENT
    toward_valgus = line < percent
    sign = 1.0 if toward_valgus else -1.0
    bones: list[tuple[Limb, float, bool]] = [
        ("femur" if s.name == "mldfa_deg" else "tibia", sign * s.varus_deg, s.outside)
        for s in shares
        if s.name != "jlca_deg"
    ]
    bones.sort(key=lambda item: -item[1])
    chosen: list[Limb] = [limb for limb, varus, outside in bones if outside and varus > 0] or [bones[0][0]]
    found: list[Correction] = []
    notes: list[str] = []
    if len(chosen) > 1:
        notes.append("both bones are at fault: each wedge is given as if it alone were done; two share the angle")
    normal = coronal_normal(marks, side)
    for limb in chosen:
        for opening in (True, False):
            # toward valgus the medial side opens about a lateral hinge, or the lateral closes about a medial one
            at: HingeSide = "lateral" if opening == toward_valgus else "medial"
            kind = "open-wedge" if opening else "close-wedge"
            try:
                cut = wedge(twin, kind, f"{limb}_{side}", math.radians(SOME_DEG), hinge_side=at)
                way = cut.hinge.direction if cut.hinge.direction @ normal > 0 else -cut.hinge.direction
                hinge = Line[Patient](cut.hinge.point_mm, way)
                made = propose(marks, side, limb, opening, hinge, cut.depth_mm, percent=percent, slack=slack)
            except (Unmeasured, BadOsteotomy, NoLandmark) as fault:
                notes.append(f"no {'opening' if opening else 'closing'} wedge of the {limb}: {fault.message}")
                continue
            found.append(replace(made, notes=(*made.notes, *cut.notes)))
    return tuple(found), tuple(notes)
