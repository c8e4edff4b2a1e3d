"""The drill: aim, enter, advance, and on release one screw.

The tip stands `REACH_MM` in front of the hand's aim pose, at the stage's scale. While the trigger is pulled the axis
follows the hand until the tip is `LOCK_MM` inside; from there the bone guides the drill, as bone does, and only the
depth follows the hand. What is shown meanwhile is a preview.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from rehearsal.model import Model, Poses
from rehearsal.rays import Crossing
from spatial.frames import Instrument, Patient, Stage
from spatial.rigid import Points, Rigid, Similarity
from spatial.shapes import Line
from twin.anatomy.bone import Side as BoneSide
from twin.plan.screws.screw import Screw

REACH_MM = 100.0  # from the hand to the tip, in the stage
LOCK_MM = 2.0  # patient mm inside the bone at which the bone guides the drill
SEARCH_MM = 60.0  # patient mm before the tip within which an entry is shown
SHORTEST_MM, LONGEST_MM, STEP_MM = 20.0, 80.0, 5.0  # the screw tray
USUAL_DIAMETER_MM = 6.0  # where no planned screw says another
CLEAR_MM = 6.0  # patient mm before the bone at which one usually starts the drill
REGRADE_MM = 1.0  # depth between two gradings of the preview
WARN_MARGIN_MM = 1.0

Zone = Literal["outside", "bone", "near_wall", "breach", "through", "critical"]


@dataclass(frozen=True, slots=True, eq=False)
class Drilling:
    """A hole in the making. `path` starts at the entry, in the bone's own Patient coordinates (as scanned)."""

    started_t_ns: int
    started_path_mm: float
    bone: str | None = None
    path: Line[Patient] | None = None
    crossings: tuple[Crossing, ...] = ()  # along the path from its entry
    is_locked: bool = False
    depth_mm: float = 0.0
    zone: Zone = "outside"
    planned_id: str | None = None
    grade: Mapping[str, Any] | None = None
    graded_depth_mm: float = -np.inf
    lost_tracking: bool = False

    def to_json(self) -> dict[str, Any]:
        """For the state document."""
        return {
            "started_t_ns": self.started_t_ns,
            "started_path_mm": self.started_path_mm,
            "bone": self.bone,
            "entry_mm": None if self.path is None else self.path.point_mm.tolist(),
            "direction": None if self.path is None else self.path.direction.tolist(),
            "is_locked": self.is_locked,
            "depth_mm": self.depth_mm,
            "zone": self.zone,
            "planned": self.planned_id,
            "grade": None if self.grade is None else dict(self.grade),
            "lost_tracking": self.lost_tracking,
        }


def aim_line(stage_from_aim: Rigid[Stage, Instrument], stage_from_patient: Similarity[Stage, Patient]) -> Line[Patient]:
    """The drill's axis with its start at the tip, in Patient coordinates as displayed."""
    patient_from_stage = stage_from_patient.inverse()
    forward = -stage_from_aim.rotation[:, 2]
    tip = patient_from_stage @ Points[Stage](stage_from_aim.translation_mm + REACH_MM * forward)
    return Line[Patient](tip.mm, patient_from_stage.rotation @ forward)


def advance(drilling: Drilling, model: Model, axis: Line[Patient], poses: Poses) -> Drilling:
    """The preview after the hand has moved; `axis` as `aim_line` gives it, `poses` of the bones that were moved."""
    if drilling.is_locked:
        path, bone = drilling.path, drilling.bone
        if path is None or bone is None:  # a locked drill has both, by `_entered`
            return drilling
        own = axis.moved(poses[bone].inverse()) if bone in poses else axis
        depth_mm = float(path.along_mm(Points[Patient](own.point_mm)))
        if depth_mm < 0.0:  # pulled out: free again
            return replace(drilling, is_locked=False, depth_mm=0.0, zone="outside", grade=None, graded_depth_mm=-np.inf)
        return _graded(replace(drilling, depth_mm=depth_mm), model)
    return _aimed(drilling, model, axis, poses)


