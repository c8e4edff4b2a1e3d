"""The twin and its plan as parts of a scene: the one place of this room that knows what a bone or a screw is."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from render.exhibits import Exhibit, Standing
from render.orientation import orientation_axes, orientation_labels, orientation_marker
from render.scene import Anchor, LinePart, Material, MeshPart, Mode, Rgb, TextPart, View
from render.slices import Outline, Stroke, Voxels
from render.solids import cylinder_mesh, pose_along, screw_mesh, square_mesh
from spatial.frames import Patient
from spatial.mesh import TriangleMesh
from spatial.rigid import Array, Points, Rigid, Similarity
from spatial.shapes import Plane
from twin.anatomy.bone import Bone
from twin.anatomy.structure import Role
from twin.anatomy.twin import Twin
from twin.plan.plan import Plan
from twin.plan.reduction import Fragments
from twin.plan.screw import Screw
from twin.scan.volume import Volume

__all__ = [
    "bone_label",
    "bone_labels",
    "bone_outlines",
    "bone_parts",
    "bone_rgb",
    "Parts",
    "cut_plane_parts",
    "exhibits_of",
    "orientation_axes",
    "orientation_labels",
    "orientation_marker",
    "plan_parts",
    "planned_parts",
    "screw_outlines",
    "screw_part",
    "screw_parts",
    "standard_views",
    "standing_of",
    "structure_parts",
    "voxels_of",
]

TITANIUM = Material((0.74, 0.77, 0.82), shine=0.6, metal=1.0)
WEDGE = Material((0.88, 0.30, 0.27), 0.5, "translucent", shine=0.1)
GRADE_RGB: Mapping[str, Rgb] = {
    "A": (0.35, 0.78, 0.50),
    "B": (0.72, 0.80, 0.30),
    "C": (0.96, 0.74, 0.25),
    "D": (0.95, 0.50, 0.22),
    "E": (0.90, 0.27, 0.27),
}
ROLE_RGB: Mapping[Role, Rgb] = {
    "critical": (0.93, 0.72, 0.20),
    "target": (0.80, 0.36, 0.62),
    "context": (0.55, 0.68, 0.72),
}
ROLE_OPACITY: Mapping[Role, float] = {"critical": 0.55, "target": 0.6, "context": 0.3}
_NATURAL: tuple[tuple[str, Rgb], ...] = (  # neighbours differ a little, so that levels can be told apart
    ("sacrum", (0.86, 0.79, 0.68)),
    ("hip", (0.83, 0.79, 0.72)),
    ("femur", (0.87, 0.84, 0.77)),
    ("rib", (0.80, 0.76, 0.69)),
    ("skull", (0.88, 0.84, 0.75)),
)
_IVORY: tuple[Rgb, Rgb] = ((0.91, 0.86, 0.76), (0.84, 0.80, 0.73))
_DISTINCT: tuple[Rgb, ...] = (
    (0.86, 0.64, 0.45),
    (0.55, 0.74, 0.86),
    (0.74, 0.83, 0.55),
    (0.85, 0.62, 0.70),
    (0.69, 0.65, 0.87),
    (0.90, 0.83, 0.52),
    (0.56, 0.80, 0.73),
)
_VERTEBRA = re.compile(r"vertebrae_([CTL])(\d+)")
_COUNT_ABOVE = {"C": 0, "T": 7, "L": 19}


def bone_rgb(name: str, palette: Literal["natural", "distinct"] = "natural") -> Rgb:
    """A bone's colour: close to bone, or clearly apart from its neighbours."""
    match = _VERTEBRA.fullmatch(name)
    number = _COUNT_ABOVE[match[1]] + int(match[2]) if match else sum(map(ord, name))
    if palette == "distinct":
        return _DISTINCT[number % len(_DISTINCT)]
    if match:
        return _IVORY[number % 2]
    return next((rgb for start, rgb in _NATURAL if name.startswith(start)), _IVORY[0])


def bone_label(name: str) -> str:
    """What a surgeon calls it in a picture: `L3`, `S1`, `R hip`, `L rib 11`."""
    match = _VERTEBRA.fullmatch(name)
    if match:
        return f"{match[1]}{match[2]}"
    if name == "sacrum":
        return "S1"
    parts = name.split("_")
    side = {"left": "L ", "right": "R "}
    front = "".join(side[p] for p in parts if p in side)
    return front + " ".join(p for p in parts if p not in side)


