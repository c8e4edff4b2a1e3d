"""Which way the patient lies in a picture: R/L, H/F and A/P by the DICOM rule, at its edges or as an axes marker.

DICOM patient coordinates are LPS (PS3.3 C.7.6.2.1.1): +x is the patient's left, +y posterior, +z toward the head;
letters are ordered by how much of the direction they make up, as in Patient Orientation (C.7.6.1.1.1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, Literal

import numpy as np

from render.scene import LinePart, Material, MeshPart, Rgb, ScreenText, TextPart, View, W
from render.solids import cube_mesh
from spatial.frames import Patient
from spatial.rigid import Array, Rigid, Similarity

LETTERS = (("L", "R"), ("P", "A"), ("H", "F"))
_SHARE = 0.35  # a second letter is named from a share of about 20 degrees on
_LETTER_RGB: Rgb = (0.98, 0.86, 0.45)
_AXIS_RGB: tuple[Rgb, Rgb, Rgb] = ((0.93, 0.42, 0.40), (0.45, 0.80, 0.46), (0.42, 0.65, 0.98))


def direction_letters(direction: Array) -> str:
    """The letters of a direction (3,) in Patient coordinates, the largest share first: `L`, `HA`, `RPF`."""
    unit = direction / np.linalg.norm(direction)
    order = np.argsort(-np.abs(unit), kind="stable")
    named = [int(i) for i in order if abs(unit[i]) >= _SHARE] or [int(order[0])]
    return "".join(LETTERS[i][0] if unit[i] > 0 else LETTERS[i][1] for i in named)


def edge_letters(eye_from_patient: Array) -> dict[Literal["left", "right", "top", "bottom"], str]:
    """The letters at each edge of a picture, from the rotation (3, 3) of the view."""
    right, up = eye_from_patient[0], eye_from_patient[1]
    return {
        "left": direction_letters(-right),
        "right": direction_letters(right),
        "top": direction_letters(up),
        "bottom": direction_letters(-up),
    }


def orientation_labels(
    view: View[Any],
    world_from_patient: Rigid[Any, Patient] | Similarity[Any, Patient] | None = None,
    *,
    height_px: float | None = None,
    rgb: Rgb = _LETTER_RGB,
) -> tuple[ScreenText, ...]:
    """The letters at the four edges of the view; None as `world_from_patient`: the world is Patient."""
    rotation = view.rotation if world_from_patient is None else view.rotation @ world_from_patient.rotation
    w, h = view.width_px, view.height_px
    size_px = max(13.0, 0.032 * min(w, h)) if height_px is None else height_px
    gap = 0.75 * size_px
    letters = edge_letters(rotation)
    return (
        ScreenText(letters["left"], (gap, h / 2), size_px, rgb, "left"),
        ScreenText(letters["right"], (w - 1 - gap, h / 2), size_px, rgb, "right"),
        ScreenText(letters["top"], (w / 2, gap), size_px, rgb, "top"),
        ScreenText(letters["bottom"], (w / 2, h - 1 - gap), size_px, rgb, "bottom"),
    )


@dataclass(frozen=True, slots=True, eq=False)
class OrientationMarker(Generic[W]):
    """Parts of a marker that shows the patient's directions in a scene of any world."""

    meshes: tuple[MeshPart[W], ...]
    lines: tuple[LinePart[W], ...]
    labels: tuple[TextPart[W], ...]


def orientation_marker(
    world_from_patient: Rigid[W, Patient] | Similarity[W, Patient] | None,
    centre_mm: Array,
    size_mm: float,
) -> OrientationMarker[W]:
    """A small cube with six lettered arms that stands in the world (in a headset both eyes see one thing)."""
    rotation = np.eye(3) if world_from_patient is None else world_from_patient.rotation
    cube: MeshPart[W] = MeshPart(
        "orientation",
        cube_mesh(),
        Similarity[W, Any](rotation, centre_mm, 0.22 * size_mm),
        Material((0.62, 0.66, 0.72), shine=0.3),
        "orientation",
    )
    lines, labels = _arms(rotation, np.asarray(centre_mm, dtype=np.float64), size_mm, on_top=False)
    return OrientationMarker((cube,), lines, labels)


def orientation_axes(
    view: View[W],
    world_from_patient: Rigid[W, Patient] | Similarity[W, Patient] | None = None,
    *,
    size_px: float = 34.0,
    corner_px: tuple[float, float] | None = None,
) -> OrientationMarker[W]:
    """The same arms in a corner of one picture (bottom left), drawn over everything: for overlays and free views."""
    u, v = corner_px if corner_px is not None else (2.0 * size_px, view.height_px - 1 - 2.0 * size_px)
    rotation = np.eye(3) if world_from_patient is None else world_from_patient.rotation
    ndc = np.array([(u + 0.5) / view.width_px * 2 - 1, 1 - (v + 0.5) / view.height_px * 2])
    inverse = np.linalg.inv(view.clip_from_world())
    near, far = (inverse @ np.array([*ndc, z, 1.0]) for z in (-0.5, 0.5))
    start, stop = near[:3] / near[3], far[:3] / far[3]
    centre = start + 0.5 * (stop - start) if view.is_parallel else start
    M = view.clip_from_world()
    scale = view.eye_from_world.scale if isinstance(view.eye_from_world, Similarity) else 1.0
    px_per_mm = view.projection[1, 1] * scale * view.height_px / 2 / float(M[3, :3] @ centre + M[3, 3])
    lines, labels = _arms(rotation, centre, size_px / px_per_mm, on_top=True)
    return OrientationMarker((), lines, labels)


def _arms(
    rotation: Array, centre_mm: Array, size_mm: float, *, on_top: bool
) -> tuple[tuple[LinePart[Any], ...], tuple[TextPart[Any], ...]]:
    lines, labels = [], []
    for axis in range(3):
        for sign in (1.0, -1.0):
            arm = sign * size_mm * rotation[:, axis]
            lines.append(
                LinePart[Any](
                    np.stack([centre_mm, centre_mm + arm * 0.72]),
                    _AXIS_RGB[axis],
                    2.5 if sign > 0 else 1.5,
                    1.0,
                    on_top,
                    "orientation",
                )
            )
            labels.append(
                TextPart[Any](
                    LETTERS[axis][0 if sign > 0 else 1],
                    centre_mm + arm,
                    height_mm=0.36 * size_mm,
                    rgb=_AXIS_RGB[axis],
                    on_top=on_top,
                    layer="orientation",
                )
            )
    return tuple(lines), tuple(labels)
