"""`osteotwin plan rod`: a rod through the heads of one side's screws."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from commands.console import command, emit, tell
from commands.plan_desk import AsJson, Author, CaseFolder, PlanName, append, folded
from commands.plan_words import caution
from spatial.faults import Misuse

if TYPE_CHECKING:
    from twin.case import Case
    from twin.plan.plan import Plan


@command
def rod(
    folder: CaseFolder,
    side: Annotated[str, typer.Option(help="left or right, the patient's.")],
    diameter: Annotated[float | None, typer.Option(metavar="MM", help="Of the implant library; usually 5.5.")] = None,
    material: Annotated[str | None, typer.Option(help="As the implant library names it.")] = None,
    name: PlanName = "plan",
    author: Author = "planner",
    as_json: AsJson = False,
) -> None:
    """Bend a rod along the heads of one side's screws, and tell what it touches."""
    from twin.case import Case
    from twin.plan.auto.rods import plan_rod

    if side not in ("left", "right"):
        raise Misuse(f"side {side!r}; left or right")
    case = Case.open(folder)
    plan = folded(case, name)
    found = plan_rod(
        case.twin, plan.screws.values(), "left" if side == "left" else "right", diameter_mm=diameter, material=material
    )
    append(case, name, author, [found.rod])
    if as_json:
        emit({"plan": name, "rods": [found.to_json()]})
    else:
        tell(*rod_words(found.to_json()), *caution(case.twin))


def place_rods(case: Case, name: str, author: str, plan: Plan) -> list[dict[str, Any]]:
    """A rod for each side of the plan that has two or more screws, as edits; their reports."""
    from twin.plan.auto.rods import plan_rods

    found = plan_rods(case.twin, plan.screws)
    append(case, name, author, [one.rod for one in found], {one.rod.id: {"by": "plan auto"} for one in found})
    return [one.to_json() for one in found]


def rod_words(report: dict[str, Any]) -> list[str]:
    """A rod's report in lines: the rod, then what it asks for or runs into."""
    radius = "straight" if report["radius_mm"] is None else f"tightest bend {report['radius_mm']:.0f} mm"
    stock = "longer than any of the library" if report["stock_mm"] is None else f"cut from {report['stock_mm']:g} mm"
    lines = [
        f"{report['id']}: {report['diameter_mm']:g} mm {report['material']}, {report['length_mm']:.0f} mm ({stock}), "
        f"{radius} (at least {report['least_radius_mm']:.0f}), heads up to {report['worst_residual_mm']:.1f} mm off"
    ]
    for head in report["heads"]:
        tilt, most = head["tilt_deg"], head["most_tilt_deg"]
        if tilt > most:
            lines.append(f"  {head['screw']}: its head has to tilt {tilt:.0f} degrees, it can {most:g}")
        if head["gap_mm"] is not None and head["gap_mm"] < 0:
            lines.append(f"  {head['screw']}: its head overlaps the next by {-head['gap_mm']:.1f} mm")
    lines += [f"  {c['part']} runs {c['depth_mm']:.1f} mm into {c['bone']}" for c in report["contacts"]]
    return lines
