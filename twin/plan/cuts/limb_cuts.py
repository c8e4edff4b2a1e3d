"""Osteotomies of femur and tibia: opening and closing wedges, derotation, a single oblique cut, a plane.

Levels are measured from the knee along the bone's mechanical axis: upward on the femur, downward on the tibia. The
usual ones are those of the fact sheet's 3.4 (medial opening-wedge HTO: hinge 15 mm below the plateau, entry 35 to 40
mm) and of common technique; they are starting points that nobody has verified here, and every one can be given.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

import numpy as np

from spatial.frames import Patient
from spatial.mesh import TriangleMesh
from spatial.rigid import Array, Points, rotation_exp, rotation_log
from spatial.shapes import Line, Plane, angle_between_rad
from twin.anatomy.bone import Side
from twin.anatomy.limbs import shaft_axis
from twin.anatomy.twin import NoLandmark, Twin
from twin.plan.cuts.chain import leg_place
from twin.plan.cuts.osteotomy import BadOsteotomy, Osteotomy
from twin.plan.cuts.section import Section
from twin.plan.measures import leg_angles
from twin.plan.measures.leg_angles import LegAxes
from twin.plan.measures.measured import Marks, Unmeasured

Toward = Literal["external", "internal"]
About = Literal["shaft", "mechanical"]
HingeSide = Literal["medial", "lateral"]
BRIDGE_MM = 8.0  # bone left beyond the hinge; 5 to 10 mm are usual
BIPLANAR_DEG = 110.0  # of the ascending cut against the cut behind it
TUBERCLE_MM = (12.0, 11.0, 10.0, 9.0, 8.0, 7.0, 6.0)  # of bone in front of the ascending cut, the thickest that fits
LEAST_BELOW_MM = 10.0  # of the plateau, where the ascending cut comes out
STEEP_DEG = 60.0  # beyond this a cut's face runs along the shaft rather than across it
# kind and bone: the hinge's side, its level and that of the opposite cortex
WEDGES: Mapping[tuple[str, str], tuple[HingeSide, float, float]] = MappingProxyType(
    {
        ("open-wedge", "tibia"): ("lateral", 15.0, 37.0),
        ("close-wedge", "tibia"): ("medial", 20.0, 20.0),
        ("open-wedge", "femur"): ("medial", 40.0, 58.0),
        ("close-wedge", "femur"): ("lateral", 40.0, 58.0),
    }
)
LEVELS_MM: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        "proximal": {"femur": 0.75, "tibia": 0.22},
        "middle": {"femur": 0.5, "tibia": 0.5},
        "distal": {"femur": 0.2, "tibia": 0.85},
    }
)  # share of the bone's length from the knee


@dataclass(frozen=True, eq=False)
class Limb:
    """A femur or a tibia with its mechanical frame: across is lateral, back posterior, up cranial."""

    bone: str
    kind: Literal["femur", "tibia"]
    side: Side
    surface: TriangleMesh[Patient]
    axes: LegAxes
    knee_mm: Array
    far_mm: Array

    @classmethod
    def of(cls, twin: Twin, bone: str) -> Limb:
        """Raises BadOsteotomy for another bone, NoBone, NoLandmark when a joint is not in the scan."""
        place, kind = leg_place(bone), bone.partition("_")[0]
        surface = twin.bone(bone).surface
        if place is None or kind not in ("femur", "tibia"):
            raise BadOsteotomy(f"{bone} is neither femur nor tibia; limbs are cut there")
        side: Side = "left" if place[1] == "left" else "right"
        marks = Marks.of(twin.landmarks, twin.warnings)
        try:
            if kind == "femur":
                axes, knee = leg_angles.femur_axes(marks, side), leg_angles.knee(marks, side)
                return cls(bone, "femur", side, surface, axes, knee, leg_angles.hip(marks, side))
            axes, knee = leg_angles.tibia_axes(marks, side), leg_angles.tibial_knee(marks, side)
            return cls(bone, "tibia", side, surface, axes, knee, leg_angles.ankle(marks, side))
        except Unmeasured as fault:
            raise NoLandmark(f"{bone} can't be cut by its axes: {fault.message}") from None

    @property
    def length_mm(self) -> float:
        """Between the bone's joints."""
        return float(np.linalg.norm(self.far_mm - self.knee_mm))

    @property
    def away(self) -> Array:
        """From the knee into the bone."""
        return self.axes.up if self.kind == "femur" else -self.axes.up

    @property
    def distal(self) -> Array:
        """Down the leg."""
        return -self.axes.up

    @property
    def shaft(self) -> Array:
        """The shaft's own axis (3,), cranial."""
        return shaft_axis(self.surface)

    def turns(self) -> dict[str, Array]:
        """Axes (3,) about which a positive turn brings the distal part into valgus, flexion, external rotation."""
        a = self.axes
        return {
            "valgus": np.cross(a.across, a.up),
            "flexion": np.cross(a.back, a.up),
            "external": np.cross(a.across, a.back),
        }

    def section_at(self, level_mm: float) -> Section:
        """Across the mechanical axis at a level from the knee. Raises BadOsteotomy where there is no bone."""
        at = self.knee_mm + level_mm * self.away
        found = Section.of(self.surface, Plane[Patient](at, self.distal), at)
        if not found.rings:
            raise BadOsteotomy(f"no bone of {self.bone} {level_mm:g} mm from the knee; is it cut by the scan's edge?")
        return found


