"""Formulas of a leg's axes and angles, read off landmarks. Angles in rad, lengths in mm.

Each bone is read in its own mechanical frame. Femur: up from the knee's centre to the head's, across along the line of
the most posterior condyle points. Tibia: up from the ankle's centre to the knee's, across along the line through the
middles of the plateaus. Whole leg: up along the weight-bearing line (ankle to hip), across along the condyles. `across`
shows laterally on both sides, so an angle has one sign left and right: varus, external and backward fall are as named.

Nomenclature: Paley, Principles of Deformity Correction, 2002. METHODS names what each angle is read from; version and
torsion differ by up to 10 degrees between methods, so the method belongs to the number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from spatial.rigid import Array, skew
from twin.anatomy.bone import Side
from twin.plan.measures.measured import Formula, Marks

LegFormula = Callable[[Marks, Side], float]


@dataclass(frozen=True, eq=False)
class LegAxes:
    """Right angles of one bone or leg in Patient: across (lateral), up, back (posterior), each (3,) unit."""

    across: Array
    up: Array
    back: Array

    @classmethod
    def along(cls, up: Array, across: Array, side: Side) -> LegAxes:
        """Up as given, across as near as can be to the given one."""
        up = up / np.linalg.norm(up)
        aside = across - (across @ up) * up
        aside = aside / np.linalg.norm(aside)
        return cls(aside, up, skew(up) @ aside * (1.0 if side == "left" else -1.0))

    def rise(self, way: Array) -> float:
        """How steeply a lateral way rises in the coronal plane, rad."""
        return math.atan2(float(way @ self.up), float(way @ self.across))

    def coronal(self, point: Array) -> Array:
        """A place (2,) in the coronal plane: lateral, up."""
        return np.array([point @ self.across, point @ self.up])


def hip(marks: Marks, side: Side) -> Array:
    """The femoral head's centre. Raises Unmeasured, as all of these do."""
    return marks.point("femoral_head", f"femur_{side}")


def knee(marks: Marks, side: Side) -> Array:
    """The femur's knee centre: the front edge of the notch."""
    return marks.point("intercondylar_notch", f"femur_{side}")


def tibial_knee(marks: Marks, side: Side) -> Array:
    """The tibia's knee centre: midway between the plateaus' middles."""
    bone = f"tibia_{side}"
    return 0.5 * (marks.point("plateau_medial", bone) + marks.point("plateau_lateral", bone))


def ankle(marks: Marks, side: Side) -> Array:
    """The middle of the tibial plafond."""
    return marks.point("ankle_centre", f"tibia_{side}")


def lateral_way(marks: Marks, name: str, bone: str) -> Array:
    """From the medial to the lateral one of a pair of landmarks."""
    return marks.point(f"{name}_lateral", bone) - marks.point(f"{name}_medial", bone)


def femur_axes(marks: Marks, side: Side) -> LegAxes:
    """The femur's mechanical frame."""
    across = lateral_way(marks, "condyle_posterior", f"femur_{side}")
    return LegAxes.along(hip(marks, side) - knee(marks, side), across, side)


def tibia_axes(marks: Marks, side: Side) -> LegAxes:
    """The tibia's mechanical frame."""
    across = lateral_way(marks, "plateau", f"tibia_{side}")
    return LegAxes.along(tibial_knee(marks, side) - ankle(marks, side), across, side)


def leg_axes(marks: Marks, side: Side) -> LegAxes:
    """The whole leg's frame along the weight-bearing line, the condyles in its coronal plane."""
    across = lateral_way(marks, "condyle_posterior", f"femur_{side}")
    return LegAxes.along(hip(marks, side) - ankle(marks, side), across, side)


def mldfa(marks: Marks, side: Side) -> float:
    """Lateral angle of the femur's mechanical axis and the line of the most distal condyle points."""
    line = lateral_way(marks, "condyle_distal", f"femur_{side}")
    return math.pi / 2 - femur_axes(marks, side).rise(line)


def lpfa(marks: Marks, side: Side) -> float:
    """Lateral angle of the femur's mechanical axis and the line from the head's centre to the trochanter's tip."""
    line = marks.point("greater_trochanter", f"femur_{side}") - hip(marks, side)
    return math.pi / 2 + femur_axes(marks, side).rise(line)


