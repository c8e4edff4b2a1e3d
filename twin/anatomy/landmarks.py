"""Every landmark of a set of bones, measured on their surfaces; what can't be measured is absent and said so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from spatial.frames import Patient
from spatial.mesh import TriangleMesh
from spatial.rigid import Array, Directions, Points
from twin.anatomy import endplates, facets, femoral_neck, limbs, pedicles, pelvis, vertebral_frame
from twin.anatomy.bone import Landmark, Side
from twin.anatomy.endplates import Endplate
from twin.anatomy.levels import UPWARD
from twin.anatomy.vertebral_frame import VertebralFrame, axes_from

ANTERIOR = np.array([0.0, -1.0, 0.0])  # Patient: +y is posterior
SIDES: tuple[tuple[Side, float], ...] = (("right", 1.0), ("left", -1.0))
TIP_MM = 2.0
SOMETIMES = ("vertebrae_L6", "vertebrae_T13")


@dataclass(frozen=True, eq=False)
class _Measured:
    """What a vertebra's neighbours need of it."""

    frame: VertebralFrame
    inferior: Endplate | None


def measure(surfaces: Mapping[str, TriangleMesh[Patient]]) -> tuple[tuple[Landmark, ...], tuple[str, ...]]:
    """Landmarks of vertebrae, sacrum, femora and hips, and a warning with the reason for each that could not be
    measured.

    `sd_mm` is the fit's own spread here; `spread.with_spread` makes it the landmark's.
    """
    marks: list[Landmark] = []
    warnings: list[str] = []
    measured: dict[str, _Measured] = {}
    spine = [name for name in UPWARD if name in surfaces]
    for name in spine:
        found, vertebra, missing = _vertebra(name, surfaces[name], _rough_axes(name, spine, surfaces))
        marks += found
        if vertebra is not None:
            measured[name] = vertebra
        warnings += [f"{name}: not measured: {one}" for one in missing]
    lowest = measured.get(spine[0]) if spine else None
    if "sacrum" in surfaces:
        last = lowest.inferior if lowest is not None else None
        found, missing = _sacrum(surfaces["sacrum"], last)
        marks += found
        warnings += [f"sacrum: not measured: {one}" for one in missing]
    for lower, upper in pairwise((["sacrum"] if "sacrum" in surfaces else []) + spine):
        if upper in measured and _next_to(lower, upper):
            found, missing = _facets(upper, lower, surfaces, measured[upper].frame)
            marks += found
            warnings += [f"not measured: {one}" for one in missing]
    middle = _middle_x(surfaces)
    for side, _ in SIDES:
        head_z = None
        femur, hip = f"femur_{side}", f"hip_{side}"
        if femur in surfaces:
            medial = np.array([-1.0 if side == "left" else 1.0, 0.0, 0.0])
            if middle is not None and (surfaces[femur].vertices_mm[:, 0].mean() - middle) * medial[0] > 0:
                warnings.append(f"{femur} lies on the other side of the body; are left and right exchanged?")
            head = pelvis.femoral_head(surfaces[femur], medial)
            if head is None:
                warnings.append(
                    f"{femur}: no femoral head could be fitted; an implant, or cut by the edge of the scan?"
                )
            else:
                head_z = float(head.centre_mm[2])
                marks.append(_mark("femoral_head", femur, side, head.centre_mm, None, head.spread_mm))
                marks += femoral_neck.measure(surfaces[femur], side, head)
            marks += limbs.femur(surfaces[femur], side, None if head is None else head.centre_mm)
        if f"tibia_{side}" in surfaces:
            marks += limbs.tibia(surfaces[f"tibia_{side}"], side)
        if f"fibula_{side}" in surfaces:
            marks += limbs.fibula(surfaces[f"fibula_{side}"], side)
        if hip in surfaces:
            marks.append(_mark(f"asis_{side}", hip, side, pelvis.asis(surfaces[hip], head_z)))
    return tuple(marks), tuple(warnings)


def _vertebra(
    name: str, mesh: TriangleMesh[Patient], axes: Array
) -> tuple[list[Landmark], _Measured | None, list[str]]:
    frame: VertebralFrame | None = None
    upper: Endplate | str = ""
    lower: Endplate | str = ""
    for _ in range(3):
        frame = vertebral_frame.measure(mesh, axes)
        if frame is None:
            return (
                [],
                None,
                ["endplates, pedicles and facets: no vertebral foramen shows, so front and back are unknown"],
            )
        local = frame.local(mesh.vertices_mm[mesh.triangles].mean(axis=1))
        body = local[:, 1] > frame.foramen_front_mm
        upper, lower = endplates.both(mesh, frame.origin_mm, frame.axes, body)
        if isinstance(upper, str) or isinstance(lower, str):
            break
        # a scoliotic vertebra is turned about its own axis: its front is where the body lies, seen from the canal
        axes = axes_from(upper.normal + lower.normal, frame.origin_mm - _canal_centre(frame))
    assert frame is not None
    top_face, bottom_face = upper, lower
    upper, lower, note = endplates.judged(upper, lower, frame)
    marks = [_mark("body_centre", name, None, frame.origin_mm), _mark("canal_centre", name, None, _canal_centre(frame))]
    missing = []
    for label, plate in (("endplate_superior", upper), ("endplate_inferior", lower)):
        if isinstance(plate, str):
            missing.append(f"{label}: {plate}")
        else:
            marks.append(_mark(label, name, None, plate.centre_mm, plate.normal, plate.spread_mm, note))
    if isinstance(top_face, Endplate) and isinstance(bottom_face, Endplate):  # an odd face still tells the height
        top, bottom = float(frame.local(top_face.centre_mm)[2]), float(frame.local(bottom_face.centre_mm)[2])
        for (side, _), pedicle in zip(SIDES, pedicles.both(mesh, frame, top, bottom), strict=True):
            if isinstance(pedicle, str):
                missing.append(f"pedicle_{side}: {pedicle}")
            else:
                spread = pedicle.spread_mm
                marks.append(_mark(f"pedicle_{side}", name, side, pedicle.isthmus_mm, pedicle.axis, spread))
    else:
        missing.append("pedicles: they are looked for between the endplates")
    tip = _spinous_tip(mesh, frame)
    if tip is None:
        missing.append("spinous_tip: nothing stands out behind the canal; cut off, removed, or a bifid process")
    else:
        marks.append(_mark("spinous_tip", name, None, tip))
    return marks, _Measured(frame, lower if isinstance(lower, Endplate) else None), missing


