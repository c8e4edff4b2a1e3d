"""Periacetabular osteotomy as three planes: for planning where the socket goes, not for the saw's way.

The planes stand about the head's centre, in the patient's axes as scanned: one above the roof, one behind and below,
one on the pubic side. What lies within all three is the fragment. It turns about the head's centre.
"""

from __future__ import annotations

import math

import numpy as np

from spatial.frames import Patient
from spatial.rigid import Array
from spatial.shapes import Line, Plane
from twin.anatomy.twin import NoLandmark, Twin
from twin.plan.cuts.chain import leg_place
from twin.plan.cuts.osteotomy import BadOsteotomy, Osteotomy

ABOVE_MM, BEHIND_MM, PUBIC_MM = 42.0, 36.0, 36.0  # from the head's centre; a head's radius is 22 to 26
UP = np.array([0.0, 0.0, 1.0])
BACK = np.array([0.0, 1.0, 0.0])


def pao(twin: Twin, bone: str, lateral_rad: float, *, anterior_rad: float = 0.0, margin_mm: float = 0.0) -> Osteotomy:
    """The socket turned outward over the head by `lateral_rad`, forward by `anterior_rad`; planes `margin_mm` further.

    Raises BadOsteotomy, NoBone, NoLandmark without the femoral head's centre.
    """
    place = leg_place(bone)
    if place is None or place[0] != 0:
        raise BadOsteotomy(f"PAO of {bone}; it is a cut of a hip bone, hip_left or hip_right")
    twin.bone(bone)
    side = place[1]
    heads = [m for m in twin.landmarks if m.name == "femoral_head" and m.side == side]
    if not heads:
        raise NoLandmark(f"no femoral head on the {side}; the socket turns about its centre")
    centre = heads[0].position.mm
    out = np.array([1.0 if side == "left" else -1.0, 0.0, 0.0])
    forward, inward = -BACK, -out
    planes = [
        _beyond(centre, UP, ABOVE_MM + margin_mm),
        _beyond(centre, BACK - 0.9 * UP, BEHIND_MM + margin_mm),
        _beyond(centre, inward + 0.8 * forward - 0.5 * UP, PUBIC_MM + margin_mm),
    ]
    turn = lateral_rad * np.cross(UP, out) + anterior_rad * np.cross(UP, forward)
    angle = float(np.linalg.norm(turn))
    axis = turn / angle if angle > 0 else np.cross(UP, out)
    return Osteotomy(
        f"{bone}-PAO", "PAO", bone, (planes[0], planes[1]), Line[Patient](centre, axis), angle, ABOVE_MM + margin_mm,
        (
            f"three planes for planning, in the pose of the scan; lateral {math.degrees(lateral_rad):.0f} degrees",
            "the planes go through the posterior column, which the operation leaves whole",
        ),
        more=(planes[2],),
    )  # fmt: skip


def _beyond(centre: Array, way: Array, distance_mm: float) -> Plane[Patient]:
    """Square to a way out of the head's centre; the normal shows back to the head."""
    way = way / np.linalg.norm(way)
    return Plane[Patient](centre + distance_mm * way, -way)
