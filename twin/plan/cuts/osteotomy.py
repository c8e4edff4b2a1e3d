"""An osteotomy: its planes, the hinge, and the motion of one side of the cut against the other.

Plane normals point to the side that moves: cranial on the spine, distal on a limb (the pelvis stays). The cut normals
are n+- = R(u, -+a/2) n0, both cuts run through the hinge line along u, and what moves goes by
x' = h + R(u, a)(x - h) + shift. On the spine u shows to the bone's right, so a positive angle is extension: it adds
lordosis. After the turn the first cut lies on the second. With D from the hinge to the far wall the wedge is
2 D sin(a/2) high there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from spatial.faults import Misuse
from spatial.frames import Patient
from spatial.rigid import Array, Points, Rigid, readonly
from spatial.shapes import Line, Plane

if TYPE_CHECKING:
    from twin.anatomy.twin import Twin

# what each kind may turn by, in degrees
ANGLE_DEG: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "PSO": (1.0, 60.0),
        "SPO": (1.0, 30.0),
        "VCR": (0.0, 80.0),
        "open-wedge": (1.0, 60.0),
        "close-wedge": (1.0, 60.0),
        "derotation": (1.0, 90.0),
        "oblique": (1.0, 90.0),
        "PAO": (0.0, 60.0),
        "plane": (0.0, 0.0),
    }
)
KINDS = tuple(ANGLE_DEG)
KERF_MM = (0.0, 5.0)
FLAT_MM = 0.05  # how far an outline's corners may leave their plane


class BadOsteotomy(Misuse):
    """An osteotomy that can't be: an unknown kind, an angle outside the range, a bone that the kind is not for."""


