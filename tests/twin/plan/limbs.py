"""Legs made of boxes, as straight as can be: every gap, bridge and angle is known in closed form."""

from functools import cache

import numpy as np

from spatial.frames import Patient
from spatial.rigid import Directions, Points
from tests.twin.plan.bodies import block, to_mesh
from twin.anatomy.bone import Bone, Landmark
from twin.anatomy.twin import Levels, Twin

WIDTH, DEEP = 70.0, 50.0  # of a tibia's and a femur's box
FEMUR, TIBIA = 400.0, 350.0
NECK_MM = 45.0
APART = 200.0  # between the two legs' middles
LATERAL = {"left": 1.0, "right": -1.0}  # Patient's x runs to the left
KNEE_Z = 0.0


@cache
def box_legs(version_deg=30.0, torsion_deg=40.0):
    """Both legs: knee at z = 0, the femur above it, tibia and fibula below, a patella in front."""
    bones, marks = {}, []
    for side, out in LATERAL.items():
        x = out * APART / 2

        def mark(name, bone, place, way=None, side=side, x=x, out=out):
            at = np.array([x + out * place[0], place[1], place[2]])  # lateral, back, up
            where = None if way is None else Directions[Patient](np.array(way, float))
            marks.append(
                Landmark(name, f"{bone}_{side}", side, Points[Patient](at), where, 0.5, None if way is None else 0.5)
            )

        def box(name, low, high, side=side, x=x, out=out):
            a, b = np.array(low, float), np.array(high, float)
            a[0], b[0] = sorted((x + out * a[0], x + out * b[0]))
            bones[f"{name}_{side}"] = Bone(f"{name}_{side}", to_mesh(block(a, b)))

        box("femur", (-WIDTH / 2, -DEEP / 2, 2), (WIDTH / 2, DEEP / 2, FEMUR + 20))
        box("tibia", (-WIDTH / 2, -DEEP / 2, -TIBIA - 10), (WIDTH / 2, DEEP / 2, -2))
        box("fibula", (WIDTH / 2 + 2, 5, -TIBIA - 20), (WIDTH / 2 + 12, 15, -20))
        box("patella", (-15, -DEEP / 2 - 20, 0), (15, -DEEP / 2 - 5, 30))
        version, torsion = np.radians(version_deg), np.radians(torsion_deg)
        mark("femoral_head", "femur", (0, 0, FEMUR))
        # the neck runs from the head outward, and backward by the version
        mark("femoral_neck", "femur", (NECK_MM * np.cos(version), NECK_MM * np.sin(version), FEMUR))
        mark("intercondylar_notch", "femur", (0, 0, KNEE_Z))
        for name, way in (("medial", -1.0), ("lateral", 1.0)):
            mark(f"condyle_posterior_{name}", "femur", (way * 25, DEEP / 2, 15))
            mark(f"condyle_distal_{name}", "femur", (way * 25, 0, 2))
            mark(f"plateau_{name}", "tibia", (way * 20, 0, 0), (0, 0, 1))
            mark(f"plateau_edge_{name}", "tibia", (way * WIDTH / 2, 0, 0))
        mark("ankle_centre", "tibia", (0, 0, -TIBIA), (0, 0, 1))
        mark("malleolus_medial", "tibia", (-25 * np.cos(torsion), -25 * np.sin(torsion), -TIBIA))
        mark("malleolus_lateral", "fibula", (25 * np.cos(torsion), 25 * np.sin(torsion), -TIBIA))
    return Twin("legs", bones, tuple(marks), Levels(1.0))
