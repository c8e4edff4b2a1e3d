"""`osteotwin plan pictures`: the construct, screws in their own planes, osteotomies before and after, the way in."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from commands.console import command, emit, progress_bar, tell
from commands.plan_desk import AsJson, CaseFolder, PlanName, folded, volume_of
from spatial.faults import Fault

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from render.exhibits import Standing
    from render.offscreen import Offscreen
    from render.panels import Name
    from render.plate import Panel
    from render.scene import Scene
    from spatial.frames import Patient
    from spatial.rigid import Array
    from twin.anatomy.bone import Side
    from twin.case import Case
    from twin.plan.measures.alignment_lines import Polyline
    from twin.plan.measures.effects import Effects
    from twin.plan.measures.measured import Measured
    from twin.plan.plan import Plan
    from twin.plan.screws.screw_grade import ScrewGrade
    from twin.scan.volume import Volume

HIGH_PX = 860
SLICE_PX, SLICE_MM = 520, 90.0
CLOSE_MM = 65.0
LEGS = ("femur", "tibia", "fibula", "patella", "hip")


class NothingToDraw(Fault):
    """A plan without anything in it."""


@command
def pictures(
    folder: CaseFolder,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the PNG files go.")],
    name: PlanName = "plan",
    as_json: AsJson = False,
) -> None:
    """Draw the plan: construct, screws in their own planes, osteotomies before and after, the way in."""
    import numpy as np
    from PIL import Image

    from render.offscreen import Offscreen
    from twin.case import Case

    case = Case.open(folder)
    if name not in case.plan_names:
        case.load_plan(name)  # raises, and says which plans there are
    plan = folded(case, name)
    if not (plan.screws or plan.osteotomies or plan.rods or plan.implants):
        raise NothingToDraw(f"plan {name!r} is empty; place something first (osteotwin plan screw)")
    volume = volume_of(case)
    jobs = _jobs(case, plan, volume)
    out.mkdir(parents=True, exist_ok=True)
    files: list[str] = []
    with Offscreen() as screen, progress_bar("Drawing") as progress:
        for n, (stem, draw) in enumerate(jobs.items()):
            progress(stem, n / len(jobs))
            picture = draw(screen)
            file = out / f"{stem}.png"
            Image.fromarray(np.ascontiguousarray(picture)).save(file)
            files.append(str(file))
    if as_json:
        emit({"plan": name, "pictures": files})
        return
    tell(*files)


def _jobs(case: Case, plan: Plan, volume: Volume | None) -> dict[str, Callable[[Offscreen], NDArray[Any]]]:
    """A drawing by file name; nothing is computed before it is called."""
    from functools import partial

    from render.anatomy import standing_of

    standing = standing_of(case.twin)
    grades = _grades(case, plan, volume)
    jobs: dict[str, Callable[[Offscreen], NDArray[Any]]] = {}
    if plan.screws or plan.rods:
        jobs["construct"] = partial(_construct, case, plan, grades, standing)
    for one in sorted(plan.osteotomies):
        jobs[f"osteotomy-{one}"] = partial(_osteotomy, case, plan, one, standing)
    if volume is not None:
        for one in sorted(plan.screws):
            jobs[f"screw-{one}"] = partial(_screw, case, plan, volume, one, grades, standing)
            if plan.screws[one].kind == "pedicle":
                jobs[f"corridor-{one}"] = partial(_corridor, case, plan, one, standing)
        if plan.screws:
            jobs["way-in"] = partial(_way_in, case, plan, volume, standing)
    return jobs


def _grades(case: Case, plan: Plan, volume: Volume | None) -> dict[str, ScrewGrade]:
    from twin.plan.screws.grade import grade_screw

    return {key: grade_screw(case.twin, screw, volume) for key, screw in sorted(plan.screws.items())}


def shown_bones(case: Case, plan: Plan) -> list[str]:
    """The bones that the plan is about, one more of the spine at each end, and the rest of a leg that is planned on."""
    from twin.plan.levels import level_of, rank

    about = {s.bone for s in plan.screws.values()} | {o.bone for o in plan.osteotomies.values()}
    about |= {i.bone for i in plan.implants.values()}
    spine = [r for bone in about if level_of(bone) and (r := rank(bone)) is not None]
    legs = {bone.rpartition("_")[2] for bone in about if bone.startswith(LEGS)}

    def is_shown(bone: str) -> bool:
        own = rank(bone)
        if level_of(bone) and spine and own is not None and min(spine) - 1 <= own <= max(spine) + 1:
            return True
        return bone in about or (bone.startswith(LEGS) and bone.rpartition("_")[2] in legs)

    return [bone for bone in case.twin.bones if is_shown(bone)]


def _construct(
    case: Case, plan: Plan, grades: dict[str, ScrewGrade], standing: Standing, screen: Offscreen
) -> NDArray[Any]:
    """Screws by grade, and rods, through the bones, from behind and from the left."""
    from render.anatomy import bone_parts, structure_parts
    from render.panels import Name
    from render.planning import GRADE_RGB, plan_parts
    from render.plate import framed_page
    from render.scene import Scene
    from spatial.frames import Patient

    letters = {key: grade.grade for key, grade in grades.items()}
    drawn = plan_parts(case.twin, plan, grades=letters)
    scene = Scene[Patient](
        meshes=(*bone_parts(case.twin, names=shown_bones(case, plan), mode="xray", opacity=0.6), *drawn.meshes),
        lines=drawn.lines,
    )
    names = [
        Name(f"{s.id} {s.diameter_mm:g}\u00d7{s.length_mm:g} {letters[s.id]}", s.entry.mm, GRADE_RGB[letters[s.id]])
        for s in plan.screws.values()
    ]
    inside = structure_parts(case.twin)
    left = [one for one in names if one.text.split()[0].endswith("left")] or names
    panels = [
        _panel(screen, scene, names, "posterior", "from behind"),
        _panel(screen, scene.plus(inside), left, "left", "from the left, structures shown", frame=scene),
    ]
    rods = f", {len(plan.rods)} rods" if plan.rods else ""
    return framed_page(f"Plan {plan.name!r}: {len(plan.screws)} screws{rods}", panels, standing)


def _corridor(case: Case, plan: Plan, one: str, standing: Standing, screen: Offscreen) -> NDArray[Any]:
    """The room that safe axes of this screw's size fill, in its bone, with the screw in it."""
    from render.anatomy import bone_parts
    from render.planning import corridor_part, screw_parts
    from render.plate import framed_page
    from render.scene import Scene
    from spatial.frames import Patient
    from twin.plan.auto.safe_corridor import safe_corridor

    screw = plan.screws[one]
    found = safe_corridor(case.twin, screw.bone, screw.side, screw.diameter_mm, screw.length_mm)
    meshes = [*bone_parts(case.twin, names=[screw.bone], mode="xray", opacity=0.7), *screw_parts([screw])[0]]
    report = found.to_json()
    words = "no axis is safe"
    if found.surface is not None:
        meshes.append(corridor_part(f"corridor {one}", found.surface))
        cone = ", ".join(f"{name} {value:.0f}\u00b0" for name, value in report["cone_deg"].items())
        words = f"entries over {report['entry_area_mm2']:.0f} mm\u00b2, from the best axis {cone}"
    scene = Scene[Patient](meshes=tuple(meshes))
    panels = [
        _panel(screen, scene, [], side, seen, high_px=520)
        for side, seen in (
            ("posterior", "from behind"),
            (screw.side, f"from the {screw.side}"),
            ("above", "from above"),
        )
    ]
    size = f"{screw.diameter_mm:g} \u00d7 {screw.length_mm:g} mm, {report['margin_mm']:.2f} mm of bone kept"
    return framed_page(f"Safe corridor {one} ({size}): {words}", panels, standing)


