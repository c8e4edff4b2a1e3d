"""The words in the stage: live read-outs at the tool, the board behind the table, names and warnings.

Every number carries its unit. A rehearsal measures nothing on a patient, so no uncertainty stands beside the numbers,
and the board says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rehearsal import drill, saw
from rehearsal.drill import Drilling
from rehearsal.events import SIDES
from rehearsal.instruments import ZONE_RGB
from rehearsal.saw import Sawing
from rehearsal.state import Hand, State
from render.scene import Rgb, TextPart
from spatial.frames import Patient, Stage
from spatial.rigid import Array
from spatial.shapes import Line
from twin.plan.deviation import screw_deviation

NO_UNCERTAINTY = "no uncertainty: rehearsal"
BOARD_MM = np.array([0.0, 1330.0, -900.0])
_BOARD_HEIGHT_MM = 23.0
_TOOL_HEIGHT_MM = 15.0
_SOFT: Rgb = (0.72, 0.77, 0.83)
_WARN: Rgb = (0.98, 0.78, 0.25)
_PLAIN: Rgb = (0.95, 0.96, 0.98)


def tool_texts(state: State) -> tuple[TextPart[Stage], ...]:
    """Read-outs beside each tool that is at work."""
    found: list[TextPart[Stage]] = []
    for side in SIDES:
        hand = state.hand(side)
        aim = hand.stage_from_aim
        if aim is None:
            continue
        lines = hand_lines(state, hand)
        tip = aim.translation_mm - drill.REACH_MM * aim.rotation[:, 2]
        found += _block(lines, tip + np.array([35.0, 75.0, 0.0]), _TOOL_HEIGHT_MM, "hands")
    return tuple(found)


def hand_lines(state: State, hand: Hand) -> list[tuple[str, Rgb]]:
    """The read-out of one hand, line by line."""
    if not hand.is_tracked:
        return [("hand not tracked: it holds still", _WARN)]
    if hand.drilling is not None:
        return _drill_lines(state, hand.drilling)
    if hand.sawing is not None:
        return _saw_lines(hand.sawing)
    return []


def _drill_lines(state: State, drilling: Drilling) -> list[tuple[str, Rgb]]:
    if drilling.path is None or drilling.bone is None:
        return [("no bone ahead", _SOFT)]
    name = drilling.planned_id or drilling.bone
    lines = [(f"{name}   depth {drilling.depth_mm:.0f} mm", _PLAIN)]
    planned = state.model.planned.screws.get(drilling.planned_id or "")
    if planned is not None:
        off = screw_deviation(planned, Line[Patient](drilling.path.at(drilling.depth_mm).mm, drilling.path.direction))
        angle_deg = np.rad2deg(off.angle_rad)
        lines.append((f"entry {off.entry_mm:.1f} mm  tip {off.tip_mm:.1f} mm  angle {angle_deg:.1f} deg", _PLAIN))
    grade = drilling.grade
    if grade is not None and grade["grade"] is not None:
        lines.append((f"grade {grade['grade']}   {margins(grade['margin_mm'])}", ZONE_RGB[drilling.zone]))
    elif grade is not None:
        lines.append((f"no grade: {grade['reason']}", _WARN))
    lines += _structure_lines((grade or {}).get("structures", ()))
    lines.append((NO_UNCERTAINTY, _SOFT))
    return lines


def _structure_lines(structures: Sequence[Mapping[str, Any]]) -> list[tuple[str, Rgb]]:
    """The nearest critical structure and every target."""
    critical = [s for s in structures if s["role"] == "critical"]
    shown = [*critical[:1], *(s for s in structures if s["role"] == "target")]
    found = []
    for s in shown:
        name, distance_mm = s["name"].replace("_", " "), float(s["distance_mm"])
        words = f"{name} {distance_mm:.1f} mm" if distance_mm >= 0 else f"IN {name} by {-distance_mm:.1f} mm"
        rgb = _PLAIN
        if s["role"] == "critical" and distance_mm < drill.WARN_MARGIN_MM:
            rgb = ZONE_RGB["critical"] if distance_mm < 0 else _WARN
        found.append((words, rgb))
    return found


def margins(margin_mm: dict[str, float]) -> str:
    """The two smallest margins, named."""
    order = sorted(margin_mm, key=lambda name: margin_mm[name])[:2]
    return "  ".join(f"{name} {margin_mm[name]:.1f} mm" for name in order)


def _saw_lines(sawing: Sawing) -> list[tuple[str, Rgb]]:
    if sawing.planned_id is None:
        return [("no planned cut near", _SOFT)]
    off = f"{sawing.planned_id}   offset {sawing.offset_mm:.1f} mm  tilt {np.rad2deg(sawing.tilt_rad):.1f} deg"
    if sawing.wedge is None:
        limits = f"limits {saw.MOST_OFF_MM:.0f} mm, {np.rad2deg(saw.MOST_TILT_RAD):.0f} deg"
        return [(off, _WARN), (f"too far from the planned cut ({limits})", _WARN)]
    return [(off, _PLAIN), (NO_UNCERTAINTY, _SOFT)]


def board_texts(state: State) -> tuple[TextPart[Stage], ...]:
    """The board: plan, tools, what has been done, the last word, warnings."""
    model = state.model
    planned, plan = model.planned, state.execution.plan
    lines: list[tuple[str, Rgb]] = [
        (f"{planned.name}: {len(plan.screws)} of {len(planned.screws)} screws, "
         f"{len(plan.osteotomies)} of {len(planned.osteotomies)} cuts   {state.elapsed_s:.0f} s", _PLAIN),
        (f"left: {state.left.tool}   right: {state.right.tool}   scale x{state.stage_from_patient.scale:.2f}", _SOFT),
    ]  # fmt: skip
    closing = state.closing
    if closing is not None:
        cut = plan.osteotomies[closing.osteotomy_id]
        now_deg, goal_deg = np.rad2deg(closing.angle_rad), np.rad2deg(cut.angle_rad)
        lines.append((f"closing {cut.id}: {now_deg:.1f} of {goal_deg:.1f} deg", _PLAIN))
    if state.note:
        lines.append((state.note, _PLAIN))
    if state.skipped:
        lines.append((f"{len(state.skipped)} edits no longer apply", _WARN))
    levels = model.twin.levels
    if levels.confirmed_by is None:
        lines.append((f"levels not confirmed by a person (confidence {levels.confidence:.0%})", _WARN))
    lines += [(text, _WARN) for text in model.twin.warnings[:2]]
    lines.append((f"{NO_UNCERTAINTY}; not for treatment", _SOFT))
    return tuple(_block(lines, BOARD_MM, _BOARD_HEIGHT_MM, "board", anchor_centre=True))


def _block(
    lines: list[tuple[str, Rgb]], top_mm: Array, height_mm: float, layer: str, anchor_centre: bool = False
) -> list[TextPart[Stage]]:
    return [
        TextPart[Stage](
            text,
            top_mm - np.array([0.0, 1.4 * height_mm * number, 0.0]),
            height_mm=height_mm,
            rgb=rgb,
            anchor="centre" if anchor_centre else "left",
            on_top=True,
            layer=layer,
        )
        for number, (text, rgb) in enumerate(lines)
    ]
