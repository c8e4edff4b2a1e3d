"""What an osteotomy does to the leg in the planes that it was not made for, from the landmarks before and after."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from twin.anatomy.bone import Side
from twin.anatomy.twin import Twin
from twin.plan.cuts.chain import leg_place
from twin.plan.cuts.osteotomy import Osteotomy
from twin.plan.cuts.reduction import planned_landmarks
from twin.plan.measures.leg_angles import LEG_FORMULAS
from twin.plan.measures.measured import Marks, Unmeasured

# of each bone: coronal, sagittal, axial and length, as far as the landmarks go
TOLD: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "femur": (
            "mldfa_deg",
            "hka_deg",
            "weight_bearing_line_percent",
            "femoral_version_deg",
            "femur_length_mm",
            "leg_length_mm",
        ),
        "tibia": (
            "mpta_deg",
            "hka_deg",
            "weight_bearing_line_percent",
            "tibial_slope_medial_deg",
            "tibial_slope_lateral_deg",
            "tibial_torsion_deg",
            "tibia_length_mm",
            "leg_length_mm",
        ),
    }
)


def leg_effects(twin: Twin, osteotomies: Iterable[Osteotomy], bone: str) -> dict[str, dict[str, float]]:
    """Angle or length by name: before, after, change; what can't be measured is left out."""
    place = leg_place(bone)
    kind = bone.partition("_")[0]
    if place is None or kind not in TOLD:
        return {}
    side: Side = "left" if place[1] == "left" else "right"
    cuts = list(osteotomies)
    before = Marks.of(twin.landmarks, twin.warnings)
    after = Marks.of(planned_landmarks(twin, cuts), twin.warnings)
    found = {}
    for name in TOLD[kind]:
        try:
            was, will = (LEG_FORMULAS[name](marks, side) for marks in (before, after))
        except Unmeasured:
            continue
        found[name] = {"before": was, "after": will, "change": will - was}
    return found