def _aimed(drilling: Drilling, model: Model, axis: Line[Patient], poses: Poses) -> Drilling:
    """Follow the hand; lock when the tip has entered."""
    back_mm = SEARCH_MM
    path = Line[Patient](axis.point_mm - back_mm * axis.direction, axis.direction)
    hit = model.first_hit(path, back_mm + SEARCH_MM, poses)
    if hit is None:
        return replace(
            drilling, bone=None, path=None, crossings=(), depth_mm=0.0, zone="outside", planned_id=None, grade=None
        )
    own = path.moved(poses[hit.bone].inverse()) if hit.bone in poses else path
    entry = Line[Patient](own.at(hit.entry_mm).mm, own.direction)
    crossings = tuple(
        replace(c, along_mm=c.along_mm - hit.entry_mm) for c in hit.crossings if c.along_mm >= hit.entry_mm
    )
    depth_mm = back_mm - hit.entry_mm
    planned = model.planned_near(hit.bone, entry)
    drilling = replace(
        drilling,
        bone=hit.bone,
        path=entry,
        crossings=crossings,
        depth_mm=max(depth_mm, 0.0),
        zone="outside",
        planned_id=None if planned is None else planned.id,
    )
    if depth_mm < LOCK_MM:
        return replace(drilling, grade=None, graded_depth_mm=-np.inf)
    return _graded(replace(drilling, is_locked=True), model)


def _graded(drilling: Drilling, model: Model) -> Drilling:
    """Zone at this depth, and the grade anew when the depth has changed enough."""
    if abs(drilling.depth_mm - drilling.graded_depth_mm) >= REGRADE_MM:
        screw = screw_of(drilling, model, max(drilling.depth_mm, SHORTEST_MM))
        grade = None if screw is None else model.grade(screw)
        drilling = replace(drilling, grade=grade, graded_depth_mm=drilling.depth_mm)
    return replace(drilling, zone=_zone(drilling))


def _zone(drilling: Drilling) -> Zone:
    critical_mm = nearest_critical_mm(drilling)
    if critical_mm is not None and critical_mm < 0.0:
        return "critical"
    passed = [c for c in drilling.crossings if c.along_mm <= drilling.depth_mm]
    if not passed:
        return "outside"
    if not passed[-1].is_entry:
        return "through"
    if drilling.grade and drilling.grade["grade"] is not None:
        if drilling.grade["breach_mm"] > 0.0:
            return "breach"
        walls = [mm for name, mm in drilling.grade["margin_mm"].items() if name != "anterior"]
        if critical_mm is not None:
            walls.append(critical_mm)
        if walls and min(walls) < WARN_MARGIN_MM:
            return "near_wall"
    return "bone"


def nearest_critical_mm(drilling: Drilling) -> float | None:
    """Distance of the hole, as the screw would fill it, to the nearest critical structure; None: there is none."""
    told = (drilling.grade or {}).get("structures", ())
    return min((float(s["distance_mm"]) for s in told if s["role"] == "critical"), default=None)


def screw_of(drilling: Drilling, model: Model, length_mm: float) -> Screw | None:
    """The screw that would fill the hole; None while no bone is met."""
    if drilling.path is None or drilling.bone is None:
        return None
    planned = model.planned.screws.get(drilling.planned_id or "")
    centre = model.twin.bone(drilling.bone).surface.centroid_mm
    side: BoneSide = "left" if drilling.path.point_mm[0] > centre[0] else "right"  # +x is the patient's left
    return Screw(
        id=planned.id if planned else f"{drilling.bone}_{side}",
        bone=drilling.bone,
        side=planned.side if planned else side,
        entry=Points[Patient](drilling.path.point_mm),
        target=drilling.path.at(length_mm),
        diameter_mm=planned.diameter_mm if planned else USUAL_DIAMETER_MM,
        length_mm=length_mm,
    )


def tray_length_mm(depth_mm: float) -> float | None:
    """The screw from the tray for a hole of this depth, to the nearest step; None for a mere pilot hole."""
    if depth_mm < SHORTEST_MM - STEP_MM / 2.0:
        return None
    return float(min(max(round(depth_mm / STEP_MM) * STEP_MM, SHORTEST_MM), LONGEST_MM))