def wedge(
    twin: Twin,
    kind: str,
    bone: str,
    angle_rad: float,
    *,
    hinge_side: HingeSide | None = None,
    hinge_level_mm: float | None = None,
    entry_level_mm: float | None = None,
    bridge_mm: float = BRIDGE_MM,
    kerf_mm: float = 0.0,
    biplanar: bool = False,
) -> Osteotomy:
    """An opening or closing wedge in the coronal plane; the hinge runs straight back, so the slope stays.

    Without `hinge_side` the tibia goes into valgus and the femur into varus, as for HTO and distal femoral osteotomy.
    `biplanar`: an ascending cut behind the tubercle, which stays with the shaft.
    """
    limb = Limb.of(twin, bone)
    side, hinge_at, entry_at = WEDGES[kind, limb.kind]
    side, hinge_at = hinge_side or side, hinge_at if hinge_level_mm is None else hinge_level_mm
    entry_at = entry_at if entry_level_mm is None else entry_level_mm
    beyond = limb.axes.across if side == "lateral" else -limb.axes.across
    section = limb.section_at(hinge_at)
    wall = section.reach_mm(section.centroid_mm, beyond)
    if not 0.0 <= bridge_mm < wall:
        raise BadOsteotomy(
            f"a bridge of {bridge_mm:g} mm; from the bone's middle to its {side} wall it is {wall:.1f} mm"
        )
    hinge = section.centroid_mm + (wall - bridge_mm) * beyond
    far = limb.section_at(entry_at)
    entry = far.centroid_mm + far.reach_mm(far.centroid_mm, -beyond) * -beyond
    out = entry - hinge
    out = out - (out @ limb.axes.back) * limb.axes.back
    out = out / np.linalg.norm(out)
    normal = np.cross(out, limb.axes.back)
    normal = normal if float(normal @ limb.distal) > 0 else -normal
    opens = kind == "open-wedge"
    axis = np.cross(out, normal) if opens else np.cross(normal, out)
    depth = Section.of(limb.surface, Plane[Patient](hinge, normal), hinge).reach_mm(hinge, out)
    if opens:
        planes = [Plane[Patient](hinge + sign * kerf_mm / 2 * normal, normal) for sign in (1.0, -1.0)]
    else:
        planes = [Plane[Patient](hinge, rotation_exp(axis * sign * angle_rad / 2) @ normal) for sign in (-1.0, 1.0)]
    more: tuple[Plane[Patient], ...] = ()
    notes: list[str] = []
    if biplanar:
        if not (opens and limb.kind == "tibia"):
            raise BadOsteotomy("a biplanar cut is planned for the opening wedge of the tibia")
        ascending, words = _ascending(limb, planes[1], hinge)
        more, notes = (ascending,), [words]
    level = f"hinge {hinge_at:g} mm and far cortex {entry_at:g} mm from the knee"
    return Osteotomy(
        f"{bone}-{kind}", kind, bone, (planes[0], planes[1]), Line[Patient](hinge, axis), angle_rad, depth,
        (f"{level}, {bridge_mm:g} mm of bone beyond the hinge: starting values, not verified", *notes),
        kerf_mm=kerf_mm, more=more,
    )  # fmt: skip


def derotation(
    twin: Twin,
    bone: str,
    angle_rad: float,
    toward: Toward,
    *,
    at: str = "middle",
    level_mm: float | None = None,
    about: About = "shaft",
    kerf_mm: float = 0.0,
) -> Osteotomy:
    """The distal part turns outward or inward about the shaft's axis (or the mechanical one), across which is cut.

    The saw's kerf is closed, so the bone is shorter by it. `depth_mm` is the cortex's largest distance from the axis.
    """
    limb, normal, section = _across(twin, bone, at, level_mm, about)
    outward = 1.0 if float(limb.turns()["external"] @ normal) > 0 else -1.0
    axis = outward * normal if toward == "external" else -outward * normal
    middle = section.centroid_mm
    return _single(limb, "derotation", middle, normal, axis, angle_rad, section, kerf_mm, -kerf_mm * normal, ())


