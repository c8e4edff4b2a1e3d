"""Coronal curves: the Cobb angle of any two vertebrae, projected and in space, and the curves that a spine has.

Coronal plane: x the patient's right along the hips, level; z cranial. A curve's end vertebrae are those whose outer
endplates lean most against each other; the largest is found first, then what is left above and below it, as long as a
curve reaches 10 degrees (the threshold that a radiograph calls scoliosis: AJNR Am J Neuroradiol 2018;39).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from spatial.shapes import angle_between_rad
from twin.plan.levels import SPINE, bone_of, level_of
from twin.plan.measures.measured import Formula, Marks, Measured, measure
from twin.plan.measures.sagittal import CRANIAL, INFERIOR, SUPERIOR, body_middle, right_axis

LEAST_DEG = 10.0


def lean(marks: Marks, plate: str, bone: str) -> float:
    """How far an endplate's cranial normal leans to the patient's right, rad. Raises Unmeasured."""
    n = marks.normal(plate, bone)
    return math.atan2(float(n @ right_axis(marks)), float(n @ CRANIAL))


def cobb(upper: str, lower: str) -> Formula:
    """Projected on the coronal plane, rad, signed: + when the lower end leans further to the right than the upper one,
    as it does in a curve that bulges to the right.
    """
    end = SUPERIOR if lower == "sacrum" else INFERIOR
    return lambda marks: lean(marks, end, lower) - lean(marks, SUPERIOR, upper)


def cobb_in_space(upper: str, lower: str) -> Formula:
    """Between the two endplates' normals, rad: it holds the sagittal bend as well."""
    end = SUPERIOR if lower == "sacrum" else INFERIOR
    return lambda marks: angle_between_rad(marks.normal(SUPERIOR, upper), marks.normal(end, lower))


@dataclass(frozen=True)
class Curve:
    """End vertebrae, the one furthest aside between them, the side that the curve bulges to, and its two angles."""

    upper: str
    lower: str
    apex: str
    convex: str
    angle: Measured
    in_space: Measured

    def to_json(self) -> dict[str, Any]:
        """As `plan assess --json` prints it."""
        return {
            "upper": self.upper, "lower": self.lower, "apex": self.apex, "convex": self.convex,
            "cobb_deg": self.angle.to_json(), "cobb_3d_deg": self.in_space.to_json(),
        }  # fmt: skip

    def words(self) -> str:
        """In a line."""
        ends = f"{level_of(self.upper)}-{level_of(self.lower)}"
        return (
            f"Curve {ends}, apex {level_of(self.apex)}, convex {self.convex}: Cobb {self.angle.words()} "
            f"(in space {self.in_space.words()})"
        )


def curve_between(marks: Marks, upper: str, lower: str) -> Curve:
    """The Cobb angle of two vertebrae of one's choice."""
    raw = measure("cobb_deg", _degrees(cobb(upper, lower)), marks)
    size = measure("cobb_deg", lambda m: abs(math.degrees(cobb(upper, lower)(m))), marks)
    space = measure("cobb_3d_deg", _degrees(cobb_in_space(upper, lower)), marks)
    convex = "not known" if raw.value is None else "left" if raw.value < 0 else "right"
    return Curve(upper, lower, _apex(marks, upper, lower, convex), convex, size, space)


def curves(marks: Marks, least_deg: float = LEAST_DEG) -> tuple[Curve, ...]:
    """Every curve of the scan's spine, from the head downward; empty where none reaches `least_deg`."""
    both = [b for b in map(bone_of, SPINE[:-1]) if marks.has(SUPERIOR, b) and marks.has(INFERIOR, b)]
    found: list[tuple[int, int]] = []
    _search(marks, both, 0, len(both) - 1, least_deg, None, found)
    return tuple(curve_between(marks, both[i], both[j]) for i, j in sorted(found))


def _search(
    marks: Marks, bones: list[str], first: int, last: int, least_deg: float, sign: float | None,
    found: list[tuple[int, int]],
) -> None:  # fmt: skip
    """The largest curve between two places in the row, then those of the other side above and below it."""
    tops = [lean(marks, SUPERIOR, b) for b in bones]
    feet = [lean(marks, INFERIOR, b) for b in bones]
    best, ends = math.radians(least_deg), None
    for i in range(first, last):
        for j in range(i + 1, last + 1):
            bend = feet[j] - tops[i]
            if abs(bend) >= best and (sign is None or bend * sign > 0):
                best, ends = abs(bend), (i, j)
    if ends is None:
        return
    found.append(ends)
    bend = feet[ends[1]] - tops[ends[0]]
    _search(marks, bones, first, ends[0], least_deg, -bend, found)
    _search(marks, bones, ends[1], last, least_deg, -bend, found)


def _apex(marks: Marks, upper: str, lower: str, convex: str) -> str:
    """The vertebra furthest to the convex side of the line between the end vertebrae."""
    names = [bone_of(level) for level in SPINE[:-1]]
    i, j = names.index(upper), names.index(lower) if lower in names else len(names) - 1
    inside = [b for b in names[i : j + 1] if marks.has(SUPERIOR, b) and marks.has(INFERIOR, b)]
    if len(inside) < 3:
        return upper
    right = right_axis(marks)
    middle = {b: body_middle(marks, b) for b in inside}
    start, stop = middle[inside[0]], middle[inside[-1]]
    sign = 1.0 if convex == "right" else -1.0

    def aside(bone: str) -> float:
        share = float((middle[bone] - start) @ CRANIAL) / (float((stop - start) @ CRANIAL) or 1.0)
        return sign * float((middle[bone] - start - share * (stop - start)) @ right)

    return max(inside, key=aside)


def _degrees(formula: Formula) -> Formula:
    return lambda marks: math.degrees(formula(marks))
