"""What an osteotomy moves: the fragments of the cut bone, the bones that ride on them, and where all of it ends up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from spatial.frames import Patient, Planned
from spatial.mesh import TriangleMesh
from spatial.rigid import Points, Rigid
from twin.anatomy.bone import Landmark
from twin.anatomy.twin import Twin
from twin.plan.cut import Pieces, cut_wedge
from twin.plan.levels import rank
from twin.plan.osteotomy import Osteotomy


def planned_from_patient(osteotomy: Osteotomy) -> Rigid[Planned, Patient]:
    """The motion of everything cranial of the cut; everything caudal stays."""
    turn = osteotomy.hinge.rotation(osteotomy.angle_rad)
    return Rigid[Planned, Patient](turn.rotation, turn.translation_mm)


@dataclass(frozen=True, eq=False)
class Fragments:
    """One osteotomy carried out: pieces of the cut bone (patient coordinates), who moves, who stays, the motion."""

    osteotomy: Osteotomy
    pieces: Pieces
    moving: tuple[str, ...]
    fixed: tuple[str, ...]
    planned_from_patient: Rigid[Planned, Patient]

    def planned_meshes(self, twin: Twin) -> Mapping[str, TriangleMesh[Planned]]:
        """All bones where the plan puts them; the cut bone as `NAME:cranial` and `NAME:caudal`."""
        stay = Rigid[Planned, Patient].identity()
        bone = self.osteotomy.bone
        meshes = {name: twin.bones[name].surface.moved(self.planned_from_patient) for name in self.moving}
        meshes |= {name: twin.bones[name].surface.moved(stay) for name in self.fixed}
        meshes[f"{bone}:cranial"] = self.pieces.cranial.moved(self.planned_from_patient)
        meshes[f"{bone}:caudal"] = self.pieces.caudal.moved(stay)
        return MappingProxyType(meshes)


def fragments(twin: Twin, osteotomy: Osteotomy) -> Fragments:
    """Cut the bone and sort the others: cranial ones move, caudal ones stay. Raises NoBone, NotCut."""
    surface = twin.bone(osteotomy.bone).surface
    upper, lower = osteotomy.planes
    pieces = cut_wedge(surface, upper, lower, osteotomy.bisector)
    others = [name for name in twin.bones if name != osteotomy.bone]
    moving = tuple(name for name in others if moves(twin, osteotomy, name))
    fixed = tuple(name for name in others if name not in moving)
    return Fragments(osteotomy, pieces, moving, fixed, planned_from_patient(osteotomy))


def moves(twin: Twin, osteotomy: Osteotomy, bone: str) -> bool:
    """Whether a bone (not the cut one) rides on the cranial fragment: by the order of the spine, else by its place."""
    own, other = rank(osteotomy.bone), rank(bone)
    if own is not None and other is not None:
        # the heads of a pair of ribs sit on the upper half of their vertebra, which moves
        return other < own or (other == own and bone.startswith("rib_"))
    centre = Points[Patient](twin.bones[bone].surface.centroid_mm)
    return bool(osteotomy.bisector.signed_distance_mm(centre) > 0)


def landmark_moves(twin: Twin, osteotomy: Osteotomy, landmark: Landmark) -> bool:
    """Whether a landmark rides on the cranial fragment; on the cut bone by its side of the bisecting plane."""
    if landmark.bone == osteotomy.bone:
        return bool(osteotomy.bisector.signed_distance_mm(landmark.position) > 0)
    if landmark.bone in twin.bones:
        return moves(twin, osteotomy, landmark.bone)
    own, other = rank(osteotomy.bone), rank(landmark.bone)
    return own is not None and other is not None and other < own


def planned_landmarks(twin: Twin, osteotomies: Iterable[Osteotomy]) -> tuple[Landmark, ...]:
    """The landmarks after all osteotomies; those nearer the head turn first, so each turns about its hinge in place."""
    ordered = sorted(osteotomies, key=lambda o: (rank(o.bone) or 0, -float(o.hinge.point_mm[2])))
    found = []
    for mark in twin.landmarks:
        motion = Rigid[Planned, Patient].identity()
        for osteotomy in ordered:
            if landmark_moves(twin, osteotomy, mark):
                turn = planned_from_patient(osteotomy)
                motion = Rigid[Planned, Patient](
                    turn.rotation @ motion.rotation, turn.rotation @ motion.translation_mm + turn.translation_mm
                )
        found.append(_moved(mark, motion))
    return tuple(found)


def _moved(mark: Landmark, motion: Rigid[Planned, Patient]) -> Landmark:
    """The landmark in planned coordinates, whose axes are the patient's."""
    position = Points[Patient]((motion @ mark.position).mm)
    direction = None
    if mark.direction is not None:
        direction = type(mark.direction)(np.asarray((motion @ mark.direction).unit))
    return Landmark(mark.name, mark.bone, mark.side, position, direction, mark.sd_mm)
