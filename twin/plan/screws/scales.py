"""Breach scales beside Gertzbein-Robbins: Neo and Rao by depth, Heary by direction for thoracic screws.

Clinical fact sheet 1.1, rules as read in josr 10.1186/s13018-020-01798-0 (table 3) and WJO 2014;5:112 (table 2).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from twin.plan.levels import level_of
from twin.plan.screws.clearance import Clearance
from twin.plan.screws.whole import Breaches

Heary = Literal["I", "II", "III", "IV", "V"]
CANAL = "spinal_canal"  # the structure that every twin from a CT has
THORACIC = tuple(f"T{n}" for n in range(1, 14))
TOUCH_MM = 0.0


def neo_grade(breach_mm: float) -> int:
    """0: none, 1: below 2 mm, 2: 2 to below 4, 3: 4 mm and more (Neo 2005, Rao 2002)."""
    if breach_mm <= 0.0:
        return 0
    return 1 if breach_mm < 2.0 else (2 if breach_mm < 4.0 else 3)


def heary_grade(
    bone: str, breach_mm: float, direction: str | None, whole: Breaches, near: Iterable[Clearance]
) -> Heary | None:
    """Heary 2004, for thoracic screws; None for other levels, and where only the superior wall is passed, which the
    scale does not name.

    I: contained. II: lateral, tip in the body. III: tip through the front or side. IV: medial or inferior. V: in a
    critical structure beside the canal (cord, root, vessel): whether it has to come out at once is not for a program.
    """
    if level_of(bone) not in THORACIC:
        return None
    if any(c.role == "critical" and c.structure != CANAL and c.distance_mm < TOUCH_MM for c in near):
        return "V"
    if whole.canal_mm > 0.0 or (breach_mm > 0.0 and direction in ("medial", "inferior")):
        return "IV"
    if whole.anterior_mm > 0.0 or whole.beside_mm > 0.0:
        return "III"
    if breach_mm <= 0.0:
        return "I"
    return "II" if direction == "lateral" else None
