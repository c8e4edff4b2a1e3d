"""A bone's own anatomical axes from its landmarks: x right, y from back to front, z cranial; right-handed
on both sides.

Clinical fact sheet, 1.4. One function for the whole product: planning, rehearsal and reports read a bone's directions
from here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from spatial.frames import Bone, Patient
from spatial.rigid import Array, Rigid
from twin.anatomy.bone import Landmark
from twin.anatomy.levels import UPWARD
from twin.anatomy.twin import NoLandmark, Twin
from twin.anatomy.vertebral_frame import axes_from

ANTERIOR = np.array([0.0, -1.0, 0.0])  # Patient, LPS: +y is posterior


@dataclass(frozen=True, eq=False)
class LocalFrame:
    """Patient from the bone's axes, and in words what its cranial direction, its sides and its origin rest on."""

    bone: str
    patient_from_bone: Rigid[Patient, Bone]
    cranial: str
    sides: str
    origin: str

    def to_json(self) -> dict[str, Any]:
        """As `twin inspect --json` prints it: origin, the three axes in Patient, and their sources."""
        axes = self.patient_from_bone.rotation
        return {
            "origin_mm": self.patient_from_bone.translation_mm.tolist(),
            "right": axes[:, 0].tolist(),
            "anterior": axes[:, 1].tolist(),
            "cranial": axes[:, 2].tolist(),
            "from": {"cranial": self.cranial, "sides": self.sides, "origin": self.origin},
        }


def bone_frame(twin: Twin, bone: str) -> Rigid[Patient, Bone]:
    """Patient from bone axes; see `local_frame`."""
    return local_frame(twin, bone).patient_from_bone


def local_frame(twin: Twin, bone: str) -> LocalFrame:
    """The axes of one bone.

    Vertebra: z is the mean normal of its endplates (of one, where the other was not found), x runs from the left to
    the right pedicle, across z; without both pedicles y points from the canal to the body, and without that x is the
    patient's right. Origin: the body's centre, else between the endplates. Sacrum: z across the S1 endplate, origin on
    it. Other bones: Patient's directions at the centroid. Raises NoBone, and NoLandmark for a vertebra or sacrum
    without any endplate.
    """
    if bone not in UPWARD and bone != "sacrum" and _find(twin, "endplate_superior", bone) is None:
        centroid = twin.bone(bone).surface.centroid_mm
        frame = Rigid[Patient, Bone](axes_from(np.array([0.0, 0.0, 1.0]), ANTERIOR), centroid)
        return LocalFrame(bone, frame, "the patient's", "the patient's", "centroid")
    plates = [p for n in ("endplate_superior", "endplate_inferior") if (p := _find(twin, n, bone)) is not None]
    normals = [p.direction.unit for p in plates if p.direction is not None]
    if not normals:
        raise NoLandmark(f"no endplate of {bone} could be measured, so its axes are not known; is it a vertebra?")
    z = np.sum(normals, axis=0)
    z /= np.linalg.norm(z)
    left, right = _find(twin, "pedicle_left", bone), _find(twin, "pedicle_right", bone)
    canal, body = _find(twin, "canal_centre", bone), _find(twin, "body_centre", bone)
    anterior: Array
    if left is not None and right is not None:
        anterior, sides = np.cross(z, right.position.mm - left.position.mm), "pedicles"
    elif canal is not None and body is not None:
        anterior, sides = body.position.mm - canal.position.mm, "canal to body"
    else:
        anterior, sides = ANTERIOR, "the patient's"
    if body is None:
        centre, origin = np.mean([p.position.mm for p in plates], axis=0), "between the endplates"
    else:
        centre, origin = body.position.mm, "body centre"
    if bone == "sacrum":
        origin = "S1 endplate"
    words = "both endplates" if len(normals) == 2 else plates[0].name
    return LocalFrame(bone, Rigid[Patient, Bone](axes_from(z, anterior), centre), words, sides, origin)


def local_frames(twin: Twin) -> dict[str, dict[str, Any]]:
    """The axes of every vertebra and the sacrum that has them, by name, ready for JSON."""
    found = {}
    for bone in twin.bones:
        if bone in UPWARD or bone == "sacrum":
            try:
                found[bone] = local_frame(twin, bone).to_json()
            except NoLandmark:
                continue  # the twin's warnings name what is missing
    return found


def _find(twin: Twin, name: str, bone: str) -> Landmark | None:
    return next((m for m in twin.landmarks if m.name == name and m.bone == bone), None)
