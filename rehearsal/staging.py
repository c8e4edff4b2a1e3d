"""From a state to what is seen in the stage: a pure function, the same for headset, window and offscreen pictures.

Bones stand where the cuts' closing has taken them; planned screws are see-through, placed ones solid and coloured by
grade; planned cuts are planes, sawn ones are gaps. While the saw is held, the shader leaves the wedge away: only the
release cuts the mesh.
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import lru_cache

import numpy as np

from rehearsal.events import SIDES
from rehearsal.execution import closed
from rehearsal.instruments import ZONE_RGB, aim_lines, hand_meshes
from rehearsal.model import Poses
from rehearsal.readouts import board_texts, tool_texts
from rehearsal.session import poses
from rehearsal.state import State
from render.anatomy import bone_label, bone_parts, bone_rgb, structure_parts
from render.orientation import orientation_marker
from render.planning import GRADE_RGB, TITANIUM, cut_plane_parts, cut_preview, screw_part
from render.scene import LinePart, Material, MeshPart, Scene, TextPart
from spatial.frames import Patient, Stage
from spatial.mesh import TriangleMesh
from spatial.rigid import Array, Points, Rigid, Similarity
from twin.anatomy.twin import Twin
from twin.journal import canonical_json
from twin.plan.cuts.chain import in_turn
from twin.plan.cuts.osteotomy import Osteotomy
from twin.plan.cuts.pieces import pieces_of
from twin.plan.levels import level_of
from twin.plan.screws.screw import Screw

PLANNED = Material((0.40, 0.72, 0.98), opacity=0.45, mode="translucent")
MAX_TRIANGLES = 300_000
_LABEL_MM = 11.0  # patient mm
_FLOOR_MM = 2000.0
_MARKER_MM = np.array([-300.0, 960.0, -480.0])


def stage(state: State, max_triangles: int = MAX_TRIANGLES) -> Scene[Stage]:
    """Everything in the room at this state."""
    moved = poses(state)
    to_stage = state.stage_from_patient
    sawn = _in_the_making(state)
    meshes = [
        _stand(part, to_stage, moved.get(bone.name))
        for bone in _bones(state, max_triangles)
        for part in _previewed(bone, sawn)
    ]
    meshes += _pieces_parts(state, moved)
    meshes += _screws(state, moved)
    meshes += _structures(state)
    lines: list[LinePart[Stage]] = [*_floor()]
    planes, borders = _cut_planes(state, moved)
    meshes += planes
    lines += borders
    marker = orientation_marker(to_stage, _MARKER_MM, 60.0)
    meshes += marker.meshes
    lines += marker.lines
    for side in SIDES:
        meshes += hand_meshes(side, state.hand(side))
        lines += aim_lines(state.hand(side))
    labels = (*marker.labels, *_level_labels(state, moved), *tool_texts(state), *board_texts(state))
    return Scene[Stage](tuple(meshes), tuple(lines), labels)


def _stand(
    part: MeshPart[Patient], to_stage: Similarity[Stage, Patient], moved: Rigid[Patient, Patient] | None
) -> MeshPart[Stage]:
    """A part of the patient, displayed."""
    pose = to_stage if moved is None else to_stage @ moved
    own = part.world_from_mesh
    if own is not None:
        pose = pose @ own
    return MeshPart[Stage](part.name, part.mesh, pose, part.material, part.layer, part.cut_away)


def _bones(state: State, max_triangles: int) -> tuple[MeshPart[Patient], ...]:
    """The bones that are whole."""
    cut = {name for o in state.execution.plan.osteotomies.values() for name in (o.bone, *o.also)}
    whole = [name for name in state.model.twin.bones if name not in cut]
    return bone_parts(state.model.twin, names=whole, max_triangles=max_triangles)


def _in_the_making(state: State) -> list[Osteotomy]:
    """The wedges that the hands' saws would take out now."""
    held = [state.hand(side).sawing for side in SIDES]
    wedges = [sawing.wedge for sawing in held if sawing is not None and sawing.wedge is not None]
    return [wedge for wedge in wedges if wedge.id not in state.execution.plan.osteotomies]


