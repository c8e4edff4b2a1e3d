"""What `osteotwin plan` says of a cut's consequences: JSON-able, and the same in words."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from twin.anatomy.twin import Twin
    from twin.plan.cuts.osteotomy import Osteotomy

LEAST_CHANGE = 0.05  # of a leg's angle or length: smaller ones are not worth a line


def consequence_report(twin: Twin, cut: Osteotomy) -> dict[str, Any]:
    """Hinge, gaps, the turn in words, collisions, faces after closing, room for the nerves, effects on the leg."""
    from twin.plan.cuts.chain import is_limb, is_spine
    from twin.plan.cuts.consequences import consequences
    from twin.plan.cuts.contact import collisions, faces
    from twin.plan.cuts.side_effects import leg_effects
    from twin.plan.cuts.spine_room import room

    found = consequences(twin, cut).to_json()
    met = faces(twin, cut)
    space = room(twin, cut).to_json() if is_spine(cut.bone) and cut.angle_rad > 0 else None
    return {
        **found,
        "is_spine": is_spine(cut.bone),
        "cautions": [*found["cautions"], *(space or {"cautions": []})["cautions"]],
        "collisions": [c.to_json() for c in collisions(twin, [cut])] if cut.angle_rad > 0 else [],
        "faces": None if met is None else met.to_json(),
        "nerves": space,
        "leg": leg_effects(twin, [cut], cut.bone) if is_limb(cut.bone) else {},
    }


def consequence_words(report: dict[str, Any]) -> list[str]:
    """The same in lines; geometry of the plan alone, so no line has a spread."""
    lines = []
    if report["schwab_grade"] is not None:
        lines.append(f"Schwab grade {report['schwab_grade']}")
    gaps = report["gap_mm"]
    if len(gaps) > 1:
        lines.append("gap mm: " + ", ".join(f"{name} {mm:.1f}" for name, mm in gaps.items()))
    if report["bridge_mm"] is not None:
        lines.append(f"bridge of bone beyond the hinge {report['bridge_mm']:.1f} mm")
    if report["graft_ml"] is not None:
        lines.append(f"the opening holds {report['graft_ml']:.1f} mL")
    if report["cortex_offset_mm"] is not None:
        lines.append(f"marks on the cortex end {report['cortex_offset_mm']:.1f} mm apart at most")
    if report["shortening_mm"] is not None:
        lines.append(f"shortens by {report['shortening_mm']:.1f} mm")
    lines += [_collision(c) for c in report["collisions"]]
    if report["faces"] is not None:
        lines.append(
            f"after closing {report['faces']['contact_mm2'] / 100:.1f} cm2 of bone lie on bone, "
            f"{report['faces']['contact_share']:.0%} of the smaller face"
        )
    if report["nerves"] is not None:
        lines += _nerves(report["nerves"])
    lines += [
        f"{name.rpartition('_')[0].replace('_', ' ')} {e['before']:.1f} -> {e['after']:.1f} {name.rpartition('_')[2]}"
        for name, e in report["leg"].items()
        if abs(e["change"]) >= LEAST_CHANGE
    ]
    lines += [f"CAUTION ({c['status']} limit): {c['words']}" for c in report["cautions"]]
    return [f"  {line}" for line in lines]


def together(twin: Twin, cuts: Collection[Osteotomy]) -> list[dict[str, Any]]:
    """Collisions with all cuts of the plan carried out; none to tell where there is one cut alone."""
    from twin.plan.cuts.contact import collisions

    return [c.to_json() for c in collisions(twin, cuts)] if len(cuts) > 1 else []


def collision_words(found: list[dict[str, Any]]) -> list[str]:
    """Those of several cuts in lines."""
    return [f"with all cuts carried out: {_collision(c)}" for c in found if not c["at_hinge"]]


def _collision(c: dict[str, Any]) -> str:
    first, second = c["between"]
    if c["at_hinge"]:
        return (
            f"{first} and {second} press {c['depth_mm']:.1f} mm into each other beyond the hinge: bone bends or breaks"
        )
    return f"{first} runs into {second} by {c['depth_mm']:.1f} mm ({c['volume_mm3'] / 1000:.2f} mL)"


def _nerves(space: dict[str, Any]) -> list[str]:
    lines = []
    if space["canal_after_mm"] is not None:
        lines.append(f"bone to canal {space['canal_before_mm']:.1f} -> {space['canal_after_mm']:.1f} mm")
    if space["canal_shortens_mm"] is not None:
        lines.append(f"the canal shortens by {space['canal_shortens_mm']:.1f} mm")
    if space["foramen_mm"]:
        sides = ", ".join(f"{side} {mm:.1f}" for side, mm in space["foramen_mm"].items())
        above, below = space["foramen_between"]
        lines.append(f"foramen between {above} and {below}, bone to bone mm: {sides}")
    return lines
