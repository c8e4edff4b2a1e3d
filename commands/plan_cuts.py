"""`osteotwin plan osteotomy`: cuts, wedges, and what they move."""

from __future__ import annotations

import math
from typing import Annotated

import typer

from commands.console import command, emit, tell
from commands.plan_desk import AsJson, Author, CaseFolder, PlanName, append
from commands.plan_words import caution, conflicts, osteotomy_report, osteotomy_words, uncertainty
from spatial.faults import Misuse

USUAL_DEG = {"PSO": 30.0, "SPO": 10.0, "VCR": 40.0, "close-wedge": 10.0, "open-wedge": 10.0, "plane": 0.0}


@command
def osteotomy(
    folder: CaseFolder,
    kind: Annotated[str, typer.Option(help="PSO, close-wedge, open-wedge or plane.")],
    bone: Annotated[str, typer.Option(help="The vertebra to cut: vertebrae_L3.")],
    angle_deg: Annotated[
        float | None, typer.Option(help="How far it closes or opens; the usual angle if left out.")
    ] = None,
    height_mm: Annotated[float, typer.Option(help="Hinge above the middle of the body.")] = 0.0,
    name: PlanName = "plan",
    author: Author = "planner",
    as_json: AsJson = False,
) -> None:
    """Plan an osteotomy of a vertebra: planes, hinge, fragments, and the lordosis that it gives."""
    from twin.case import Case
    from twin.plan.osteotomy import Osteotomy, check_kind

    check_kind(kind)
    if kind == "plane" and angle_deg:
        raise Misuse(f"--angle-deg {angle_deg:g}; a plane only cuts, so leave the angle out")
    if angle_deg is None and kind not in USUAL_DEG:
        raise Misuse(f"{kind} has no usual angle; give --angle-deg")
    angle = USUAL_DEG[kind] if angle_deg is None else angle_deg
    case = Case.open(folder)
    cut = Osteotomy.make(case.twin, kind, bone, math.radians(angle), height_mm=height_mm)
    report = osteotomy_report(case, cut)
    after = append(case, name, author, [cut])
    report["conflicts"] = conflicts(after)
    if as_json:
        emit({"plan": name, **report, "uncertainty": uncertainty(case.twin)})
        return
    tell(*osteotomy_words(report), *report["conflicts"], *caution(case.twin))