def mpta(marks: Marks, side: Side) -> float:
    """Medial angle of the tibia's mechanical axis and the line through the middles of the plateaus."""
    return math.pi / 2 - tibia_axes(marks, side).rise(lateral_way(marks, "plateau", f"tibia_{side}"))


def ldta(marks: Marks, side: Side) -> float:
    """Lateral angle of the tibia's mechanical axis and the plafond."""
    axes = tibia_axes(marks, side)
    normal = marks.normal("ankle_centre", f"tibia_{side}")
    return math.pi / 2 - axes.rise(plafond_way(axes, normal))


def plafond_way(axes: LegAxes, normal: Array) -> Array:
    """The plafond's lateral direction in the coronal plane, from its cranial normal."""
    return float(normal @ axes.up) * axes.across - float(normal @ axes.across) * axes.up


def jlca(marks: Marks, side: Side) -> float:
    """Between the lines of the distal condyles and of the plateaus in the femur's coronal plane, lateral opening +."""
    axes = femur_axes(marks, side)
    line = lateral_way(marks, "condyle_distal", f"femur_{side}")
    return axes.rise(line) - axes.rise(lateral_way(marks, "plateau", f"tibia_{side}"))


def hka(marks: Marks, side: Side) -> float:
    """Hip, knee and ankle in the femur's coronal plane: pi is straight, below it is varus."""
    axes = femur_axes(marks, side)
    shin = ankle(marks, side) - knee(marks, side)
    return math.pi + math.atan2(float(shin @ axes.across), -float(shin @ axes.up))


def joint_line(marks: Marks, side: Side) -> float:
    """MPTA + mLDFA: pi is square to the axes, below it the apex points down (CPAK's joint line obliquity)."""
    return mpta(marks, side) + mldfa(marks, side)


def joint_line_to_load(marks: Marks, side: Side) -> float:
    """How much the plateau's lateral side stands higher, against the weight-bearing line's perpendicular."""
    return leg_axes(marks, side).rise(lateral_way(marks, "plateau", f"tibia_{side}"))


def load_percent(marks: Marks, side: Side) -> float:
    """Where the weight-bearing line crosses the plateau: 0 medial edge, 100 lateral edge."""
    axes, bone = leg_axes(marks, side), f"tibia_{side}"
    inner, outer = (float(marks.point(f"plateau_edge_{n}", bone) @ axes.across) for n in ("medial", "lateral"))
    return 100.0 * (float(hip(marks, side) @ axes.across) - inner) / (outer - inner)


def axis_deviation_mm(marks: Marks, side: Side) -> float:
    """MAD: how far medially of the knee's centre the weight-bearing line passes."""
    axes = leg_axes(marks, side)
    return float((knee(marks, side) - hip(marks, side)) @ axes.across)


def slope(face: str) -> LegFormula:
    """How much a plateau's middle falls backward, against the tibia's mechanical axis in its sagittal plane."""

    def formula(marks: Marks, side: Side) -> float:
        axes, normal = tibia_axes(marks, side), marks.normal(f"plateau_{face}", f"tibia_{side}")
        return math.atan2(float(normal @ axes.back), float(normal @ axes.up))

    return formula


def version(marks: Marks, side: Side) -> float:
    """Neck axis against the posterior condyles, across the femur's mechanical axis; anteversion +."""
    axes = femur_axes(marks, side)
    neck = marks.point("femoral_neck", f"femur_{side}") - hip(marks, side)
    return math.atan2(float(neck @ axes.back), float(neck @ axes.across))


def neck_shaft(marks: Marks, side: Side) -> float:
    """Neck axis against the femur's mechanical axis, in space; about 6 degrees more than against the shaft's."""
    axes = femur_axes(marks, side)
    neck = marks.point("femoral_neck", f"femur_{side}") - hip(marks, side)
    return math.acos(float(np.clip(neck @ axes.up / np.linalg.norm(neck), -1.0, 1.0)))


def torsion(marks: Marks, side: Side) -> float:
    """The line of the malleolar tips against that of the plateaus, across the tibia's mechanical axis; external +."""
    axes = tibia_axes(marks, side)
    line = marks.point("malleolus_lateral", f"fibula_{side}") - marks.point("malleolus_medial", f"tibia_{side}")
    return math.atan2(float(line @ axes.back), float(line @ axes.across))


