"""Guidance as a picture: the twin and the plan over the undistorted frame, with what may be believed of them.

Pure: a state and a frame in, a Scene and a View out. STOP draws nothing of the patient but the word and the reason.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from guidance.session import Readout, State, Trust
from render.anatomy import bone_labels, bone_parts
from render.orientation import orientation_labels
from render.planning import TITANIUM, screw_part
from render.scene import LinePart, Material, MeshPart, Rgb, Scene, ScreenText, TextPart, View
from spatial.frames import Camera, Patient
from spatial.pinhole import Pinhole
from spatial.rigid import Array, Rigid
from twin.anatomy.twin import Twin
from twin.plan.screws.screw import Screw

TRUST_RGB: dict[Trust, Rgb] = {
    Trust.GUIDING: (0.45, 0.92, 0.62),
    Trust.CAUTION: (1.0, 0.80, 0.30),
    Trust.STOP: (1.0, 0.42, 0.36),
}
BONE_RGB: tuple[Rgb, Rgb] = ((0.45, 0.95, 0.85), (0.50, 0.82, 1.0))  # no bone looks so: never taken for the real one
CHOSEN_RGB: Rgb = (1.0, 0.50, 0.85)
PLANNED_RGB: Rgb = (0.75, 0.80, 0.86)
TOOL_RGB: Rgb = (1.0, 0.85, 0.25)
RING_MM = 3.0
BEHIND_MM = 40.0  # how far the planned axis is drawn on toward the surgeon
PANEL = 0.85  # dark enough for 4.5 : 1 over a white picture


def overlay(
    state: State, twin: Twin, picture: NDArray[np.uint8], pinhole: Pinhole, *, max_triangles: int = 60_000
) -> tuple[Scene[Patient], View[Patient]]:
    """Scene and view for the last tick of `state` over the undistorted `picture` (h, w, 3) of `pinhole`."""
    readout = state.readout
    base = Scene[Patient](picture=picture)
    if readout is None or readout.camera_from_patient is None:
        unknown: Rigid[Camera, Patient] = Rigid.identity()
        reason = "no picture yet" if readout is None else readout.reason or "lost"
        words = _stop_words(pinhole, "STALE" if readout is None else readout.how, reason)
        return base.plus(screen_texts=words), View[Patient].from_pinhole(pinhole, unknown)
    view = View[Patient].from_pinhole(pinhole, readout.camera_from_patient.pose)
    bones, labels = _anatomy(twin, max_triangles, round(text_px(pinhole)))
    meshes: list[MeshPart[Patient]] = list(bones)
    lines: list[LinePart[Patient]] = []
    for screw in state.screws.values():
        chosen = screw.id == state.screw
        material = Material(CHOSEN_RGB, shine=0.6, metal=0.6) if chosen else TITANIUM
        meshes.append(
            screw_part(screw.id, screw.entry.mm, screw.axis.direction, screw.diameter_mm, screw.length_mm, material)
        )
        lines += _corridor(screw, CHOSEN_RGB if chosen else PLANNED_RGB, 2.5 if chosen else 1.2)
    lines += _instrument(readout)
    scene = base.plus(
        meshes=tuple(meshes),
        lines=tuple(lines),
        labels=labels,
        screen_texts=(*orientation_labels(view), *_words(state, readout, pinhole)),
    )
    return scene, view


def text_px(pinhole: Pinhole) -> float:
    """The height of words over a picture of this size: 1/54 of it, never under 11 px."""
    return max(11.0, pinhole.height_px / 54)


@lru_cache(maxsize=2)
def _anatomy(
    twin: Twin, max_triangles: int, label_px: int
) -> tuple[tuple[MeshPart[Patient], ...], tuple[TextPart[Patient], ...]]:
    """Bones and their labels, the same values for every frame."""
    bones = tuple(
        replace(part, material=Material(BONE_RGB[number % 2], 1.0, "xray"))
        for number, part in enumerate(bone_parts(twin, max_triangles=max_triangles))
    )
    return bones, bone_labels(twin, height_px=float(label_px))


def _ring(centre: Array, normal: Array, radius_mm: float) -> Array:
    """A closed polyline (49, 3) about `centre`, across `normal`."""
    side = np.cross(normal, np.eye(3)[int(np.abs(normal).argmin())])
    side /= np.linalg.norm(side)
    angle = np.linspace(0, 2 * np.pi, 49)[:, None]
    return np.asarray(centre + radius_mm * (np.cos(angle) * side + np.sin(angle) * np.cross(normal, side)))


def _corridor(screw: Screw, rgb: Rgb, width_px: float) -> list[LinePart[Patient]]:
    """The planned axis, drawn on toward the surgeon, with a ring at the entry."""
    entry, direction = screw.entry.mm, screw.axis.direction
    return [
        LinePart[Patient](np.array([entry - BEHIND_MM * direction, screw.tip.mm]), rgb, width_px, on_top=True),
        LinePart[Patient](_ring(entry, direction, RING_MM), rgb, width_px, on_top=True),
    ]


def _instrument(readout: Readout) -> list[LinePart[Patient]]:
    """The tracked tool's axis behind its tip, and a small ring at the tip."""
    if readout.tip is None or readout.axis is None:
        return []
    tip, direction = readout.tip.mm, readout.axis.direction
    return [
        LinePart[Patient](np.array([tip - 120.0 * direction, tip]), TOOL_RGB, 3.0, on_top=True),
        LinePart[Patient](_ring(tip, direction, 1.0), TOOL_RGB, 2.0, on_top=True),
    ]


