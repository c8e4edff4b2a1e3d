"""`osteotwin plan corridor`: where in a pedicle a screw is safe, as a volume."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from commands.console import command, emit, say, tell
from commands.plan_desk import AsJson, CaseFolder
from commands.plan_words import caution, uncertainty
from spatial.faults import Misuse

WRITERS = ("stl", "ply")


@command
def corridor(
    folder: CaseFolder,
    bone: Annotated[str, typer.Option(help="vertebrae_L4, or sacrum for S1.")],
    side: Annotated[str, typer.Option(help="left or right, the patient's.")],
    diameter: Annotated[float | None, typer.Option(metavar="MM", help="Outer thread; default as proposed.")] = None,
    length: Annotated[float | None, typer.Option(metavar="MM", help="Default as proposed.")] = None,
    margin: Annotated[float | None, typer.Option(metavar="MM", help="Bone around the thread.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the surface: a .stl or .ply file, patient mm (LPS).")] = None,
    as_json: AsJson = False,
) -> None:
    """The safe corridor of a pedicle: all axes that keep the margin, as a volume with its entry area and its cone."""
    from twin.case import Case
    from twin.durable import replace_synced
    from twin.plan.auto.safe_corridor import safe_corridor
    from twin.surfaces.ply import ply_bytes
    from twin.surfaces.stl import stl_bytes

    if side not in ("left", "right"):
        raise Misuse(f"side {side!r}; left or right")
    if out is not None and out.suffix.lower().lstrip(".") not in WRITERS:
        raise Misuse(f"--out {out.name}; a file ending in {' or '.join('.' + w for w in WRITERS)}")
    case = Case.open(folder)
    found = safe_corridor(case.twin, bone, "left" if side == "left" else "right", diameter, length, margin)
    if out is not None and found.surface is not None:
        replace_synced(out, (stl_bytes if out.suffix.lower() == ".stl" else ply_bytes)(found.surface))
    elif out is not None:
        say("No axis is safe, so there is no surface to write.")
    report = found.to_json()
    if as_json:
        emit({**report, "uncertainty": uncertainty(case.twin)})
        return
    size = f"{bone} {side}, a screw of {report['diameter_mm']:g} x {report['length_mm']:g} mm"
    if found.surface is None:
        tell(f"{size}: no axis keeps {report['margin_mm']:.2f} mm of bone around it", *caution(case.twin))
        return
    cone = ", ".join(f"{name} {value:.0f}" for name, value in report["cone_deg"].items())
    more = " or more (the search ended there)" if report["is_clipped"] else ""
    tell(
        f"{size} with {report['margin_mm']:.2f} mm of bone around it: {report['volume_ml']:.1f} mL, "
        f"entries over {report['entry_area_mm2']:.0f} mm2, degrees from the best axis: {cone}{more}",
        *caution(case.twin),
    )