def bone_parts(
    twin: Twin,
    *,
    names: Collection[str] | None = None,
    max_triangles: int = 400_000,
    mode: Mode = "lit",
    opacity: float = 1.0,
    palette: Literal["natural", "distinct"] = "natural",
    patient_from_planned: Mapping[str, Rigid[Patient, Patient]] | None = None,
) -> tuple[MeshPart[Patient], ...]:
    """The twin's bones (all, or `names`), each as fine as its share of `max_triangles` allows.

    Shares go by surface area, so the triangles are equally large everywhere. `patient_from_planned` moves single bones.
    """
    bones = [twin.bone(name) for name in (twin.bones if names is None else names)]
    moves = patient_from_planned or {}
    return tuple(
        MeshPart(
            bone.name,
            mesh,
            moves.get(bone.name),
            Material(bone_rgb(bone.name, palette), opacity, mode),
            "bones",
        )
        for bone, mesh in zip(bones, _levels_of_detail(bones, max_triangles), strict=True)
    )


def bone_labels(
    twin: Twin, *, names: Collection[str] | None = None, height_px: float = 15.0, rgb: Rgb = (1.0, 1.0, 1.0)
) -> tuple[TextPart[Patient], ...]:
    """Each bone's level or name at its middle, with its side."""
    bones = [twin.bone(name) for name in (twin.bones if names is None else names)]
    return tuple(
        TextPart(bone_label(bone.name), _middle_mm(twin, bone), height_px, rgb=rgb, layer="labels") for bone in bones
    )


def structure_parts(
    twin: Twin, patient_from_planned: Callable[[Array], Array] | None = None
) -> tuple[MeshPart[Patient], ...]:
    """What lies beside the bones, see-through, in the colour of its role.

    `patient_from_planned` bends them: it takes and gives vertices (N, 3).
    """
    found: list[MeshPart[Patient]] = []
    for structure in twin.structures.values():
        mesh = structure.surface
        if patient_from_planned is not None:
            mesh = TriangleMesh[Patient](patient_from_planned(mesh.vertices_mm), mesh.triangles)
        material = Material(ROLE_RGB[structure.role], ROLE_OPACITY[structure.role], "translucent", shine=0.2)
        found.append(MeshPart(structure.name, mesh, None, material, "structures"))
    return tuple(found)


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


def bone_outlines(twin: Twin, *, names: Collection[str] | None = None, width_px: float = 1.4) -> tuple[Outline, ...]:
    """Bones for a slice, each in its own clear colour, from the finest surface."""
    bones = [twin.bone(name) for name in (twin.bones if names is None else names)]
    return tuple(Outline(bone.surface, bone_rgb(bone.name, "distinct"), width_px) for bone in bones)


def exhibits_of(twin: Twin, max_triangles: int = 600_000) -> tuple[Exhibit, ...]:
    """The bones and structures as the pictures of a case show them."""
    bones = list(twin.bones.values())
    coarse = _levels_of_detail(bones, max_triangles)
    found = [
        Exhibit(
            bone.name, bone_label(bone.name), bone.surface, mesh, bone_rgb(bone.name), bone_rgb(bone.name, "distinct"),
            _middle_mm(twin, bone),
        )
        for bone, mesh in zip(bones, coarse, strict=True)
    ]  # fmt: skip
    for one in twin.structures.values():
        rgb = ROLE_RGB[one.role]
        words = one.name.replace("_", " ")
        surface = one.surface
        found.append(Exhibit(one.name, words, surface, surface, rgb, rgb, surface.centroid_mm, one.role))
    return tuple(found)


def standing_of(twin: Twin) -> Standing:
    """What a picture says of the level names, and of what the scan is not fit for."""
    levels = twin.levels
    is_unsure = False
    if not any(name.startswith("vertebrae_") for name in twin.bones):
        words = "No vertebra, so no level to confirm"
    elif levels.confirmed_by is None:
        words, is_unsure = f"Levels NOT confirmed by a person (confidence {levels.confidence:.0%})", True
    else:
        words = f"Levels confirmed by {levels.confirmed_by}"
    unfit = []
    if twin.fitness is not None:
        judged = (("plan", twin.fitness.plan), ("guide", twin.fitness.guide))
        unfit = [use for use, judgement in judged if not judgement.fit]
    if unfit:
        words += f"; scan NOT fit to {' or '.join(unfit)}"
    return Standing(words, is_unsure or bool(unfit))


