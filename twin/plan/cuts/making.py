"""An osteotomy by kind and bone, with the usual hinge, level and angle where none is given."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Any

import numpy as np

from spatial.rigid import Array
from twin.anatomy.twin import Twin
from twin.plan.cuts import hip_cuts, limb_cuts, spine_cuts
from twin.plan.cuts.chain import is_limb, is_spine, leg_place
from twin.plan.cuts.limb_cuts import About, HingeSide, Toward
from twin.plan.cuts.osteotomy import BadOsteotomy, Osteotomy, check_kind
from twin.plan.cuts.pieces import box_outline
from twin.plan.cuts.section import Section
from twin.plan.measures import leg_angles, sagittal
from twin.plan.measures.measured import Marks, Unmeasured

USUAL_KERF_MM = 1.0
SPINE_KINDS: tuple[str, ...] = ("PSO", "SPO", "VCR", "close-wedge", "open-wedge", "plane")
LIMB_KINDS: tuple[str, ...] = ("open-wedge", "close-wedge", "derotation", "oblique", "plane")
HIP_KINDS: tuple[str, ...] = ("PAO",)
USUAL_DEG: Mapping[str, float] = MappingProxyType(
    {"PSO": 30.0, "SPO": 10.0, "VCR": 40.0, "close-wedge": 10.0, "open-wedge": 10.0, "plane": 0.0}
)


@dataclass(frozen=True, eq=False)
class Options:
    """What may be chosen beside kind, bone and angle; None is the usual. Each kind takes some of them (see TAKEN).

    `target_deg`: the femoral version or tibial torsion that a derotation is to leave; `target_sva_mm`: how far C7 shall
    stand in front of S1's back corner, in the pose of the scan. `box_mm`: across and deep, the
    only part of the plane that is cut, `box_at_mm` from the middle of the bone's section.
    """

    height_mm: float | None = None
    target_sva_mm: float | None = None
    shortening_mm: float | None = None
    hinge_side: HingeSide | None = None
    hinge_level_mm: float | None = None
    entry_level_mm: float | None = None
    bridge_mm: float | None = None
    biplanar: bool | None = None
    at: str | None = None
    level_mm: float | None = None
    toward: Toward | None = None
    about: About | None = None
    target_deg: float | None = None
    valgus_deg: float | None = None
    flexion_deg: float | None = None
    external_deg: float | None = None
    anterior_deg: float | None = None
    margin_mm: float | None = None
    kerf_mm: float | None = None
    box_mm: tuple[float, float] | None = None
    box_at_mm: tuple[float, float] | None = None
    outline_mm: Array | None = None

    def given(self) -> dict[str, object]:
        """The options that were given, by name. Raises BadOsteotomy for a number that is none."""
        found = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None}
        for name, value in found.items():
            if isinstance(value, float) and not math.isfinite(value):
                raise BadOsteotomy(f"{name.replace('_', '-')} {value}; a number is needed")
        return found


BOUNDED = ("box_mm", "box_at_mm", "outline_mm", "kerf_mm")
WEDGE = ("hinge_side", "hinge_level_mm", "entry_level_mm", "bridge_mm")
TAKEN: Mapping[tuple[str, str], tuple[str, ...]] = MappingProxyType(
    {
        ("spine", "PSO"): ("height_mm", "target_sva_mm"),
        ("spine", "SPO"): (),
        ("spine", "VCR"): ("shortening_mm",),
        ("spine", "close-wedge"): ("height_mm", "target_sva_mm"),
        ("spine", "open-wedge"): ("height_mm", "kerf_mm"),
        ("spine", "plane"): ("height_mm", *BOUNDED),
        ("limb", "open-wedge"): (*WEDGE, "kerf_mm", "biplanar"),
        ("limb", "close-wedge"): WEDGE,
        ("limb", "derotation"): ("at", "level_mm", "toward", "about", "kerf_mm", "target_deg"),
        ("limb", "oblique"): ("at", "level_mm", "kerf_mm", "valgus_deg", "flexion_deg", "external_deg"),
        ("limb", "plane"): ("at", "level_mm", *BOUNDED),
        ("hip", "PAO"): ("anterior_deg", "margin_mm"),
    }
)


def make(
    twin: Twin,
    kind: str,
    bone: str,
    angle_rad: float | None = None,
    *,
    height_mm: float | None = None,
    options: Options | None = None,
) -> Osteotomy:
    """Any kind. Raises BadOsteotomy (with what would have been valid), NoBone, NoLandmark."""
    check_kind(kind)
    twin.bone(bone)
    chosen = options or Options()
    if height_mm is not None:
        chosen = replace(chosen, height_mm=float(height_mm))
    region = _region(kind, bone)
    wrong = [name for name in chosen.given() if name not in TAKEN[region, kind]]
    if wrong:
        names = ", ".join(f"--{name.removesuffix('_mm').replace('_', '-')}" for name in wrong)
        raise BadOsteotomy(f"{names}: not an option of {kind} on {bone}")
    if angle_rad is not None and not math.isfinite(angle_rad):
        raise BadOsteotomy(f"angle {math.degrees(angle_rad):g} degrees; a number is needed")
    made = {"spine": _spine, "limb": _limb, "hip": _hip}[region](twin, kind, bone, angle_rad, chosen)
    return _bounded(twin, made, chosen)


def _region(kind: str, bone: str) -> str:
    place = leg_place(bone)
    if is_spine(bone):
        region, kinds = "spine", SPINE_KINDS
    elif is_limb(bone) and bone.startswith(("femur", "tibia")):
        region, kinds = "limb", LIMB_KINDS
    elif place is not None and place[0] == 0:
        region, kinds = "hip", HIP_KINDS
    else:
        raise BadOsteotomy(f"{kind} of {bone} is not available; vertebrae, femora, tibiae and hip bones are cut")
    if kind not in kinds:
        raise BadOsteotomy(f"{kind} of {bone} is not available; on this bone there are {', '.join(kinds)}")
    return region


def _spine(twin: Twin, kind: str, bone: str, angle_rad: float | None, o: Options) -> Osteotomy:
    angle = math.radians(USUAL_DEG[kind]) if angle_rad is None else angle_rad
    height = o.height_mm or 0.0
    if o.target_sva_mm is not None:
        if angle_rad is not None:
            raise BadOsteotomy("--target-sva-mm says how far the wedge closes; leave the angle out")
        angle = _angle_for_sva(twin, kind, bone, height, o.target_sva_mm)
    if kind == "PSO":
        return spine_cuts.pso(twin, bone, angle, height_mm=height)
    if kind == "SPO":
        return spine_cuts.spo(twin, bone, angle)
    if kind == "VCR":
        return spine_cuts.vcr(twin, bone, angle, shortening_mm=o.shortening_mm or 0.0)
    made = spine_cuts.wedge(twin, kind, bone, angle, height_mm=height)
    return limb_cuts.with_kerf(made, o.kerf_mm) if o.kerf_mm else made


def _angle_for_sva(twin: Twin, kind: str, bone: str, height_mm: float, wanted_mm: float) -> float:
    """The angle at the hinge that brings C7 where it is wanted (Yang & Ondra); the hinge doesn't depend on it."""
    trial = math.radians(USUAL_DEG[kind])
    made = spine_cuts.pso(twin, bone, trial, height_mm=height_mm)
    marks = Marks.of(twin.landmarks, twin.warnings)
    try:
        axes = sagittal.sagittal_axes(marks)
        c7 = axes @ (sagittal.body_middle(marks, "vertebrae_C7") - made.hinge.point_mm)
        corner = axes @ (marks.point("posterior_corner", "sacrum") - made.hinge.point_mm)
    except Unmeasured as fault:
        raise BadOsteotomy(f"the SVA can't be measured, so give the angle: {fault.message}") from None
    angle = spine_cuts.pso_angle_rad(float(c7[0]), float(c7[1]), wanted_mm + float(corner[0]))
    if angle <= 0:
        raise BadOsteotomy(
            f"C7 stands no further forward than {wanted_mm:g} mm already; a closing wedge brings it back"
        )
    return angle


