"""Hands and what they hold, as simple solids in the stage: a palm, a drill and its bit, a saw's blade, an arrow."""

from __future__ import annotations

from typing import Any

import numpy as np

from rehearsal import drill, saw
from rehearsal.drill import Zone
from rehearsal.state import Hand
from render.scene import LinePart, Material, MeshPart, Rgb
from render.solids import arrow_mesh, ball_mesh, drill_mesh, pose_along, rod_mesh, square_mesh
from spatial.frames import Stage
from spatial.rigid import Array, Rigid, Similarity

PALM = Material((0.42, 0.56, 0.70), shine=0.15)
LOST = Material((0.45, 0.45, 0.45), opacity=0.35, mode="translucent")
STEEL = Material((0.72, 0.74, 0.77), shine=0.6, metal=1.0)
BLADE = Material((0.80, 0.82, 0.85), shine=0.5, metal=0.8, two_sided=True)
ZONE_RGB: dict[Zone, Rgb] = {
    "outside": (0.62, 0.78, 0.95),
    "bone": (0.45, 0.85, 0.55),
    "near_wall": (0.98, 0.78, 0.25),
    "breach": (0.95, 0.30, 0.28),
    "through": (0.95, 0.30, 0.28),
    "critical": (0.98, 0.20, 0.62),
}
_BIT_MM = 3.2
_BLADE_HALF_MM = 18.0
_POINTER_MM = 250.0


def hand_meshes(name: str, hand: Hand) -> tuple[MeshPart[Stage], ...]:
    """The palm and the tool of a hand that has been seen; grey and see-through while tracking has lost it."""
    grip, aim = hand.stage_from_grip, hand.stage_from_aim
    if grip is None or aim is None:
        return ()
    palm = MeshPart[Stage](f"{name} palm", ball_mesh(16.0), grip, PALM if hand.is_tracked else LOST, "hands")
    forward = -aim.rotation[:, 2]
    up = aim.rotation[:, 1]
    metal = STEEL if hand.is_tracked else LOST
    if hand.tool == "drill":
        tip = aim.translation_mm + drill.REACH_MM * forward
        pose: Rigid[Stage, Any] = pose_along(tip, -forward, up)
        return palm, MeshPart[Stage](f"{name} drill", drill_mesh(_BIT_MM, 70.0), pose, metal, "hands")
    if hand.tool == "saw":
        edge = aim.translation_mm + saw.REACH_MM * forward
        flat = Rigid[Stage, Any](np.column_stack([aim.rotation[:, 0], forward, up]), edge - _BLADE_HALF_MM * forward)
        blade = MeshPart[Stage](
            f"{name} blade",
            square_mesh(),
            Similarity[Stage, Any].of(flat, _BLADE_HALF_MM),
            BLADE if hand.is_tracked else LOST,
            "hands",
        )
        shaft: Rigid[Stage, Any] = pose_along(aim.translation_mm, forward, up)
        length_mm = saw.REACH_MM - 2.0 * _BLADE_HALF_MM
        return palm, blade, MeshPart[Stage](f"{name} shaft", rod_mesh(14.0, length_mm), shaft, metal, "hands")
    arrow: Rigid[Stage, Any] = pose_along(aim.translation_mm, forward, up)
    return palm, MeshPart[Stage](f"{name} pointer", arrow_mesh(60.0), arrow, metal, "hands")


def aim_lines(hand: Hand) -> tuple[LinePart[Stage], ...]:
    """The line that a drill aims along, coloured by what its tip is in."""
    aim = hand.stage_from_aim
    if aim is None or hand.tool != "drill" or not hand.is_tracked:
        return ()
    zone: Zone = "outside" if hand.drilling is None else hand.drilling.zone
    start = aim.translation_mm - drill.REACH_MM * aim.rotation[:, 2]
    return (LinePart[Stage](_segment(start, -aim.rotation[:, 2]), ZONE_RGB[zone], 1.5, 0.7, layer="hands"),)


def _segment(start: Array, forward: Array) -> Array:
    return np.stack([start, start + _POINTER_MM * forward])
