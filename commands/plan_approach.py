"""`osteotwin plan approach`: skin entries, depth, reach, obstacles, camera places, tray and minutes of a plan."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from commands.console import command, emit, say, tell
from commands.plan_desk import AsJson, CaseFolder, PlanName, folded, volume_of
from spatial.faults import Fault

if TYPE_CHECKING:
    from twin.plan.approach import CameraView, CutWay, Meeting, WayIn
    from twin.plan.plan import Plan
    from twin.plan.theatre import Theatre

UNSEEN = "the skin is not in the scan there"
HELD = "instruments, camera places and minutes are the theatre file's, not measured; hands, retractors, drapes and the \
turn from supine to prone are not in it"


class EmptyPlan(Fault):
    """A plan without anything to get at."""


@command
def approach(
    folder: CaseFolder,
    name: PlanName = "plan",
    theatre: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Your theatre's instruments, camera places and minutes (TOML).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """How to get there: skin entries, depth, reach, what is in the way, camera, tray list, minutes."""
    from twin.anatomy.skin import NoSkin, Skin
    from twin.case import Case
    from twin.plan.approach import camera_views, meetings, midline_incision_mm, way_in, way_to_cut
    from twin.plan.theatre import load_theatre

    brought = load_theatre(theatre)
    case = Case.open(folder)
    if name not in case.plan_names:
        case.load_plan(name)  # raises, and says which plans there are
    plan = folded(case, name)
    if not (plan.screws or plan.osteotomies):
        raise EmptyPlan(f"plan {name!r} holds no screw and no osteotomy yet; place one first (osteotwin plan screw)")
    volume = volume_of(case)
    skin = None
    if volume is None:
        say("This twin has no CT, so the skin is not known: depths and reach are left out.")
    else:
        try:
            skin = Skin.of(volume)
        except NoSkin as fault:
            say(f"{fault.message}; depths and reach are left out.")
    ways = [way_in(case.twin, s, brought.instrument(s.kind), skin) for _, s in sorted(plan.screws.items())]
    cuts = {} if skin is None else {o.id: way_to_cut(case.twin, o, skin) for _, o in sorted(plan.osteotomies.items())}
    crossing = meetings(ways)
    views = camera_views(ways, brought, skin)
    counts = counts_of(plan)
    report: dict[str, Any] = {
        "plan": name,
        "ways": [way.to_json() for way in ways],
        "cuts": [way.to_json() for way in cuts.values() if way is not None],
        "meetings": [{"screws": m.screws, "overlap_mm": m.overlap_mm, "above_mm": m.above_mm} for m in crossing],
        "camera": [
            {"name": v.name, "hidden": dict(v.hidden), "worst_incidence_deg": v.worst_incidence_deg} for v in views
        ],
        "midline_incision_mm": None
        if skin is None
        else midline_incision_mm(case.twin, sorted({s.bone for s in plan.screws.values()}), skin),
        "tray": tray(plan, brought, counts),
        "minutes": dict(zip(("least", "usual", "most"), brought.minutes(counts), strict=True)),
        "theatre": {"source": brought.source, "sha256": brought.sha256},
        "posture": "supine",
        "held": HELD,
    }
    if as_json:
        emit(report)
        return
    tell(*(_way_words(way) for way in ways))
    tell(*(_cut_words(name, way) for name, way in cuts.items()))
    tell(*(_meeting_words(m) for m in crossing), *(_view_words(v, len(ways)) for v in views))
    if report["midline_incision_mm"] is not None:
        tell(f"Open through the midline: {report['midline_incision_mm']:.0f} mm of skin over the spinous processes.")
    tell(*_tray_words(report["tray"]), *_minutes_words(report["minutes"]), f"What this rests on: {HELD}.")


def counts_of(plan: Plan) -> dict[str, int]:
    """How often each kind of step occurs."""
    bones = {s.bone for s in plan.screws.values()} | {o.bone for o in plan.osteotomies.values()}
    return {
        "case": 1,
        "level": len(bones),
        "screw": len(plan.screws),
        "rod": len(plan.rods),
        "osteotomy": len(plan.osteotomies),
        "implant": len(plan.implants),
    }


def tray(plan: Plan, theatre: Theatre, counts: dict[str, int]) -> dict[str, Any]:
    """Implants by size with spares, and the instruments of the steps."""
    sizes = Counter((s.kind, s.family, s.diameter_mm, s.length_mm) for s in plan.screws.values())
    screws = [
        {"kind": k, "family": f, "diameter_mm": d, "length_mm": n, "count": count + theatre.spares, "planned": count}
        for (k, f, d, n), count in sorted(sizes.items(), key=lambda item: tuple(map(str, item[0])))
    ]
    rods = [
        {"material": r.material, "diameter_mm": r.diameter_mm, "length_mm": round(r.length_mm, 1), "count": 1}
        for _, r in sorted(plan.rods.items())
    ]
    drivers = sorted({theatre.instrument(s.kind).name for s in plan.screws.values()})
    return {"screws": screws, "rods": rods, "instruments": [*dict.fromkeys([*drivers, *theatre.needed(counts)])]}


def _way_words(way: WayIn) -> str:
    from twin.anatomy.skin import SPREAD_MM

    if way.skin is None or way.depth_mm is None:
        depth = UNSEEN
    else:
        depth = f"skin to bone {way.depth_mm:.0f} mm (sd {SPREAD_MM:g})"
        if way.lateral_mm is not None:
            depth += f", {abs(way.lateral_mm):.0f} mm {'left' if way.lateral_mm >= 0 else 'right'} of the midline"
        depth += f", stab {way.incision_mm:.0f} mm"
        if way.spare_reach_mm is not None and way.spare_reach_mm < 0:
            depth += f"; {way.instrument.name} IS {-way.spare_reach_mm:.0f} mm TOO SHORT"
    lean = f"outward {way.axial_deg:+.0f}, cranial {way.sagittal_deg:+.0f} degrees"
    hit = [o for o in way.obstacles if o.distance_mm < 0]
    beside = "".join(f"; IN THE WAY: {o.name} by {-o.distance_mm:.1f} mm, {o.above_mm:.0f} mm above" for o in hit)
    return f"{way.screw.id}: {depth}; {lean}{beside}"


def _cut_words(name: str, way: CutWay | None) -> str:
    if way is None:
        return f"{name}: {UNSEEN}"
    return f"{name}: the cut lies {way.shallow_mm:.0f} to {way.deep_mm:.0f} mm below the nearest skin"


def _meeting_words(m: Meeting) -> str:
    return f"The sleeves of {m.screws[0]} and {m.screws[1]} overlap by {m.overlap_mm:.1f} mm: one after the other."


def _view_words(view: CameraView, count: int) -> str:
    hidden = ", ".join(f"{screw}: {why}" for screw, why in sorted(view.hidden.items()))
    return (
        f"Camera at the {view.name}: {count - len(view.hidden)} of {count} markers in sight, "
        f"worst incidence {view.worst_incidence_deg:.0f} degrees" + (f" ({hidden})" if hidden else "")
    )


def _tray_words(found: dict[str, Any]) -> list[str]:
    screws = ", ".join(f"{s['count']} x {s['diameter_mm']:g} x {s['length_mm']:g}" for s in found["screws"])
    rods = ", ".join(f"{r['diameter_mm']:g} mm {r['material']} {r['length_mm']:.0f} mm" for r in found["rods"])
    return [
        *([f"Tray: screws {screws} (spares counted)"] if screws else []),
        *([f"Rods: {rods}"] if rods else []),
        f"Instruments: {', '.join(found['instruments'])}",
    ]


def _minutes_words(minutes: dict[str, float]) -> list[str]:
    return [f"Minutes: {minutes['usual']:.0f} ({minutes['least']:.0f} to {minutes['most']:.0f})"]
