"""What a trigger does with a tool in the hand: begin on the pull, preview while held, one edit on release.

A hand that loses tracking in the middle keeps its preview. If it comes back still pulling, it goes on; if it comes back
at rest, the preview is dropped and nothing is done to the patient: the place of release was not seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rehearsal import drill, saw
from rehearsal.drill import Drilling, Zone
from rehearsal.events import Side
from rehearsal.model import Poses
from rehearsal.saw import Sawing
from rehearsal.state import Hand, Pulse, State
from twin.plan.edits import Edit
from twin.plan.screws.screw import Screw

PULSES: Mapping[Zone, tuple[float, float, str]] = {
    "bone": (0.4, 0.04, "in bone"),
    "near_wall": (0.7, 0.08, "a wall is near"),
    "breach": (1.0, 0.15, "a wall is breached"),
    "critical": (1.0, 0.40, "a critical structure is entered"),
    "through": (1.0, 0.15, "through the far side"),
}
DROPPED = "tracking was lost before release: nothing done"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The hand afterwards, and what else came of it: an edit's outcome, pulses, a word to the surgeon."""

    hand: Hand
    edit: Edit | None = None
    pulses: tuple[Pulse, ...] = ()
    note: str = ""


def drill_stroke(state: State, side: Side, earlier: Hand, shown: Poses) -> Outcome:
    """One sample of a tracked hand with the drill."""
    hand = state.hand(side)
    drilling = hand.drilling
    if drilling is None:
        if not hand.triggers or earlier.triggers:
            return Outcome(hand)
        drilling = Drilling(state.t_ns, hand.path_mm)
    if hand.triggers:
        return _drilled(state, side, replace(drilling, lost_tracking=False), shown)
    hand = replace(hand, drilling=None)
    if drilling.lost_tracking:
        return Outcome(hand, note=DROPPED)
    length_mm = drill.tray_length_mm(drilling.depth_mm)
    if not drilling.is_locked or length_mm is None:
        return Outcome(hand, note="no screw: the hole is shorter than the shortest screw" if drilling.is_locked else "")
    screw = drill.screw_of(drilling, state.model, length_mm)
    if screw is None:
        return Outcome(hand)
    edit, note = _screw_outcome(state, hand, drilling, screw)
    return Outcome(hand, edit, note=note)


def _drilled(state: State, side: Side, drilling: Drilling, shown: Poses) -> Outcome:
    hand = state.hand(side)
    if hand.stage_from_aim is None:  # a tracked hand has one
        return Outcome(hand)
    axis = drill.aim_line(hand.stage_from_aim, state.stage_from_patient)
    after = drill.advance(drilling, state.model, axis, shown)
    pulses: tuple[Pulse, ...] = ()
    if after.zone != drilling.zone and after.zone in PULSES:
        pulses = (Pulse(side, *PULSES[after.zone]),)
    return Outcome(replace(hand, drilling=after), pulses=pulses)


def _screw_outcome(state: State, hand: Hand, drilling: Drilling, screw: Screw) -> tuple[Edit, str]:
    """The edit that places the screw, with the numbers that a report needs; and the same in words."""
    model = state.model
    planned = model.planned.screws.get(drilling.planned_id or "")
    grade = model.grade(screw)
    deviation: dict[str, Any] | None = None
    if planned is not None:
        deviation = model.deviation(planned, screw)
    placed = Edit.placing(state.execution.plan, screw)
    more = {
        "planned": None if planned is None else planned.id,
        "deviation": deviation,
        "grade": grade,
        "drilled_mm": drilling.depth_mm,
        "seconds": (state.t_ns - drilling.started_t_ns) / 1e9,
        "path_mm": hand.path_mm - drilling.started_path_mm,
        "straight_mm": (drilling.depth_mm + drill.CLEAR_MM) * state.stage_from_patient.scale,
    }
    note = f"{screw.id}: grade {grade['grade'] or 'not known'}"
    if deviation is not None:
        note += f", entry {deviation['entry_mm']:.1f} mm, tip {deviation['tip_mm']:.1f} mm off the plan"
    return Edit(placed.kind, {**placed.outcome, **more}), note


def saw_stroke(state: State, side: Side, earlier: Hand, shown: Poses) -> Outcome:
    """One sample of a tracked hand with the saw."""
    hand = state.hand(side)
    sawing = hand.sawing
    if sawing is None:
        if not hand.triggers or earlier.triggers:
            return Outcome(hand)
        sawing = Sawing(state.t_ns, hand.path_mm)
    if hand.triggers:
        if hand.stage_from_aim is None:  # a tracked hand has one
            return Outcome(hand)
        plane, edge = saw.blade(hand.stage_from_aim, state.stage_from_patient)
        after = saw.advance(replace(sawing, lost_tracking=False), state.model, plane, edge, shown)
        touches = (after.wedge is None) != (sawing.wedge is None) and after.wedge is not None
        return Outcome(
            replace(hand, sawing=after), pulses=(Pulse(side, 0.4, 0.04, "blade on the planned cut"),) if touches else ()
        )
    hand = replace(hand, sawing=None)
    if sawing.lost_tracking:
        return Outcome(hand, note=DROPPED)
    if sawing.wedge is None:
        return Outcome(hand, note="no cut: the blade is too far from a planned osteotomy")
    if sawing.wedge.id in state.execution.plan.osteotomies:
        return Outcome(hand, note=f"{sawing.wedge.id} is cut already; undo it first")
    placed = Edit.placing(state.execution.plan, sawing.wedge)
    more = {
        "planned": sawing.planned_id,
        "deviation": {"offset_mm": sawing.offset_mm, "angle_deg": float(np.rad2deg(sawing.tilt_rad))},
        "seconds": (state.t_ns - sawing.started_t_ns) / 1e9,
        "path_mm": hand.path_mm - sawing.started_path_mm,
    }
    return Outcome(
        hand,
        Edit(placed.kind, {**placed.outcome, **more}),
        (Pulse(side, 0.6, 0.1, "cut"),),
        f"{sawing.wedge.id} cut, {sawing.offset_mm:.1f} mm and {np.rad2deg(sawing.tilt_rad):.1f} deg off the plan",
    )