def _canal_centre(frame: VertebralFrame) -> Array:
    """The middle of the foramen, level with the body's centre."""
    return frame.patient(np.array([frame.foramen_x_mm, 0.5 * (frame.foramen_front_mm + frame.foramen_back_mm), 0.0]))


def _spinous_tip(mesh: TriangleMesh[Patient], frame: VertebralFrame) -> Array | None:
    """The middle of the process's last TIP_MM: a flat end has no single last point."""
    local = frame.local(mesh.vertices_mm)
    behind = np.abs(local[:, 0] - frame.foramen_x_mm) < 12.0
    if not behind.any() or local[behind, 1].min() > frame.foramen_back_mm - 5.0:
        return None
    last = behind & (local[:, 1] < local[behind, 1].min() + TIP_MM)
    return np.asarray(mesh.vertices_mm[last].mean(axis=0))


def _facets(
    upper: str, lower: str, surfaces: Mapping[str, TriangleMesh[Patient]], frame: VertebralFrame
) -> tuple[list[Landmark], list[str]]:
    """The joints between two vertebrae (or L5 and the sacrum): `facet_inferior` of the upper bone, `facet_superior` of
    the lower.
    """
    marks, missing = [], []
    for side, sign in SIDES:
        pair = facets.joint(surfaces[upper], surfaces[lower], frame, sign)
        if isinstance(pair, str):
            missing.append(f"facet joint {side} of {upper} and {lower}: {pair}")
            continue
        for name, bone, face in (("inferior", upper, pair[0]), ("superior", lower, pair[1])):
            marks.append(_mark(f"facet_{name}_{side}", bone, side, face.centre_mm, face.normal, face.spread_mm))
    return marks, missing


def _sacrum(mesh: TriangleMesh[Patient], l5_inferior: Endplate | None) -> tuple[list[Landmark], list[str]]:
    plate = pelvis.s1_endplate(mesh, l5_inferior)
    if isinstance(plate, str):
        return [], [f"endplate_superior, promontory and pedicles: {plate}"]
    marks = [_mark("endplate_superior", "sacrum", None, plate.centre_mm, plate.normal, plate.spread_mm)]
    missing = []
    edge = pelvis.promontory(mesh, plate)
    if edge is None:
        missing.append("promontory: no front edge lies before the S1 endplate")
    else:
        marks.append(_mark("promontory", "sacrum", None, edge))
    corner = pelvis.back_corner(mesh, plate)
    if corner is None:
        missing.append("posterior_corner: no back edge lies behind the S1 endplate")
    else:
        marks.append(_mark("posterior_corner", "sacrum", None, corner))
    for side, sign in SIDES:
        pedicle = pelvis.s1_pedicle(mesh, plate, sign)
        if isinstance(pedicle, str):
            missing.append(f"pedicle_{side}: {pedicle}")
        else:
            marks.append(_mark(f"pedicle_{side}", "sacrum", side, pedicle.isthmus_mm, pedicle.axis))
    return marks, missing


def _next_to(lower: str, upper: str) -> bool:
    """Whether nothing belongs between the two: a gap in the names is a bone that is missing."""
    if lower == "sacrum":
        return upper in ("vertebrae_L5", "vertebrae_L6", "vertebrae_L4")
    here, there = UPWARD.index(lower), UPWARD.index(upper)
    return all(name in SOMETIMES for name in UPWARD[here + 1 : there])


def _rough_axes(name: str, spine: list[str], surfaces: Mapping[str, TriangleMesh[Patient]]) -> Array:
    """From the neighbours' centroids; alone, the patient's own directions."""
    n = spine.index(name)
    below, above = spine[max(0, n - 1)], spine[min(len(spine) - 1, n + 1)]
    up = surfaces[above].centroid_mm - surfaces[below].centroid_mm
    if np.linalg.norm(up) < 10.0 or up[2] < 0.5 * np.linalg.norm(up):
        up = np.array([0.0, 0.0, 1.0])
    return axes_from(up, ANTERIOR)


def _middle_x(surfaces: Mapping[str, TriangleMesh[Patient]]) -> float | None:
    middle = [m.centroid_mm[0] for n, m in surfaces.items() if n == "sacrum" or n.startswith("vertebrae")]
    return float(np.mean(middle)) if middle else None


def _mark(
    name: str,
    bone: str,
    side: Side | None,
    position: Array,
    direction: Array | None = None,
    sd_mm: float | None = None,
    note: str = "",
) -> Landmark:
    toward = None if direction is None else Directions[Patient](direction)
    return Landmark(name, bone, side, Points[Patient](position), toward, sd_mm, None, note)
