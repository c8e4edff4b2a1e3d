"""The plan as parts of a scene: screws, cuts, and the bones where the plan puts them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from render.anatomy import bone_parts, bone_rgb
from render.cut_away import MOST_PLANES, CutAway
from render.panels import Name
from render.scene import Anchor, LinePart, Material, MeshPart, Mode, Rgb, TextPart
from render.slices import Outline, Stroke
from render.solids import cylinder_mesh, pose_along, screw_mesh, square_mesh, tube_mesh
from spatial.frames import Patient, Planned
from spatial.mesh import TriangleMesh
from spatial.rigid import Array, Rigid, Similarity
from spatial.shapes import Plane
from twin.anatomy.bone import Landmark
from twin.anatomy.skin import Skin
from twin.anatomy.twin import Twin
from twin.plan.approach import WayIn
from twin.plan.auto.rod import Rod
from twin.plan.cuts.cut import plane_axes, twice_area
from twin.plan.cuts.osteotomy import Osteotomy
from twin.plan.cuts.reduction import Fragments, carry_out, motion_of
from twin.plan.measures.alignment_lines import Polyline
from twin.plan.plan import Plan
from twin.plan.screws.screw import Screw

TITANIUM = Material((0.74, 0.77, 0.82), shine=0.6, metal=1.0)
ROD = Material((0.62, 0.66, 0.74), shine=0.7, metal=1.0)
SKIN = Material((0.87, 0.68, 0.58), 0.30, "translucent", shine=0.1)
SLEEVE = Material((0.45, 0.72, 0.95), 0.75, "translucent", shine=0.4)
BLOCKED = Material((0.95, 0.36, 0.30), 0.85, "translucent", shine=0.3)
CORRIDOR = Material((0.36, 0.82, 0.56), 0.5, "translucent", shine=0.2)
OUT_OF_SKIN_MM = 40.0
LINE_RGB: Rgb = (0.98, 0.80, 0.36)
WEDGE = Material((0.88, 0.30, 0.27), 0.5, "translucent", shine=0.1)
TAKEN = Material((0.92, 0.24, 0.20), 0.3, "translucent", shine=0.1)  # clearer, so that the faces behind it show
MOVES = Material((0.40, 0.72, 0.98), 0.3, "translucent", shine=0.1)
GRADE_RGB: Mapping[str, Rgb] = {
    "A": (0.35, 0.78, 0.50),
    "B": (0.72, 0.80, 0.30),
    "C": (0.96, 0.74, 0.25),
    "D": (0.95, 0.50, 0.22),
    "E": (0.90, 0.27, 0.27),
}


def screw_part(
    name: str,
    entry_mm: Array,
    direction: Array,
    diameter_mm: float,
    length_mm: float,
    material: Material = TITANIUM,
) -> MeshPart[Patient]:
    """A screw from where its axis meets the bone along `direction` (3,), its rod slot along the spine."""
    return MeshPart(
        name,
        screw_mesh(round(diameter_mm, 2), round(length_mm, 2)),
        pose_along(entry_mm, direction, np.array([0.0, 0.0, 1.0])),
        material,
        "plan",
    )


def screw_parts(
    screws: Iterable[Screw], grades: Mapping[str, str] | None = None, *, with_axes: bool = False
) -> tuple[tuple[MeshPart[Patient], ...], tuple[LinePart[Patient], ...]]:
    """Screws in titanium, or in the colour of their grade (`grades` by screw id); with prolonged axes if asked."""
    meshes, lines = [], []
    for screw in screws:
        axis = screw.axis
        grade = (grades or {}).get(screw.id)
        material = TITANIUM if grade is None else replace(TITANIUM, rgb=_tinted(GRADE_RGB.get(grade, GRADE_RGB["E"])))
        meshes.append(screw_part(screw.id, axis.point_mm, axis.direction, screw.diameter_mm, screw.length_mm, material))
        if with_axes:
            ends = axis.at(np.array([-35.0, screw.length_mm + 10.0])).mm
            lines.append(LinePart[Patient](ends, material.rgb, 1.5, 0.9, layer="plan"))
    return tuple(meshes), tuple(lines)


def _tinted(rgb: Rgb) -> Rgb:
    """Titanium anodised in a colour."""
    r, g, b = (0.7 * colour + 0.3 * metal for colour, metal in zip(rgb, TITANIUM.rgb, strict=True))
    return r, g, b


def screw_outlines(
    screws: Iterable[Screw], grades: Mapping[str, str] | None = None
) -> tuple[tuple[Outline, ...], tuple[Stroke, ...]]:
    """Screws for a slice: the cut of each outer thread, lightly filled, and its axis."""
    outlines, strokes = [], []
    for screw in screws:
        axis = screw.axis
        rgb = GRADE_RGB.get((grades or {}).get(screw.id, "A"), GRADE_RGB["E"])
        pose = pose_along(axis.point_mm, axis.direction, np.array([0.0, 0.0, 1.0]))
        solid = cylinder_mesh(round(screw.diameter_mm, 2), round(screw.length_mm, 2)).moved(pose)
        outlines.append(Outline(solid, rgb, 1.8, 0.30))
        strokes.append(Stroke(axis.at(np.array([0.0, screw.length_mm])).mm, rgb, 1.0))
    return tuple(outlines), tuple(strokes)


def cut_plane_parts(
    name: str, plane: Plane[Any], half_mm: float = 32.0, rgb: Rgb = (0.35, 0.72, 0.98), opacity: float = 0.22
) -> tuple[MeshPart[Any], LinePart[Any]]:
    """A cut as a see-through square about the plane's point, with its border."""
    turn = pose_along(plane.point_mm, plane.normal, np.array([0.0, 1.0, 0.0]))
    square = MeshPart[Any](
        name,
        square_mesh(),
        Similarity[Any, Any].of(turn, half_mm),
        Material(rgb, opacity, "translucent", shine=0.0, two_sided=True),
        "plan",
    )
    corners = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0], [-1, -1, 0]]) * half_mm
    return square, LinePart[Any](corners @ turn.rotation.T + turn.translation_mm, rgb, 2.0, layer="plan")


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """What to put into a scene of the patient: `scene.plus(parts.meshes, parts.lines, parts.labels)`."""

    meshes: tuple[MeshPart[Patient], ...] = ()
    lines: tuple[LinePart[Patient], ...] = ()
    labels: tuple[TextPart[Patient], ...] = ()