@dataclass(frozen=True, eq=False)
class Osteotomy:
    """Cut planes (of what moves, of what stays), the hinge, and the turn about it.

    An `open-wedge`, `derotation`, `oblique` and `plane` are one cut: both planes are parallel, the saw's kerf apart.
    `plane` turns nothing. `depth_mm` is the way from the hinge to the far wall, `shift_mm` (3,) what the moving side is
    moved by after its turn. `more`: a third plane (of the biplanar cut, of PAO, behind the hinge of SPO). `also`: other
    bones that the cut takes from. `outline_mm` (N, 3): corners of the only part of the plane that is cut. `schwab`: the
    grade 1 to 6 of Schwab 2014 on the spine. `notes` say what the surgeon should know of this cut.
    """

    id: str
    kind: str
    bone: str
    planes: tuple[Plane[Patient], Plane[Patient]]
    hinge: Line[Patient]
    angle_rad: float
    depth_mm: float
    notes: tuple[str, ...] = field(default=())
    kerf_mm: float = 0.0
    shift_mm: Array = field(default_factory=lambda: np.zeros(3))
    more: tuple[Plane[Patient], ...] = ()
    also: tuple[str, ...] = ()
    outline_mm: Array | None = None
    schwab: int | None = None

    def __post_init__(self) -> None:
        """Validate; raises BadOsteotomy."""
        check_kind(self.kind)
        low, high = ANGLE_DEG[self.kind]
        if not self.id or not low <= round(math.degrees(self.angle_rad), 6) <= high:
            raise BadOsteotomy(f"angle {math.degrees(self.angle_rad):g} degrees; {self.kind} takes {low:g} to {high:g}")
        if not self.depth_mm > 0:
            raise BadOsteotomy(f"depth {self.depth_mm:g} mm from hinge to wall; it must be above zero")
        if not KERF_MM[0] <= self.kerf_mm <= KERF_MM[1]:
            raise BadOsteotomy(f"a kerf of {self.kerf_mm:g} mm; saws take {KERF_MM[0]:g} to {KERF_MM[1]:g} mm")
        if self.schwab is not None and self.schwab not in range(1, 7):
            raise BadOsteotomy(f"Schwab grade {self.schwab}; there are 1 to 6")
        object.__setattr__(self, "shift_mm", readonly(self.shift_mm, (3,), "shift_mm"))
        for name in ("notes", "more", "also"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.outline_mm is not None:
            object.__setattr__(self, "outline_mm", self._checked_outline(self.outline_mm))

    @property
    def bisector(self) -> Plane[Patient]:
        """The plane midway between the two cuts."""
        return Plane[Patient](self.hinge.point_mm, self.planes[0].normal + self.planes[1].normal)

    @property
    def wedge_height_mm(self) -> float:
        """Height of the wedge at `depth_mm` from the hinge, chord 2 D sin(a/2): resected, or opened (SPO: the disc in
        front); 0 where a turn makes none.
        """
        if self.kind in ("plane", "derotation", "oblique", "PAO", "VCR"):
            return 0.0
        return wedge_height_mm(self.depth_mm, self.angle_rad)

    @property
    def motion(self) -> Rigid[Patient, Patient]:
        """The turn and the shift of the moving side."""
        return self.motion_at(self.angle_rad)

    def motion_at(self, angle_rad: float) -> Rigid[Patient, Patient]:
        """The motion on the way, when it has turned by an angle; the shift keeps pace."""
        turn = self.hinge.rotation(angle_rad)
        share = angle_rad / self.angle_rad if self.angle_rad else 1.0
        return Rigid[Patient, Patient](turn.rotation, turn.translation_mm + share * self.shift_mm)

    def is_moving(self, points: Points[Patient]) -> NDArray[np.bool_]:
        """Which points (...,) lie on the side that moves, by place alone."""
        beyond = [plane.signed_distance_mm(points) > 0 for plane in (self.bisector, *self.planes, *self.more)]
        if self.kind == "PAO":
            return np.asarray(np.logical_and.reduce(beyond[1:]))
        if self.kind == "open-wedge" and self.more:  # biplanar: the tubercle stays with the shaft
            return np.asarray(beyond[0] | beyond[3])
        return np.asarray(beyond[0])

    def shifted(self, moved: Rigid[Patient, Patient]) -> Osteotomy:
        """The same cut elsewhere: planes, hinge and outline moved together, so its angle stays."""
        first, second = self.planes
        around = None if self.outline_mm is None else (moved @ Points[Patient](self.outline_mm)).mm
        return replace(
            self,
            planes=(first.moved(moved), second.moved(moved)),
            hinge=self.hinge.moved(moved),
            more=tuple(plane.moved(moved) for plane in self.more),
            shift_mm=moved.rotation @ self.shift_mm,
            outline_mm=around,
        )

    def to_json(self) -> dict[str, Any]:
        """The keys of the command line."""
        return {
            "id": self.id,
            "kind": self.kind,
            "bone": self.bone,
            "angle_deg": math.degrees(self.angle_rad),
            "hinge": {"point_mm": self.hinge.point_mm.tolist(), "direction": self.hinge.direction.tolist()},
            "planes": [_plane_json(p) for p in self.planes],
            "depth_mm": self.depth_mm,
            "kerf_mm": self.kerf_mm,
            "shift_mm": self.shift_mm.tolist(),
            "more_planes": [_plane_json(p) for p in self.more],
            "also": list(self.also),
            "outline_mm": None if self.outline_mm is None else self.outline_mm.tolist(),
            "schwab_grade": self.schwab,
            "notes": list(self.notes),
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Osteotomy:
        """Inverse of `to_json`; other keys are ignored, those since schema 1 may be absent. Raises BadOsteotomy."""
        try:
            upper, lower = (Plane[Patient](p["point_mm"], p["normal"]) for p in value["planes"])
            around, grade = value.get("outline_mm"), value.get("schwab_grade")
            return cls(
                id=str(value["id"]),
                kind=str(value["kind"]),
                bone=str(value["bone"]),
                planes=(upper, lower),
                hinge=Line[Patient](value["hinge"]["point_mm"], value["hinge"]["direction"]),
                angle_rad=math.radians(float(value["angle_deg"])),
                depth_mm=float(value["depth_mm"]),
                notes=tuple(value.get("notes", ())),
                kerf_mm=float(value.get("kerf_mm", 0.0)),
                shift_mm=np.asarray(value.get("shift_mm", (0.0, 0.0, 0.0)), float),
                more=tuple(Plane[Patient](p["point_mm"], p["normal"]) for p in value.get("more_planes", ())),
                also=tuple(str(bone) for bone in value.get("also", ())),
                outline_mm=None if around is None else np.asarray(around, float),
                schwab=None if grade is None else int(grade),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise BadOsteotomy(f"an osteotomy lacks or spoils {error}") from None

    @classmethod
    def pso(cls, twin: Twin, bone: str, angle_rad: float, *, height_mm: float = 0.0) -> Osteotomy:
        """Pedicle subtraction; see `spine_cuts.pso`."""
        from twin.plan.cuts.spine_cuts import pso

        return pso(twin, bone, angle_rad, height_mm=height_mm)

    @classmethod
    def make(
        cls, twin: Twin, kind: str, bone: str, angle_rad: float | None = None, *, height_mm: float | None = None
    ) -> Osteotomy:
        """Any kind with its usual hinge and level; see `making.make`, which takes every option."""
        from twin.plan.cuts.making import make

        return make(twin, kind, bone, angle_rad, height_mm=height_mm)

    def _checked_outline(self, around: Array) -> Array:
        corners = readonly(around, None, "outline_mm")
        if corners.ndim != 2 or len(corners) < 3:
            raise BadOsteotomy("an outline needs three or more corners (N, 3)")
        off = np.abs(self.bisector.signed_distance_mm(Points[Patient](corners)))
        if self.kerf_mm <= 0 or float(off.max()) > FLAT_MM:
            raise BadOsteotomy(
                f"an outline {float(off.max()):.2f} mm off its plane, kerf {self.kerf_mm:g} mm; it must lie in the "
                "plane of the cut, and a cut that ends within the bone needs the saw's kerf"
            )
        return corners


def check_kind(kind: str) -> None:
    """Raise BadOsteotomy for a kind that is not available."""
    if kind not in KINDS:
        raise BadOsteotomy(f"kind {kind!r} is not available; {', '.join(KINDS)} are")


def wedge_height_mm(depth_mm: float, angle_rad: float) -> float:
    """Chord at a depth from the hinge, measured along the cut face: 2 D sin(a/2)."""
    return 2 * depth_mm * math.sin(angle_rad / 2)


def symmetric_wedge_height_mm(depth_mm: float, angle_rad: float) -> float:
    """Height of a wedge where its bisector has run `depth_mm` from the hinge: 2 D tan(a/2)."""
    return 2 * depth_mm * math.tan(angle_rad / 2)


def _plane_json(plane: Plane[Patient]) -> dict[str, Any]:
    return {"point_mm": plane.point_mm.tolist(), "normal": plane.normal.tolist()}
