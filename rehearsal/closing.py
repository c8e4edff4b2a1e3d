"""Closing a cut: the cranial fragment turns about the hinge with the hand that holds it, from open to as planned.

It can't go past either end, and within `SNAP_RAD` of the planned angle it stays there and the hand feels it. What has
been closed is one number a cut: the angle. On release it becomes one edit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rehearsal.events import Side
from spatial.frames import Patient
from spatial.rigid import Array, Points
from spatial.shapes import Line

SNAP_RAD = float(np.deg2rad(1.0))
TOUCH_MM = 40.0  # stage mm: how near to the fragment a hand must be to hold it
_SHORTEST_LEVER_MM = 5.0  # nearer to the hinge a hand has no say


@dataclass(frozen=True, slots=True, eq=False)
class Closing:
    """A fragment in the hand: which cut, by which hand, where that began and where it is now.

    `from_rad` is the cut's angle at the start; `anchor_rad` and `hand_from_rad` the angles of cut and hand that belong
    together (taken anew when the hand was lost and found).
    """

    side: Side
    osteotomy_id: str
    started_t_ns: int
    from_rad: float
    anchor_rad: float
    hand_from_rad: float
    angle_rad: float
    lost_tracking: bool = False

    def to_json(self) -> dict[str, Any]:
        """For the state document."""
        return {
            "side": self.side,
            "osteotomy": self.osteotomy_id,
            "started_t_ns": self.started_t_ns,
            "from_rad": self.from_rad,
            "anchor_rad": self.anchor_rad,
            "hand_from_rad": self.hand_from_rad,
            "angle_rad": self.angle_rad,
            "lost_tracking": self.lost_tracking,
        }


def bearing_rad(hinge: Line[Patient], place: Points[Patient]) -> float | None:
    """The hand's angle about the hinge, right-handed, from a fixed zero; None when it is too near to tell."""
    e1, e2 = _across(hinge)
    arm = place.mm - hinge.point_mm
    x, y = float(arm @ e1), float(arm @ e2)
    return float(np.arctan2(y, x)) if np.hypot(x, y) >= _SHORTEST_LEVER_MM else None


def begin(
    side: Side, osteotomy_id: str, hinge: Line[Patient], place: Points[Patient], angle_rad: float, t_ns: int
) -> Closing | None:
    """Take the fragment, now closed by `angle_rad`; None when the hand is on the hinge."""
    bearing = bearing_rad(hinge, place)
    return None if bearing is None else Closing(side, osteotomy_id, t_ns, angle_rad, angle_rad, bearing, angle_rad)


def turned(closing: Closing, hinge: Line[Patient], place: Points[Patient], planned_rad: float) -> Closing:
    """Follow the hand: a cut closes right-handed about the direction of its hinge."""
    bearing = bearing_rad(hinge, place)
    if bearing is None:
        return closing
    by = float(np.arctan2(np.sin(bearing - closing.hand_from_rad), np.cos(bearing - closing.hand_from_rad)))
    angle = min(max(closing.anchor_rad + by, 0.0), planned_rad)
    if abs(angle - planned_rad) <= SNAP_RAD:
        angle = planned_rad
    elif angle <= SNAP_RAD:
        angle = 0.0
    return replace(closing, angle_rad=angle)


def found_again(closing: Closing, hinge: Line[Patient], place: Points[Patient]) -> Closing:
    """Go on from the angle that was reached, wherever the hand is now."""
    bearing = bearing_rad(hinge, place)
    if bearing is None:
        return closing
    return replace(closing, anchor_rad=closing.angle_rad, hand_from_rad=bearing, lost_tracking=False)


def _across(hinge: Line[Patient]) -> tuple[Array, Array]:
    """Two unit normals of the hinge, e1 x e2 = its direction."""
    e1 = np.cross(hinge.direction, np.eye(3)[int(np.argmin(np.abs(hinge.direction)))])
    e1 = e1 / np.linalg.norm(e1)
    return e1, np.cross(hinge.direction, e1)