def femur_mm(marks: Marks, side: Side) -> float:
    """Head's centre to knee's centre."""
    return float(np.linalg.norm(hip(marks, side) - knee(marks, side)))


def tibia_mm(marks: Marks, side: Side) -> float:
    """Knee's centre to ankle's centre."""
    return float(np.linalg.norm(tibial_knee(marks, side) - ankle(marks, side)))


def leg_mm(marks: Marks, side: Side) -> float:
    """Hip to ankle, straight: what the leg is long as it lies."""
    return float(np.linalg.norm(hip(marks, side) - ankle(marks, side)))


def _degrees(formula: LegFormula) -> LegFormula:
    return lambda marks, side: math.degrees(formula(marks, side))


LEG_FORMULAS: Mapping[str, LegFormula] = MappingProxyType(
    {
        "hka_deg": _degrees(hka),
        "mldfa_deg": _degrees(mldfa),
        "mpta_deg": _degrees(mpta),
        "jlca_deg": _degrees(jlca),
        "lpfa_deg": _degrees(lpfa),
        "ldta_deg": _degrees(ldta),
        "joint_line_obliquity_deg": _degrees(joint_line),
        "joint_line_to_load_deg": _degrees(joint_line_to_load),
        "weight_bearing_line_percent": load_percent,
        "mechanical_axis_deviation_mm": axis_deviation_mm,
        "tibial_slope_medial_deg": _degrees(slope("medial")),
        "tibial_slope_lateral_deg": _degrees(slope("lateral")),
        "femoral_version_deg": _degrees(version),
        "neck_to_axis_deg": _degrees(neck_shaft),
        "tibial_torsion_deg": _degrees(torsion),
        "femur_length_mm": femur_mm,
        "tibia_length_mm": tibia_mm,
        "leg_length_mm": leg_mm,
    }
)
LEG_WORDS: Mapping[str, str] = MappingProxyType(
    {
        "hka_deg": "Hip-knee-ankle angle (HKA, 180 straight, varus below)",
        "mldfa_deg": "Mechanical lateral distal femoral angle (mLDFA)",
        "mpta_deg": "Medial proximal tibial angle (MPTA)",
        "jlca_deg": "Joint line convergence (JLCA, opening laterally +)",
        "lpfa_deg": "Lateral proximal femoral angle (LPFA)",
        "ldta_deg": "Lateral distal tibial angle (LDTA)",
        "joint_line_obliquity_deg": "Joint line obliquity (MPTA + mLDFA, 180 square)",
        "joint_line_to_load_deg": "Plateau to the weight-bearing line's perpendicular (lateral side higher +)",
        "weight_bearing_line_percent": "Weight-bearing line on the plateau (0 medial, 100 lateral)",
        "mechanical_axis_deviation_mm": "Mechanical axis deviation (medial of the knee's centre +)",
        "tibial_slope_medial_deg": "Posterior tibial slope, medial",
        "tibial_slope_lateral_deg": "Posterior tibial slope, lateral",
        "femoral_version_deg": "Femoral version (anteversion +)",
        "neck_to_axis_deg": "Neck to mechanical axis",
        "tibial_torsion_deg": "Tibial torsion (external +)",
        "femur_length_mm": "Femur, head to knee centre",
        "tibia_length_mm": "Tibia, knee to ankle centre",
        "leg_length_mm": "Leg, hip to ankle centre",
    }
)
METHODS: Mapping[str, str] = MappingProxyType(
    {
        "coronal plane": "each bone's own: its mechanical axis and the posterior condyles (femur) or plateaus (tibia)",
        "femoral_version_deg": "head centre to the neck's narrowest section, against the posterior condyles",
        "tibial_torsion_deg": "tips of the malleoli against the line through the middles of the plateaus",
        "tibial_slope_medial_deg": "plane of the face's middle (radius 11 mm) against the tibia's mechanical axis",
        "load": "the scan is supine and unloaded: JLCA, HKA and the weight-bearing line differ standing",
    }
)


def of_side(formula: LegFormula, side: Side) -> Formula:
    """The formula of one leg."""
    return lambda marks: formula(marks, side)
