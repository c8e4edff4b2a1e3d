"""Osteotomies of the spine: pedicle subtraction, Smith-Petersen/Ponte, vertebral column resection, wedges, a plane.

Grades after Schwab 2014 (Neurosurgery 74:112): 2 complete facets (SPO, Ponte), 3 pedicle and part of the body (PSO), 4
with the disc above, 5 the whole vertebra with both discs (VCR).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from spatial.distance import DistanceGrid
from spatial.frames import Bone, Patient
from spatial.rigid import Array, Directions, Points, Rigid, rotation_exp
from spatial.shapes import Line, Plane
from twin.anatomy.local_frame import bone_frame
from twin.anatomy.twin import NoBone, NoLandmark, Twin
from twin.plan.cuts.osteotomy import BadOsteotomy, Osteotomy
from twin.plan.levels import SPINE, bone_of, level_of

USUAL_PSO_DEG = 40.0
ENDPLATE_KEEP_MM = 2.0  # bone left under the endplate at the back of the body
CORD_LEVELS = ("T10", "T11", "T12", "L1")
RIGHT = np.array([1.0, 0.0, 0.0])


def pso(twin: Twin, bone: str, angle_rad: float, *, height_mm: float = 0.0) -> Osteotomy:
    """Pedicle subtraction: hinge on the anterior cortex, the wedge symmetric about a plane aimed at the pedicles.

    `height_mm`: the hinge's height above the middle of the body. The upper cut keeps 2 mm of bone under the cranial
    endplate, the lower cut above the caudal one, as far as the angle allows. Raises NoBone, NoLandmark and
    BadOsteotomy.
    """
    body = Body.of(twin, bone)
    hinge = body.anterior(height_mm)
    half = angle_rad / 2
    to_pedicle = body.pedicles() - hinge
    wanted = math.atan2(to_pedicle[2], -to_pedicle[1])
    depth = float(hinge[1] - body.posterior(height_mm)[1])
    highest = math.atan2(body.endplate("superior", hinge[1] - depth) - ENDPLATE_KEEP_MM - hinge[2], depth) - half
    lowest = math.atan2(body.endplate("inferior", hinge[1] - depth) + ENDPLATE_KEEP_MM - hinge[2], depth) + half
    notes, grade = [], 3
    tilt = (lowest + highest) / 2 if lowest > highest else min(max(wanted, lowest), highest)
    if lowest > highest:
        notes.append("the wedge is higher than the body's back wall: it opens a disc (Schwab grade 4)")
        grade = 4
    if math.degrees(angle_rad) > USUAL_PSO_DEG:
        notes.append(f"one level usually gives 25 to {USUAL_PSO_DEG:g} degrees")
    notes += _cord(bone)
    return replace(_about("PSO", bone, body, hinge, tilt, angle_rad, depth, notes), schwab=grade)


def wedge(twin: Twin, kind: str, bone: str, angle_rad: float, *, height_mm: float = 0.0) -> Osteotomy:
    """`close-wedge`: hinge in front, square to the body; `open-wedge`: a cut, hinge behind; `plane`: a cut alone."""
    body = Body.of(twin, bone)
    front, back = body.anterior(height_mm), body.posterior(height_mm)
    depth = float(front[1] - back[1])
    hinge = back if kind == "open-wedge" else front
    notes = ["the arch behind the hinge closes as the front opens: free it first"] if kind == "open-wedge" else []
    return _about(kind, bone, body, hinge, 0.0, 0.0 if kind == "plane" else angle_rad, depth, notes)


def spo(twin: Twin, bone: str, angle_rad: float) -> Osteotomy:
    """Smith-Petersen or Ponte between `bone` and the next vertebra below: facets out, the disc opens in front.

    The hinge is the back edge of the disc, midway between both vertebrae's back walls. Behind it goes what lies below
    the upper plane of `bone` and above the lower plane of the other: both joints' facets and the edges of the laminae.
    """
    other = neighbour(twin, bone, 1)
    above, below = Body.of(twin, bone), Body.of(twin, other)
    corners = [above.corner("inferior", -1.0), below.corner("superior", -1.0)]
    fronts = [above.corner("inferior", 1.0), below.corner("superior", 1.0)]
    hinge, front = np.mean(corners, axis=0), np.mean(fronts, axis=0)
    right = above.frame.rotation[:, 0] + below.frame.rotation[:, 0]
    right /= np.linalg.norm(right)
    forward = front - hinge
    forward -= (forward @ right) * right
    depth = float(np.linalg.norm(forward))
    normal = np.cross(right, forward / depth)
    planes = [Plane[Patient](hinge, rotation_exp(right * sign * angle_rad / 2) @ normal) for sign in (-1.0, 1.0)]
    notes = ["needs a disc that still moves: it opens in front", *_cord(bone)]
    if math.degrees(angle_rad) > 15.0:
        notes.append("one level usually gives 9 to 11 degrees, about 1 a millimetre of bone (Kose 2017)")
    return Osteotomy(
        f"{level_of(bone)}-SPO", "SPO", bone, (planes[0], planes[1]), Line[Patient](hinge, right), angle_rad, depth,
        tuple(notes), more=(Plane[Patient](hinge, -forward),), also=(other,), schwab=2,
    )  # fmt: skip


def vcr(twin: Twin, bone: str, angle_rad: float, *, shortening_mm: float = 0.0) -> Osteotomy:
    """The whole vertebra and both discs out; all above turns about the middle column and comes down by `shortening_mm`.

    The planes are the neighbours' endplates that face the gap. A negative shortening distracts.
    """
    upper, lower = Body.of(twin, neighbour(twin, bone, -1)), Body.of(twin, neighbour(twin, bone, 1))
    own = Body.of(twin, bone)
    top = upper.frame @ Points[Bone](upper.endplate_middle("inferior"))
    bottom = lower.frame @ Points[Bone](lower.endplate_middle("superior"))
    normals = [upper.normal("inferior"), lower.normal("superior")]
    normal = (normals[0] + normals[1]) / np.linalg.norm(normals[0] + normals[1])
    hinge = (own.frame @ Points[Bone](own.posterior(0.0))).mm
    right = own.frame.rotation[:, 0] - (own.frame.rotation[:, 0] @ normal) * normal
    depth = float(own.anterior(0.0)[1] - own.posterior(0.0)[1])
    gap = float((top.mm - bottom.mm) @ normal)
    if not -gap < shortening_mm < gap:
        raise BadOsteotomy(f"shortening by {shortening_mm:g} mm; the gap is {gap:.1f} mm high")
    notes = [
        f"the gap of {gap - shortening_mm:.0f} mm in front of the hinge needs a cage",
        "the column is held by nothing until the rods are in",
        *_cord(bone),
    ]
    planes = (Plane[Patient](top.mm, normals[0]), Plane[Patient](bottom.mm, normals[1]))
    return Osteotomy(
        f"{level_of(bone)}-VCR", "VCR", bone, planes,
        Line[Patient](hinge, right), angle_rad, depth, tuple(notes), shift_mm=-shortening_mm * normal, schwab=5,
    )  # fmt: skip


def pso_angle_rad(forward_mm: float, up_mm: float, wanted_mm: float) -> float:
    """The angle that brings a point (C7) from `forward_mm` in front of the hinge to `wanted_mm`, `up_mm` above it.

    Exact at the hinge (Yang & Ondra 2006): atan2(dx, dz) - asin(t / R). Raises BadOsteotomy when the point is nearer to
    the hinge than it shall come in front of it.
    """
    reach = math.hypot(forward_mm, up_mm)
    if not abs(wanted_mm) <= reach:
        raise BadOsteotomy(f"{wanted_mm:g} mm in front of the hinge can't be reached; the point is {reach:.0f} mm away")
    return math.atan2(forward_mm, up_mm) - math.asin(wanted_mm / reach)


def neighbour(twin: Twin, bone: str, way: int) -> str:
    """The next bone of the spine below (1) or above (-1); raises NoBone when the twin has none."""
    level = level_of(bone)
    rest = SPINE[SPINE.index(level) + 1 :] if way > 0 else SPINE[: SPINE.index(level)][::-1]
    for name in rest[:3]:  # L6 and T13 are rare, so the next may be one further
        if bone_of(name) in twin.bones:
            return bone_of(name)
    raise NoBone(f"no bone {'below' if way > 0 else 'above'} {bone} in this twin; it is needed for this kind")


def _cord(bone: str) -> list[str]:
    return ["the spinal cord or conus lies at this level"] if level_of(bone) in CORD_LEVELS else []


def _about(
    kind: str,
    bone: str,
    body: Body,
    hinge_mm: Array,
    tilt_rad: float,
    angle_rad: float,
    depth_mm: float,
    notes: list[str],
) -> Osteotomy:
    """Planes a half angle either side of one through the hinge (bone axes) that rises `tilt_rad` toward the back."""
    half = angle_rad / 2 if kind in ("PSO", "close-wedge") else 0.0
    hinge = (body.frame @ Points[Bone](hinge_mm)).mm
    planes = [
        Plane[Patient](hinge, body.frame.rotation @ rotation_exp(RIGHT * (-tilt_rad + sign * half)) @ [0.0, 0.0, 1.0])
        for sign in (-1.0, 1.0)
    ]
    line = Line[Patient](hinge, body.frame.rotation @ RIGHT)
    name = f"{level_of(bone)}-{kind}"
    return Osteotomy(name, kind, bone, (planes[0], planes[1]), line, angle_rad, depth_mm, tuple(notes))


@dataclass(frozen=True, eq=False)
class Body:
    """The walls of a vertebral body in its mid-sagittal plane, in bone axes (x right, y anterior, z cranial)."""

    twin: Twin
    bone: str
    frame: Rigid[Patient, Bone]
    grid: DistanceGrid[Patient]

    @classmethod
    def of(cls, twin: Twin, bone: str) -> Body:
        """The body of a vertebra, or the S1 body; raises NoBone, NoLandmark."""
        surface = twin.bone(bone).surface
        return cls(twin, bone, bone_frame(twin, bone), DistanceGrid[Patient].of(surface))

    def anterior(self, height_mm: float) -> Array:
        """The front wall at a height above the middle."""
        return self._wall(height_mm, 1.0)

    def posterior(self, height_mm: float) -> Array:
        """The back wall at a height above the middle."""
        return self._wall(height_mm, -1.0)

    def _wall(self, height_mm: float, way: float) -> Array:
        start = np.array([0.0, 0.0, height_mm])
        at = self.frame @ Points[Bone](start)
        if float(self.grid.distance_mm(at)) >= 0:
            raise BadOsteotomy(f"a hinge {height_mm:g} mm above the middle of {self.bone} lies outside its body")
        run = float(self.grid.trace(at, self.frame @ Directions[Bone](np.array([0.0, way, 0.0]))))
        if not math.isfinite(run):
            raise NoLandmark(f"the wall of the body of {self.bone} was not found; is the bone cut by the scan's edge?")
        return np.array([0.0, way * run, height_mm])

    def corner(self, which: str, way: float) -> Array:
        """Front (1) or back (-1) edge of an endplate's plane, Patient (3,): where the wall just inside it leads to."""
        middle = self.endplate_middle(which)
        inside = -ENDPLATE_KEEP_MM if which == "superior" else ENDPLATE_KEEP_MM
        at = self.frame @ Points[Bone](middle + np.array([0.0, 0.0, 2.0 * inside]))
        run = float(self.grid.trace(at, self.frame @ Directions[Bone](np.array([0.0, way, 0.0]))))
        if not math.isfinite(run) or float(self.grid.distance_mm(at)) >= 0:
            raise NoLandmark(f"the {which} edge of the body of {self.bone} was not found; is the bone cut by the scan?")
        y = float(middle[1] + way * run)
        return (self.frame @ Points[Bone](np.array([0.0, y, self.endplate(which, y)]))).mm

    def pedicles(self) -> Array:
        """Midway between the two isthmuses."""
        both = [self.twin.landmark(f"pedicle_{side}", self.bone).position.mm for side in ("left", "right")]
        return (self.frame.inverse() @ Points[Patient](np.mean(both, axis=0))).mm

    def normal(self, which: str) -> Array:
        """An endplate's normal, cranial, Patient (3,)."""
        mark = self.twin.landmark(f"endplate_{which}", self.bone)
        if mark.direction is None:
            raise NoLandmark(f"endplate_{which} of {self.bone} has no direction")
        return mark.direction.unit

    def endplate_middle(self, which: str) -> Array:
        """The middle of an endplate, in the mid-sagittal plane of the bone's axes."""
        at = (self.frame.inverse() @ self.twin.landmark(f"endplate_{which}", self.bone).position).mm
        return np.array([0.0, at[1], self.endplate(which, float(at[1]))])

    def endplate(self, which: str, y_mm: float) -> float:
        """Height of an endplate's plane in the mid-sagittal plane at y."""
        back = self.frame.inverse()
        point = (back @ self.twin.landmark(f"endplate_{which}", self.bone).position).mm
        normal = (back @ Directions[Patient](self.normal(which))).unit
        return float(point[2] - (normal[1] * (y_mm - point[1]) + normal[0] * (0.0 - point[0])) / normal[2])