def rod_parts(rods: Iterable[Rod]) -> tuple[MeshPart[Patient], ...]:
    """Rods as they are to be bent."""
    return tuple(MeshPart(rod.id, tube_mesh(rod.centreline.mm, rod.diameter_mm / 2), None, ROD, "plan") for rod in rods)


def way_parts(ways: Iterable[WayIn]) -> Parts:
    """The instruments' sleeves on their ways in, red where something stands in them, and where they pass the skin."""
    meshes, labels = [], []
    for way in ways:
        long_mm = min(way.instrument.reach_mm, OUT_OF_SKIN_MM + (way.depth_mm or way.instrument.reach_mm))
        ends = way.outward.at(np.array([0.0, long_mm])).mm
        material = SLEEVE if way.is_free else BLOCKED
        meshes.append(MeshPart[Patient](way.screw.id, tube_mesh(ends, way.instrument.sleeve_mm / 2), None, material))
        if way.skin is not None:
            labels.append(TextPart[Patient](f"{way.depth_mm:.0f} mm", way.outward.at(long_mm + 8.0).mm, 13.0))
    return Parts(tuple(meshes), (), tuple(labels))


def line_parts(lines: Mapping[str, Polyline], rgb: Rgb = LINE_RGB) -> tuple[tuple[LinePart[Patient], ...], list[Name]]:
    """The lines of an alignment through all that hides them, and what each is called, at its last corner."""
    drawn = tuple(LinePart[Patient](one.points.mm, rgb, 2.0, on_top=True, layer="plan") for one in lines.values())
    return drawn, [Name(one.label, one.points.mm[-1], rgb) for one in lines.values() if one.label]


