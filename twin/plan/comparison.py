"""Plans side by side: grades, margins, hold, bone taken out and alignment of each, and what differs between them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from twin.anatomy.bone import Side
from twin.plan.measures.measured import Measured
from twin.plan.plan import NOUNS, Plan
from twin.plan.proposals import item_sha256

ANTERIOR = "anterior"  # has its own rule, so it is no wall margin


@dataclass(frozen=True, eq=False)
class Column:
    """One plan with the reports of its screws and cuts (the command line's keys), and the alignment that it leads to.

    `alignment`: of the spine by name, of legs by side and name (`left hka_deg`).
    """

    plan: Plan
    screws: Sequence[Mapping[str, Any]]
    osteotomies: Sequence[Mapping[str, Any]]
    alignment: Mapping[str, Measured]

    def to_json(self) -> dict[str, Any]:
        """The plan in few numbers; None where there is nothing to take it from."""
        return {
            "plan": self.plan.name,
            "counts": {noun.plural: len(self.plan.of(noun)) for noun in NOUNS.values()},
            "grades": dict(sorted(Counter(str(s["grade"]) for s in self.screws).items())),
            "worst": self._worst(),
            "least_margin": self._least_margin(),
            "least_hold": self._least_hold(),
            "removed_ml": float(sum(cut["removed_ml"] for cut in self.osteotomies)),
            "alignment": {name: one.to_json() for name, one in self.alignment.items()},
        }

    def _worst(self) -> dict[str, Any] | None:
        known = [s for s in self.screws if s["breach_mm"] is not None and s["breach_mm"] > 0]
        if not known:
            return None
        screw = max(known, key=lambda s: s["breach_mm"])
        return {key: screw[key] for key in ("id", "grade", "breach_mm", "breach_direction")}

    def _least_margin(self) -> dict[str, Any] | None:
        walls = [
            (value, screw["id"], wall, screw["margin_sd_mm"])
            for screw in self.screws
            for wall, value in screw["margin_mm"].items()
            if wall != ANTERIOR and value is not None
        ]
        if not walls:
            return None
        value, name, wall, sd_mm = min(walls, key=lambda one: one[:3])
        return {"id": name, "wall": wall, "margin_mm": value, "sd_mm": sd_mm}

    def _least_hold(self) -> dict[str, Any] | None:
        known = [s for s in self.screws if s.get("hold_n") is not None]
        if not known:
            return None
        screw = min(known, key=lambda s: s["hold_n"][1])
        return {"id": screw["id"], "hold_n": list(screw["hold_n"])}


def compared(columns: Sequence[Column], before: Mapping[str, Measured]) -> dict[str, Any]:
    """`{plans, before, items}`: each plan in few numbers, the alignment as scanned, and each thing plan by plan.

    An item's `differs` is whether the plans hold it differently, or not all of them hold it.
    """
    return {
        "plans": [column.to_json() for column in columns],
        "before": {name: one.to_json() for name, one in before.items()},
        "items": _items(columns),
    }


def flat(spine: Mapping[str, Measured], legs: Mapping[Side, Mapping[str, Measured]]) -> dict[str, Measured]:
    """What was measured of spine and legs, in one row of names."""
    found = {name: one for name, one in spine.items() if one.value is not None}
    for side, measures in legs.items():
        found |= {f"{side} {name}": one for name, one in measures.items() if one.value is not None}
    return found


def _items(columns: Sequence[Column]) -> list[dict[str, Any]]:
    found = []
    for noun in NOUNS.values():
        for item_id in sorted({one for column in columns for one in column.plan.of(noun)}):
            held = [column.plan.of(noun).get(item_id) for column in columns]
            found.append(
                {
                    "noun": noun.name,
                    "id": item_id,
                    "differs": len({item_sha256(item) for item in held}) > 1,
                    "in": {column.plan.name: _short(column, noun.name, item_id) for column in columns},
                }
            )
    return found


def _short(column: Column, noun: str, item_id: str) -> dict[str, Any] | None:
    """What a table's cell says of one thing; None where the plan does not hold it."""
    if noun == "screw":
        screw = next((s for s in column.screws if s["id"] == item_id), None)
        if screw is None:
            return None
        walls = [v for wall, v in screw["margin_mm"].items() if wall != ANTERIOR and v is not None]
        return {
            "grade": screw["grade"],
            "margin_mm": min(walls, default=None),
            "diameter_mm": screw["diameter_mm"],
            "length_mm": screw["length_mm"],
            "hold_n": screw.get("hold_n"),
        }
    if noun == "osteotomy":
        cut = next((o for o in column.osteotomies if o["id"] == item_id), None)
        return None if cut is None else {key: cut[key] for key in ("kind", "angle_deg", "removed_ml")}
    item = column.plan.of(NOUNS[noun]).get(item_id)
    return None if item is None else {"held": True}