def _words(state: State, readout: Readout, pinhole: Pinhole) -> tuple[ScreenText, ...]:
    size = text_px(pinhole)
    left, top = 1.2 * size, 1.2 * size
    if pinhole.width_px < 60 * size:  # in a small picture the words would reach the letters at the top's middle
        top = 3.4 * size
    bottom = pinhole.height_px - top
    error = f"predicted error {readout.tre95_mm:.1f} mm (95 %) at {readout.target}"
    reason = readout.reason or ""
    lines = [f"{readout.trust}  pose {readout.how}", reason if reason.startswith(error) else error]
    lines += [reason] if reason and reason not in lines else []
    words = [
        ScreenText("\n".join(lines), (left, top), size, TRUST_RGB[readout.trust], "top_left", panel_opacity=PANEL),
        ScreenText(
            "Research tool, not a medical device",
            (pinhole.width_px - left, bottom),
            0.7 * size,
            (0.86, 0.89, 0.92),
            "bottom_right",
            panel_opacity=PANEL,
        ),
    ]
    told = _deviation_words(state, readout)
    if told:
        text, rgb = told
        words.append(ScreenText(text, (left, bottom), size, rgb, "bottom_left", panel_opacity=PANEL))
    return tuple(words)


def _deviation_words(state: State, readout: Readout) -> tuple[str, Rgb] | None:
    """How the tool stands to the nearest planned screw, with its own error; or why that is not known."""
    tool = state.instrument
    if tool is None:
        return None
    if not readout.deviation or readout.tip95_mm is None or readout.axis95_rad is None:
        why = readout.instrument_reason or readout.instrument_how or "not seen"
        if readout.instrument_how in ("STALE", "LOST"):
            why = f"{readout.instrument_how}, {why}"
        return f"{tool.name}: {why}; no read-out", TRUST_RGB[Trust.CAUTION]
    name, off = min(readout.deviation.items(), key=lambda item: item[1].entry_mm)
    side = "short of" if off.depth_mm < 0 else "beyond"
    text = (
        f"{tool.name} to {name}\n"
        f"entry {off.entry_mm:.1f} mm   tip {off.tip_mm:.1f} mm   angle {np.degrees(off.angle_rad):.1f}°\n"
        f"depth {abs(off.depth_mm):.1f} mm {side} the planned tip\n"
        f"tool within {readout.tip95_mm:.1f} mm, {np.degrees(readout.axis95_rad):.1f}° (95 %, predicted)"
    )
    return text, (1.0, 1.0, 1.0) if readout.instrument_how != "PREDICTED" else TRUST_RGB[Trust.CAUTION]


def _stop_words(pinhole: Pinhole, word: str, reason: str) -> tuple[ScreenText, ...]:
    size = text_px(pinhole)
    middle = (pinhole.width_px / 2, pinhole.height_px / 2)
    red = TRUST_RGB[Trust.STOP]
    return (
        ScreenText(word, (middle[0], middle[1] - 2 * size), 4 * size, red, "centre", panel_opacity=PANEL),
        ScreenText(reason, (middle[0], middle[1] + 1.8 * size), size, red, "centre", panel_opacity=PANEL),
    )
