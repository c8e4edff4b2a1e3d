"""A screw's grade with its evidence, as every part of the product reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from spatial.faults import Fault
from twin.plan.screws import hold as holding
from twin.plan.screws.clearance import Clearance
from twin.plan.screws.facet import FacetCheck
from twin.plan.screws.hold import Hold
from twin.plan.screws.scales import CANAL, neo_grade
from twin.plan.screws.whole import Breaches

GRADES = ((0.0, "A"), (2.0, "B"), (4.0, "C"), (6.0, "D"))
FILL = 0.8  # of the isthmus width (clinical fact sheet 1.3 [M]: shown, gates nothing)
PEDICLE_SCALE = "Gertzbein-Robbins"
SHAFT_SCALE = "limits of Gertzbein-Robbins over the whole shaft in bone"


class OffBone(Fault):
    """An axis that does not run through the bone it is meant for."""


@dataclass(frozen=True, eq=False)
class ScrewGrade:
    """The grade with its evidence. Margins in mm, negative = beyond the cortex; directions in the bone's axes.

    `binding` names the margin that leaves least room (the anterior one counts with its 2 mm to keep). `chord_mm` is the
    way from the entry to the anterior cortex along the axis, `width_mm` the narrowest chord across it (None when the
    axis leaves the bone), `isthmus_mm` the place of the isthmus along the axis and `isthmus_from` how it was found.
    `margin_sd_mm` is one sigma of each margin from the scan's resolution (None: not known), `clearances` the distances
    of the whole screw to the twin's critical and target structures, nearest first. `whole` are the breaches anywhere
    from the pedicle to the tip, `facet` the joint with the vertebra above, `hold` the pull-out estimate; a text in the
    place of the last two says why there is none. `notch_mm`: to the greater sciatic notch, for screws into the ilium.
    """

    grade: str
    breach_mm: float
    breach_direction: str | None
    margin_mm: Mapping[str, float]
    hu: Mapping[str, float | None]
    hold_n: tuple[float, float, float] | None
    binding: str
    chord_mm: float
    width_mm: float | None
    isthmus_mm: float
    isthmus_from: str
    margin_sd_mm: float | None = None
    clearances: tuple[Clearance, ...] = ()
    scale: str = PEDICLE_SCALE
    diameter_mm: float = 0.0
    length_mm: float = 0.0
    whole: Breaches | None = None
    heary: str | None = None
    facet: FacetCheck | str | None = None
    hold: Hold | str = holding.NO_CT
    notch_mm: float | None = None

    def __post_init__(self) -> None:
        """Freeze the mappings."""
        object.__setattr__(self, "margin_mm", MappingProxyType(dict(self.margin_mm)))
        object.__setattr__(self, "hu", MappingProxyType(dict(self.hu)))

    @property
    def fill(self) -> float | None:
        """Diameter over the narrowest width of bone across the axis."""
        return None if not self.width_mm or not self.diameter_mm else self.diameter_mm / self.width_mm

    @property
    def canal_mm(self) -> float | None:
        """Distance of the whole screw to the spinal canal, negative: inside; None: this twin has none."""
        return next((c.distance_mm for c in self.clearances if c.structure == CANAL), None)

    def to_json(self) -> dict[str, Any]:
        """The keys of the command line."""
        unheld = self.hold if isinstance(self.hold, str) else None
        return {
            "grade": self.grade,
            "breach_mm": self.breach_mm,
            "breach_direction": self.breach_direction,
            "margin_mm": dict(self.margin_mm),
            "margin_sd_mm": self.margin_sd_mm,
            "structures": [clearance.to_json() for clearance in self.clearances],
            "hu": dict(self.hu),
            "hold_n": None if self.hold_n is None else list(self.hold_n),
            "hold_status": holding.STATUS,
            "hold_reason": unheld,
            "hold": None if isinstance(self.hold, str) else self.hold.to_json(),
            "binding": self.binding,
            "chord_mm": self.chord_mm,
            "width_mm": self.width_mm,
            "isthmus_from": self.isthmus_from,
            "scale": self.scale,
            "neo": neo_grade(self.breach_mm),
            "heary": self.heary,
            "breach_whole_mm": None if self.whole is None else self.whole.to_json(),
            "tip_depth_mm": None if self.whole is None else round(self.whole.tip_mm, 3),
            "canal_mm": None if self.canal_mm is None else round(self.canal_mm, 3),
            "facet": self.facet.to_json() if isinstance(self.facet, FacetCheck) else None,
            "facet_reason": self.facet if isinstance(self.facet, str) else None,
            "fill": None if self.fill is None else round(self.fill, 3),
            "within_80_percent": None if self.fill is None else self.fill <= FILL,
            "notch_mm": None if self.notch_mm is None else round(self.notch_mm, 2),
            "chord_share": round(self.length_mm / self.chord_mm, 3) if self.length_mm and self.chord_mm > 0 else None,
        }


def grade_letter(breach_mm: float) -> str:
    """A: none, B: below 2 mm, C: 2 to below 4, D: 4 to below 6, E: 6 and more."""
    if breach_mm <= 0.0:
        return "A"
    return next((letter for limit, letter in GRADES if breach_mm < limit), "E")