def skin_part(skin: Skin) -> MeshPart[Patient]:
    """The patient's outer surface, seen through."""
    return MeshPart("skin", skin.surface, None, SKIN, "skin")


def corridor_part(name: str, surface: TriangleMesh[Patient]) -> MeshPart[Patient]:
    """The room that safe axes fill, seen through."""
    return MeshPart(name, surface, None, CORRIDOR, "plan")


def plan_parts(
    twin: Twin,
    plan: Plan,
    *,
    grades: Mapping[str, str] | None = None,
    with_axes: bool = False,
    with_sizes: bool = False,
    made: Sequence[Fragments] = (),
) -> Parts:
    """The plan on the bones as they lie: screws, cut planes, where the planes meet the bone, and the wedges of `made`.

    `with_sizes` writes diameter x length beside each screw. Keep `Fragments` from frame to frame: cutting takes time.
    """
    meshes, lines = screw_parts(plan.screws.values(), grades, with_axes=with_axes)
    more_meshes: list[MeshPart[Patient]] = []
    more_lines: list[LinePart[Patient]] = []
    for cut in plan.osteotomies.values():
        surface = twin.bone(cut.bone).surface
        for number, plane in enumerate(cut.planes):
            met_mm = surface.section(plane)
            square, border = cut_plane_parts(f"{cut.id} {number}", *_about_section(plane, met_mm))
            met = LinePart[Patient](met_mm, border.rgb, 2.5, layer="plan")
            more_meshes.append(square)
            more_lines += [border, met]
    for fragments in made:
        for name, piece in (("wedge", fragments.pieces.wedge), ("loose", fragments.pieces.loose)):
            if len(piece.triangles):
                more_meshes.append(MeshPart(f"{fragments.osteotomy.id} {name}", piece, None, WEDGE, "plan"))
    labels = []
    for screw in plan.screws.values() if with_sizes else ():
        words = f"{screw.diameter_mm:g} \u00d7 {screw.length_mm:g}"
        anchor: Anchor = "right" if screw.side == "right" else "left"
        labels.append(TextPart[Patient](words, screw.axis.at(-18.0).mm, 12.0, anchor=anchor, layer="labels"))
    return Parts((*meshes, *rod_parts(plan.rods.values()), *more_meshes), (*lines, *more_lines), tuple(labels))


def cut_preview(part: MeshPart[Any], cut: Osteotomy) -> tuple[MeshPart[Any], ...]:
    """A whole bone (by its name) as a cut would leave it, drawn by planes: no mesh is cut, so each frame may differ.

    What is taken out is a red ghost; where nothing is, what moves is a blue one. Bones that the cut does not take from
    stay as they are, and so do those of a cut within an outline that is not convex or has more than six corners. Parts
    that the cut would leave loose are still drawn: only cutting finds them.
    """
    if part.name not in (cut.bone, *cut.also):
        return (part,)
    if cut.kind == "VCR":
        return (replace(part, name=f"{part.name} taken", material=TAKEN, layer="plan"),)
    planes, ghost = _taken(cut, part.name)
    if not 0 < len(planes) <= MOST_PLANES:
        return (part,)
    taken = CutAway(planes, "taken")
    return (
        replace(part, cut_away=CutAway(planes)),
        replace(part, name=f"{part.name} taken", material=ghost, layer="plan", cut_away=taken),
    )


