"""The patient as a rehearsal needs it: the twin, the plan to be practised, and what follows from both.

A value that the session is given and never changes, so a replay can make it again from the case.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from rehearsal.rays import Crossing, crossings, may_meet
from spatial.faults import Fault
from spatial.frames import Patient, Stage
from spatial.progress import Progress, silent
from spatial.rigid import Array, Points, Rigid, Similarity
from spatial.shapes import Line, angle_between_rad
from twin.anatomy.local_frame import bone_frame
from twin.anatomy.twin import NoLandmark, Twin
from twin.journal import canonical_json
from twin.plan.cuts.chain import moves
from twin.plan.cuts.osteotomy import Osteotomy
from twin.plan.deviation import screw_deviation
from twin.plan.plan import Plan
from twin.plan.screws.clearance import clearances
from twin.plan.screws.grade import grade_screw
from twin.plan.screws.screw import Screw

Poses = Mapping[str, Rigid[Patient, Patient]]

NEAR_ENTRY_MM = 15.0
NEAR_ANGLE_RAD = np.deg2rad(35.0)
# prone on the table before the surgeon: back up (+y), head to the surgeon's left, the patient's left toward the surgeon
_STAGE_AXES = np.array([[0.0, 0.0, -1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
TABLE_MM = np.array([0.0, 1050.0, -450.0])  # where the middle of the plan lies when the session starts


@dataclass(frozen=True, slots=True)
class Hit:
    """The first bone on a path: its name and every crossing of the path with it."""

    bone: str
    crossings: tuple[Crossing, ...]

    @property
    def entry_mm(self) -> float:
        """How far along the path the drill goes in."""
        return next(c.along_mm for c in self.crossings if c.is_entry)


@dataclass(frozen=True, eq=False)
class Model:
    """Twin and planned procedure of one session."""

    twin: Twin
    planned: Plan

    def __post_init__(self) -> None:
        """The plan must be this twin's; it is kept as its JSON says, so that a replay reads the very same numbers."""
        object.__setattr__(self, "planned", settled(self.planned))
        if self.planned.twin_id != self.twin.twin_id:
            raise Fault(
                f"plan {self.planned.name!r} belongs to twin {self.planned.twin_id}, not to {self.twin.twin_id}"
            )

    @cached_property
    def sha256(self) -> str:
        """Hash of all that a recomputation depends on: surfaces, landmarks, structures, plan."""
        digest = hashlib.sha256(canonical_json([self.twin.twin_id, self.planned.to_json()]))
        digest.update(canonical_json([mark.to_json() for mark in self.twin.landmarks]))
        for name in sorted(self.twin.bones):
            surface = self.twin.bones[name].surface
            digest.update(name.encode())
            digest.update(surface.vertices_mm.tobytes())
            digest.update(surface.triangles.tobytes())
        for name, structure in sorted(self.twin.structures.items()):
            digest.update(f"{name} {structure.role}".encode())
            digest.update(structure.surface.vertices_mm.tobytes())
        return digest.hexdigest()

    @cached_property
    def centre_mm(self) -> Array:
        """The middle of the planned procedure; of all bones when nothing is planned."""
        places = [screw.entry.mm for screw in self.planned.screws.values()]
        places += [osteotomy.hinge.point_mm for osteotomy in self.planned.osteotomies.values()]
        if not places:
            places = [bone.surface.centroid_mm for bone in self.twin.bones.values()]
        return np.asarray((np.min(places, axis=0) + np.max(places, axis=0)) / 2.0)

    @cached_property
    def _bounds_mm(self) -> Mapping[str, tuple[Array, Array]]:
        return {name: bone.surface.bounds_mm for name, bone in self.twin.bones.items()}

    def warm(self, progress: Progress = silent) -> None:
        """Compute ahead what the first screw in each planned bone would wait for; changes no result."""
        screws = {screw.bone: screw for screw in self.planned.screws.values()}
        for number, (bone, screw) in enumerate(screws.items()):
            progress(f"measuring {bone}", number / len(screws))
            self.grade(screw)

    @cached_property
    def start(self) -> Similarity[Stage, Patient]:
        """Where the model lies at first: prone, life size, the procedure before the surgeon's hands."""
        return Similarity[Stage, Patient](_STAGE_AXES, TABLE_MM - _STAGE_AXES @ self.centre_mm, 1.0)

    def first_hit(self, path: Line[Patient], reach_mm: float, poses: Poses) -> Hit | None:
        """The first bone that a path goes into; `poses` moves the bones that have been moved."""
        best: Hit | None = None
        for name in sorted(self.twin.bones):
            own = path.moved(poses[name].inverse()) if name in poses else path
            if not may_meet(own, self._bounds_mm[name], reach_mm):
                continue
            found = crossings(own, self.twin.bones[name].surface, reach_mm)
            if not any(c.is_entry for c in found):
                continue
            hit = Hit(name, found)
            if best is None or hit.entry_mm < best.entry_mm:
                best = hit
        return best

    def planned_near(self, bone: str, path: Line[Patient]) -> Screw | None:
        """The planned screw that this path is meant for: same bone, entry and direction near; else None."""
        near = [
            (float(np.linalg.norm(screw.entry.mm - path.point_mm)), screw.id)
            for screw in self.planned.screws.values()
            if screw.bone == bone and angle_between_rad(screw.axis.direction, path.direction) < NEAR_ANGLE_RAD
        ]
        distance_mm, screw_id = min(near, default=(np.inf, ""))
        return self.planned.screws[screw_id] if distance_mm <= NEAR_ENTRY_MM else None

    def osteotomy_near(self, place: Points[Patient], limit_mm: float, poses: Poses) -> Osteotomy | None:
        """The planned osteotomy whose hinge, as displayed, is nearest within the limit; ties go by name."""
        near = []
        for name, cut in sorted(self.planned.osteotomies.items()):
            own = poses[cut.bone].inverse() @ place if cut.bone in poses else place
            near.append((float(cut.hinge.distance_mm(own)), name))
        distance_mm, name = min(near, default=(np.inf, ""))
        return self.planned.osteotomies[name] if distance_mm <= limit_mm else None

    def deviation(self, planned: Screw, achieved: Screw) -> dict[str, Any]:
        """How far a screw lies from the planned one, in the keys of the command line."""
        achieved_axis = Line[Patient](achieved.tip.mm, achieved.axis.direction)
        try:
            found = screw_deviation(planned, achieved_axis, bone_frame(self.twin, planned.bone))
        except NoLandmark:
            found = screw_deviation(planned, achieved_axis)
        return found.to_json()

    def moved_bones(self, cut: Osteotomy) -> tuple[str, ...]:
        """The whole bones that ride on the cranial fragment."""
        return tuple(n for n in sorted(self.twin.bones) if n != cut.bone and moves(self.twin, cut, n))

    def fragment_near(self, cut: Osteotomy, place: Points[Patient], reach_mm: float, poses: Poses) -> bool:
        """Whether a place (as displayed) is within reach of the cranial fragment's bones, or of the cut bone."""
        turn = next((poses[name] for name in self.moved_bones(cut) if name in poses), None)
        own = place if turn is None else turn.inverse() @ place
        if float(cut.bisector.signed_distance_mm(own)) < 0.0:
            return False
        near = [_box_distance_mm(self._bounds_mm[name], own.mm) for name in self.moved_bones(cut)]
        near.append(_box_distance_mm(self._bounds_mm[cut.bone], own.mm))
        return min(near) <= reach_mm

    def handle_mm(self, cut: Osteotomy) -> Array:
        """A place (3,) to take the cranial fragment by: the back of the next bone above the cut, as scanned."""
        hinge = cut.hinge.point_mm
        centres = {name: self.twin.bones[name].surface.centroid_mm for name in self.moved_bones(cut)}
        nearest = min(centres, key=lambda name: (float(np.linalg.norm(centres[name] - hinge)), name), default=cut.bone)
        _, high = self.twin.bones[nearest].surface.bounds_mm
        centre = self.twin.bones[nearest].surface.centroid_mm
        above_mm = high[2] if nearest == cut.bone else centre[2]
        return np.array([centre[0], high[1], above_mm])

    def grade(self, screw: Screw) -> dict[str, Any]:
        """Grade, margins and structures as the plan's commands print them; grade null and why where there is none."""
        try:
            found = grade_screw(self.twin, screw)
        except Fault as fault:
            near = [clearance.to_json() for clearance in clearances(self.twin, screw)]
            return {"grade": None, "reason": fault.message, "structures": near}
        return {
            "grade": found.grade,
            "breach_mm": float(found.breach_mm),
            "breach_direction": found.breach_direction,
            "margin_mm": {name: float(mm) for name, mm in found.margin_mm.items()},
            "structures": [clearance.to_json() for clearance in found.clearances],
        }


def settled(plan: Plan) -> Plan:
    """The plan as its own JSON reads back, repeated until nothing changes (degrees and unit vectors round once)."""
    value = plan.to_json()
    for _ in range(20):
        plan = Plan.from_json(value)
        again = plan.to_json()
        if canonical_json(again) == canonical_json(value):
            return plan
        value = again
    raise Fault(f"plan {plan.name!r} does not keep its numbers when it is written and read")


def _box_distance_mm(bounds_mm: tuple[Array, Array], place_mm: Array) -> float:
    low, high = bounds_mm
    return float(np.linalg.norm(np.maximum(np.maximum(low - place_mm, place_mm - high), 0.0)))
