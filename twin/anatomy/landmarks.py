"""Every landmark of a set of bones, measured on their surfaces; what can't be measured is absent and said so."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from spatial.frames import Bone as BoneFrame
from spatial.frames import Patient
from spatial.mesh import TriangleMesh
from spatial.rigid import Array, Directions, Points, Rigid
from twin.anatomy import endplates, limbs, pedicles, pelvis, vertebral_frame
from twin.anatomy.bone import Landmark, Side
from twin.anatomy.endplates import Endplate
from twin.anatomy.levels import UPWARD
from twin.anatomy.twin import NoLandmark, Twin
from twin.anatomy.vertebral_frame import VertebralFrame, axes_from

ANTERIOR = np.array([0.0, -1.0, 0.0])  # Patient: +y is posterior
SIDES: tuple[tuple[Side, float], ...] = (("right", 1.0), ("left", -1.0))


def measure(surfaces: Mapping[str, TriangleMesh[Patient]]) -> tuple[tuple[Landmark, ...], tuple[str, ...]]:
    """Landmarks of vertebrae, sacrum, femora and hips, and a warning for each that could not be measured."""
    marks: list[Landmark] = []
    warnings: list[str] = []
    inferior: dict[str, Endplate] = {}
    spine = [name for name in UPWARD if name in surfaces]
    for name in spine:
        found, plates, missing = _vertebra(name, surfaces[name], _rough_axes(name, spine, surfaces))
        marks += found
        if plates is not None:
            inferior[name] = plates
        if missing:
            warnings.append(
                f"{name}: {', '.join(missing)} could not be measured; is the bone cut by the edge of the scan?"
            )
    if "sacrum" in surfaces:
        found, missing = _sacrum(surfaces["sacrum"], inferior.get("vertebrae_L5"))
        marks += found
        if missing:
            warnings.append(f"sacrum: {', '.join(missing)} could not be measured")
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
            marks += limbs.femur(surfaces[femur], side, None if head is None else head.centre_mm)
        if f"tibia_{side}" in surfaces:
            marks += limbs.tibia(surfaces[f"tibia_{side}"], side)
        if f"fibula_{side}" in surfaces:
            marks += limbs.fibula(surfaces[f"fibula_{side}"], side)
        if hip in surfaces:
            marks.append(_mark(f"asis_{side}", hip, side, pelvis.asis(surfaces[hip], head_z), None, None))
    return tuple(marks), tuple(warnings)


def bone_frame(twin: Twin, bone: str) -> Rigid[Patient, BoneFrame]:
    """patient_from_bone: x right, y anterior, z cranial.

    Vertebrae: origin at the body's centroid, z the mean of the endplate normals, x from the left to the right pedicle.
    Sacrum: on its endplate. Other bones: Patient's directions at the centroid.

    Raises NoLandmark when a vertebra's endplates were not measured.
    """
    surface = twin.bone(bone).surface
    if bone == "sacrum":
        plate = twin.landmark("endplate_superior", bone)
        assert plate.direction is not None
        origin, up = plate.position.mm, plate.direction.unit
    elif bone in UPWARD:
        upper, lower = twin.landmark("endplate_superior", bone), twin.landmark("endplate_inferior", bone)
        if upper.direction is None or lower.direction is None:
            raise NoLandmark(f"the endplates of {bone} have no direction")
        origin, up = twin.landmark("body_centre", bone).position.mm, upper.direction.unit + lower.direction.unit
    else:
        return Rigid(axes_from(np.array([0.0, 0.0, 1.0]), ANTERIOR), surface.centroid_mm)
    anterior = ANTERIOR
    try:
        right, left = twin.landmark("pedicle_right", bone), twin.landmark("pedicle_left", bone)
        anterior = np.cross(up, right.position.mm - left.position.mm)
    except NoLandmark:
        pass  # without both pedicles the patient's own direction has to do
    return Rigid(axes_from(up, anterior), origin)


def _vertebra(name: str, mesh: TriangleMesh[Patient], axes: Array) -> tuple[list[Landmark], Endplate | None, list[str]]:
    frame: VertebralFrame | None = None
    upper: Endplate | None = None
    lower: Endplate | None = None
    for _ in range(3):
        frame = vertebral_frame.measure(mesh, axes)
        if frame is None:
            return [], None, ["endplates", "pedicles"]
        local = frame.local(mesh.vertices_mm[mesh.triangles].mean(axis=1))
        body = local[:, 1] > frame.foramen_front_mm
        upper = endplates.fit(mesh, frame.origin_mm, frame.axes, 1.0, body)
        lower = endplates.fit(mesh, frame.origin_mm, frame.axes, -1.0, body)
        if upper is None or lower is None:
            break
        axes = axes_from(upper.normal + lower.normal, axes[:, 1])
    assert frame is not None
    marks = [_mark("body_centre", name, None, frame.origin_mm, None, None)]
    missing = []
    for label, plate in (("endplate_superior", upper), ("endplate_inferior", lower)):
        if plate is None:
            missing.append(label)
        else:
            marks.append(_mark(label, name, None, plate.centre_mm, plate.normal, plate.spread_mm))
    if upper is not None and lower is not None:
        top, bottom = float(frame.local(upper.centre_mm)[2]), float(frame.local(lower.centre_mm)[2])
        for side, sign in SIDES:
            pedicle = pedicles.find(mesh, frame, sign, top, bottom)
            if pedicle is None:
                missing.append(f"pedicle_{side}")
            else:
                marks.append(_mark(f"pedicle_{side}", name, side, pedicle.isthmus_mm, pedicle.axis, pedicle.spread_mm))
    local = frame.local(mesh.vertices_mm)
    behind = np.abs(local[:, 0] - frame.foramen_x_mm) < 12.0
    if behind.any() and local[behind, 1].min() < frame.foramen_back_mm - 5.0:
        last = behind & (local[:, 1] < local[behind, 1].min() + 2.0)  # a flat end has no single last point
        tip = mesh.vertices_mm[last].mean(axis=0)
        marks.append(_mark("spinous_tip", name, None, tip, None, None))
    else:
        missing.append("spinous_tip")
    return marks, lower, missing


def _sacrum(mesh: TriangleMesh[Patient], l5_inferior: Endplate | None) -> tuple[list[Landmark], list[str]]:
    plate = pelvis.s1_endplate(mesh, l5_inferior)
    if plate is None:
        return [], ["endplate_superior", "promontory", "pedicles"]
    marks = [_mark("endplate_superior", "sacrum", None, plate.centre_mm, plate.normal, plate.spread_mm)]
    missing = []
    edge = pelvis.promontory(mesh, plate)
    if edge is None:
        missing.append("promontory")
    else:
        marks.append(_mark("promontory", "sacrum", None, edge, None, None))
    for side, sign in SIDES:
        pedicle = pelvis.s1_pedicle(mesh, plate, sign)
        if pedicle is None:
            missing.append(f"pedicle_{side}")
        else:
            marks.append(_mark(f"pedicle_{side}", "sacrum", side, pedicle.isthmus_mm, pedicle.axis, None))
    return marks, missing


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
    name: str, bone: str, side: Side | None, position: Array, direction: Array | None, sd_mm: float | None
) -> Landmark:
    return Landmark(
        name,
        bone,
        side,
        Points[Patient](position),
        None if direction is None else Directions[Patient](direction),
        sd_mm,
    )