def voxels_of(volume: Volume) -> Voxels:
    """A CT as slices take it."""
    grid = volume.grid
    turn = grid.axes.T / grid.spacing_mm[:, None]
    return Voxels(volume.hu, np.column_stack([turn, -turn @ grid.origin_mm]))


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
    return Parts((*meshes, *more_meshes), (*lines, *more_lines), tuple(labels))


def planned_parts(
    twin: Twin,
    plan: Plan,
    made: Sequence[Fragments],
    *,
    names: Collection[str] | None = None,
    mode: Mode = "lit",
    opacity: float = 1.0,
    grades: Mapping[str, str] | None = None,
) -> Parts:
    """The spine after the osteotomies: wedges gone, what is cranial turned about the hinges, screws riding along."""
    chosen = list(twin.bones if names is None else names)
    cut = {fragments.osteotomy.bone: fragments for fragments in made}
    moves = {name: _motion(name, made) for name in chosen}
    whole = [name for name in chosen if name not in cut]
    meshes = list(
        bone_parts(twin, names=whole, mode=mode, opacity=opacity, patient_from_planned={n: moves[n] for n in whole})
    )
    for name in chosen:
        if name in cut:
            own = cut[name]
            turn = moves[name] @ _in_patient(own)
            material = Material(bone_rgb(name), opacity, mode)
            meshes.append(MeshPart(f"{name}:cranial", own.pieces.cranial, turn, material, "bones"))
            meshes.append(MeshPart(f"{name}:caudal", own.pieces.caudal, moves[name], material, "bones"))
    screws = []
    for screw in plan.screws.values():
        motion = _motion(screw.bone, made)
        if screw.bone in cut and cut[screw.bone].osteotomy.bisector.signed_distance_mm(screw.entry) > 0:
            motion = motion @ _in_patient(cut[screw.bone])
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


def _in_patient(made: Fragments) -> Rigid[Patient, Patient]:
    """The plan's motion drawn in the patient's world: Planned has the same axes."""
    turn = made.planned_from_patient
    return Rigid[Patient, Patient](turn.rotation, turn.translation_mm)


def _motion(bone: str, made: Sequence[Fragments]) -> Rigid[Patient, Patient]:
    """All turns that a whole bone takes part in; those nearer the head come first, so each hinge is still in place."""
    motion: Rigid[Patient, Patient] = Rigid.identity()
    for fragments in sorted(made, key=lambda f: -float(f.osteotomy.hinge.point_mm[2])):
        if bone in fragments.moving:
            motion = _in_patient(fragments) @ motion
    return motion


def standard_views(
    twin: Twin, width_px: int = 1280, height_px: int = 960, *, names: Collection[str] | None = None
) -> dict[str, View[Patient]]:
    """The usual views of the whole twin (or of `names`), head up: anterior, posterior, left, right, oblique."""
    bones = [twin.bone(name) for name in (twin.bones if names is None else names)]
    points = Points[Patient](np.concatenate([bone.for_drawing(0).vertices_mm for bone in bones]))
    up = np.array([0.0, 0.0, 1.0])
    toward_eye = {
        "anterior": (0.0, -1.0, 0.0),
        "posterior": (0.0, 1.0, 0.0),
        "left": (1.0, 0.0, 0.0),
        "right": (-1.0, 0.0, 0.0),
        "oblique": (-0.75, 1.0, 0.35),  # from behind and the right, as a surgeon stands
    }
    return {
        name: View.framing(points, np.array(direction), up, width_px, height_px)
        for name, direction in toward_eye.items()
    }


def _levels_of_detail(bones: list[Bone], max_triangles: int) -> list[Any]:
    areas = np.array([bone.surface.area_cm2 for bone in bones])
    shares = max_triangles * areas / max(float(areas.sum()), 1e-9)
    return [bone.for_drawing(int(share)) for bone, share in zip(bones, shares, strict=True)]


def _middle_mm(twin: Twin, bone: Bone) -> Array:
    """The middle of a vertebra's body where its endplates are known, else the centre of the bone's volume."""
    plates = [p.position.mm for p in twin.landmarks if p.bone == bone.name and p.name.startswith("endplate_")]
    if plates and bone.name.startswith("vertebrae_"):
        return np.asarray(np.mean(plates, axis=0))
    return bone.for_drawing(0).centroid_mm