def _way_in(case: Case, plan: Plan, volume: Volume, standing: Standing, screen: Offscreen) -> NDArray[Any]:
    """The instruments' sleeves from the bone out through the skin."""
    from render.anatomy import bone_parts
    from render.panels import Name
    from render.planning import BLOCKED, SLEEVE, skin_part, way_parts
    from render.plate import framed_page
    from render.scene import Scene
    from spatial.frames import Patient
    from twin.anatomy.skin import Skin
    from twin.plan.approach import way_in
    from twin.plan.theatre import load_theatre

    theatre, skin = load_theatre(), Skin.of(volume)
    ways = [way_in(case.twin, s, theatre.instrument(s.kind), skin) for _, s in sorted(plan.screws.items())]
    drawn = way_parts(ways)
    bones = bone_parts(case.twin, names=shown_bones(case, plan))
    scene = Scene[Patient](meshes=(*bones, *drawn.meshes, skin_part(skin)), lines=drawn.lines)
    names = [
        Name(
            f"{way.screw.id} {way.depth_mm:.0f} mm deep" if way.depth_mm is not None else f"{way.screw.id} skin unseen",
            way.outward.at((way.depth_mm or 80.0) + 10.0).mm,
            (SLEEVE if way.is_free else BLOCKED).rgb,
        )
        for way in ways
    ]
    panels = [
        _panel(screen, scene, names, side, words)
        for side, words in (("posterior", "from behind, through the skin"), ("left", "from the left"))
    ]
    return framed_page("The way in", panels, standing)


