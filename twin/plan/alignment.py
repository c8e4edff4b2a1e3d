"""Sagittal alignment from landmarks: lordosis and the pelvic parameters. A CT is supine: PI does not mind, the rest do.

Sagittal plane: x to the right from the left to the right femoral head, level; z the patient's cranial axis; y anterior.
An endplate's angle is atan2(n.y, n.z) of its cranial normal. PI = PT + SS holds by construction of the angles and is
tested. Definitions: Legaye et al., Eur Spine J 1998;7:99; Le Huec et al. 2019 (PMC6334400).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import numpy as np

from spatial.rigid import Array
from twin.anatomy.bone import Landmark

POSTURE = "supine"


@dataclass(frozen=True)
class Alignment:
    """Degrees; None where a landmark is missing. `posture` is the scan's: never hold it against standing limits."""

    lumbar_lordosis_deg: float | None
    l4_s1_lordosis_deg: float | None
    pelvic_incidence_deg: float | None
    pelvic_tilt_deg: float | None
    sacral_slope_deg: float | None
    pi_minus_ll_deg: float | None
    posture: str = POSTURE

    def to_json(self) -> dict[str, float | str | None]:
        """Its fields."""
        return asdict(self)


def measure_alignment(landmarks: Iterable[Landmark]) -> Alignment:
    """All that these landmarks allow."""
    marks = list(landmarks)
    sagittal = sagittal_axes(marks)
    heads = [m.position.mm for side in ("left", "right") if (m := _head(marks, side)) is not None]
    plateau = _plate(marks, "sacrum")
    slope = None if plateau is None else _tilt(plateau, sagittal)
    incidence = tilt = None
    if plateau is not None and plateau.direction is not None and len(heads) == 2:
        hips = (heads[0] + heads[1]) / 2
        up = _in_plane(plateau.position.mm - hips, sagittal)
        normal = _in_plane(plateau.direction.unit, sagittal)
        tilt = math.degrees(math.atan2(-up[0], up[1]))  # positive when the plateau is behind the heads
        to_hips = -up
        turn = normal[0] * -to_hips[1] - normal[1] * -to_hips[0]
        incidence = math.degrees(math.atan2(abs(turn), -(normal @ to_hips)))
    lordosis = lumbar_lordosis_rad(marks)
    low = _between(marks, "vertebrae_L4", sagittal)
    return Alignment(
        lumbar_lordosis_deg=None if lordosis is None else math.degrees(lordosis),
        l4_s1_lordosis_deg=None if low is None else math.degrees(low),
        pelvic_incidence_deg=incidence,
        pelvic_tilt_deg=tilt,
        sacral_slope_deg=None if slope is None else math.degrees(slope),
        pi_minus_ll_deg=None if incidence is None or lordosis is None else incidence - math.degrees(lordosis),
    )


def lumbar_lordosis_rad(landmarks: Iterable[Landmark]) -> float | None:
    """Angle from the cranial endplate of L1 to that of S1, lordosis positive; None when one is missing."""
    marks = list(landmarks)
    return _between(marks, "vertebrae_L1", sagittal_axes(marks))


def sagittal_axes(landmarks: Iterable[Landmark]) -> Array:
    """Rows anterior and cranial (2, 3) of the sagittal plane; the scanner's when a femoral head is missing."""
    marks = list(landmarks)
    left, right = _head(marks, "left"), _head(marks, "right")
    cranial = np.array([0.0, 0.0, 1.0])
    if left is None or right is None:
        return np.array([[0.0, -1.0, 0.0], cranial])
    across = right.position.mm - left.position.mm
    across = across - (across @ cranial) * cranial
    return np.array([np.cross(cranial, across / np.linalg.norm(across)), cranial])


def _between(marks: list[Landmark], upper_bone: str, sagittal: Array) -> float | None:
    upper, lower = _plate(marks, upper_bone), _plate(marks, "sacrum")
    if upper is None or lower is None:
        return None
    return _tilt(lower, sagittal) - _tilt(upper, sagittal)


def _tilt(plate: Landmark, sagittal: Array) -> float:
    assert plate.direction is not None
    n = _in_plane(plate.direction.unit, sagittal)
    return math.atan2(n[0], n[1])


def _in_plane(vector: Array, sagittal: Array) -> Array:
    return np.asarray(sagittal @ vector)


def _plate(marks: list[Landmark], bone: str) -> Landmark | None:
    return next(
        (m for m in marks if m.name == "endplate_superior" and m.bone == bone and m.direction is not None), None
    )


def _head(marks: list[Landmark], side: str) -> Landmark | None:
    return next((m for m in marks if m.name == "femoral_head" and side in (m.side, m.bone.rpartition("_")[2])), None)
