"""A bone's anatomical axes from its landmarks: x right, y anterior, z cranial, origin at the body's centre."""

from __future__ import annotations

import numpy as np

from spatial.frames import Bone, Patient
from spatial.rigid import Array, Rigid
from twin.anatomy.bone import Landmark
from twin.anatomy.twin import NoLandmark, Twin

PATIENT_RIGHT = np.array([-1.0, 0.0, 0.0])  # LPS: +x is the patient's left


def bone_frame(twin: Twin, bone: str) -> Rigid[Patient, Bone]:
    """Patient from bone axes. z: mean normal of the endplates; x: from the left pedicle to the right, across z.

    The same as `twin.anatomy.landmarks.bone_frame` where that is defined; this one makes do with fewer landmarks, as a
    plan must on a bone at the scan's edge or with landmarks set by hand. Without pedicles x is the patient's right; the
    origin is the body's centre, else between the endplates. Raises NoLandmark without any endplate. The sacrum has its
    cranial endplate alone: its z is across the S1 plateau and its origin on it.
    """
    plates = [p for n in ("endplate_superior", "endplate_inferior") if (p := _find(twin, n, bone)) is not None]
    normals = [p.direction.unit for p in plates if p.direction is not None]
    if not normals:
        raise NoLandmark(f"no endplate of {bone} could be measured, so its axes are not known; is it a vertebra?")
    z = np.sum(normals, axis=0)
    z /= np.linalg.norm(z)
    left, right = _find(twin, "pedicle_left", bone), _find(twin, "pedicle_right", bone)
    x: Array = PATIENT_RIGHT if left is None or right is None else right.position.mm - left.position.mm
    x = x - (x @ z) * z
    x = x / np.linalg.norm(x)
    centre = _find(twin, "body_centre", bone)
    origin = np.mean([p.position.mm for p in plates], axis=0) if centre is None else centre.position.mm
    return Rigid[Patient, Bone](np.column_stack([x, np.cross(z, x), z]), origin)


def _find(twin: Twin, name: str, bone: str) -> Landmark | None:
    return next((m for m in twin.landmarks if m.name == name and m.bone == bone), None)
