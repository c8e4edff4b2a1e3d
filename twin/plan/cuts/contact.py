"""What happens between the parts after an osteotomy: where they run into each other, and how much face lies on face."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from spatial.distance import DistanceGrid
from spatial.frames import Patient, Planned
from spatial.mesh import TriangleMesh
from spatial.rigid import Rigid
from twin.anatomy.twin import Twin
from twin.plan.cuts.cut import plane_axes
from twin.plan.cuts.osteotomy import Osteotomy
from twin.plan.cuts.reduction import STAYS, Body, carry_out
from twin.plan.cuts.section import Section
from twin.plan.cuts.solid import mesh_of, solid_of

LEAST_MM3 = 2.0  # faces that lie on each other overlap by rounding
LEAST_MM = 0.1


@dataclass(frozen=True)
class Collision:
    """Two bones, or parts of them, that overlap where the plan puts them, by how much, and how thick the overlap is.

    `at_hinge`: the two parts of the cut bone, where the bridge beyond the hinge bends. `before_mm3`: what they
    overlapped by as scanned.
    """

    first: str
    second: str
    volume_mm3: float
    depth_mm: float
    before_mm3: float
    at_hinge: bool

    def to_json(self) -> dict[str, Any]:
        """As the plan's commands print it."""
        return {
            "between": [self.first, self.second],
            "volume_mm3": self.volume_mm3,
            "depth_mm": self.depth_mm,
            "before_mm3": self.before_mm3,
            "at_hinge": self.at_hinge,
        }


def collisions(twin: Twin, osteotomies: Iterable[Osteotomy]) -> tuple[Collision, ...]:
    """Parts that overlap more than as scanned, of those that moved against each other; the largest first.

    `depth_mm` is twice the radius of the largest ball in the overlap.
    """
    cuts = list(osteotomies)
    bodies = [body for body in carry_out(twin, cuts) if body.role != "removed"]
    hinged = {cut.bone for cut in cuts if cut.kind in ("open-wedge", "close-wedge", "PSO")}
    found = []
    solids: dict[str, Any] = {}
    boxes = {body.name: body.planned_mesh.bounds_mm for body in bodies}
    for n, one in enumerate(bodies):
        for two in bodies[n + 1 :]:
            if _rides(one, two) or not _may_meet(boxes[one.name], boxes[two.name]):
                continue
            overlap = _planned(one, solids) ^ _planned(two, solids)
            volume = float(overlap.volume())
            if volume < LEAST_MM3:
                continue
            before = 0.0 if one.bone == two.bone else float((solid_of(one.mesh) ^ solid_of(two.mesh)).volume())
            depth = _thickness_mm(mesh_of(overlap))
            if volume > before + LEAST_MM3 and depth > LEAST_MM:
                at_hinge = one.bone == two.bone and one.bone in hinged
                found.append(Collision(one.name, two.name, volume, depth, before, at_hinge))
    return tuple(sorted(found, key=lambda c: -c.volume_mm3))


@dataclass(frozen=True)
class Faces:
    """The cut faces after closing: each one's area, and the area that lies on the other."""

    moving_mm2: float
    staying_mm2: float
    contact_mm2: float

    @property
    def share(self) -> float:
        """Of the smaller face, how much is covered."""
        least = min(self.moving_mm2, self.staying_mm2)
        return self.contact_mm2 / least if least > 0 else 0.0

    def to_json(self) -> dict[str, Any]:
        """As the plan's commands print it."""
        return {
            "moving_mm2": self.moving_mm2,
            "staying_mm2": self.staying_mm2,
            "contact_mm2": self.contact_mm2,
            "contact_share": self.share,
        }


def faces(twin: Twin, cut: Osteotomy) -> Faces | None:
    """How the two faces meet after closing; None for kinds that leave a gap, or take no face of bone."""
    if cut.kind not in ("PSO", "close-wedge", "derotation", "oblique"):
        return None
    import manifold3d

    surface, (first, second) = twin.bone(cut.bone).surface, cut.planes
    near = cut.hinge.point_mm
    upper, lower = Section.of(surface, first, near), Section.of(surface, second, near)
    axes = plane_axes(second.normal)
    motion = cut.motion
    shapes = []
    for section, moved in ((upper, motion), (lower, Rigid[Patient, Patient].identity())):
        rings = [
            ((section.at(ring) @ moved.rotation.T + moved.translation_mm) - second.point_mm) @ axes
            for ring in section.rings
        ]
        shapes.append(manifold3d.CrossSection(rings, manifold3d.FillRule.NonZero))
    overlap = float((shapes[0] ^ shapes[1]).area())
    return Faces(upper.area_mm2, lower.area_mm2, overlap)


def _rides(one: Body, two: Body) -> bool:
    """Whether two parts keep their place against each other."""
    a, b = one.planned_from_patient, two.planned_from_patient
    return np.allclose(a.matrix(), b.matrix(), atol=1e-9)


def _planned(body: Body, solids: dict[str, Any]) -> Any:
    if body.name not in solids:
        solids[body.name] = _moved(solid_of(body.mesh), body.planned_from_patient)
    return solids[body.name]


def _moved(solid: Any, motion: Rigid[Planned, Patient]) -> Any:
    if motion is STAYS:
        return solid
    return solid.transform(np.column_stack([motion.rotation, motion.translation_mm]))


def _may_meet(one: tuple[Any, Any], two: tuple[Any, Any]) -> bool:
    return bool((one[0] < two[1]).all() and (two[0] < one[1]).all())


def _thickness_mm(overlap: TriangleMesh[Any]) -> float:
    low, high = overlap.bounds_mm
    spacing = float(np.clip((high - low).min() / 6.0, 0.1, 0.5))
    inside = float(DistanceGrid[Any].from_mesh(overlap, spacing, 2.0 * spacing).values_mm.min())
    return -2.0 * min(inside, 0.0)
