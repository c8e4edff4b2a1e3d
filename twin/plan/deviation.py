"""How far what was done lies from what was planned: screws, cuts, fragments.

One code for guidance, the rehearsal's score and the comparison with a later CT.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from spatial.faults import Fault
from spatial.frames import A, B, Bone, Patient
from spatial.rigid import Array, Points, Rigid
from spatial.shapes import Line, Plane, angle_between_rad
from twin.plan.screws.screw import Screw
from twin.plan.screws.walls import Across


class NoDeviation(Fault):
    """An axis that runs across the planned one, so no entry or tip can be compared."""


@dataclass(frozen=True, eq=False)
class ScrewDeviation:
    """Entry and tip errors are across the planned axis, where the achieved axis passes the planned entry and tip.

    `depth_mm`: achieved tip beyond the planned tip along the planned axis (negative: short of it). The offsets (medial,
    superior; mm) and `turn_rad` (tip medially, tip up) are signed in the bone's axes; None when these are not given.
    """

    entry_mm: float
    tip_mm: float
    angle_rad: float
    depth_mm: float
    entry_offset_mm: tuple[float, float] | None = None
    tip_offset_mm: tuple[float, float] | None = None
    turn_rad: tuple[float, float] | None = None

    def to_json(self) -> dict[str, Any]:
        """`entry_mm`, `tip_mm`, `angle_deg`, `depth_mm`, and the signed parts."""
        return {
            "entry_mm": self.entry_mm,
            "tip_mm": self.tip_mm,
            "angle_deg": math.degrees(self.angle_rad),
            "depth_mm": self.depth_mm,
            "entry_offset_mm": _named(self.entry_offset_mm, 1.0),
            "tip_offset_mm": _named(self.tip_offset_mm, 1.0),
            "turn_deg": _named(self.turn_rad, 180.0 / math.pi),
        }


def screw_deviation(
    planned: Screw, achieved: Line[Patient], patient_from_bone: Rigid[Patient, Bone] | None = None
) -> ScrewDeviation:
    """Compare with an achieved axis whose point is its tip (of a drill, or of the screw in a later CT).

    Raises NoDeviation when the axes are square to each other.
    """
    axis = planned.axis
    along = float(achieved.direction @ axis.direction)
    if abs(along) < 1e-6:
        raise NoDeviation("the achieved axis is square to the planned one; is this the right screw?")

    def offset(point: Array) -> Array:
        run = float((point - achieved.point_mm) @ axis.direction) / along
        return np.asarray(achieved.at(run).mm - point)

    entry, tip = offset(planned.entry.mm), offset(planned.tip.mm)
    parts: list[tuple[float, float] | None] = [None, None, None]
    if patient_from_bone is not None:
        across = Across.of(axis.direction, patient_from_bone, planned.side)
        way = achieved.direction * np.sign(along)
        parts = [(float(v @ across.medial), float(v @ across.superior)) for v in (entry, tip)]
        turned = math.atan2(way @ across.medial, abs(along)), math.atan2(way @ across.superior, abs(along))
        parts.append(turned)
    return ScrewDeviation(
        entry_mm=float(np.linalg.norm(entry)),
        tip_mm=float(np.linalg.norm(tip)),
        angle_rad=angle_between_rad(axis.direction, achieved.direction),
        depth_mm=float((achieved.point_mm - planned.tip.mm) @ axis.direction),
        entry_offset_mm=parts[0],
        tip_offset_mm=parts[1],
        turn_rad=parts[2],
    )


@dataclass(frozen=True)
class PlaneDeviation:
    """Angle between the planes, and signed distances of the achieved plane from the planned one over the cut (mm)."""

    angle_rad: float
    offset_mm: float
    mean_mm: float
    p95_mm: float


def plane_deviation(planned: Plane[A], achieved: Plane[A], over: Points[A]) -> PlaneDeviation:
    """Over points (N, 3) of the planned cut: offset at their centre; mean and 95th percentile of the distances."""
    on_plan = over.mm.reshape(-1, 3)
    on_plan = on_plan - planned.signed_distance_mm(Points[A](on_plan))[:, None] * planned.normal
    angle = planned.angle_rad(achieved)
    facing = achieved if angle <= math.pi / 2 else achieved.flipped()
    gap = -facing.signed_distance_mm(Points[A](on_plan))
    centre = -float(facing.signed_distance_mm(Points[A](on_plan.mean(axis=0))))
    return PlaneDeviation(
        min(angle, math.pi - angle), centre, float(np.abs(gap).mean()), float(np.quantile(np.abs(gap), 0.95))
    )


@dataclass(frozen=True)
class MotionDeviation:
    """How a fragment's achieved motion differs from the planned one: turn, and shift at a named point."""

    angle_rad: float
    shift_mm: float


def motion_deviation(planned: Rigid[B, A], achieved: Rigid[B, A], at: Points[A]) -> MotionDeviation:
    """Rotation error |log(R_planned^T R_achieved)| and the distance between where a point was meant to go and went."""
    error = planned.inverse() @ achieved
    return MotionDeviation(error.angle_rad, float(np.linalg.norm((achieved @ at).mm - (planned @ at).mm)))


def _named(pair: tuple[float, float] | None, factor: float) -> dict[str, float] | None:
    return None if pair is None else {"medial": pair[0] * factor, "superior": pair[1] * factor}
