"""The spine's alignment from landmarks: every parameter with its spread, or with the reason why it was not measured.

A CT is supine: PI and the shape between two bones do not mind gravity's place, but lordosis, tilt, slope and balance of
a standing patient are others. `posture` says so with every answer, and `targets` compares nothing without being told
to. The formulas stand in `sagittal` and `curves`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from twin.anatomy.bone import Landmark
from twin.plan.measures import sagittal
from twin.plan.measures.curves import Curve, curves
from twin.plan.measures.measured import Formula, Marks, Measured, measure, why_unknown
from twin.plan.measures.sagittal import lordosis

POSTURE = "supine"
SCANNER_PLANE = "the sagittal plane is the scanner's: no two femoral heads were measured"


def _degrees(formula: Formula) -> Formula:
    return lambda marks: math.degrees(formula(marks))


FORMULAS: Mapping[str, Formula] = MappingProxyType(
    {
        "lumbar_lordosis_deg": _degrees(lordosis("vertebrae_L1", "sacrum")),
        "l4_s1_lordosis_deg": _degrees(lordosis("vertebrae_L4", "sacrum")),
        "lordosis_distribution_percent": sagittal.distribution,
        "pelvic_incidence_deg": _degrees(sagittal.pelvic_incidence),
        "pelvic_tilt_deg": _degrees(sagittal.pelvic_tilt),
        "sacral_slope_deg": _degrees(sagittal.sacral_slope),
        "pi_minus_ll_deg": _degrees(sagittal.pi_minus_ll),
        "thoracolumbar_lordosis_t10_l2_deg": _degrees(lordosis("vertebrae_T10", "vertebrae_L2")),
        "thoracic_kyphosis_t4_t12_deg": lambda marks: -math.degrees(lordosis("vertebrae_T4", "vertebrae_T12")(marks)),
        "thoracic_kyphosis_t5_t12_deg": lambda marks: -math.degrees(lordosis("vertebrae_T5", "vertebrae_T12")(marks)),
        "t1_spinopelvic_inclination_deg": _degrees(sagittal.inclination("vertebrae_T1")),
        "t1_pelvic_angle_deg": _degrees(sagittal.pelvic_angle("vertebrae_T1")),
        "l1_pelvic_angle_deg": _degrees(sagittal.pelvic_angle("vertebrae_L1")),
        "global_tilt_deg": _degrees(sagittal.global_tilt),
        "sagittal_vertical_axis_mm": sagittal.vertical_axis_mm,
        "coronal_balance_mm": sagittal.coronal_balance_mm,
        "pelvic_obliquity_deg": _degrees(sagittal.pelvic_obliquity),
    }
)
WORDS: Mapping[str, str] = MappingProxyType(
    {
        "lumbar_lordosis_deg": "Lordosis L1-S1 (LL)",
        "l4_s1_lordosis_deg": "Lordosis L4-S1",
        "lordosis_distribution_percent": "Lordosis distribution L4-S1 of L1-S1 (LDI)",
        "pelvic_incidence_deg": "Pelvic incidence (PI)",
        "pelvic_tilt_deg": "Pelvic tilt (PT)",
        "sacral_slope_deg": "Sacral slope (SS)",
        "pi_minus_ll_deg": "PI - LL",
        "thoracolumbar_lordosis_t10_l2_deg": "Thoracolumbar T10-L2 (lordosis +)",
        "thoracic_kyphosis_t4_t12_deg": "Thoracic kyphosis T4-T12 (TK)",
        "thoracic_kyphosis_t5_t12_deg": "Thoracic kyphosis T5-T12",
        "t1_spinopelvic_inclination_deg": "T1 spinopelvic inclination (T1SPi, forward +)",
        "t1_pelvic_angle_deg": "T1 pelvic angle (TPA)",
        "l1_pelvic_angle_deg": "L1 pelvic angle (LPA)",
        "global_tilt_deg": "Global tilt (GT)",
        "sagittal_vertical_axis_mm": "Sagittal vertical axis (SVA, C7 forward +)",
        "coronal_balance_mm": "Coronal balance (C7 to the right of S1 +)",
        "pelvic_obliquity_deg": "Pelvic obliquity (right hip higher +)",
    }
)
POSTURE_FREE = frozenset({"pelvic_incidence_deg"})


@dataclass(frozen=True, eq=False)
class Alignment:
    """All parameters by name (`FORMULAS`), the coronal curves, and the posture that the scan was taken in."""

    measures: Mapping[str, Measured]
    curves: tuple[Curve, ...]
    posture: str = POSTURE
    notes: tuple[str, ...] = ()

    def value(self, name: str) -> float | None:
        """A parameter's value in its own unit; None where it was not measured."""
        return self.measures[name].value

    @property
    def lumbar_lordosis_deg(self) -> float | None:
        """L1 to S1, lordosis positive."""
        return self.value("lumbar_lordosis_deg")

    @property
    def pelvic_incidence_deg(self) -> float | None:
        """PI."""
        return self.value("pelvic_incidence_deg")

    @property
    def pelvic_tilt_deg(self) -> float | None:
        """PT."""
        return self.value("pelvic_tilt_deg")

    @property
    def sacral_slope_deg(self) -> float | None:
        """SS."""
        return self.value("sacral_slope_deg")

    def to_json(self) -> dict[str, Any]:
        """Each value under its name; spreads, units and reasons under `measures`; then curves, posture and notes."""
        return {
            **{name: m.value for name, m in self.measures.items()},
            "posture": self.posture,
            "measures": {name: m.to_json() for name, m in self.measures.items()},
            "curves": [c.to_json() for c in self.curves],
            "notes": list(self.notes),
        }

    def words(self) -> list[str]:
        """A line for each parameter that was measured, then one for each reason why others were not."""
        lines = [f"{WORDS[n]}: {m.words()}" for n, m in self.measures.items() if m.value is not None]
        lines += [c.words() for c in self.curves]
        lines += [*self.notes, *why_unknown(self.measures.values())]
        return lines + unmeasured_words(self.measures, WORDS)


def unmeasured_words(measures: Mapping[str, Measured], words: Mapping[str, str]) -> list[str]:
    """A line for each reason why something was not measured, with all that it keeps from being."""
    reasons: dict[str, list[str]] = {}
    for name, found in measures.items():
        if found.value is None:
            reasons.setdefault(found.reason, []).append(words[name])
    return [f"Not measured, {reason}: {', '.join(names)}" for reason, names in reasons.items()]


def measure_alignment(landmarks: Iterable[Landmark], warnings: Iterable[str] = ()) -> Alignment:
    """All that these landmarks allow; `warnings` (the twin's) hold the reasons for what is missing."""
    return alignment_of(Marks.of(landmarks, warnings))


def alignment_of(marks: Marks) -> Alignment:
    """All that these marks allow, where their plan puts them."""
    found = {name: measure(name, formula, marks) for name, formula in FORMULAS.items()}
    notes = () if sagittal.has_hips(marks) else (SCANNER_PLANE,)
    return Alignment(MappingProxyType(found), curves(marks), POSTURE, notes)
