"""What a rehearsal was worth, in the numbers it is made of: a line a planned screw and cut, then time and motion.

Time, idle time, path and economy as in the simulator literature (idle time tells levels of experience apart; composite
scores add little, so the raw numbers are shown). A rehearsal on the twin has no measurement error: no uncertainty is
given, and that is said.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rehearsal.events import SIDES
from rehearsal.history import Deed
from rehearsal.state import State

UNCERTAINTY = "none: a rehearsal on the twin, nothing was measured on a patient"


def report(state: State) -> dict[str, Any]:
    """The session in numbers, JSON-able: screws, cuts, time, hands, attempts."""
    edits = state.history.edits()
    screws = [_screw(deed) for deed in _last_by(edits, "screw")]
    cuts = [_cut(deed, state) for deed in _last_by(edits, "osteotomy")]
    placed = {line["planned"] for line in screws}
    sawn = {line["planned"] for line in cuts}
    graded = [line["grade"] for line in screws if line["grade"] is not None]
    return {
        "session_id": state.session_id,
        "plan": state.model.planned.name,
        "uncertainty": UNCERTAINTY,
        "screws": screws,
        "osteotomies": cuts,
        "missing": sorted((set(state.model.planned.screws) - placed) | (set(state.model.planned.osteotomies) - sawn)),
        "grades": {letter: graded.count(letter) for letter in sorted(set(graded))},
        "seconds": state.elapsed_s,
        "hands": {
            side: {
                "path_mm": state.hand(side).path_mm,
                "turn_deg": float(np.rad2deg(state.hand(side).turn_rad)),
                "idle_s": state.hand(side).idle_ns / 1e9,
            }
            for side in SIDES
        },
        "attempts": sum(1 for deed in state.history.deeds if deed.undoes is None),
        "undone": sum(1 for deed in state.history.deeds if deed.undoes is None) - len(edits),
        "skipped": list(state.skipped),
    }


def _last_by(edits: tuple[Deed, ...], what: str) -> list[Deed]:
    """The last deed for each screw or cut that carries one, in order."""
    found: dict[str, Deed] = {}
    for deed in edits:
        value = deed.payload.get(what)
        if isinstance(value, dict) and "id" in value:
            found[str(value["id"])] = deed
    return list(found.values())


def _screw(deed: Deed) -> dict[str, Any]:
    payload = deed.payload
    screw, grade = payload["screw"], payload.get("grade") or {}
    deviation = payload.get("deviation")
    straight_mm = payload.get("straight_mm")
    path_mm = payload.get("path_mm")
    return {
        "id": screw["id"],
        "planned": payload.get("planned"),
        "bone": screw["bone"],
        "side": screw["side"],
        "grade": grade.get("grade"),
        "breach_mm": grade.get("breach_mm"),
        "breach_direction": grade.get("breach_direction"),
        "margin_mm": grade.get("margin_mm"),
        "structures": grade.get("structures", []),
        "deviation": deviation,
        "seconds": payload.get("seconds"),
        "path_mm": path_mm,
        "economy": min(1.0, straight_mm / path_mm) if straight_mm and path_mm else None,
    }


def _cut(deed: Deed, state: State) -> dict[str, Any]:
    cut = deed.payload["osteotomy"]
    name = str(cut["id"])
    planned = state.execution.plan.osteotomies.get(name)
    return {
        "id": name,
        "planned": deed.payload.get("planned"),
        "deviation": deed.payload.get("deviation"),
        "closed_deg": float(np.rad2deg(state.execution.angle_rad(name))),
        "planned_deg": None if planned is None else float(np.rad2deg(planned.angle_rad)),
        "seconds": deed.payload.get("seconds"),
    }
