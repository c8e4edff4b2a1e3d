"""`osteotwin plan osteotomy`: cuts, wedges, turns, and what they move."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

import typer

from commands.console import command, emit, tell
from commands.cut_words import collision_words, together
from commands.plan_desk import AsJson, Author, CaseFolder, PlanName, append
from commands.plan_words import caution, conflicts, osteotomy_report, osteotomy_words, uncertainty
from spatial.faults import Misuse

if TYPE_CHECKING:
    from spatial.rigid import Array


@command
def osteotomy(
    folder: CaseFolder,
    kind: Annotated[
        str, typer.Option(help="PSO, SPO, VCR, open-wedge, close-wedge, derotation, oblique, PAO or plane.")
    ],
    bone: Annotated[str, typer.Option(help="The bone to cut: vertebrae_L3, tibia_left, femur_right, hip_left.")],
    angle_deg: Annotated[
        float | None, typer.Option(help="How far it closes, opens or turns; the usual angle if left out.")
    ] = None,
    item_id: Annotated[str | None, typer.Option("--id", help="The cut's name in the plan; else bone and kind.")] = None,
    height_mm: Annotated[float | None, typer.Option(help="Spine: hinge above the middle of the body.")] = None,
    target_sva_mm: Annotated[
        float | None, typer.Option(help="PSO, close-wedge: C7 in front of S1 to be left, instead of the angle.")
    ] = None,
    shortening_mm: Annotated[float | None, typer.Option(help="VCR: how far all above comes down.")] = None,
    hinge: Annotated[str | None, typer.Option(help="Wedge of a limb: hinge medial or lateral.")] = None,
    hinge_level_mm: Annotated[float | None, typer.Option(help="Wedge of a limb: hinge from the knee.")] = None,
    entry_level_mm: Annotated[float | None, typer.Option(help="Wedge of a limb: far cortex from the knee.")] = None,
    bridge_mm: Annotated[float | None, typer.Option(help="Wedge of a limb: bone left beyond the hinge.")] = None,
    biplanar: Annotated[
        bool, typer.Option("--biplanar", help="Opening HTO: ascending cut behind the tubercle.")
    ] = False,
    at: Annotated[str | None, typer.Option(help="Limb: proximal, middle or distal third's usual level.")] = None,
    level_mm: Annotated[float | None, typer.Option(help="Limb: level from the knee.")] = None,
    toward: Annotated[
        str | None, typer.Option(help="Derotation: external or internal turn of the distal part.")
    ] = None,
    target_deg: Annotated[
        float | None, typer.Option(help="Derotation: version or torsion to be left, instead of angle and way.")
    ] = None,
    about: Annotated[str | None, typer.Option(help="Derotation: about the shaft or the mechanical axis.")] = None,
    valgus_deg: Annotated[float | None, typer.Option(help="Oblique: turn of the distal part; varus below 0.")] = None,
    flexion_deg: Annotated[float | None, typer.Option(help="Oblique: the same; extension below 0.")] = None,
    external_deg: Annotated[float | None, typer.Option(help="Oblique: the same; internal below 0.")] = None,
    anterior_deg: Annotated[float | None, typer.Option(help="PAO: turn forward beside the outward angle.")] = None,
    margin_mm: Annotated[float | None, typer.Option(help="PAO: planes this much further from the head.")] = None,
    kerf_mm: Annotated[float | None, typer.Option(help="What the saw takes.")] = None,
    box: Annotated[str | None, typer.Option(help="Plane: the only part that is cut, ACROSS,DEEP in mm.")] = None,
    box_at: Annotated[str | None, typer.Option(help="Plane: the box's middle from the bone's, ACROSS,DEEP.")] = None,
    outline: Annotated[str | None, typer.Option(help="Plane: corners of the cut, x,y,z;x,y,z;…")] = None,
    name: PlanName = "plan",
    author: Author = "planner",
    as_json: AsJson = False,
) -> None:
    """Plan an osteotomy: planes, hinge and fragments; gaps, bridge and collisions; the alignment it gives."""
    from dataclasses import replace

    from twin.case import Case
    from twin.plan.cuts.making import Options, make
    from twin.plan.cuts.osteotomy import check_kind

    check_kind(kind)
    if kind == "plane" and angle_deg:
        raise Misuse(f"--angle-deg {angle_deg:g}; a plane only cuts, so leave the angle out")
    for option, value, known in (
        ("--hinge", hinge, ("medial", "lateral")),
        ("--toward", toward, ("external", "internal")),
        ("--about", about, ("shaft", "mechanical")),
        ("--at", at, ("proximal", "middle", "distal")),
    ):
        if value not in (None, *known):
            raise Misuse(f"{option} {value}; {' or '.join(known)}")
    options = Options(
        height_mm=height_mm, target_sva_mm=target_sva_mm, shortening_mm=shortening_mm, hinge_level_mm=hinge_level_mm,
        hinge_side=hinge,  # type: ignore[arg-type]  # checked above
        entry_level_mm=entry_level_mm, bridge_mm=bridge_mm, biplanar=biplanar or None, at=at, level_mm=level_mm,
        toward=toward, about=about, target_deg=target_deg, valgus_deg=valgus_deg, flexion_deg=flexion_deg,  # type: ignore[arg-type]  # checked above
        external_deg=external_deg, anterior_deg=anterior_deg, margin_mm=margin_mm, kerf_mm=kerf_mm,
        box_mm=_pair("--box", box), box_at_mm=_pair("--box-at", box_at), outline_mm=_corners(outline),
    )  # fmt: skip
    case = Case.open(folder)
    angle = None if angle_deg is None or kind == "plane" else math.radians(angle_deg)
    cut = make(case.twin, kind, bone, angle, options=options)
    if item_id is not None:
        cut = replace(cut, id=item_id)
    report = osteotomy_report(case, cut)
    after = append(case, name, author, [cut])
    report["conflicts"] = conflicts(after)
    report["together"] = together(case.twin, after.osteotomies.values())
    if as_json:
        emit({"plan": name, **report, "uncertainty": uncertainty(case.twin)})
        return
    tell(*osteotomy_words(report), *collision_words(report["together"]), *report["conflicts"], *caution(case.twin))


def _numbers(option: str, text: str, count: int) -> list[float]:
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = []
    if len(found) != count or not all(math.isfinite(value) for value in found):
        raise Misuse(f"{option} {text}; {count} numbers with commas between them, in mm")
    return found


def _pair(option: str, text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    first, second = _numbers(option, text, 2)
    return first, second


def _corners(text: str | None) -> Array | None:
    import numpy as np

    return None if text is None else np.array([_numbers("--outline", corner, 3) for corner in text.split(";")])
