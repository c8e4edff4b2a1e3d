"""An osteotomy by kind and bone, with the usual hinge and level where none is given."""

from __future__ import annotations

import math

from twin.anatomy.twin import Twin
from twin.plan import spine_cuts
from twin.plan.chain import is_spine
from twin.plan.osteotomy import BadOsteotomy, Osteotomy, check_kind

SPINE_KINDS = ("PSO", "SPO", "VCR", "close-wedge", "open-wedge", "plane")


def make(twin: Twin, kind: str, bone: str, angle_rad: float, *, height_mm: float = 0.0) -> Osteotomy:
    """Any kind. Raises BadOsteotomy (the kinds are listed), NoBone, NoLandmark."""
    check_kind(kind)
    twin.bone(bone)
    if not (math.isfinite(angle_rad) and math.isfinite(height_mm)):
        raise BadOsteotomy(f"angle {math.degrees(angle_rad):g} degrees, hinge {height_mm:g} mm; numbers are needed")
    if not is_spine(bone):
        raise BadOsteotomy(f"{kind} of {bone} is not available; osteotomies are planned on vertebrae")
    if kind == "PSO":
        return spine_cuts.pso(twin, bone, angle_rad, height_mm=height_mm)
    if kind == "SPO":
        return spine_cuts.spo(twin, bone, angle_rad)
    if kind == "VCR":
        return spine_cuts.vcr(twin, bone, angle_rad)
    if kind not in SPINE_KINDS:
        raise BadOsteotomy(f"{kind} of {bone} is not available; on a vertebra there are {', '.join(SPINE_KINDS)}")
    return spine_cuts.wedge(twin, kind, bone, angle_rad, height_mm=height_mm)
