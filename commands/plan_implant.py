"""`osteotwin plan implant`: a plate or a nail of the library for an osteotomy of a limb."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from commands.console import command, emit, tell
from commands.plan_desk import AsJson, Author, CaseFolder, PlanName, append, folded
from commands.plan_words import caution
from spatial.faults import Misuse


@command
def implant(
    folder: CaseFolder,
    osteotomy: Annotated[str, typer.Option(help="Which cut of the plan it is to hold, by its id.")],
    kind: Annotated[str, typer.Option(help="plate or nail.")],
    diameter_mm: Annotated[float | None, typer.Option(help="Of a nail, as the library has it.")] = None,
    length_mm: Annotated[float | None, typer.Option(help="Of a nail; the longest that fits if left out.")] = None,
    family: Annotated[str | None, typer.Option(help="Plates of this family only.")] = None,
    library: Annotated[list[Path] | None, typer.Option(help="A hospital's own implants: JSON file or folder.")] = None,
    name: PlanName = "plan",
    author: Author = "planner",
    as_json: AsJson = False,
) -> None:
    """Lay a plate over an osteotomy of a limb, or a nail into it, and tell how it fits."""
    from twin.case import Case
    from twin.plan.cuts.fixation import nail, plate
    from twin.plan.screws.implants import load_library

    if kind not in ("plate", "nail"):
        raise Misuse(f"--kind {kind}; plate or nail")
    if (kind == "nail") != (diameter_mm is not None) or (kind == "plate" and length_mm is not None):
        raise Misuse("a nail needs --diameter-mm; a plate comes in the library's sizes, so leave its sizes out")
    case = Case.open(folder)
    plan = folded(case, name)
    if osteotomy not in plan.osteotomies:
        raise Misuse(f"no osteotomy {osteotomy!r} in plan {name!r}; it has {', '.join(plan.osteotomies) or 'none'}")
    cut, found = plan.osteotomies[osteotomy], load_library(library or ())
    if diameter_mm is None:
        made = plate(case.twin, cut, found, family)
    else:
        made = nail(case.twin, cut, found, diameter_mm, length_mm)
    append(case, name, author, [made.implant])
    report = made.to_json()
    if as_json:
        emit({"plan": name, "implants": [report]})
        return
    one = made.implant
    words = (
        f"{one.id}: {one.kind} of {one.family} ({made.source_status} sizes), {one.length_mm:g} x {one.width_mm:g} mm"
    )
    if made.gap_mm is not None:
        words += f"; stands off {made.gap_mm[0]:.1f} mm on average, {made.gap_mm[1]:.1f} at most, before it is bent"
    if made.holes is not None:
        words += f"; holes over the moving and the staying part: {made.holes[0]} and {made.holes[1]}"
    if made.wall_mm is not None:
        words += f"; leaves {made.wall_mm:.1f} mm to the bone's surface, marrow not counted"
    tell(words, *caution(case.twin))
