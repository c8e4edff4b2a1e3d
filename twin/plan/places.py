"""Where on the patient a plan works, in the words that people type again before they approve it: `L4 left`, `L3`."""

from __future__ import annotations

import re
from collections.abc import Iterable

from spatial.faults import Misuse
from twin.plan.auto.rod import Rod
from twin.plan.levels import level_of
from twin.plan.plan import Plan

SIDES = ("left", "right")


class OtherPlaces(Misuse):
    """The places that were typed are not the plan's."""


def places(plan: Plan) -> tuple[str, ...]:
    """Level and side of each screw, level of each cut; bones outside the spine by name and side; cranial first."""
    found: dict[str, None] = {}
    for screw in plan.screws.values():
        found[_place(screw.bone, screw.side)] = None
    for cut in plan.osteotomies.values():
        found[_place(cut.bone, None)] = None
    for implant in plan.implants.values():
        found[_place(implant.bone, None)] = None
    for rod in plan.rods.values():
        found[f"rod {rod.side}"] = None
    return tuple(sorted(found))


def bones(plan: Plan) -> tuple[str, ...]:
    """The bones that the plan touches."""
    return tuple(sorted({item.bone for _, item in plan.items() if not isinstance(item, Rod)}))


def ensure_same(plan: Plan, typed: str) -> tuple[str, ...]:
    """The plan's places, when those typed are they; raises OtherPlaces.

    `both` stands for left and right. What is missing is counted, not named: whoever types reads the plan, not this.
    """
    wanted = set(places(plan))
    given = set(_read(typed))
    strange = sorted(given - wanted)
    if strange:
        raise OtherPlaces(f"{', '.join(strange)}: not in this plan; look at the plan again, it may be the wrong one")
    if missing := len(wanted - given):
        raise OtherPlaces(
            f"{missing} of the plan's {len(wanted)} places were not typed; read the plan (osteotwin plan assess) and "
            "type each level with its side"
        )
    return tuple(sorted(given))


def _place(bone: str, side: str | None) -> str:
    own = next((one for one in SIDES if bone.endswith(f"_{one}")), None)
    level = level_of(bone)
    name = level or bone.removesuffix(f"_{own}").replace("_", " ")
    return " ".join(word for word in (name, own or side) if word)


def _read(typed: str) -> Iterable[str]:
    for part in re.split(r"[,;\n]+", typed):
        words = part.split()
        if not words:
            continue
        sides = [word.lower() for word in words if word.lower() in (*SIDES, "both")]
        name = " ".join(_spelled(word) for word in words if word.lower() not in (*SIDES, "both"))
        if not name or len(sides) > 1:
            raise OtherPlaces(f"{part.strip()!r} is no place; write a level and a side, such as: L4 left, L4 right")
        if sides == ["both"]:
            yield from (f"{name} {side}" for side in SIDES)
        else:
            yield " ".join((name, *sides))


def _spelled(word: str) -> str:
    return word.upper() if level_of(f"vertebrae_{word.upper()}") or word.upper() == "S1" else word.lower()
