"""The twin as parts of a scene. Only this module and `planning` (for plans) know what a bone or a screw is."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal

import numpy as np

from render.exhibits import Exhibit, Standing
from render.orientation import orientation_axes, orientation_labels, orientation_marker
from render.scene import Material, MeshPart, Mode, Rgb, TextPart, View
from render.slices import Outline, Voxels
from spatial.frames import Patient
from spatial.mesh import TriangleMesh
from spatial.rigid import Array, Points, Rigid
from twin.anatomy.bone import Bone
from twin.anatomy.structure import Role
from twin.anatomy.twin import Twin
from twin.scan.volume import Volume

__all__ = [
    "bone_label",
    "bone_labels",
    "bone_outlines",
    "bone_parts",
    "bone_rgb",
    "exhibits_of",
    "orientation_axes",
    "orientation_labels",
    "orientation_marker",
    "standard_views",
    "standing_of",
    "structure_parts",
    "voxels_of",
]

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