def _limb(twin: Twin, kind: str, bone: str, angle_rad: float | None, o: Options) -> Osteotomy:
    where: dict[str, Any] = {"at": o.at or "middle", "level_mm": o.level_mm, "kerf_mm": o.kerf_mm or 0.0}
    if kind == "oblique":
        if angle_rad is not None:
            raise BadOsteotomy("an oblique cut turns by what --valgus-deg, --flexion-deg and --external-deg make")
        turns = [math.radians(v or 0.0) for v in (o.valgus_deg, o.flexion_deg, o.external_deg)]
        return limb_cuts.oblique(
            twin, bone, valgus_rad=turns[0], flexion_rad=turns[1], external_rad=turns[2], **where
        )  # fmt: skip
    if kind == "plane":
        return limb_cuts.plane(twin, bone, **where)
    if kind == "derotation":
        angle, toward = _derotation(twin, bone, angle_rad, o)
        if o.about not in (None, "shaft", "mechanical"):
            raise BadOsteotomy(f"about {o.about!r}; it turns about the shaft or the mechanical axis")
        return limb_cuts.derotation(twin, bone, angle, toward, about=o.about or "shaft", **where)
    angle = math.radians(USUAL_DEG[kind]) if angle_rad is None else angle_rad
    return limb_cuts.wedge(
        twin, kind, bone, angle, hinge_side=o.hinge_side, hinge_level_mm=o.hinge_level_mm,
        entry_level_mm=o.entry_level_mm, bridge_mm=limb_cuts.BRIDGE_MM if o.bridge_mm is None else o.bridge_mm,
        kerf_mm=o.kerf_mm or 0.0, biplanar=bool(o.biplanar),
    )  # fmt: skip


