"""What osteotomies move: the fragments of the cut bones, the bones that ride on them, and where all of it ends up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal

import numpy as np

from spatial.frames import Patient, Planned
from spatial.mesh import TriangleMesh
from spatial.rigid import Points, Rigid
from twin.anatomy.bone import Landmark
from twin.anatomy.twin import Twin
from twin.plan.cuts.chain import in_turn, landmark_moves, moves, part_names
from twin.plan.cuts.cut import Pieces
from twin.plan.cuts.osteotomy import Osteotomy
from twin.plan.cuts.pieces import pieces_of

STAYS = Rigid[Planned, Patient].identity()


def planned_from_patient(osteotomy: Osteotomy) -> Rigid[Planned, Patient]:
    """The motion of everything on the moving side; the rest stays."""
    motion = osteotomy.motion
    return Rigid[Planned, Patient](motion.rotation, motion.translation_mm)


@dataclass(frozen=True, eq=False)
class Fragments:
    """One osteotomy carried out: pieces of the cut bone (patient coordinates), who moves, who stays, the motion.

    `also`: the pieces of other bones that it takes from.
    """

    osteotomy: Osteotomy
    pieces: Pieces
    moving: tuple[str, ...]
    fixed: tuple[str, ...]
    planned_from_patient: Rigid[Planned, Patient]
    also: Mapping[str, Pieces] = field(default_factory=dict)

    @property
    def removed_ml(self) -> float:
        """Bone that is taken out, of all bones."""
        return self.pieces.removed_ml + sum(pieces.removed_ml for pieces in self.also.values())

    def planned_meshes(self, twin: Twin) -> Mapping[str, TriangleMesh[Planned]]:
        """All bones where this cut puts them; the cut bone as `NAME:cranial` and `NAME:caudal` (see `part_names`)."""
        moving, staying = part_names(self.osteotomy)
        meshes = {name: twin.bones[name].surface.moved(self.planned_from_patient) for name in self.moving}
        meshes |= {name: twin.bones[name].surface.moved(STAYS) for name in self.fixed if name not in self.also}
        cut = {self.osteotomy.bone: self.pieces, **self.also}
        for name, pieces in cut.items():
            both = ((moving, pieces.moving, self.planned_from_patient), (staying, pieces.staying, STAYS))
            meshes |= {f"{name}:{part}": mesh.moved(pose) for part, mesh, pose in both if len(mesh.triangles)}
        return MappingProxyType(meshes)


def fragments(twin: Twin, osteotomy: Osteotomy) -> Fragments:
    """Cut the bones and sort the others by who moves. Raises NoBone, NotCut."""
    pieces = pieces_of(twin, osteotomy, osteotomy.bone)
    also = {name: pieces_of(twin, osteotomy, name) for name in osteotomy.also}
    others = [name for name in twin.bones if name != osteotomy.bone]
    moving = tuple(name for name in others if moves(twin, osteotomy, name))
    fixed = tuple(name for name in others if name not in moving)
    return Fragments(osteotomy, pieces, moving, fixed, planned_from_patient(osteotomy), MappingProxyType(also))


@dataclass(frozen=True, eq=False)
class Body:
    """A bone, or a part of one, in the planned patient: `bone:part` where it is cut, with its surface as scanned.

    `role`: `whole`, `moving` or `staying` part of the cut that last divided it, or `removed`.
    """

    name: str
    bone: str
    role: Literal["whole", "moving", "staying", "removed"]
    mesh: TriangleMesh[Patient]
    planned_from_patient: Rigid[Planned, Patient]

    @property
    def planned_mesh(self) -> TriangleMesh[Planned]:
        """Where the plan puts it."""
        return self.mesh.moved(self.planned_from_patient)


def carry_out(twin: Twin, osteotomies: Iterable[Osteotomy]) -> tuple[Body, ...]:
    """Every bone after all osteotomies, those furthest from the pelvis first; one bone may be cut several times.

    What is taken out comes as bodies of the role `removed`, where it was. Raises NoBone, NotCut.
    """
    found = [Body(name, name, "whole", bone.surface, STAYS) for name, bone in twin.bones.items()]
    for cut in in_turn(osteotomies):
        turn, after = planned_from_patient(cut), []
        for body in found:
            if body.role == "removed":
                after.append(body)
            elif body.bone == cut.bone or body.bone in cut.also:
                after += _divided(twin, cut, body, turn)
            else:
                pose = body.planned_from_patient
                rides = moves(twin, cut, body.bone)
                after.append(replace(body, planned_from_patient=_then(turn, pose)) if rides else body)
        found = after
    return tuple(found)


def motion_of(twin: Twin, osteotomies: Iterable[Osteotomy], mark: Landmark) -> Rigid[Planned, Patient]:
    """Where the plan takes a place on a bone: all turns that it takes part in."""
    motion = STAYS
    for cut in in_turn(osteotomies):
        if landmark_moves(twin, cut, mark):
            motion = _then(planned_from_patient(cut), motion)
    return motion


def planned_landmarks(twin: Twin, osteotomies: Iterable[Osteotomy]) -> tuple[Landmark, ...]:
    """The landmarks after all osteotomies; those furthest from the pelvis turn first, each about its hinge in place."""
    cuts = list(osteotomies)
    return tuple(_moved(mark, motion_of(twin, cuts, mark)) for mark in twin.landmarks)


def _divided(twin: Twin, cut: Osteotomy, body: Body, turn: Rigid[Planned, Patient]) -> list[Body]:
    pieces = pieces_of(twin, cut, body.bone, body.mesh)
    moving, staying = part_names(cut)
    once = body.role == "whole"
    own = body.planned_from_patient
    made = [
        (f"{body.bone}:{moving}" if once else f"{body.name}:{moving}", "moving", pieces.moving, _then(turn, own)),
        (f"{body.bone}:{staying}" if once else f"{body.name}:{staying}", "staying", pieces.staying, own),
        (f"{body.name}:wedge", "removed", pieces.wedge, STAYS),
        (f"{body.name}:loose", "removed", pieces.loose, STAYS),
    ]
    return [
        Body(name, body.bone, role, mesh, pose)  # type: ignore[arg-type]  # mypy widens the roles in the list
        for name, role, mesh, pose in made
        if len(mesh.triangles)
    ]


def _then(turn: Rigid[Planned, Patient], motion: Rigid[Planned, Patient]) -> Rigid[Planned, Patient]:
    """One motion after another; both are written in axes that Planned and Patient share."""
    return Rigid[Planned, Patient](
        turn.rotation @ motion.rotation, turn.rotation @ motion.translation_mm + turn.translation_mm
    )


def _moved(mark: Landmark, motion: Rigid[Planned, Patient]) -> Landmark:
    """The landmark in planned coordinates, whose axes are the patient's."""
    position = Points[Patient]((motion @ mark.position).mm)
    direction = None
    if mark.direction is not None:
        direction = type(mark.direction)(np.asarray((motion @ mark.direction).unit))
    return Landmark(mark.name, mark.bone, mark.side, position, direction, mark.sd_mm, mark.sd_deg, mark.note)