def _previewed(bone: MeshPart[Patient], sawn: list[Osteotomy]) -> tuple[MeshPart[Patient], ...]:
    """A bone with the wedge drawn out of it while the saw is held; its mesh is cut on release only."""
    own = [cut for cut in sawn if bone.name in (cut.bone, *cut.also)]
    return cut_preview(bone, own[0]) if own else (bone,)


def _pieces_parts(state: State, poses_now: Poses) -> list[MeshPart[Stage]]:
    """The pieces of each cut bone; the one on the moving side turns when the cut closes."""
    found = []
    closing = state.closing
    for name, cut in state.execution.plan.osteotomies.items():
        angle = state.execution.angle_rad(name)
        if closing is not None and closing.osteotomy_id == name:
            angle = closing.angle_rad
        for bone, upper, lower in pieces(state.model.twin, canonical_json(cut.to_json())):
            material = Material(bone_rgb(bone))
            stays = poses_now.get(bone, Rigid[Patient, Patient].identity())  # a cut nearer the pelvis may have moved it
            for label, mesh, moved in (("upper", upper, stays @ closed(cut, angle)), ("lower", lower, stays)):
                if len(mesh.triangles):
                    part = MeshPart[Patient](f"{bone} {label}", mesh, None, material, "bones")
                    found.append(_stand(part, state.stage_from_patient, moved))
    return found


def _structures(state: State) -> list[MeshPart[Stage]]:
    """Canal, vessels, tumour, bent at each cut as far as it has been closed."""
    execution, closing = state.execution, state.closing
    turns: list[tuple[bytes, float]] = []
    for cut in in_turn(execution.plan.osteotomies.values()):
        angle = execution.angle_rad(cut.id)
        if closing is not None and closing.osteotomy_id == cut.id:
            angle = closing.angle_rad
        if angle != 0.0:
            turns.append((canonical_json(cut.to_json()), angle))
    parts = _bent(state.model.twin, tuple(turns))
    return [_stand(part, state.stage_from_patient, None) for part in parts]


@lru_cache(maxsize=8)
def _bent(twin: Twin, turns: tuple[tuple[bytes, float], ...]) -> tuple[MeshPart[Patient], ...]:
    """The structures after cuts were closed: what lies on the moving side of each turns with the fragment."""
    cuts = [(Osteotomy.from_json(json.loads(cut)), angle) for cut, angle in turns]

    def bend(vertices_mm: Array) -> Array:
        moving = [cut.is_moving(Points[Patient](vertices_mm)) for cut, _ in cuts]
        for (cut, angle), above in zip(cuts, moving, strict=True):
            turned = (closed(cut, angle) @ Points[Patient](vertices_mm)).mm
            vertices_mm = np.where(above[:, None], turned, vertices_mm)
        return vertices_mm

    return structure_parts(twin, bend if cuts else None)


def _screws(state: State, moved: Poses) -> list[MeshPart[Stage]]:
    plan, planned = state.execution.plan, state.model.planned
    grades = {
        str(deed.payload["screw"]["id"]): (deed.payload.get("grade") or {}).get("grade")
        for deed in state.history.edits()
        if isinstance(deed.payload.get("screw"), dict)
    }
    parts = [_screw(s, PLANNED, "planned ") for s in planned.screws.values() if s.id not in plan.screws]
    where = [s.bone for s in planned.screws.values() if s.id not in plan.screws]
    for screw in plan.screws.values():
        grade = grades.get(screw.id)
        solid = TITANIUM if grade in (None, "A") else replace(TITANIUM, rgb=GRADE_RGB[str(grade)], metal=0.4)
        parts.append(_screw(screw, solid, ""))
        where.append(screw.bone)
    for side in SIDES:
        drilling = state.hand(side).drilling
        if drilling is not None and drilling.path is not None and drilling.bone and drilling.depth_mm > 1.0:
            material = Material(ZONE_RGB[drilling.zone], opacity=0.7, mode="translucent")
            width_mm = 4.0
            parts.append(
                screw_part(
                    f"{side} hole",
                    drilling.path.point_mm,
                    drilling.path.direction,
                    width_mm,
                    float(round(drilling.depth_mm)),
                    material,
                )
            )
            where.append(drilling.bone)
    return [_stand(p, state.stage_from_patient, moved.get(b)) for p, b in zip(parts, where, strict=True)]