def _osteotomy(case: Case, plan: Plan, one: str, standing: Standing, screen: Offscreen) -> NDArray[Any]:
    """The bones before and after, from the side that shows the correction."""
    from render.anatomy import bone_parts
    from render.planning import line_parts, plan_parts, planned_parts
    from render.plate import framed_page
    from render.scene import Scene
    from spatial.frames import Patient
    from twin.plan.cuts.reduction import fragments
    from twin.plan.levels import level_of
    from twin.plan.measures.alignment_lines import alignment_lines
    from twin.plan.measures.effects import effects
    from twin.plan.plan import Plan

    cut = plan.osteotomies[one]
    alone = Plan(plan.name, plan.twin_id, screws=plan.screws, osteotomies={one: cut})
    made = [fragments(case.twin, cut)]
    names = shown_bones(case, alone)
    drawn = plan_parts(case.twin, alone, made=made)
    in_spine = level_of(cut.bone) is not None
    was, will = (line_parts(_told(alignment_lines(case.twin, cuts), cut.bone, in_spine)) for cuts in ((), [cut]))
    before = Scene[Patient](meshes=(*bone_parts(case.twin, names=names), *drawn.meshes), lines=(*drawn.lines, *was[0]))
    moved = planned_parts(case.twin, alone, names=names)
    after = Scene[Patient](meshes=moved.meshes, lines=(*moved.lines, *will[0]))
    side, words = ("left", "from the left") if in_spine else ("anterior", "from the front")
    found = effects(case.twin, [cut])
    panels = [
        _panel(screen, before, was[1], side, f"before, {words}: {_values(found, cut.bone, False)}", after),
        _panel(screen, after, will[1], side, f"after: {_values(found, cut.bone, True)}", before),
    ]
    if not in_spine:
        near = Scene[Patient](meshes=moved.meshes)
        met_mm = case.twin.bone(cut.bone).surface.section(cut.planes[0]).reshape(-1, 3)
        middle_mm = met_mm.mean(axis=0) if len(met_mm) else cut.hinge.point_mm
        panels.append(_panel(screen, near, [], side, "after, the cut", around_mm=middle_mm))
    return framed_page(f"{one}: {cut.kind} of {math.degrees(cut.angle_rad):g}\u00b0", panels, standing)


def _told(lines: Mapping[str, Polyline], bone: str, in_spine: bool) -> dict[str, Polyline]:
    """Of all lines those that this cut's picture is about."""
    if in_spine:
        kept = {f"endplate_superior {level}" for level in ("T4", "L1", "S1")} | {"pelvic_tilt", "c7_plumb", "sva"}
    else:
        side = bone.rpartition("_")[2]
        kept = {f"{name}_{side}" for name in ("load_line", "plateau_line", "condyle_line", "femur_axis", "tibia_axis")}
    return {name: line for name, line in lines.items() if name in kept}


def _values(found: Effects, bone: str, is_after: bool) -> str:
    """The parameters that a cut of this bone is made for."""
    from twin.plan.levels import level_of

    side: Side = "left" if bone.endswith("left") else "right"
    if level_of(bone):
        told = [("LL", "lumbar_lordosis_deg"), ("PT", "pelvic_tilt_deg"), ("SVA", "sagittal_vertical_axis_mm")]
        measures = (found.after if is_after else found.before).measures
    else:
        told = [("HKA", "hka_deg"), ("MPTA", "mpta_deg"), ("load line", "weight_bearing_line_percent")]
        measures = (found.legs_after if is_after else found.legs_before).get(side, {})
    lines = [f"{word} {measures[n].words()}" for word, n in told if n in measures and measures[n].value is not None]
    return ", ".join(lines).replace(" (\u00b1 not known)", "") + _unknown(measures, [n for _, n in told])


def _unknown(measures: Mapping[str, Measured], names: list[str]) -> str:
    """Says once that the spread of these is not known, or that nothing was measured."""
    values = [measures[n] for n in names if n in measures and measures[n].value is not None]
    if not values:
        return "alignment not measured"
    return "; \u00b1 not known" if any(m.sd is None for m in values) else ""


