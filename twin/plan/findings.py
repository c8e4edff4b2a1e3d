"""What of a plan nobody may approve without writing down why: each finding with its number and its limit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from spatial.faults import Misuse
from twin.anatomy.canal_tube import NAME as CANAL
from twin.anatomy.twin import Twin
from twin.plan.edits import Skipped
from twin.plan.proposals import ensure_reason

GRADES = "ABCDE"
WORST_GRADE = "B"  # C and beyond ask for a reason
INTO = {  # of the whole screw's breaches; the pedicle's own and the front have their rules
    "canal": "canal",
    "foramen_superior": "foramen above",
    "foramen_inferior": "foramen below",
    "body_lateral": "tissue beside the body",
    "disc": "disc",
}
LEAST_MARGIN_MM = 1.0
OPENS_CANAL = ("SPO", "PSO", "VCR")  # go through the canal by their nature
LEAST_BRIDGE_MM = 5.0  # clinical practice, not verified against a paper


class NotOverridden(Misuse):
    """An override of something that was not found, or one without its reason."""


@dataclass(frozen=True)
class Finding:
    """`key` names it on the command line (`L4-left:margin`); `value` and `limit` carry their unit in `unit`."""

    key: str
    words: str
    value: float | str | None = None
    limit: float | str | None = None
    unit: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Its fields."""
        return asdict(self)


def findings(
    twin: Twin,
    screws: Iterable[Mapping[str, Any]],
    osteotomies: Iterable[Mapping[str, Any]],
    conflicts: Sequence[str],
    skipped: Sequence[Skipped],
) -> tuple[Finding, ...]:
    """Of the reports of a plan's screws and cuts (the command line's keys), and of its twin."""
    found: list[Finding] = []
    for screw in screws:
        found += _of_screw(screw)
    for cut in osteotomies:
        bridge = cut.get("bridge_mm")
        if bridge is not None and bridge < LEAST_BRIDGE_MM:
            words = f"{cut['id']}: {bridge:.1f} mm of bone remain at the hinge; it may break"
            found.append(Finding(f"{cut['id']}:hinge", words, bridge, LEAST_BRIDGE_MM, "mm"))
        for one in cut.get("passes_through", ()):
            if one["role"] == "critical" and not (cut["kind"] in OPENS_CANAL and one["name"] == CANAL):
                words = f"{cut['id']}: the cut passes through {one['name']} (critical)"
                found.append(Finding(f"{cut['id']}:{one['name']}", words))
    found += [Finding(f"{words.split()[0]}:conflict", words) for words in conflicts]  # they begin with the item's id
    found += [Finding(f"plan:skipped-{n}", f"{s.kind}: {s.reason}") for n, s in enumerate(skipped, start=1)]
    if twin.fitness is not None and not twin.fitness.plan.fit:
        found.append(Finding("scan:unfit", f"the scan is not fit for planning: {'; '.join(twin.fitness.plan.reasons)}"))
    found += [
        Finding(f"sides:{one.check}", f"left and right are in doubt: {one.words}")
        for one in twin.sides
        if one.agrees is False
    ]
    return tuple(found)


def overridden(found: Sequence[Finding], reasons: Sequence[str]) -> tuple[list[dict[str, Any]], list[Finding]]:
    """The findings that these `KEY=REASON` override, with the reason, and those left. Raises NotOverridden, NoReason.

    Each finding takes its own: there is no way to override all at once.
    """
    by_key = {finding.key: finding for finding in found}
    given: dict[str, str] = {}
    for text in reasons:
        key, equals, reason = text.partition("=")
        key = key.strip()
        if not equals or key not in by_key:
            raise NotOverridden(f"override {text!r}: write KEY=REASON; open are {', '.join(by_key) or 'none'}")
        given[key] = ensure_reason(reason, f"the override of {key}")
    kept = [{**by_key[key].to_json(), "reason": reason} for key, reason in given.items()]
    return kept, [finding for finding in found if finding.key not in given]


def _of_screw(screw: Mapping[str, Any]) -> Iterable[Finding]:
    name, grade = screw["id"], screw["grade"]
    if grade is None or GRADES.index(grade) > GRADES.index(WORST_GRADE):
        where = "" if not screw.get("breach_direction") else f" {screw['breach_direction']}"
        words = f"{name}: grade {grade or 'not known'}, breach {screw['breach_mm'] or 0.0:.1f} mm{where}"
        yield Finding(f"{name}:grade", words, grade, WORST_GRADE)
    walls = {wall: value for wall, value in screw["margin_mm"].items() if wall != "anterior" and value is not None}
    if walls:
        wall = min(walls, key=lambda one: walls[one])
        if walls[wall] < LEAST_MARGIN_MM:
            words = f"{name}: {walls[wall]:.1f} mm to the {wall} wall"
            yield Finding(f"{name}:margin", words, walls[wall], LEAST_MARGIN_MM, "mm")
    ahead = screw["margin_mm"].get("anterior")
    if ahead is not None and ahead < 0:
        yield Finding(
            f"{name}:anterior", f"{name}: the tip stands {-ahead:.1f} mm in front of the bone", ahead, 0.0, "mm"
        )
    for place, depth_mm in (screw.get("breach_whole_mm") or {}).items():
        if place in INTO and depth_mm > 0:
            words = f"{name}: {depth_mm:.1f} mm of the thread stand in the {INTO[place]}"
            yield Finding(f"{name}:{place}", words, depth_mm, 0.0, "mm")
    for one in screw["structures"]:
        if one["role"] == "critical" and one["distance_mm"] < 0:
            words = f"{name} enters {one['name']} (critical) by {-one['distance_mm']:.1f} mm"
            yield Finding(f"{name}:{one['name']}", words, one["distance_mm"], 0.0, "mm")
