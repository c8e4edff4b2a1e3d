"""The saw: the hand's blade decides where the planned wedge is really taken out.

The blade is the plane of the aim pose's x axis and pointing direction, its edge `REACH_MM` before the hand. A planned
osteotomy near the blade is moved rigidly so that its middle plane lies in the blade; that is what is shown while the
trigger is pulled, and what is cut on release. Too far off, nothing is cut: a wedge must belong to a plan.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rehearsal.grab import rotation_between
from rehearsal.model import Model, Poses
from spatial.frames import Instrument, Patient, Stage
from spatial.rigid import Points, Rigid, Similarity
from spatial.shapes import Plane, angle_between_rad
from twin.plan.cuts.osteotomy import Osteotomy

REACH_MM = 100.0  # from the hand to the blade's edge, in the stage
NEAR_MM = 60.0  # patient mm from the hinge within which a planned cut is meant
MOST_OFF_MM = 15.0
MOST_TILT_RAD = float(np.deg2rad(25.0))


@dataclass(frozen=True, slots=True, eq=False)
class Sawing:
    """A cut in the making: which planned one is meant, how far the blade is off, and the wedge as it would be cut."""

    started_t_ns: int
    started_path_mm: float
    planned_id: str | None = None
    offset_mm: float = 0.0
    tilt_rad: float = 0.0
    wedge: Osteotomy | None = None
    lost_tracking: bool = False

    def to_json(self) -> dict[str, Any]:
        """For the state document; the wedge follows from the rest."""
        return {
            "started_t_ns": self.started_t_ns,
            "started_path_mm": self.started_path_mm,
            "planned": self.planned_id,
            "offset_mm": self.offset_mm,
            "tilt_rad": self.tilt_rad,
            "wedge": None if self.wedge is None else self.wedge.to_json(),
            "lost_tracking": self.lost_tracking,
        }


def blade(
    stage_from_aim: Rigid[Stage, Instrument], stage_from_patient: Similarity[Stage, Patient]
) -> tuple[Plane[Patient], Points[Patient]]:
    """The blade's plane and the middle of its edge, in Patient coordinates."""
    patient_from_stage = stage_from_patient.inverse()
    edge = stage_from_aim.translation_mm - REACH_MM * stage_from_aim.rotation[:, 2]
    place = patient_from_stage @ Points[Stage](edge)
    return Plane[Patient](place.mm, patient_from_stage.rotation @ stage_from_aim.rotation[:, 1]), place


def advance(sawing: Sawing, model: Model, plane: Plane[Patient], edge: Points[Patient], poses: Poses) -> Sawing:
    """The preview after the hand has moved; blade as `blade` gives it, `poses` of the bones that were moved."""
    planned = model.osteotomy_near(edge, NEAR_MM, poses)
    if planned is None:
        return replace(sawing, planned_id=None, wedge=None, offset_mm=0.0, tilt_rad=0.0)
    if planned.bone in poses:
        plane = plane.moved(poses[planned.bone].inverse())
    ideal = planned.bisector.normal
    normal = plane.normal if float(plane.normal @ ideal) >= 0.0 else -plane.normal
    tilt = angle_between_rad(ideal, normal)
    pivot = planned.hinge.point_mm
    offset_mm = float((plane.point_mm - pivot) @ normal)
    R = rotation_between(ideal, normal)
    moved = Rigid[Patient, Patient](R, pivot - R @ pivot + offset_mm * normal)
    wedge = planned.shifted(moved) if abs(offset_mm) <= MOST_OFF_MM and tilt <= MOST_TILT_RAD else None
    return replace(sawing, planned_id=planned.id, offset_mm=offset_mm, tilt_rad=tilt, wedge=wedge)
