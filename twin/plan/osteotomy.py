"""An osteotomy: a pair of planes through a hinge, and the angle by which everything cranial turns about it.

The cut normals are n+- = R(u, -+a/2) n0, both cuts run through the hinge line along u, and everything cranial moves by
x' = h + R(u, a)(x - h). u shows to the bone's right, so a positive angle is extension: it adds lordosis. After the turn
the upper cut lies on the lower one. With D from the hinge to the posterior wall the wedge is 2 D sin(a/2) high there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from spatial.distance import DistanceGrid
from spatial.faults import Misuse
from spatial.frames import Bone, Patient
from spatial.rigid import Array, Directions, Points, Rigid, rotation_exp
from spatial.shapes import Line, Plane
from twin.anatomy.local_frame import bone_frame
from twin.anatomy.twin import NoLandmark, Twin
from twin.plan.levels import level_of

KINDS = ("PSO", "close-wedge", "open-wedge", "plane")
ANGLE_DEG = (1.0, 60.0)
USUAL_PSO_DEG = 40.0
ENDPLATE_KEEP_MM = 2.0  # bone left under the endplate at the back of the body


class BadOsteotomy(Misuse):
    """An osteotomy that can't be: an unknown kind, an angle outside the range, a bone that is no vertebra."""


@dataclass(frozen=True, eq=False)
class Osteotomy:
    """Cut planes (upper, lower; normals cranial), the hinge, and the turn of everything cranial about it.

    An `open-wedge` and a `plane` are one cut: both planes are the same. `plane` turns nothing. `depth_mm` is the way
    from the hinge to the opposite wall of the body, and `notes` say what the surgeon should know of this cut.
    """

    id: str
    kind: str
    bone: str
    planes: tuple[Plane[Patient], Plane[Patient]]
    hinge: Line[Patient]
    angle_rad: float
    depth_mm: float
    notes: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        """Validate; raises BadOsteotomy."""
        check_kind(self.kind)
        low, high = (0.0, 0.0) if self.kind == "plane" else ANGLE_DEG
        if not self.id or not low <= round(math.degrees(self.angle_rad), 6) <= high:
            raise BadOsteotomy(f"angle {math.degrees(self.angle_rad):g} degrees; {self.kind} takes {low:g} to {high:g}")
        if not self.depth_mm > 0:
            raise BadOsteotomy(f"depth {self.depth_mm:g} mm from hinge to wall; it must be above zero")

    @property
    def bisector(self) -> Plane[Patient]:
        """The plane midway between the two cuts."""
        return Plane[Patient](self.hinge.point_mm, self.planes[0].normal + self.planes[1].normal)

    @property
    def wedge_height_mm(self) -> float:
        """Height of the wedge at `depth_mm` from the hinge, chord 2 D sin(a/2): resected, or opened; 0 for a plane."""
        return wedge_height_mm(self.depth_mm, self.angle_rad)

    def to_json(self) -> dict[str, Any]:
        """The keys of the command line."""
        return {
            "id": self.id,
            "kind": self.kind,
            "bone": self.bone,
            "angle_deg": math.degrees(self.angle_rad),
            "hinge": {"point_mm": self.hinge.point_mm.tolist(), "direction": self.hinge.direction.tolist()},
            "planes": [{"point_mm": p.point_mm.tolist(), "normal": p.normal.tolist()} for p in self.planes],
            "depth_mm": self.depth_mm,
            "notes": list(self.notes),
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Osteotomy:
        """Inverse of `to_json`; other keys are ignored. Raises BadOsteotomy."""
        try:
            upper, lower = (Plane[Patient](p["point_mm"], p["normal"]) for p in value["planes"])
            return cls(
                id=str(value["id"]),
                kind=str(value["kind"]),
                bone=str(value["bone"]),
                planes=(upper, lower),
                hinge=Line[Patient](value["hinge"]["point_mm"], value["hinge"]["direction"]),
                angle_rad=math.radians(float(value["angle_deg"])),
                depth_mm=float(value["depth_mm"]),
                notes=tuple(value.get("notes", ())),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise BadOsteotomy(f"an osteotomy lacks or spoils {error}") from None

    @classmethod
    def pso(cls, twin: Twin, bone: str, angle_rad: float, *, height_mm: float = 0.0) -> Osteotomy:
        """Pedicle subtraction: hinge on the anterior cortex, the wedge symmetric about a plane aimed at the pedicles.

        `height_mm`: the hinge's height above the middle of the body. The upper cut keeps 2 mm of bone under the cranial
        endplate, the lower cut above the caudal one, as far as the angle allows. Raises NoBone, NoLandmark and
        BadOsteotomy.
        """
        body = _Body.of(twin, bone)
        hinge = body.anterior(height_mm)
        half = angle_rad / 2
        to_pedicle = body.pedicles() - hinge
        wanted = math.atan2(to_pedicle[2], -to_pedicle[1])
        depth = float(hinge[1] - body.posterior(height_mm)[1])
        highest = math.atan2(body.endplate("superior", hinge[1] - depth) - ENDPLATE_KEEP_MM - hinge[2], depth) - half
        lowest = math.atan2(body.endplate("inferior", hinge[1] - depth) + ENDPLATE_KEEP_MM - hinge[2], depth) + half
        notes = []
        tilt = (lowest + highest) / 2 if lowest > highest else min(max(wanted, lowest), highest)
        if lowest > highest:
            notes.append("the wedge is higher than the body's back wall: it opens a disc (Schwab grade 4)")
        if math.degrees(angle_rad) > USUAL_PSO_DEG:
            notes.append(f"one level usually gives 25 to {USUAL_PSO_DEG:g} degrees")
        if level_of(bone) in ("L1", "T12", "T11", "T10"):
            notes.append("the spinal cord or conus lies at this level")
        return _about(twin, "PSO", bone, body, hinge, tilt, angle_rad, depth, notes)

    @classmethod
    def make(cls, twin: Twin, kind: str, bone: str, angle_rad: float, *, height_mm: float = 0.0) -> Osteotomy:
        """Any kind on a vertebra. `close-wedge`: hinge in front, square to the body; `open-wedge`: a cut, hinge behind.

        Raises BadOsteotomy (the kinds are listed), NoBone, NoLandmark.
        """
        check_kind(kind)
        twin.bone(bone)
        if not (math.isfinite(angle_rad) and math.isfinite(height_mm)):
            raise BadOsteotomy(f"angle {math.degrees(angle_rad):g} degrees, hinge {height_mm:g} mm; numbers are needed")
        if level_of(bone) in (None, "S1"):
            raise BadOsteotomy(f"{kind} of {bone} is not available; osteotomies are planned on vertebrae")
        if kind == "PSO":
            return cls.pso(twin, bone, angle_rad, height_mm=height_mm)
        body = _Body.of(twin, bone)
        front, back = body.anterior(height_mm), body.posterior(height_mm)
        depth = float(front[1] - back[1])
        hinge = back if kind == "open-wedge" else front
        notes = ["the arch behind the hinge closes as the front opens: free it first"] if kind == "open-wedge" else []
        return _about(twin, kind, bone, body, hinge, 0.0, 0.0 if kind == "plane" else angle_rad, depth, notes)


def check_kind(kind: str) -> None:
    """Raise BadOsteotomy for a kind that is not available."""
    if kind not in KINDS:
        raise BadOsteotomy(f"kind {kind!r} is not available; {', '.join(KINDS)} are")


def wedge_height_mm(depth_mm: float, angle_rad: float) -> float:
    """Chord at a depth from the hinge, measured along the cut face: 2 D sin(a/2)."""
    return 2 * depth_mm * math.sin(angle_rad / 2)


def _about(
    twin: Twin,
    kind: str,
    bone: str,
    body: _Body,
    hinge_mm: Array,
    tilt_rad: float,
    angle_rad: float,
    depth_mm: float,
    notes: list[str],
) -> Osteotomy:
    """Planes a half angle either side of one through the hinge (bone axes) that rises `tilt_rad` toward the back."""
    right = np.array([1.0, 0.0, 0.0])
    half = angle_rad / 2 if kind in ("PSO", "close-wedge") else 0.0
    hinge = (body.frame @ Points[Bone](hinge_mm)).mm
    planes = [
        Plane[Patient](hinge, body.frame.rotation @ rotation_exp(right * (-tilt_rad + sign * half)) @ [0.0, 0.0, 1.0])
        for sign in (-1.0, 1.0)
    ]
    line = Line[Patient](hinge, body.frame.rotation @ right)
    name = f"{level_of(bone)}-{kind}"
    return Osteotomy(name, kind, bone, (planes[0], planes[1]), line, angle_rad, depth_mm, tuple(notes))


@dataclass(frozen=True, eq=False)
class _Body:
    """The walls of a vertebral body in its mid-sagittal plane, in bone axes (x right, y anterior, z cranial)."""

    twin: Twin
    bone: str
    frame: Rigid[Patient, Bone]
    grid: DistanceGrid[Patient]

    @classmethod
    def of(cls, twin: Twin, bone: str) -> _Body:
        surface = twin.bone(bone).surface
        return cls(twin, bone, bone_frame(twin, bone), DistanceGrid[Patient].of(surface))

    def anterior(self, height_mm: float) -> Array:
        return self._wall(height_mm, 1.0)

    def posterior(self, height_mm: float) -> Array:
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

    def pedicles(self) -> Array:
        """Midway between the two isthmuses."""
        both = [self.twin.landmark(f"pedicle_{side}", self.bone).position.mm for side in ("left", "right")]
        return (self.frame.inverse() @ Points[Patient](np.mean(both, axis=0))).mm

    def endplate(self, which: str, y_mm: float) -> float:
        """Height of an endplate's plane in the mid-sagittal plane at y."""
        mark = self.twin.landmark(f"endplate_{which}", self.bone)
        if mark.direction is None:
            raise NoLandmark(f"endplate_{which} of {self.bone} has no direction")
        back = self.frame.inverse()
        point, normal = (back @ mark.position).mm, (back @ mark.direction).unit
        return float(point[2] - (normal[1] * (y_mm - point[1]) + normal[0] * (0.0 - point[0])) / normal[2])