def _screw(screw: Screw, material: Material, prefix: str) -> MeshPart[Patient]:
    return screw_part(
        prefix + screw.id, screw.entry.mm, screw.axis.direction, screw.diameter_mm, screw.length_mm, material
    )


def _cut_planes(state: State, moved: Poses) -> tuple[list[MeshPart[Stage]], list[LinePart[Stage]]]:
    """Planes of what is planned and not yet cut, and of the cut in the making."""
    done = state.execution.plan.osteotomies
    shown = [(o, (0.35, 0.72, 0.98)) for o in state.model.planned.osteotomies.values() if o.id not in done]
    for side in SIDES:
        sawing = state.hand(side).sawing
        if sawing is not None and sawing.wedge is not None:
            shown.append((sawing.wedge, (0.98, 0.62, 0.25)))
    meshes, lines = [], []
    for cut, rgb in shown:
        for number, plane in enumerate(cut.planes):
            square, border = cut_plane_parts(f"{cut.id} {number}", plane, rgb=rgb)
            pose = moved.get(cut.bone)
            meshes.append(_stand(square, state.stage_from_patient, pose))
            corners = Points[Patient](border.points_mm)
            ends = (state.stage_from_patient @ (corners if pose is None else pose @ corners)).mm
            lines.append(LinePart[Stage](ends, border.rgb, border.width_px, layer=border.layer))
    return meshes, lines


def _level_labels(state: State, moved: Poses) -> list[TextPart[Stage]]:
    """Level names beside each vertebra, on the patient's right: away from the surgeon at first."""
    found = []
    height_mm = _LABEL_MM * state.stage_from_patient.scale
    for name, bone in state.model.twin.bones.items():
        if level_of(name) is None:
            continue
        low, high = bone.for_drawing(0).bounds_mm
        place = Points[Patient](np.array([low[0] - 12.0, high[1], (low[2] + high[2]) / 2]))
        if name in moved:
            place = moved[name] @ place
        at = (state.stage_from_patient @ place).mm
        found.append(TextPart[Stage](bone_label(name), at, height_mm=height_mm, rgb=(0.95, 0.95, 0.90), layer="labels"))
    return found


def _floor() -> tuple[LinePart[Stage], ...]:
    return (LinePart[Stage](_grid(0.0, _FLOOR_MM, 500.0), (0.30, 0.34, 0.40), 1.0, 0.6, layer="room"),)


@lru_cache(maxsize=2)
def _grid(height_mm: float, half_mm: float, step_mm: float) -> Array:
    ticks = np.arange(-half_mm, half_mm + 1.0, step_mm)
    along = [[[-half_mm, height_mm, t], [half_mm, height_mm, t]] for t in ticks]
    across = [[[t, height_mm, -half_mm], [t, height_mm, half_mm]] for t in ticks]
    return np.array(along + across)


@lru_cache(maxsize=8)
def pieces(twin: Twin, cut_json: bytes) -> tuple[tuple[str, TriangleMesh[Patient], TriangleMesh[Patient]], ...]:
    """The moving and the staying piece of each cut bone, cut once."""
    cut: Osteotomy = Osteotomy.from_json(json.loads(cut_json))
    found = [(name, pieces_of(twin, cut, name)) for name in (cut.bone, *cut.also)]
    return tuple((name, own.moving, own.staying) for name, own in found)
