"""The demo's plan: an L3 pedicle subtraction osteotomy held by pedicle screws at L1, L2, L4, L5 and S1 (none at L3).

On a CT that shows other levels the nearest thing is planned, and what could not be is said.
"""

from __future__ import annotations

import math
from typing import Any

from twin.anatomy.twin import NoBone, NoLandmark
from twin.case import Case
from twin.plan.auto.autoplan import propose_screw
from twin.plan.cuts.osteotomy import BadOsteotomy, Osteotomy
from twin.plan.edits import Edit, apply
from twin.plan.plan import Plan
from twin.scan.volume import Volume

NAME = "demo"
PSO_BONE, PSO_DEG = "vertebrae_L3", 30.0
SCREW_BONES = ("vertebrae_L1", "vertebrae_L2", "vertebrae_L4", "vertebrae_L5", "sacrum")


def plan_procedure(case: Case, volume: Volume) -> tuple[Plan, dict[str, Any]]:
    """Propose, place as edits, save in the case; the plan and what is to be told of it."""
    twin = case.twin
    plan = Plan(NAME, twin.twin_id, {}, {})
    screws, refused = [], []
    for bone in SCREW_BONES:
        for side in ("left", "right"):
            if bone not in twin.bones:
                refused.append({"bone": bone, "side": side, "reason": "not in this scan", "instead": None})
                continue
            proposal = propose_screw(twin, bone, side, volume)
            if proposal.screw is None or proposal.grade is None:
                refused.append(proposal.refusal())
                continue
            plan = placed(case, plan, Edit.placing(plan, proposal.screw))
            screws.append({**proposal.screw.to_json(), **proposal.grade.to_json()})
    osteotomy: dict[str, Any] | None = None
    try:
        cut = Osteotomy.pso(twin, PSO_BONE, math.radians(PSO_DEG))
    except (NoBone, NoLandmark, BadOsteotomy) as fault:
        refused.append({"bone": PSO_BONE, "side": None, "reason": fault.message, "instead": None})
    else:
        plan = placed(case, plan, Edit.placing(plan, cut))
        osteotomy = cut.to_json()
    case.save_plan(NAME, plan.to_json(), author="demo")
    return plan, {"name": NAME, "screws": screws, "osteotomy": osteotomy, "refused": refused}


def placed(case: Case, plan: Plan, edit: Edit) -> Plan:
    """The plan after an edit, which the case's journal keeps."""
    after = apply(plan, edit)  # first: an edit that does not apply is not written
    case.journal.append("demo", edit.kind, edit.payload(NAME))
    return after