def _screw(
    case: Case,
    plan: Plan,
    volume: Volume,
    one: str,
    grades: dict[str, ScrewGrade],
    standing: Standing,
    screen: Offscreen,
) -> NDArray[Any]:
    """The CT in the two planes that hold the screw's axis, and across it at the isthmus."""
    import numpy as np
    from PIL import Image

    from render.anatomy import bone_outlines, voxels_of
    from render.planning import screw_outlines
    from render.plate import Panel, framed_page
    from render.slices import Slice, slice_picture
    from twin.anatomy.local_frame import bone_frame

    screw, grade = plan.screws[one], grades[one]
    voxels = voxels_of(volume)
    bones = list(bone_outlines(case.twin, names=[screw.bone, *_near(case, screw.bone)]))
    shafts, axes = screw_outlines([screw], {one: grade.grade})
    middle_mm = 0.45 * screw.length_mm
    at = screw.axis.at(middle_mm).mm
    size = (SLICE_MM, SLICE_PX, SLICE_PX)
    u = screw.axis.direction
    cranial = bone_frame(case.twin, screw.bone).rotation[:, 2]
    down = -(cranial - (cranial @ u) * u)
    down = down / np.linalg.norm(down)
    right = np.cross(down, -u)  # seen from behind, as the surgeon looks along the screw
    right = right if right @ np.array([-1.0, 0.0, 0.0]) < 0 else -right
    across = Slice(
        "Across", screw.axis.at(grade.isthmus_mm).mm, right, down, 0.5 * SLICE_MM / SLICE_PX, SLICE_PX, SLICE_PX
    )
    slices = {
        "along the axis, near axial": Slice.along("Axial", screw.axis, Slice.axial(at, *size), middle_mm),
        "along the axis, near sagittal": Slice.along("Sagittal", screw.axis, Slice.sagittal(at, *size), middle_mm),
        "across the isthmus": across,
    }
    panels = [
        Panel(
            Image.fromarray(
                slice_picture(voxels, where, outlines=[*bones, *shafts], strokes=axes if "along" in words else ())
            ),
            words,
        )
        for words, where in slices.items()
    ]
    margins = ", ".join(f"{name} {value:.1f}" for name, value in grade.margin_mm.items())
    sd = "no sd stated" if grade.margin_sd_mm is None else f"sd {grade.margin_sd_mm:.2f}"
    size_words = f"{screw.diameter_mm:g} \u00d7 {screw.length_mm:g} mm"
    return framed_page(f"{one}: {size_words}, grade {grade.grade}; margins mm ({sd}): {margins}", panels, standing)


def _near(case: Case, bone: str) -> list[str]:
    """The bones next to it in the spine."""
    from twin.plan.levels import rank

    own = rank(bone)
    if own is None:
        return []
    found = [(other, rank(other)) for other in case.twin.bones if other != bone]
    return [other for other, place in found if place is not None and abs(place - own) == 1]


def _panel(
    screen: Offscreen,
    scene: Scene[Patient],
    names: list[Name],
    side: str,
    title: str,
    within: Scene[Patient] | None = None,
    frame: Scene[Patient] | None = None,
    high_px: int = HIGH_PX,
    around_mm: Array | None = None,
) -> Panel:
    """The scene from one side, as large as its shape (or that of `frame`) allows; at the scale that shows `within`
    too, where given; of `around_mm` (3,) only the neighbourhood.
    """
    from dataclasses import replace

    import numpy as np

    from render.group_plates import TOWARD
    from render.panels import gutter_px_for, panel, parallel_view
    from render.plate import BACK_RGB

    bounds = [one.bounds_mm() for one in (frame or scene, within) if one is not None]
    ends = np.min([low for low, _ in bounds], axis=0), np.max([high for _, high in bounds], axis=0)
    if around_mm is not None:
        ends = around_mm - CLOSE_MM, around_mm + CLOSE_MM
    corners = np.array([[ends[a][0], ends[b][1], ends[c][2]] for a in (0, 1) for b in (0, 1) for c in (0, 1)])
    span = ends[1] - ends[0]
    flat = span[1] if side in ("left", "right") else span[0]
    tall = span[1] if side == "above" else span[2]
    wide_px = int(np.clip(high_px * flat / max(tall, 1.0) * 1.1, 320, 900))
    view = parallel_view(corners, np.array(TOWARD[side]), wide_px, high_px)
    plain = replace(scene, background_rgb=BACK_RGB, background_top_rgb=BACK_RGB)
    return panel(screen, plain, view, names, title, max(gutter_px_for(names), 40))