def oblique(
    twin: Twin,
    bone: str,
    *,
    valgus_rad: float = 0.0,
    flexion_rad: float = 0.0,
    external_rad: float = 0.0,
    at: str = "middle",
    level_mm: float | None = None,
    kerf_mm: float = 0.0,
) -> Osteotomy:
    """One oblique cut that corrects in all planes by turning in its own face: its normal is the correction's axis.

    The correction of the distal part is the turn into valgus, then flexion, then external rotation, in the bone's axes
    as scanned (negative: varus, extension, internal).
    """
    limb, _, section = _across(twin, bone, at, level_mm, "shaft")
    turns = limb.turns()
    parts = [rotation_exp(turns[n] * a) for n, a in (("valgus", valgus_rad), ("flexion", flexion_rad))]
    log = rotation_log(rotation_exp(turns["external"] * external_rad) @ parts[1] @ parts[0])
    angle = float(np.linalg.norm(log))
    if angle < 1e-6:
        raise BadOsteotomy("no correction was given; a single cut needs valgus, flexion or external rotation")
    axis = log / angle
    normal = axis if float(axis @ limb.distal) > 0 else -axis
    steep = math.degrees(angle_between_rad(normal, -limb.shaft))
    middle = section.centroid_mm
    face = Section.of(limb.surface, Plane[Patient](middle, normal), middle)
    notes = [f"the cut leans {steep:.0f} degrees from square to the shaft"]
    if steep > STEEP_DEG:
        notes.append("so oblique a cut runs along the shaft; two cuts or a wedge may be better")
    return _single(limb, "oblique", middle, normal, axis, angle, face, kerf_mm, -kerf_mm * normal, tuple(notes))


def plane(
    twin: Twin, bone: str, *, at: str = "middle", level_mm: float | None = None, kerf_mm: float = 0.0
) -> Osteotomy:
    """A cut across the shaft that moves nothing."""
    limb, normal, section = _across(twin, bone, at, level_mm, "shaft")
    return _single(limb, "plane", section.centroid_mm, normal, normal, 0.0, section, kerf_mm, np.zeros(3), ())


def with_kerf(cut: Osteotomy, kerf_mm: float) -> Osteotomy:
    """A single cut with its planes the saw's kerf apart."""
    normal = cut.bisector.normal
    planes = [Plane[Patient](cut.hinge.point_mm + sign * kerf_mm / 2 * normal, normal) for sign in (1.0, -1.0)]
    return replace(cut, planes=(planes[0], planes[1]), kerf_mm=kerf_mm)


def _across(twin: Twin, bone: str, at: str, level_mm: float | None, about: str) -> tuple[Limb, Array, Section]:
    limb = Limb.of(twin, bone)
    if at not in LEVELS_MM:
        raise BadOsteotomy(f"level {at!r}; {', '.join(LEVELS_MM)}, or millimetres from the knee")
    level = LEVELS_MM[at][limb.kind] * limb.length_mm if level_mm is None else level_mm
    normal = -limb.shaft if about == "shaft" else limb.distal
    middle = limb.section_at(level).centroid_mm
    return limb, normal, Section.of(limb.surface, Plane[Patient](middle, normal), middle)


def _single(
    limb: Limb,
    kind: str,
    middle: Array,
    normal: Array,
    axis: Array,
    angle_rad: float,
    section: Section,
    kerf_mm: float,
    shift_mm: Array,
    notes: tuple[str, ...],
) -> Osteotomy:
    radius = max(float(np.linalg.norm(section.at(ring) - middle, axis=1).max()) for ring in section.rings)
    cut = Plane[Patient](middle, normal)
    made = Osteotomy(
        f"{limb.bone}-{kind}", kind, limb.bone, (cut, cut), Line[Patient](middle, axis), angle_rad, radius, notes,
        shift_mm=shift_mm,
    )  # fmt: skip
    return with_kerf(made, kerf_mm) if kerf_mm > 0 else made


def _ascending(limb: Limb, cut: Plane[Patient], hinge: Array) -> tuple[Plane[Patient], str]:
    """Behind the tubercle, seen from the side BIPLANAR_DEG against the way back; the normal shows forward, to what
    stays distal.

    Of the thicknesses the first one whose cut comes out far enough below the plateau; and what is to be said of it.
    """
    front = -limb.axes.back
    section = Section.of(limb.surface, cut, hinge)
    middle = section.centroid_mm
    angle = math.radians(BIPLANAR_DEG)
    rise = -math.cos(angle) * front + math.sin(angle) * limb.axes.up
    normal = np.cross(limb.axes.across, rise)
    normal = normal if float(normal @ front) > 0 else -normal
    words = ""
    for thick in TUBERCLE_MM:
        ascending = Plane[Patient](middle + (section.reach_mm(middle, front) - thick) * front, normal)
        below = _comes_out_mm(limb, cut, ascending)
        words = f"{thick:g} mm of bone at the tubercle, the ascending cut comes out {below:.0f} mm below the plateau"
        if below >= LEAST_BELOW_MM:
            return ascending, words
    return ascending, f"{words}: too near to the joint, lower the cut"


def _comes_out_mm(limb: Limb, cut: Plane[Patient], ascending: Plane[Patient]) -> float:
    """How far below the plateau the bone in front of the ascending cut ends."""
    points = Points[Patient](limb.surface.vertices_mm)
    flange = (cut.signed_distance_mm(points) < 0) & (ascending.signed_distance_mm(points) > 0)
    below = (limb.knee_mm - limb.surface.vertices_mm) @ limb.axes.up
    return float(below[flange].min()) if flange.any() else float((limb.knee_mm - ascending.point_mm) @ limb.axes.up)