def _taken(cut: Osteotomy, bone: str) -> tuple[tuple[Plane[Patient], ...], Material]:
    """The planes around what a cut takes from a bone, as `pieces_of` does; or else around what moves or stays."""
    first, second = cut.planes
    if cut.kind == "SPO":
        return (*cut.more, first.flipped() if bone == cut.bone else second), TAKEN
    if cut.kind == "PAO":
        return (first, second, *cut.more), MOVES
    if cut.outline_mm is not None:
        return _around(cut.bisector, cut.outline_mm, cut.kerf_mm), TAKEN
    if cut.more:  # biplanar: what stays is the room between both planes
        return (second.flipped(), *(plane.flipped() for plane in cut.more)), MOVES
    if np.array_equal(first.point_mm, second.point_mm) and np.array_equal(first.normal, second.normal):
        return (cut.bisector,), MOVES
    return (first.flipped(), second), TAKEN


def _around(plane: Plane[Patient], outline_mm: Array, thickness_mm: float) -> tuple[Plane[Patient], ...]:
    """The faces of the blade's slab, inward; none for an outline that is not convex."""
    axes = plane_axes(plane.normal)
    flat = (outline_mm - plane.point_mm) @ axes
    if twice_area(flat) < 0:
        flat = flat[::-1]
    along = np.roll(flat, -1, axis=0) - flat
    after = np.roll(along, -1, axis=0)
    if (along[:, 0] * after[:, 1] - along[:, 1] * after[:, 0] < 0).any():
        return ()
    half = thickness_mm / 2 * plane.normal
    faces = [Plane[Patient](plane.point_mm - half, plane.normal), Plane[Patient](plane.point_mm + half, -plane.normal)]
    inward = np.column_stack([-along[:, 1], along[:, 0]]) @ axes.T
    corners = plane.point_mm + flat @ axes.T
    return (*faces, *(Plane[Patient](at, normal) for at, normal in zip(corners, inward, strict=True)))


def planned_parts(
    twin: Twin,
    plan: Plan,
    *,
    names: Collection[str] | None = None,
    mode: Mode = "lit",
    opacity: float = 1.0,
    grades: Mapping[str, str] | None = None,
) -> Parts:
    """The bones after all osteotomies: wedges gone, what moves has moved, screws ride along. Raises NoBone, NotCut."""
    cuts = list(plan.osteotomies.values())
    chosen = set(twin.bones if names is None else names)
    bodies = [body for body in carry_out(twin, cuts) if body.bone in chosen and body.role != "removed"]
    whole = {body.bone: _in_patient(body.planned_from_patient) for body in bodies if body.role == "whole"}
    meshes = list(bone_parts(twin, names=list(whole), mode=mode, opacity=opacity, patient_from_planned=whole))
    meshes += [
        MeshPart(
            body.name, body.mesh, _in_patient(body.planned_from_patient),
            Material(bone_rgb(body.bone), opacity, mode), "bones",
        )
        for body in bodies
        if body.role != "whole" and len(body.mesh.triangles)
    ]  # fmt: skip
    screws = []
    for screw in plan.screws.values():
        place = Landmark("entry", screw.bone, screw.side, screw.entry, None, None)
        motion = _in_patient(motion_of(twin, cuts, place))
        screws.append(replace(screw, entry=motion @ screw.entry, target=motion @ screw.target))
    meshes += screw_parts(screws, grades)[0]
    return Parts(tuple(meshes))


def _about_section(plane: Plane[Patient], met_mm: Array) -> tuple[Plane[Patient], float]:
    """The same plane about the middle of what it cuts, and half the side of a square that covers it."""
    if not len(met_mm):
        return plane, 32.0
    low, high = met_mm.min(axis=(0, 1)), met_mm.max(axis=(0, 1))
    middle = (low + high) / 2
    on_plane = middle - ((middle - plane.point_mm) @ plane.normal) * plane.normal
    return Plane[Patient](on_plane, plane.normal), 0.5 * float((high - low).max()) + 6.0


def _in_patient(motion: Rigid[Planned, Patient]) -> Rigid[Patient, Patient]:
    """The plan's motion drawn in the patient's world: Planned has the same axes."""
    return Rigid[Patient, Patient](motion.rotation, motion.translation_mm)
