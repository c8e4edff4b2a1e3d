"""Where the hinge of a wedge usually lies in tibia and femur, and how far it is from there to the far cortex.

Tibia: 15 mm below the plateau, the saw coming from 37.5 mm below it on the other side. Femur: 45 mm above the condyles,
from 60 mm above them. The hinge lies 7.5 mm inside the near cortex. All are surgeons' usual distances, unverified: they
are where a plan begins, and the angle follows the hinge that is chosen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spatial.frames import Patient
from spatial.mesh import TriangleMesh
from spatial.rigid import Array
from twin.anatomy import sections
from twin.anatomy.bone import Side
from twin.plan import leg_angles
from twin.plan.cora import Limb
from twin.plan.leg_angles import LegAxes
from twin.plan.measured import Marks, Unmeasured

HINGE_MM = {"tibia": 15.0, "femur": 45.0}  # from the joint line
ENTRY_MM = {"tibia": 37.5, "femur": 60.0}
INSIDE_MM = 7.5


@dataclass(frozen=True, eq=False)
class Hinge:
    """A point (3,) of the hinge line in the leg's mid-coronal plane, and the distance to the cortex at the entry."""

    point_mm: Array
    length_mm: float


def usual_hinge(mesh: TriangleMesh[Patient], marks: Marks, side: Side, limb: Limb, at: str) -> Hinge:
    """On the `medial` or `lateral` side of a bone. Raises Unmeasured where the bone does not show there."""
    axes = leg_angles.leg_axes(marks, side)
    if limb == "tibia":
        joint, down = leg_angles.tibial_knee(marks, side), -1.0
    else:
        bone = f"femur_{side}"
        joint = 0.5 * (marks.point("condyle_distal_medial", bone) + marks.point("condyle_distal_lateral", bone))
        depth = leg_angles.knee(marks, side) @ axes.back
        joint, down = joint + (depth - joint @ axes.back) * axes.back, 1.0
    near, far = (1.0, -1.0) if at == "lateral" else (-1.0, 1.0)
    hinge = cortex(mesh, axes, joint + down * HINGE_MM[limb] * axes.up, near) - near * INSIDE_MM * axes.across
    entry = cortex(mesh, axes, joint + down * ENTRY_MM[limb] * axes.up, far)
    return Hinge(hinge, float(np.linalg.norm(axes.coronal(entry - hinge))))


def cortex(mesh: TriangleMesh[Patient], axes: LegAxes, level_mm: Array, way: float) -> Array:
    """The outermost place of the bone's section through a point, laterally (+1) or medially (-1); at the point's depth.

    Raises Unmeasured.
    """
    outlines = sections.loops(mesh, level_mm, axes.up)
    if not outlines:
        raise Unmeasured("the bone does not reach the level of the hinge; is it cut by the edge of the scan?")
    outline = max(outlines, key=lambda loop: loop.area_mm2).segments_mm.reshape(-1, 3)
    reach = float((way * ((outline - level_mm) @ axes.across)).max())
    return np.asarray(level_mm + way * reach * axes.across)
