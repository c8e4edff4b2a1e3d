"""What has been done to the patient so far: screws placed, cuts made, cuts closed; and how one more deed changes it.

Placed hardware is a `Plan` value of its own (the same code grades, compares and draws it), next to the plan that is
practised. Closing a cut is the session's own edit: kind `close_osteotomy`, `{"plan", "osteotomy": id, "angle_rad"}`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from rehearsal.history import Deed, History
from rehearsal.model import Model, Poses
from spatial.faults import Fault
from spatial.frames import Patient
from spatial.rigid import Rigid
from twin.plan import edits
from twin.plan.cuts.chain import in_turn
from twin.plan.cuts.osteotomy import Osteotomy
from twin.plan.plan import Plan

CLOSE = "close_osteotomy"


class NoSuchCut(Fault):
    """A cut that is to be closed but isn't there (any more), or an edit that does not say which, and how far."""


@dataclass(frozen=True, slots=True, eq=False)
class Execution:
    """Screws and cuts as done, and how far each cut has been closed."""

    plan: Plan
    closed_rad: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def nothing(cls, model: Model) -> Execution:
        """Before the first deed."""
        return cls(Plan(f"rehearsal of {model.planned.name}", model.twin.twin_id))

    def to_json(self) -> dict[str, Any]:
        """For the state document."""
        return {"plan": self.plan.to_json(), "closed_rad": dict(self.closed_rad)}

    def angle_rad(self, osteotomy_id: str) -> float:
        """How far a cut is closed; 0 while open."""
        return self.closed_rad.get(osteotomy_id, 0.0)

    def after(self, deed: Deed) -> Execution:
        """With one edit more; raises a Fault when it does not apply."""
        if deed.kind == CLOSE:
            name, angle = deed.payload.get("osteotomy"), deed.payload.get("angle_rad")
            if not isinstance(name, str) or isinstance(angle, bool) or not isinstance(angle, int | float):
                raise NoSuchCut(f"{CLOSE} of {name!r} by {angle!r} rad; a cut's name and an angle are needed")
            if name not in self.plan.osteotomies:
                raise NoSuchCut(f"no cut {name!r} has been made, so it can't be closed; was it undone?")
            return replace(self, closed_rad={**self.closed_rad, name: float(angle)})
        outcome = {key: value for key, value in deed.payload.items() if key != "plan"}
        plan = edits.apply(self.plan, edits.Edit(deed.kind, outcome))
        kept = {name: angle for name, angle in self.closed_rad.items() if name in plan.osteotomies}
        return Execution(plan, kept)


def fold(model: Model, history: History) -> tuple[Execution, tuple[str, ...]]:
    """The execution that the history amounts to, and the ids of edits that no longer apply."""
    execution, skipped = Execution.nothing(model), []
    for deed in history.edits():
        try:
            execution = execution.after(deed)
        except Fault:
            skipped.append(deed.id)
    return execution, tuple(skipped)


def open_cut(execution: Execution) -> Osteotomy | None:
    """The cut whose fragment can be turned: the last one made that is not closed yet, else the last one made."""
    made = list(execution.plan.osteotomies.values())
    still_open = [cut for cut in made if execution.angle_rad(cut.id) < cut.angle_rad]
    return next(reversed(still_open or made), None)


def poses_of(model: Model, execution: Execution, closing: tuple[str, float] | None = None) -> Poses:
    """Where closed cuts have taken each moved bone: patient-as-displayed from patient-as-scanned, moved bones only.

    `closing` is the cut in the hand and its angle at this moment. Each cut turns about its hinge as scanned.
    """
    poses: dict[str, Rigid[Patient, Patient]] = {}
    for cut in in_turn(execution.plan.osteotomies.values()):
        name = cut.id
        angle = execution.angle_rad(name)
        if closing is not None and closing[0] == name:
            angle = closing[1]
        if angle == 0.0:
            continue
        turn = closed(cut, angle)
        for bone in model.moved_bones(cut):
            poses[bone] = turn @ poses[bone] if bone in poses else turn
    return poses


def closed(cut: Osteotomy, angle_rad: float) -> Rigid[Patient, Patient]:
    """The fragment's turn when the cut is closed by an angle (right-handed about the hinge)."""
    return cut.motion_at(angle_rad)
