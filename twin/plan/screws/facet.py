"""Whether a screw violates the facet joint with the vertebra above: shaft or head in the joint, head in its bone.

The joint is the two faces that look at each other across a few millimetres, found around the facets' landmarks. The
head is the library's, a cylinder on the screw's axis behind the entry. Whoever sets it deeper or tilts it has another
distance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal
from weakref import WeakKeyDictionary

import numpy as np
from scipy.spatial import cKDTree

from spatial.frames import Patient
from spatial.mesh import TriangleMesh
from spatial.rigid import Array
from twin.anatomy.bone import Landmark, Side
from twin.anatomy.twin import NoLandmark, Twin
from twin.plan.levels import RARE, SPINE, bone_of, level_of
from twin.plan.screws.clearance import points_to_cylinder_mm
from twin.plan.screws.implants import Library, load_library
from twin.plan.screws.screw import Screw

JOINT_MM = 10.0  # a facet's radius, and what it may be off by
GAP_MM = 4.0  # across the joint, cartilage included
NEAR_MM = 45.0  # of the neighbour's bone around the joint


@dataclass(frozen=True)
class FacetCheck:
    """Distances (mm, negative: inside) of shaft and head to the joint's faces, and of the head to the upper bone."""

    neighbour: str
    shaft_mm: float
    head_mm: float
    head_to_bone_mm: float

    @property
    def violated_by(self) -> Literal["shaft", "head"] | None:
        """What is in the joint or in the upper bone."""
        if self.shaft_mm < 0.0:
            return "shaft"
        return "head" if min(self.head_mm, self.head_to_bone_mm) < 0.0 else None

    def to_json(self) -> dict[str, Any]:
        """As `facet`."""
        return {
            "neighbour": self.neighbour,
            "violated_by": self.violated_by,
            "shaft_to_joint_mm": round(self.shaft_mm, 2),
            "head_to_joint_mm": round(self.head_mm, 2),
            "head_to_neighbour_mm": round(self.head_to_bone_mm, 2),
        }


def facet_check(twin: Twin, screw: Screw, library: Library | None = None) -> FacetCheck | str:
    """For a pedicle screw against the vertebra above; else the reason why nothing can be said."""
    above = neighbour_above(twin, screw.bone)
    if above is None:
        return f"no vertebra above {screw.bone} in this twin"
    joint = joint_points(twin, screw.bone, above, screw.side)
    if isinstance(joint, str):
        return joint
    faces, bone = joint
    library = load_library() if library is None else library
    family = library.screws(screw.family_name, screw.kind)
    axis = screw.axis
    behind = axis.point_mm - family.head.height_mm * axis.direction
    wide = family.head.diameter_mm / 2.0
    return FacetCheck(
        above,
        points_to_cylinder_mm(faces, axis.point_mm, axis.direction, screw.length_mm, screw.diameter_mm / 2.0),
        points_to_cylinder_mm(faces, behind, axis.direction, family.head.height_mm, wide),
        points_to_cylinder_mm(bone, behind, axis.direction, family.head.height_mm, wide),
    )


def neighbour_above(twin: Twin, bone: str) -> str | None:
    """The next vertebra upward, if this twin has it; levels that few people have are passed over."""
    level = level_of(bone)
    if level is None:
        return None
    for upper in reversed(SPINE[: SPINE.index(level)]):
        if bone_of(upper) in twin.bones:
            return bone_of(upper)
        if upper not in RARE:
            return None
    return None


def joint_points(twin: Twin, bone: str, above: str, side: Side) -> tuple[Array, Array] | str:
    """Points (N, 3) of the two faces, and of the upper bone around them (M, 3); else the reason. Kept while the bone
    lives.
    """
    mesh = twin.bone(bone).surface
    known = _JOINTS.setdefault(mesh, {})
    if (above, side) not in known:
        known[above, side] = _joint(twin, bone, above, side)
    return known[above, side]


def _joint(twin: Twin, bone: str, above: str, side: Side) -> tuple[Array, Array] | str:
    try:
        lower_mark = twin.landmark(f"facet_superior_{side}", bone)
        upper_mark = twin.landmark(f"facet_inferior_{side}", above)
    except NoLandmark as fault:
        return fault.message
    lower, _ = _around(twin.bone(bone).surface, lower_mark, JOINT_MM)
    upper, near = _around(twin.bone(above).surface, upper_mark, JOINT_MM)
    if len(lower) < 3 or len(upper) < 3:
        return "the facet's landmark lies off its bone"
    own = lower[cKDTree(upper).query(lower)[0] < GAP_MM]
    other = upper[cKDTree(lower).query(upper)[0] < GAP_MM]
    if not len(own) or not len(other):
        return "the facets do not face each other; fused, removed, or far apart"
    return np.ascontiguousarray(np.vstack([own, other])), np.ascontiguousarray(near)


def _around(mesh: TriangleMesh[Patient], mark: Landmark, radius_mm: float) -> tuple[Array, Array]:
    """The surface's points within a radius of a landmark, and those in its wider surroundings."""
    far = np.linalg.norm(mesh.vertices_mm - mark.position.mm, axis=1)
    return mesh.vertices_mm[far < radius_mm], mesh.vertices_mm[far < NEAR_MM]


_JOINTS: WeakKeyDictionary[TriangleMesh[Any], dict[tuple[str, str], tuple[Array, Array] | str]] = WeakKeyDictionary()
