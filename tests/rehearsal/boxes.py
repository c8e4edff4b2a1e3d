"""A small patient of boxes, all truth by hand: three lumbar levels and a sacrum, 32 mm apart, prone-ready."""

from __future__ import annotations

import numpy as np

from rehearsal.model import Model
from spatial.frames import Patient
from spatial.mesh import TriangleMesh
from spatial.rigid import Array, Directions, Points
from twin.anatomy.bone import Bone, Landmark
from twin.anatomy.twin import Levels, Twin
from twin.plan.cuts.osteotomy import Osteotomy
from twin.plan.plan import Plan
from twin.plan.screws.screw import Screw

HALF_MM = np.array([24.0, 30.0, 13.0])  # x, y, z
CENTRES_MM = {
    "vertebrae_L2": np.array([3.0, 5.0, 96.0]),
    "vertebrae_L3": np.array([3.0, 5.0, 64.0]),
    "vertebrae_L4": np.array([3.0, 5.0, 32.0]),
    "sacrum": np.array([3.0, 5.0, 0.0]),
}
PEDICLE_X_MM = 12.0
SIGNS = {"left": 1.0, "right": -1.0}  # +x is the patient's left
FACES = [(0, 3, 2, 1), (4, 5, 6, 7), (0, 1, 5, 4), (1, 2, 6, 5), (2, 3, 7, 6), (3, 0, 4, 7)]


def box(centre_mm: Array, half_mm: Array = HALF_MM) -> TriangleMesh[Patient]:
    corners = np.array([[x, y, z] for z in (-1, 1) for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1))], dtype=float)
    triangles = [t for a, b, c, d in FACES for t in ((a, b, c), (a, c, d))]
    return TriangleMesh[Patient](centre_mm + corners * half_mm, np.array(triangles, dtype=np.int32))


def landmarks(bone: str, centre_mm: Array) -> list[Landmark]:
    forward = Directions[Patient](np.array([0.0, -1.0, 0.0]))
    up = Directions[Patient](np.array([0.0, 0.0, 1.0]))
    found = [
        Landmark(
            f"pedicle_{side}", bone, side,  # type: ignore[arg-type]  # the keys are sides
            Points[Patient](centre_mm + np.array([sign * PEDICLE_X_MM, 5.0, 0.0])), forward, 0.0,
        )
        for side, sign in SIGNS.items()
    ]  # fmt: skip
    for name, dz in (("endplate_superior", 13.0), ("endplate_inferior", -13.0)):
        found.append(Landmark(name, bone, None, Points[Patient](centre_mm + np.array([0.0, -10.0, dz])), up, 0.0))
    return found


def twin_of_boxes() -> Twin:
    bones = {name: Bone(name, box(centre)) for name, centre in CENTRES_MM.items()}
    marks = tuple(mark for name, centre in CENTRES_MM.items() for mark in landmarks(name, centre))
    return Twin("boxes", bones, marks, Levels(1.0))


def planned_screw(bone: str, side: str) -> Screw:
    entry = CENTRES_MM[bone] + np.array([SIGNS[side] * PEDICLE_X_MM, HALF_MM[1], 0.0])
    return Screw(
        id=f"{bone.removeprefix('vertebrae_')}_{side}",
        bone=bone,
        side=side,  # type: ignore[arg-type]  # left or right
        entry=Points[Patient](entry),
        target=Points[Patient](entry + np.array([0.0, -40.0, 0.0])),
        diameter_mm=6.0,
        length_mm=40.0,
    )


def planned(twin: Twin) -> Plan:
    screws = [planned_screw(bone, side) for bone in ("vertebrae_L2", "vertebrae_L4") for side in SIGNS]
    cut = Osteotomy.pso(twin, "vertebrae_L3", np.deg2rad(20.0))
    return Plan("fixation", twin.twin_id, {s.id: s for s in screws}, {cut.id: cut})


def model_of_boxes() -> Model:
    twin = twin_of_boxes()
    return Model(twin, planned(twin))
