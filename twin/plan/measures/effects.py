"""What a plan does to alignment: every parameter before and after, and the change with its own spread.

The plan's motions are exact; the landmarks are not. Before, after and change are read from the same landmarks, so an
error that rides along on a rigid fragment cancels in the change: a wedge of 25 degrees changes lordosis by 25 degrees,
however badly an endplate was measured. What patients do afterwards (the pelvis turns back, discs and knees adapt) is
not in it: bones move as cut, all else stays as scanned.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from spatial.frames import Patient, Planned
from spatial.rigid import Rigid
from twin.anatomy.bone import Side
from twin.anatomy.twin import Twin
from twin.plan.cuts.osteotomy import Osteotomy
from twin.plan.cuts.reduction import motion_of
from twin.plan.measures.alignment import FORMULAS, WORDS, Alignment, alignment_of
from twin.plan.measures.deformity import has_leg, leg_changes, leg_measures
from twin.plan.measures.leg_angles import LEG_WORDS
from twin.plan.measures.measured import Key, Marks, Measured, measure_change, why_unknown

RIGID_NOTE = "bones move as cut and nothing gives way: a standing patient's pelvis, discs and knees will adapt"
STILL = {"deg": 0.005, "mm": 0.005, "percent": 0.005}
SIDES: tuple[Side, ...] = ("left", "right")


def motions_of(twin: Twin, osteotomies: Iterable[Osteotomy]) -> Mapping[Key, Rigid[Planned, Patient]]:
    """Where the plan takes each landmark that it moves."""
    cuts = list(osteotomies)
    if not cuts:
        return MappingProxyType({})
    found: dict[Key, Rigid[Planned, Patient]] = {}
    for mark in twin.landmarks:
        motion = motion_of(twin, cuts, mark)
        if not (np.array_equal(motion.rotation, np.eye(3)) and not motion.translation_mm.any()):
            found[mark.name, mark.bone] = motion
    return MappingProxyType(found)


@dataclass(frozen=True, eq=False)
class Effects:
    """The spine's alignment and each leg's angles, before and after, and the changes of those that change."""

    before: Alignment
    after: Alignment
    changes: Mapping[str, Measured]
    legs_before: Mapping[Side, Mapping[str, Measured]]
    legs_after: Mapping[Side, Mapping[str, Measured]]
    leg_changes: Mapping[Side, Mapping[str, Measured]]

    def to_json(self) -> dict[str, Any]:
        """`before`, `after`, `change`, and the legs' under `legs`."""
        return {
            "before": self.before.to_json(),
            "after": self.after.to_json(),
            "change": {name: m.to_json() for name, m in self.changes.items()},
            "legs": {
                side: {
                    "before": {name: m.to_json() for name, m in self.legs_before[side].items()},
                    "after": {name: m.to_json() for name, m in self.legs_after[side].items()},
                    "change": {name: m.to_json() for name, m in self.leg_changes[side].items()},
                }
                for side in self.legs_before
            },
            "assumption": RIGID_NOTE,
        }

    @property
    def reasons(self) -> list[str]:
        """Why a ± is not known, where it is not; each reason once."""
        legs = [m for leg in self.legs_before.values() for m in leg.values()]
        return why_unknown([*self.before.measures.values(), *legs])

    def words(self) -> list[str]:
        """What changes in lines; what stays is left out."""
        lines = []
        for name, change in self.changes.items():
            lines += _line(WORDS[name], self.before.measures[name], self.after.measures[name], change)
        for side, changes in self.leg_changes.items():
            for name, change in changes.items():
                what = f"{side.capitalize()} leg: {LEG_WORDS[name]}"
                lines += _line(what, self.legs_before[side][name], self.legs_after[side][name], change)
        return [*lines, f"({RIGID_NOTE})"] if lines else []


def effects(twin: Twin, osteotomies: Iterable[Osteotomy]) -> Effects:
    """All osteotomies of a plan together."""
    before = Marks.of_twin(twin)
    after = before.moved(motions_of(twin, osteotomies))
    was = alignment_of(before)
    legs = [side for side in SIDES if has_leg(before, side)]
    legs_before = {side: leg_measures(before, side) for side in legs}
    if not after.motions:
        still: Mapping[str, Measured] = MappingProxyType({})
        return Effects(was, was, still, legs_before, legs_before, dict.fromkeys(legs, still))
    changes = {name: measure_change(name, formula, before, after) for name, formula in FORMULAS.items()}
    return Effects(
        was,
        alignment_of(after),
        MappingProxyType(changes),
        legs_before,
        {side: leg_measures(after, side) for side in legs},
        {side: leg_changes(before, after, side) for side in legs},
    )


def _line(what: str, before: Measured, after: Measured, change: Measured) -> list[str]:
    if change.value is None or abs(change.value) < STILL[change.unit]:
        return []
    more = "" if change.sd is None else f" ± {2.0 * change.sd:.1f}"
    return [f"{what}: {before.words()} -> {after.words()}, change {change.value:+.1f}{more}"]