def _hip(twin: Twin, kind: str, bone: str, angle_rad: float | None, o: Options) -> Osteotomy:
    if angle_rad is None:
        raise BadOsteotomy(f"{kind} has no usual angle; say by how much the socket turns outward")
    anterior = math.radians(o.anterior_deg or 0.0)
    return hip_cuts.pao(twin, bone, angle_rad, anterior_rad=anterior, margin_mm=o.margin_mm or 0.0)


def derotation_of(bone: str, measured_deg: float, target_deg: float) -> tuple[float, Toward]:
    """How far (rad) and which way the distal part turns so that version or torsion comes to the target.

    Femur: anteversion is the neck's lead over the condyles, so too much of it asks for external rotation of the distal
    part. Tibia: too much external torsion asks for internal rotation.
    """
    excess = measured_deg - target_deg
    outward = (excess > 0) == bone.startswith("femur")
    return math.radians(abs(excess)), "external" if outward else "internal"


def _derotation(twin: Twin, bone: str, angle_rad: float | None, o: Options) -> tuple[float, Toward]:
    if (angle_rad is None) == (o.target_deg is None):
        raise BadOsteotomy("a derotation needs an angle with --toward, or --target-deg")
    if angle_rad is not None:
        if o.toward not in ("external", "internal"):
            raise BadOsteotomy("a derotation needs --toward external or internal: the way the distal part turns")
        return angle_rad, o.toward
    if o.toward is not None:
        raise BadOsteotomy("--target-deg says which way the distal part turns; leave --toward out")
    kind, _, side = bone.partition("_")
    formula: Callable[..., float] = leg_angles.version if kind == "femur" else leg_angles.torsion
    try:
        measured = math.degrees(formula(Marks.of(twin.landmarks, twin.warnings), side))
    except Unmeasured as fault:
        raise BadOsteotomy(f"the rotation of {bone} can't be measured, so give the angle: {fault.message}") from None
    return derotation_of(bone, measured, o.target_deg or 0.0)


def _bounded(twin: Twin, made: Osteotomy, o: Options) -> Osteotomy:
    if o.outline_mm is None and o.box_mm is None:
        if o.box_at_mm is not None:
            raise BadOsteotomy("--box-at moves the box that --box gives")
        return made
    if o.outline_mm is not None and o.box_mm is not None:
        raise BadOsteotomy("give the box or the outline, not both")
    if not made.kerf_mm:  # a cut that ends within the bone is a slot
        made = limb_cuts.with_kerf(made, USUAL_KERF_MM)
    plane = made.bisector
    if o.outline_mm is not None:
        off = (np.asarray(o.outline_mm, float) - plane.point_mm) @ plane.normal
        return replace(made, outline_mm=o.outline_mm - np.outer(off, plane.normal))
    across, deep = o.box_mm or (0.0, 0.0)
    if not (across > 0 and deep > 0):
        raise BadOsteotomy(f"a box of {across:g} x {deep:g} mm; both must be above zero")
    section = Section.of(twin.bone(made.bone).surface, plane, made.hinge.point_mm)
    along = made.hinge.direction - (made.hinge.direction @ plane.normal) * plane.normal
    if float(np.linalg.norm(along)) < 0.5:  # the hinge stands across the plane, as in a derotation
        along = np.array([-1.0, 0.0, 0.0]) + plane.normal[0] * plane.normal
    along = along / np.linalg.norm(along)
    dx, dy = o.box_at_mm or (0.0, 0.0)
    middle = section.centroid_mm + dx * along + dy * np.cross(plane.normal, along)
    return replace(made, outline_mm=box_outline(plane, middle, along, across, deep))
