"""`osteotwin plan guide-block`: a cutting block for print."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from commands.console import command, emit, tell
from commands.plan_desk import AsJson, CaseFolder, PlanName, folded
from commands.plan_words import caution, uncertainty
from spatial.faults import Misuse

if TYPE_CHECKING:
    from spatial.rigid import Array

WAYS = ("medial", "lateral", "anterior", "posterior")


@command
def guide_block(
    folder: CaseFolder,
    osteotomy: Annotated[str, typer.Option(help="Which cut of the plan, by its id.")],
    out: Annotated[Path, typer.Option(help="The STL file to write: LPS mm, on the bone's place.")],
    approach: Annotated[
        str | None, typer.Option(help="Where the surgeon stands: medial, lateral, anterior, posterior, or x,y,z.")
    ] = None,
    width_mm: Annotated[float, typer.Option(help="Along the cut.")] = 36.0,
    thickness_mm: Annotated[float, typer.Option(help="Over the highest bone.")] = 10.0,
    fit_mm: Annotated[float, typer.Option(help="Air between block and bone.")] = 0.3,
    blade_mm: Annotated[float, typer.Option(help="The saw's thickness.")] = 1.2,
    play_mm: Annotated[float, typer.Option(help="More than the saw or pin in slots and holes.")] = 0.2,
    pin_mm: Annotated[float, typer.Option(help="The pins' diameter.")] = 2.0,
    name: PlanName = "plan",
    force: Annotated[bool, typer.Option("--force", help="Replace the file that is there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make a block that sits on the bone, with slots for the saw and holes for pins, as STL for print."""
    from twin.case import Case
    from twin.plan.cuts.guide import GuideSettings
    from twin.plan.cuts.guide import guide_block as make_block
    from twin.surfaces.stl import stl_bytes

    if out.exists() and not force:
        raise Misuse(f"{out.name} is there already; --force replaces it", path=out)
    if not out.parent.is_dir():
        raise Misuse("there is no such folder to write to", path=out.parent)
    case = Case.open(folder)
    plan = folded(case, name)
    if osteotomy not in plan.osteotomies:
        raise Misuse(f"no osteotomy {osteotomy!r} in plan {name!r}; it has {', '.join(plan.osteotomies) or 'none'}")
    cut = plan.osteotomies[osteotomy]
    settings = GuideSettings(
        width_mm=width_mm, thickness_mm=thickness_mm, fit_mm=fit_mm, blade_mm=blade_mm, play_mm=play_mm, pin_mm=pin_mm
    )
    made = make_block(case.twin, cut, approach=_way(approach, cut.bone), settings=settings)
    out.write_bytes(stl_bytes(made.mesh))
    report = {"plan": name, "file": str(out), **made.to_json(), "uncertainty": uncertainty(case.twin)}
    if as_json:
        emit(report)
        return
    tell(
        f"{out}: a block of {made.mesh.volume_ml:.1f} mL on {cut.bone} for {cut.id}, {len(made.slots)} slots of "
        f"{made.slot_mm:.1f} mm, {len(made.pins)} holes for {made.pin_mm:g} mm pins",
        f"it lies on {made.contact_cm2:.1f} cm2 of bone and nowhere nearer than {made.least_gap_mm:.2f} mm to it; soft "
        "tissue under it has to be cleared",
        *caution(case.twin),
    )


def _way(text: str | None, bone: str) -> Array | None:
    import numpy as np

    if text is None:
        return None
    lateral = np.array([-1.0 if bone.endswith("right") else 1.0, 0.0, 0.0])
    named = {"lateral": lateral, "medial": -lateral, "posterior": [0.0, 1.0, 0.0], "anterior": [0.0, -1.0, 0.0]}
    if text in named:
        return np.asarray(named[text], float)
    try:
        way = np.array([float(part) for part in text.split(",")])
    except ValueError:
        way = np.zeros(0)
    if way.shape != (3,) or not np.isfinite(way).all() or float(np.linalg.norm(way)) < 1e-6:
        raise Misuse(f"--approach {text}; {', '.join(WAYS)}, or a direction x,y,z (Patient, out to the surgeon)")
    return way
