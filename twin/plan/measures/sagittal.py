"""Formulas of the sagittal profile, read off landmarks: pelvic parameters, lordosis, kyphosis, balance. Angles in rad.

Sagittal plane: x from the left to the right femoral head, level; z the patient's cranial axis; y anterior. An
endplate's tilt is atan2(n.y, n.z) of its cranial normal, a segment's lordosis is the tilt of its lower end less that of
its upper end. The middle of a vertebral body lies midway between its endplates' centres, the hips' midway between the
femoral heads.

Definitions: Legaye et al., Eur Spine J 1998;7:99; Le Huec et al. 2019 (PMC6334400); T1 and L1 pelvic angles:
Protopsaltis et al. 2014; global tilt: Obeid et al. 2016.
"""

from __future__ import annotations

import math

import numpy as np

from spatial.rigid import Array
from twin.plan.measures.measured import Formula, Marks, Unmeasured

CRANIAL = np.array([0.0, 0.0, 1.0])
SUPERIOR, INFERIOR = "endplate_superior", "endplate_inferior"


def sagittal_axes(marks: Marks) -> Array:
    """Rows anterior and cranial (2, 3) of the sagittal plane; the scanner's when a femoral head is missing."""
    right = right_axis(marks)
    return np.array([[-right[1], right[0], 0.0], CRANIAL])  # cranial x right, which is level


def right_axis(marks: Marks) -> Array:
    """The patient's right (3,), level: along the hips; the scanner's when a femoral head is missing."""
    if not has_hips(marks):
        return np.array([-1.0, 0.0, 0.0])
    across = marks.point("femoral_head", "femur_right") - marks.point("femoral_head", "femur_left")
    across = across - (across @ CRANIAL) * CRANIAL
    return np.asarray(across / np.linalg.norm(across))


def has_hips(marks: Marks) -> bool:
    """Whether both femoral heads were measured."""
    return all(marks.has("femoral_head", f"femur_{side}") for side in ("left", "right"))


def hips(marks: Marks) -> Array:
    """Midway between the femoral heads (3,). Raises Unmeasured."""
    return 0.5 * (marks.point("femoral_head", "femur_left") + marks.point("femoral_head", "femur_right"))


def body_middle(marks: Marks, bone: str) -> Array:
    """Midway between the endplates' centres (3,). Raises Unmeasured."""
    return 0.5 * (marks.point(SUPERIOR, bone) + marks.point(INFERIOR, bone))


def tilt(marks: Marks, plate: str, bone: str) -> float:
    """How far an endplate's cranial normal leans forward. Raises Unmeasured."""
    forward, up = sagittal_axes(marks) @ marks.normal(plate, bone)
    return math.atan2(forward, up)


def lordosis(upper: str, lower: str) -> Formula:
    """From the cranial endplate of `upper` to the caudal one of `lower` (of the sacrum: the cranial); lordosis +."""
    end = SUPERIOR if lower == "sacrum" else INFERIOR
    return lambda marks: tilt(marks, end, lower) - tilt(marks, SUPERIOR, upper)


def sacral_slope(marks: Marks) -> float:
    """The S1 endplate against the horizontal."""
    return tilt(marks, SUPERIOR, "sacrum")


def pelvic_tilt(marks: Marks) -> float:
    """From the vertical to the line from the hips to the middle of S1; + when S1 is behind."""
    forward, up = sagittal_axes(marks) @ (marks.point(SUPERIOR, "sacrum") - hips(marks))
    return math.atan2(-forward, up)


def pelvic_incidence(marks: Marks) -> float:
    """From the perpendicular of the S1 endplate to the line to the hips; measured on its own, not as a sum."""
    axes = sagittal_axes(marks)
    down = -(axes @ marks.normal(SUPERIOR, "sacrum"))
    to_hips = axes @ (hips(marks) - marks.point(SUPERIOR, "sacrum"))
    return math.atan2(down[0] * to_hips[1] - down[1] * to_hips[0], float(down @ to_hips))


def pi_minus_ll(marks: Marks) -> float:
    """Pelvic incidence less lumbar lordosis L1-S1."""
    return pelvic_incidence(marks) - lordosis("vertebrae_L1", "sacrum")(marks)


def distribution(marks: Marks) -> float:
    """Share of the lordosis that lies in L4-S1 (LDI), percent. Raises Unmeasured where there is no lordosis."""
    whole = lordosis("vertebrae_L1", "sacrum")(marks)
    if abs(whole) < math.radians(5.0):
        raise Unmeasured(f"a lordosis of {math.degrees(whole):.1f} degrees has no distribution to speak of")
    return 100.0 * lordosis("vertebrae_L4", "sacrum")(marks) / whole


def inclination(bone: str) -> Formula:
    """From the vertical to the line from the hips to a vertebra's middle (T1: T1SPi); + when the vertebra is ahead."""

    def formula(marks: Marks) -> float:
        forward, up = sagittal_axes(marks) @ (body_middle(marks, bone) - hips(marks))
        return math.atan2(forward, up)

    return formula


def pelvic_angle(bone: str) -> Formula:
    """Between the lines from the hips to a vertebra's middle and to the middle of S1 (T1: TPA, L1: LPA)."""

    def formula(marks: Marks) -> float:
        axes, middle = sagittal_axes(marks), hips(marks)
        a = axes @ (body_middle(marks, bone) - middle)
        b = axes @ (marks.point(SUPERIOR, "sacrum") - middle)
        return math.atan2(a[0] * b[1] - a[1] * b[0], float(a @ b))

    return formula


def vertical_axis_mm(marks: Marks) -> float:
    """SVA: how far the middle of C7 lies before the postero-superior corner of S1."""
    way = body_middle(marks, "vertebrae_C7") - marks.point("posterior_corner", "sacrum")
    return float(sagittal_axes(marks)[0] @ way)


def global_tilt(marks: Marks) -> float:
    """Between the line from the middle of S1 to C7 and that from the hips to S1 (Obeid): pelvic tilt + C7's lean."""
    axes, plate = sagittal_axes(marks), marks.point(SUPERIOR, "sacrum")
    up = axes @ (body_middle(marks, "vertebrae_C7") - plate)
    return pelvic_tilt(marks) + math.atan2(up[0], up[1])


def coronal_balance_mm(marks: Marks) -> float:
    """How far the middle of C7 lies to the patient's right of the middle of S1."""
    way = body_middle(marks, "vertebrae_C7") - marks.point(SUPERIOR, "sacrum")
    return float(right_axis(marks) @ way)


def pelvic_obliquity(marks: Marks) -> float:
    """How much higher the right femoral head stands than the left."""
    way = marks.point("femoral_head", "femur_right") - marks.point("femoral_head", "femur_left")
    return math.atan2(float(way @ CRANIAL), float(np.linalg.norm(way - (way @ CRANIAL) * CRANIAL)))
